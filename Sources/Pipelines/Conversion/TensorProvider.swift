import Files
import Models
import TensorRuntime

/// Tensors by name that are computed when they are requested: a checkpoint, seen through changes of
/// layout, adapters and type.
struct TensorProvider {
  let names: [String]
  private let describe: (String) -> (type: ElementType, shape: Shape)
  private let make: (String, borrowing Workspace) throws -> Tensor

  func type(_ name: String) -> ElementType { describe(name).type }
  func shape(_ name: String) -> Shape { describe(name).shape }
  func callAsFunction(_ name: String, in work: borrowing Workspace) throws -> Tensor {
    try make(name, work)
  }

  private init(
    names: [String], describe: @escaping (String) -> (type: ElementType, shape: Shape),
    make: @escaping (String, borrowing Workspace) throws -> Tensor
  ) {
    (self.names, self.describe, self.make) = (names, describe, make)
  }

  /// The tensors of a checkpoint whose names pass `isWanted`. Eight-bit floats and quantized bytes
  /// are widened to `type` (nil: bf16), with their scales. Throws `badData` for one of a type that
  /// cannot be read.
  init(
    _ table: WeightTable, widening type: ElementType?,
    where isWanted: (String) -> Bool = { _ in true }
  ) throws(FileError) {
    let eight = try EightBitWeights(table)
    let wide = type ?? .bf16
    var entries: [String: (type: ElementType, shape: Shape)] = [:]
    func isQuantized(_ name: String) -> Bool {
      table.entry(name)?.type == .i8 && table.contains(name + "_scale")
    }
    let names = table.names.filter { name in
      isWanted(name) && !eight.isScale(name)
        && !(name.hasSuffix("_scale") && isQuantized(String(name.dropLast("_scale".count))))
    }
    for name in names {
      let entry = table.entry(name)!
      if eight.holds(name) || isQuantized(name) {
        entries[name] = (wide, Shape(entry.shape))
        continue
      }
      guard let type = entry.type else {
        throw FileError(
          .badData, "elements of \(entry.typeName) cannot be read", in: "\(table.path), '\(name)'",
          mend: "convert the file to f32, f16 or bf16")
      }
      entries[name] = (type.loaded, Shape(entry.shape))
    }
    // Each tensor is taken from a copy, so that the table does not record what was read.
    self.init(
      names: names, describe: { entries[$0]! },
      make: { name, work in
        if eight.holds(name) { return work.converted(try eight.widened(name), to: wide) }
        var copy = table
        let tensor = try copy.take(name)
        return tensor.type == .i8 ? work.converted(tensor, to: wide) : tensor
      })
  }

  /// The same tensors under other names, which must differ from each other.
  func renamed(_ rename: (String) -> String) -> TensorProvider {
    let pairs = names.map { (new: rename($0), old: $0) }
    let origin = Dictionary(pairs.map { ($0.new, $0.old) }) { a, _ in a }
    if origin.count < names.count { return self }
    return TensorProvider(
      names: pairs.map(\.new), describe: { describe(origin[$0]!) },
      make: { try make(origin[$0]!, $1) })
  }

  /// The tensors in another transformer layout. Names without a rule are reported to `unknown` and
  /// left out.
  func laidOut(
    as layout: TransformerLayouts.Layout, _ layouts: TransformerLayouts, path: String,
    unknown report: (String) -> Void
  ) throws(FileError) -> TensorProvider {
    let (steps, unknown) = layouts.steps(names, to: layout)
    let present = Set(names)
    for name in unknown { report(name) }
    var origin: [String: (step: TransformerLayouts.Step, index: Int)] = [:]
    var entries: [String: (type: ElementType, shape: Shape)] = [:]
    var order: [String] = []
    for step in steps {
      if let missing = step.sources.first(where: { !present.contains($0) }) {
        throw FileError(
          .badData, "missing parameter", in: "\(path), '\(missing)'",
          mend: "give a complete checkpoint")
      }
      let shapes = step.sources.map { shape($0) }
      guard shapes.allSatisfy({ $0.rank > 0 }), TransformerLayouts.fits(step, rows: shapes[0][0]),
        Set(step.sources.map { type($0) }).count == 1
      else {
        throw FileError(
          .badData, "shape \(shapes[0]) does not fit a model of width \(layouts.width)",
          in: "\(path), '\(step.sources[0])'", mend: "check the checkpoint")
      }
      for (i, shape) in TransformerLayouts.shapes(step, shapes).enumerated() {
        origin[step.targets[i]] = (step, i)
        entries[step.targets[i]] = (type(step.sources[0]), shape)
        order.append(step.targets[i])
      }
    }
    return TensorProvider(
      names: order, describe: { entries[$0]! },
      make: { name, work in
        let (step, index) = origin[name]!
        var sources: [Tensor] = []
        for source in step.sources { sources.append(try make(source, work)) }
        return TransformerLayouts.target(index, of: step, sources, in: work)
      })
  }

