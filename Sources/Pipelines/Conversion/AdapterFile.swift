public import Files
import FoundationEssentials
public import Models
public import TensorRuntime

/// Reads and writes LoRA files: a PEFT directory, or diffusers' single file (checkpoints.md 6).
public enum AdapterFile {
  /// The adapters of a PEFT directory or of a file from any known tool. α is `alpha` if it is
  /// given; else the file's `.alpha` values; else the value in `adapter_config.json`,
  /// `lora_config.json` or the file's `lora_adapter_metadata`; else r. PEFT's own files require one
  /// of the former. Throws `badData` for forms that are not plain low-rank, and for parameters that
  /// were trained as a whole.
  public static func read(_ path: String, alpha given: Double? = nil) throws(FileError)
    -> [AdapterWeights]
  {
    let contents = try contents(path, alpha: given)
    guard let whole = contents.whole.first else { return contents.adapters }
    throw FileError(
      .badData, "not a low-rank adapter's tensor", in: "\(path), '\(whole.name)'",
      mend: "give a plain LoRA file")
  }
  /// What a LoRA file holds: adapters, and parameters that were trained as a whole beside them
  /// (videocrafter.md 10, D-46).
  struct Contents {
    let adapters: [AdapterWeights]
    let whole: [(name: String, tensor: Tensor)]
  }
  static func contents(_ path: String, alpha given: Double? = nil) throws(FileError) -> Contents {
    let (file, configuration) = try place(path)
    let tensors = try WeightTable.source(file)
    try refuseMethods(tensors)
    let factors = try Factors(tensors, file)
    let scaling = try scaling(tensors, file, configuration)
    if given == nil && scaling.isUnknown && factors.alpha.count < factors.order.count
      && isPEFT(tensors, file)
    {
      let what =
        "alpha is not known: PEFT keeps it in adapter_config.json, which is not beside the file"
      throw FileError(.missingInput, what, in: file, mend: "put it there, or give --alpha")
    }
    let adapters = try factors.order.map { (module) throws(FileError) in
      let a = factors.a[module]!
      let b = factors.b[module]!
      // HunyuanVideo's layers are matrices; other networks are adapted in convolutions, too.
      let isMatrix = a.shape.rank == 2 && b.shape.rank == 2
      guard isMatrix || (TransformerLayouts.module(module) == nil && a.shape.rank > 2),
        b.shape.rank == a.shape.rank, a.shape[0] == b.shape[1], a.shape[0] > 0
      else {
        throw FileError(
          .badData, "factors A and B that do not fit", in: "\(file), '\(module)'",
          mend: "give a complete LoRA file")
      }
      return AdapterWeights(
        module: module, a: a, b: b,
        scale: scaling.scale(module, rank: a.shape[0], alpha: given ?? factors.alpha[module]))
    }
    return Contents(adapters: adapters, whole: factors.whole)
  }

  /// Whether the file or directory `path` holds adapters, judged by the names of its tensors.
  /// Throws if it cannot be opened.
  public static func isOne(_ path: String) throws(FileError) -> Bool {
    try WeightTable.source(try place(path).file).names.contains { AdapterNames.isAdapter($0) }
  }

