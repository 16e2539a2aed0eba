import Files
import TensorRuntime

/// The weights of a checkpoint that are stored in eight-bit floats, and their scales.
/// HunyuanVideo's scales are in a file `NAME_map.pt` beside `NAME.pt`, one for each layer.
/// ComfyUI's and musubi-tuner's are tensors `scale_weight` beside `weight`. Other tools call them
/// `weight_scale` or `fp8_scale`. A plain cast has no scales.
struct EightBitWeights {
  private let table: WeightTable
  private let types: [String: EightBitFloat]
  private let scales: [String: Tensor]
  private let scaleNames: Set<String>

  private static let scaleFields = ["scale_weight", "weight_scale", "fp8_scale"]
  /// Scales of activations, which only arithmetic in eight bits uses, and markers.
  private static let otherFields = ["scale_input", "input_scale", "scaled_fp8", "comfy_quant"]

  init(_ table: WeightTable) throws(FileError) {
    self.table = table
    var types: [String: EightBitFloat] = [:]
    var scales: [String: Tensor] = [:]
    var names: Set<String> = []
    for name in table.names {
      let field = name.split(separator: ".").last.map(String.init) ?? name
      if Self.scaleFields.contains(field) || Self.otherFields.contains(field) { names.insert(name) }
      guard !Self.otherFields.contains(field),
        let type = EightBitFloat(typeName: table.entry(name)!.typeName)
      else { continue }
      types[name] = type
      if let scale = Self.scaleFields.map({ name.dropLast("weight".count) + $0 }).first(where: {
        table.contains($0)
      }), name.hasSuffix(".weight") {
        var copy = table
        scales[name] = try copy.take(scale)
      }
      if table.contains(name + "_scale_inv") {
        throw FileError(
          .badData, "weights with a scale for each block", in: "\(table.path), '\(name)_scale_inv'",
          mend: "give the model in bf16")
      }
    }
    if !types.isEmpty, let map = Self.mapFile(of: table.path) {
      let layers = try WeightTable(opening: map)
      for name in types.keys
      where name.hasSuffix(".weight") && layers.contains(String(name.dropLast(".weight".count))) {
        var copy = layers
        scales[name] = try copy.take(String(name.dropLast(".weight".count)))
      }
    }
    (self.types, self.scales, scaleNames) = (types, scales, types.isEmpty ? [] : names)
  }
  /// `NAME_map.pt` beside `NAME.pt`, as in the published checkpoint.
  private static func mapFile(of path: String) -> String? {
    guard let dot = path.lastIndex(of: ".") else { return nil }
    return ["pt", "safetensors", "pth", "bin"].map { "\(path[..<dot])_map.\($0)" }.first {
      TextFile.exists($0)
    }
  }

  func holds(_ name: String) -> Bool { types[name] != nil }
  /// Whether a tensor is not a weight of the model but says how to read one.
  func isScale(_ name: String) -> Bool { scaleNames.contains(name) }

  /// The weight in f32, multiplied by its scale. Throws `badData` for a scale of another form, and
  /// for a weight whose scale is missing: values that use the whole range of the type have been
  /// scaled.
  func widened(_ name: String) throws(FileError) -> Tensor {
    let shape = Shape(table.entry(name)!.shape)
    let type = types[name]!
    let work = Workspace()
    let x = type.widened(try table.bytes(name), shape)
    guard let scale = scales[name] else {
      let largest = x.floats.reduce(0) { max($0, abs($1)) }
      if type == .e4m3 && shape.rank > 1 && largest >= 224 {
        let what = "eight-bit weights as large as \(largest) without their scales"
        throw FileError(
          .badData, what, in: "\(table.path), '\(name)'",
          mend: "put the file of scales beside it (NAME_map.pt), or give the model in bf16")
      }
      return x
    }
    let factors = work.converted(scale, to: .f32).floats
    let rows = shape.rank > 0 ? shape[0] : 1
    guard scale.type.isFloating, factors.count == 1 || factors.count == rows,
      factors.allSatisfy({ $0.isFinite })
    else {
      throw FileError(
        .badData, "a scale of shape \(scale.shape) for a weight of \(shape)",
        in: "\(table.path), '\(name)'", mend: "give one scale for the weight or for each row")
    }
    if factors.count == 1 { return work.scaled(x, by: Double(factors[0])) }
    let width = shape.count / max(rows, 1)
    return Tensor(x.floats.enumerated().map { $1 * factors[$0 / max(width, 1)] }, shape)
  }
}