  /// The tensors with adapters merged into the weights, which keep their type.
  func merging(_ adapters: [AdapterWeights], path: String) throws(FileError) -> TensorProvider {
    let byName = Dictionary(adapters.map { ("\($0.module).weight", $0) }) { a, _ in a }
    let present = Set(names)
    for (name, adapter) in byName {
      guard present.contains(name) else {
        throw FileError(
          .badData, "an adapter for a layer this model does not have",
          in: "\(path), '\(adapter.module)'", mend: "give the model the adapter was trained on")
      }
      let weight = shape(name)
      guard adapter.fits(weight) else {
        throw FileError(
          .badData,
          "an adapter of shapes \(adapter.b.shape), \(adapter.a.shape) for a weight of \(weight)",
          in: "\(path), '\(adapter.module)'", mend: "give the model the adapter was trained on")
      }
    }
    return TensorProvider(
      names: names, describe: describe,
      make: { name, work in
        let weight = try make(name, work)
        guard let adapter = byName[name] else { return weight }
        return work.converted(adapter.merged(into: weight, in: work), to: weight.type)
      })
  }

  /// Tensors whose rows are those of several, one after another; most are of one alone. Throws
  /// `badData` where types or widths differ.
  func joiningRows(_ rows: [(name: String, parts: [String])], path: String) throws(FileError)
    -> TensorProvider
  {
    var origin: [String: [String]] = [:]
    var entries: [String: (type: ElementType, shape: Shape)] = [:]
    for (name, parts) in rows {
      let shapes = parts.map { shape($0) }
      var whole = shapes[0]
      if parts.count > 1 {
        guard shapes.allSatisfy({ $0.rank > 0 && $0.dims.dropFirst() == whole.dims.dropFirst() }),
          Set(parts.map { type($0) }).count == 1
        else {
          throw FileError(
            .badData, "parts of one tensor that do not fit each other",
            in: "\(path), '\(parts[0])'",
            mend: "give a complete checkpoint")
        }
        whole[0] = shapes.reduce(0) { $0 + $1[0] }
      }
      (origin[name], entries[name]) = (parts, (type(parts[0]), whole))
    }
    return TensorProvider(
      names: rows.map(\.name), describe: { entries[$0]! },
      make: { name, work in
        let parts = try origin[name]!.map { try make($0, work) }
        return parts.count == 1 ? parts[0] : work.joinedRows(parts)
      })
  }
  /// The tensors with `tensor` in the place of the one called `name`, or added to them.
  func replacing(_ name: String, with tensor: Tensor) -> TensorProvider {
    TensorProvider(
      names: names.contains(name) ? names : names + [name],
      describe: { $0 == name ? (tensor.type, tensor.shape) : describe($0) },
      make: { $0 == name ? tensor : try make($0, $1) })
  }
  /// The tensors that a network asks for, in its order. Axes of one element at the end of a shape
  /// may be missing in the file. Throws `badData` for a missing tensor and for a wrong shape.
  func fitted(to network: [(name: String, shape: Shape)], path: String) throws(FileError)
    -> TensorProvider
  {
    let present = Set(names)
    for (name, expected) in network {
      guard present.contains(name) else {
        throw FileError(
          .badData, "missing parameter, expected shape \(expected)", in: "\(path), '\(name)'",
          mend: "give a complete checkpoint of this network")
      }
      let found = shape(name).dims
      if expected.dims != found + Array(repeating: 1, count: max(0, expected.rank - found.count)) {
        throw FileError(
          .badData, "wrong shape: expected \(expected), found \(shape(name))",
          in: "\(path), '\(name)'",
          mend: "give a checkpoint of this network, or its sizes with --config")
      }
    }
    let shapes = Dictionary(uniqueKeysWithValues: network.map { ($0.name, $0.shape) })
    return TensorProvider(
      names: network.map(\.name), describe: { (describe($0).type, shapes[$0]!) },
      make: { try make($0, $1).reshaped(shapes[$0]!) })
  }