  /// The file of tensors, and the folder with its configuration: a PEFT directory, or the folder of
  /// a PEFT file.
  private static func place(_ path: String) throws(FileError) -> (
    file: String, configuration: String?
  ) {
    let names = [
      "adapter_model.safetensors", "adapter_model.bin", "pytorch_lora_weights.safetensors",
      "pytorch_lora_weights.bin",
    ]
    for name in names where TextFile.exists("\(path)/\(name)") {
      return ("\(path)/\(name)", name.hasPrefix("adapter_model") ? path : nil)
    }
    let parts = path.split(separator: "/", omittingEmptySubsequences: false)
    let folder = parts.count == 1 ? "." : parts.dropLast().joined(separator: "/")
    return (
      path, parts.last?.hasPrefix("adapter_model.") ?? false ? (folder.isEmpty ? "/" : folder) : nil
    )
  }
  private static func isPEFT(_ tensors: any TensorSource, _ file: String) -> Bool {
    (file.split(separator: "/").last?.hasPrefix("adapter_model.") ?? false)
      || tensors.names.allSatisfy { $0.hasPrefix("base_model.model.") }
  }
  private static func refuseMethods(_ tensors: any TensorSource) throws(FileError) {
    for key in tensors.names {
      guard let method = AdapterNames.method(key) else { continue }
      throw FileError(
        .badData, "\(method) is not plain low-rank adaptation", in: "\(tensors.path), '\(key)'",
        mend: "merge it with its own tools first")
    }
  }
  private static func scaling(_ tensors: any TensorSource, _ file: String, _ folder: String?)
    throws(FileError) -> Scaling
  {
    if let folder, TextFile.exists("\(folder)/adapter_config.json") {
      return try Scaling(
        try JSONValue(contentsOf: "\(folder)/adapter_config.json"),
        place: "\(folder)/adapter_config.json")
    }
    if let folder, TextFile.exists("\(folder)/lora_config.json"),
      let parameters = try JSONValue(contentsOf: "\(folder)/lora_config.json")["lora_params"]
    {
      return try Scaling(
        .object([
          "r": parameters["lora_rank"] ?? .null, "lora_alpha": parameters["lora_alpha"] ?? .null,
        ]), place: "\(folder)/lora_config.json")
    }
    guard let text = tensors.metadata["lora_adapter_metadata"] else { return Scaling() }
    var fields = JSONObject()
    for (key, value)
      in (try JSONValue(parsing: text, name: "\(file), lora_adapter_metadata").object
      ?? JSONObject()).members
    {
      fields[key.hasPrefix("transformer.") ? String(key.dropFirst("transformer.".count)) : key] =
        value
    }
    return try Scaling(.object(fields), place: "\(file), lora_adapter_metadata")
  }

  /// The factors of every module, complete, in the order of the file.
  private struct Factors {
    private(set) var order: [String] = [], a: [String: Tensor] = [:], b: [String: Tensor] = [:],
      alpha: [String: Double] = [:]
    private(set) var whole: [(name: String, tensor: Tensor)] = []

    init(_ tensors: any TensorSource, _ file: String) throws(FileError) {
      func bad(_ what: String, _ name: String, _ mend: String = "give a complete, plain LoRA file")
        -> FileError
      {
        FileError(.badData, what, in: "\(file), '\(name)'", mend: mend)
      }
      for key in tensors.names {
        let prefix = "base_model.model."
        let bare = key.hasPrefix(prefix) ? String(key.dropFirst(prefix.count)) : key
        if VideoUNet.trainedInFull.contains(bare) {
          whole.append((bare, try tensors.tensor(named: key)))
          continue
        }
        guard let (module, factor) = AdapterNames.parse(key) else {
          throw bad("not a low-rank adapter's tensor", key)
        }
        let tensor = try tensors.tensor(named: key)
        let isTwice: Bool
        guard tensor.type.isFloating || factor == .alpha else {
          throw bad("elements of \(tensor.type) where floats were expected", key)
        }
        switch factor {
        case .a: isTwice = a.updateValue(tensor, forKey: module) != nil
        case .b: isTwice = b.updateValue(tensor, forKey: module) != nil
        case .alpha:
          let value = tensor.type.isFloating ? tensor.doubles : tensor.integers.map { Double($0) }
          guard value.count == 1, value[0].isFinite else {
            throw bad("alpha is not one number", key)
          }
          isTwice = alpha.updateValue(value[0], forKey: module) != nil
        }
        if isTwice {
          throw bad(
            "a second tensor for the same part of '\(module)'", key, "give a file with one adapter")
        }
        if factor != .alpha && a[module] != nil && b[module] != nil { order.append(module) }
      }
      for module in Set(a.keys).union(b.keys).union(alpha.keys).sorted()
      where a[module] == nil || b[module] == nil {
        throw bad("factor \(a[module] == nil ? "A" : "B") is missing", module)
      }
      if order.isEmpty {
        throw FileError(.badData, "no adapters", in: file, mend: "give a LoRA file")
      }
    }
  }

  /// α and r of each module.
  private struct Scaling {
    private var alpha: Double?, alphaPattern: [String: Double] = [:], isRankStabilised = false
    var isUnknown: Bool { alpha == nil && alphaPattern.isEmpty }

    init() {}
    init(_ config: JSONValue, place: String) throws(FileError) {
      func refuse(_ what: String) -> FileError {
        FileError(
          .badData, "\(what) is not plain low-rank adaptation", in: place,
          mend: "merge it with its own tools first")
      }
      for key in ["use_dora", "lora_bias"] where config[key]?.bool == true { throw refuse(key) }
      if let type = config["peft_type"]?.string, type != "LORA" { throw refuse(type) }
      alpha = config["lora_alpha"]?.number
      isRankStabilised = config["use_rslora"]?.bool ?? false
      for (key, value) in (config["alpha_pattern"]?.object ?? JSONObject()).members {
        if let n = value.number { alphaPattern[key] = n }
      }
    }
    /// The rank is the tensor's own. `rank_pattern` can only repeat it.
    func scale(_ module: String, rank: Int, alpha own: Double?) -> Double {
      let alpha = own ?? AdapterNames.value(alphaPattern, for: module) ?? alpha ?? Double(rank)
      return alpha / (isRankStabilised ? Double(rank).squareRoot() : Double(rank))
    }
  }

  /// Writes diffusers' `pytorch_lora_weights.safetensors`. The factor is multiplied into B, so that
  /// every loader's convention (α = r) gives the right result.
  public static func writeDiffusers(
    _ adapters: [AdapterWeights], to folder: String, type: ElementType?
  ) throws(FileError) {
    try SafetensorsWriter.write(
      tensors(adapters, prefix: "transformer.", type),
      to: "\(folder)/pytorch_lora_weights.safetensors")
  }
  /// Writes a PEFT directory with α = r: `adapter_model.safetensors`, `adapter_config.json` and the
  /// recipe's `lora_config.json`. Parameters of `whole` are stored beside the adapters.
  public static func writePEFT(
    _ adapters: [AdapterWeights], whole: [(name: String, tensor: Tensor)] = [], to folder: String,
    type: ElementType?
  ) throws(FileError) {
    try SafetensorsWriter.write(
      tensors(adapters, prefix: "base_model.model.", type) + whole,
      to: "\(folder)/adapter_model.safetensors")
    let rank = adapters.map(\.rank).max()!
    var ranks = JSONObject()
    var alphas = JSONObject()
    for x in adapters where x.rank != rank {
      ranks[x.module] = .integer(x.rank)
      alphas[x.module] = .integer(x.rank)
    }
    // The last part of a name, or the last two if the last is a number (to_out.0).
    let targets = Set(
      adapters.map { x in
        let parts = x.module.split(separator: ".")
        return parts.suffix(parts.last?.allSatisfy(\.isNumber) == true ? 2 : 1).joined(
          separator: ".")
      }
    ).sorted()
    let list = JSONValue.array(targets.map { .string($0) })
    let config: JSONObject = [
      "peft_type": "LORA", "r": .integer(rank), "lora_alpha": .integer(rank),
      "target_modules": list, "lora_dropout": .number(0), "bias": "none", "fan_in_fan_out": false,
      "init_lora_weights": true, "use_rslora": false, "use_dora": false,
      "rank_pattern": .object(ranks), "alpha_pattern": .object(alphas),
      "modules_to_save": whole.isEmpty
        ? nil : .array(whole.map { .string(String($0.name.dropLast(".weight".count))) }),
      "base_model_name_or_path": nil, "inference_mode": true, "task_type": nil,
    ]
    try OutputFile.write(JSONValue.object(config).pretty, to: "\(folder)/adapter_config.json")
    let recipe: JSONObject = [
      "step": .integer(0),
      "lora_params": .object([
        "lora_rank": .integer(rank), "lora_alpha": .integer(rank), "target_modules": list,
      ]),
    ]
    try OutputFile.write(JSONValue.object(recipe).pretty, to: "\(folder)/lora_config.json")
  }
  private static func tensors(_ adapters: [AdapterWeights], prefix: String, _ type: ElementType?)
    -> [(name: String, tensor: Tensor)]
  {
    let work = Workspace()
    return adapters.flatMap { adapter in
      let x = adapter.normalised(in: work)
      func stored(_ t: Tensor) -> Tensor { type.map { work.converted(t, to: $0) } ?? t }
      return [
        ("\(prefix)\(x.module).lora_A.weight", stored(x.a)),
        ("\(prefix)\(x.module).lora_B.weight", stored(x.b)),
      ]
    }
  }
}