  /// The tensors with floating-point types changed to `type`; nil changes nothing.
  func stored(as type: ElementType?) -> TensorProvider {
    guard let type else { return self }
    return TensorProvider(
      names: names,
      describe: { name in
        let (old, shape) = describe(name)
        return (old.isFloating ? type : old, shape)
      },
      make: { name, work in
        let x = try make(name, work)
        return x.type.isFloating ? work.converted(x, to: type) : x
      })
  }

  /// The large matrices as signed bytes with a scale for each row, `NAME_scale`
  /// (`Workspace.quantized`). Embeddings are only looked up, and keep their type. Throws `badData`
  /// for a value that is not finite.
  func quantized(path: String) -> TensorProvider {
    let suffix = "_scale"
    let bytes = Set(
      names.filter { name in
        let (type, shape) = describe(name)
        return type.isFloating && shape.rank == 2 && shape.count >= 1 << 12
          && name.hasSuffix(".weight") && !name.contains("embeddings.")
      })
    func original(_ name: String) -> String? {
      guard name.hasSuffix(suffix) else { return nil }
      let weight = String(name.dropLast(suffix.count))
      return bytes.contains(weight) ? weight : nil
    }
    func made(_ name: String, in work: borrowing Workspace) throws -> Tensor {
      let x = try make(name, work)
      if let index = x.firstNonFinite {
        throw FileError(
          .badData, "a value that is not finite at element \(index)", in: "\(path), '\(name)'",
          mend: "use a checkpoint from before training diverged")
      }
      return work.quantized(x)
    }
    return TensorProvider(
      names: names.flatMap { bytes.contains($0) ? [$0, $0 + suffix] : [$0] },
      describe: { name in
        if let weight = original(name) { return (.f32, Shape(describe(weight).shape[0])) }
        return bytes.contains(name) ? (.i8, describe(name).shape) : describe(name)
      },
      make: { name, work in
        if let weight = original(name) { return try made(weight, in: work).scales! }
        return bytes.contains(name) ? try made(name, in: work) : try make(name, work)
      })
  }

  /// Writes one file, or several with an index if their size exceeds `largest` bytes. Only one
  /// tensor is in memory at a time.
  func write(
    _ stem: String, to folder: String, metadata: [(key: String, value: String)], largest: Int
  ) throws(FileError) {
    var shards: [[String]] = [[]]
    var size = 0
    var total = 0
    for name in names {
      let (type, shape) = describe(name)
      let bytes = shape.count * type.byteCount
      if size > 0 && size + bytes > largest {
        shards.append([])
        size = 0
      }
      shards[shards.count - 1].append(name)
      (size, total) = (size + bytes, total + bytes)
    }
    func number(_ n: Int) -> String {
      String(repeating: "0", count: max(0, 5 - "\(n)".count)) + "\(n)"
    }
    var map = JSONObject()
    for (i, shard) in shards.enumerated() {
      let file =
        shards.count == 1
        ? "\(stem).safetensors" : "\(stem)-\(number(i + 1))-of-\(number(shards.count)).safetensors"
      let entries = shard.map { (name: $0, type: type($0), shape: shape($0)) }
      try SafetensorsWriter.write(entries, metadata: metadata, to: "\(folder)/\(file)") {
        (name) throws(FileError) in
        // A workspace for each tensor, so that the memory of one is released before the next.
        do { return try make(name, Workspace()) } catch let error as FileError { throw error } catch
        {
          throw FileError(.badData, "\(error)", in: name, mend: "check the checkpoint")
        }
      }
      for name in shard { map[name] = .string(file) }
    }
    if shards.count > 1 {
      let index: JSONObject = [
        "metadata": .object(["total_size": .integer(total)]), "weight_map": .object(map),
      ]
      try OutputFile.write(
        JSONValue.object(index).pretty, to: "\(folder)/\(stem).safetensors.index.json")
    }
  }
}
