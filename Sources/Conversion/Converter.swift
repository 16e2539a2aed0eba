public import Files
public import Models
public import TensorRuntime

/// One conversion, as told to `pisces convert`.
public struct Converter: Sendable {
  public var input: String
  /// The directory to write.
  public var output: String
  /// Nil: from the names in the input.
  public var kind: ConversionKind?
  /// Type of floating tensors; nil keeps theirs.
  public var type: ElementType?
  /// Layout of a transformer or adapter written; nil: diffusers.
  public var layout: TransformerLayouts.Layout?
  /// Adapters to merge into a transformer.
  public var adapters: String?
  /// Given values of `config.json`; they win over what the shapes say.
  public var config: String?
  public var vocabulary: String?
  /// Whether an OT map wants its input normalised; kept from the input's metadata when nil.
  public var normalisesText: Bool?
  /// Larger outputs are cut into several files with an index.
  public var largestFile = 5_000_000_000

  public init(input: String, output: String) { (self.input, self.output) = (input, output) }

  /// What was written.
  public struct Report: Sendable {
    public let kind: ConversionKind
    public let tensors, parameters: Int
    /// What could not be read off the input and was supposed, and what was left out.
    public let notes: [String]
  }

  /// Converts. The output appears whole or not at all. Throws `FileError`.
  public func run() throws(FileError) -> Report {
    if kind == .lora { return try lora() }
    if kind == .otMap { return try otMap() }
    if let detected = try? AdapterFile.read(input), kind == nil, !detected.isEmpty { return try lora() }
    if kind == nil, let map = try? Self.map(input), map.names.contains("net.6.weight") { return try otMap() }
    let table = try WeightTable(opening: input, stripping: ["vae."])
    switch kind ?? Self.kind(table.names) {
    case .internvideo2: return try reward(table)
    case .hunyuanTransformer: return try transformer(table)
    case .hunyuanVAE: return try autoencoder(table)
    case .otMap: return try otMap()
    case .lora: return try lora()
    case nil: throw FileError(.badData, "not a checkpoint that can be recognised", in: input, mend: "say what it is with --kind")
    }
  }

  /// What a checkpoint is by its names; nil if it is nothing we convert.
  static func kind(_ names: [String]) -> ConversionKind? {
    if names.contains(where: { $0.hasPrefix("vision_encoder.") || $0.hasPrefix("text_encoder.bert.") }) { return .internvideo2 }
    if TransformerLayouts.layout(of: names) != nil { return .hunyuanTransformer }
    if names.contains("decoder.conv_in.conv.weight") { return .hunyuanVAE }
    if names.contains("net.6.weight") { return .otMap }
    return nil
  }

  // MARK: kinds

  private func reward(_ table: WeightTable) throws(FileError) -> Report {
    // The single-frame table is small and wanted for clips of one frame.
    let ignored = StageTwoWeights.ignored.filter { $0 != "vision_encoder.img_pos_embed" }
    let all = try TensorProvider(table, where: { name in !ignored.contains { Self.matches(name, $0) } }), provider = all.stored(as: type)
    var (config, notes) = try configuration(try InferredConfig.reward(provider, path: input))
    let dropped = table.names.count - provider.names.count
    if dropped > 0 { notes.append("\(dropped) tensors that the rewards do not need were left out") }
    if vocabulary == nil { notes.append("no vocab.txt was given: copy BERT's uncased vocabulary there, or use --vocab") }
    let lines = try vocabulary.map { (path) throws(FileError) in try TextFile.read(path) }
    config["model_type"] = "internvideo2_stage2"
    try write { (folder) throws(FileError) in
      try provider.write("model", to: folder, metadata: [("format", "pt")], largest: largestFile)
      try OutputFile.write(JSONValue.object(config).pretty, to: "\(folder)/config.json")
      if let lines { try OutputFile.write(lines, to: "\(folder)/vocab.txt") }
    }
    return report(.internvideo2, provider, notes)
  }

  private func transformer(_ table: WeightTable) throws(FileError) -> Report {
    var provider = try TensorProvider(table), notes: [String] = []
    guard let found = TransformerLayouts.layout(of: provider.names), let embed = ["img_in.proj.weight", "x_embedder.proj.weight"].first(where: { provider.names.contains($0) }) else {
      throw FileError(.badData, "not a HunyuanVideo transformer", in: input, mend: "give its checkpoint, or another --kind")
    }
    let layouts = TransformerLayouts(width: provider.shape(embed)[0])
    var unknown: [String] = []
    // Everything goes through diffusers' layout: configuration and adapters speak it.
    if found == .original { provider = try provider.laidOut(as: .diffusers, layouts, path: input) { unknown.append($0) } }
    let (config, supposed) = try configuration(try InferredConfig.transformer(provider, path: input))
    if let adapters {
      let work = Workspace(), all = try AdapterFile.read(adapters)
      let own = TransformerLayouts.layout(of: all.map(\.module)) == .original ? layouts.adapters(all, to: .diffusers, in: work) : all
      provider = try provider.merging(own, path: adapters)
    }
    if layout == .original { provider = try provider.laidOut(as: .original, layouts, path: input) { unknown.append($0) } }
    provider = provider.stored(as: type)
    notes += supposed + unknown.map { "left out: \($0)" }
    try write { (folder) throws(FileError) in
      try provider.write("diffusion_pytorch_model", to: folder, metadata: [("format", "pt")], largest: largestFile)
      try OutputFile.write(JSONValue.object(config).pretty, to: "\(folder)/config.json")
    }
    return report(.hunyuanTransformer, provider, notes)
  }

  private func autoencoder(_ table: WeightTable) throws(FileError) -> Report {
    let provider = try TensorProvider(table).stored(as: type), (config, notes) = try configuration(try InferredConfig.autoencoder(provider, path: input))
    try write { (folder) throws(FileError) in
      try provider.write("diffusion_pytorch_model", to: folder, metadata: [("format", "pt")], largest: largestFile)
      try OutputFile.write(JSONValue.object(config).pretty, to: "\(folder)/config.json")
    }
    return report(.hunyuanVAE, provider, notes)
  }

  private func otMap() throws(FileError) -> Report {
    let source = try Self.map(input), table = try WeightTable(source), names = table.names.filter { $0.hasPrefix("net.") }
    let provider = try TensorProvider(table, where: { $0.hasPrefix("net.") }).stored(as: type)
    for name in ["net.0", "net.2", "net.3", "net.5", "net.6"].flatMap({ ["\($0).weight", "\($0).bias"] }) where !names.contains(name) {
      throw FileError(.badData, "missing parameter", in: "\(input), '\(name)'", mend: "give an OT map (net.0 to net.6), raw or as a training checkpoint")
    }
    var metadata: [(key: String, value: String)] = [("format", "pt"), ("dim", "\(provider.shape("net.0.weight")[1])")], notes: [String] = []
    let old = (try? SafetensorsFile(input))?.metadata ?? [:]
    if let flag = normalisesText.map({ "\($0)" }) ?? old["normalize_text"] { metadata.append(("normalize_text", flag)) } else { notes.append("whether its input is normalised is not recorded: say it with --normalize-text") }
    if let step = try Self.step(input) ?? old["step"] { metadata.append(("step", step)) }
    // A map goes into a reward directory that may be there already, or into a file of its own.
    var folder = output, stem = "ot_map"
    if output.hasSuffix(".safetensors") {
      let parts = output.split(separator: "/", omittingEmptySubsequences: false)
      (folder, stem) = (parts.count == 1 ? "." : parts.dropLast().joined(separator: "/"), String(parts.last!.dropLast(".safetensors".count)))
    } else {
      try createFolder(output)
    }
    try provider.write(stem, to: folder, metadata: metadata, largest: .max)
    return report(.otMap, provider, notes)
  }
  /// The map's parameters: of a raw map, or under `T` of a training checkpoint.
  private static func map(_ path: String) throws(FileError) -> any TensorSource {
    if let checkpoint = try? TorchCheckpoint(path) {
      if let inner = checkpoint.mapping?.mapping(named: "T") { return inner }
      return try checkpoint.stateDictionary()
    }
    let file = TextFile.exists("\(path)/ot_map.safetensors") ? "\(path)/ot_map.safetensors" : path
    return try SafetensorsFile(file)
  }
  private static func step(_ path: String) throws(FileError) -> String? { (try? TorchCheckpoint(path))?.mapping?.value(named: "step")?.integer.map { "\($0)" } }

  private func lora() throws(FileError) -> Report {
    let work = Workspace(), target = layout ?? .diffusers
    var all = try AdapterFile.read(input)
    guard let found = TransformerLayouts.layout(of: all.map(\.module)) else { throw FileError(.badData, "adapters of another model", in: "\(input), '\(all[0].module)'", mend: "give a LoRA of HunyuanVideo's transformer") }
    if found != target {
      // The model's width: an attention projection's input.
      let width = all.first { !$0.module.hasSuffix("linear2") && !$0.module.hasSuffix("fc2") && !$0.module.hasSuffix("proj_out") && !$0.module.hasSuffix("net.2") }?.a.shape[1]
      guard let width else { throw FileError(.badData, "no adapter that tells the model's width", in: input, mend: "keep the layout it has") }
      all = TransformerLayouts(width: width).adapters(all, to: target, in: work)
    }
    try write { (folder) throws(FileError) in
      if target == .diffusers { try AdapterFile.writeDiffusers(all, to: folder, type: type) } else { try AdapterFile.writePEFT(all, to: folder, type: type) }
    }
    return Report(kind: .lora, tensors: 2 * all.count, parameters: all.reduce(0) { $0 + $1.a.count + $1.b.count }, notes: [])
  }

  // MARK: parts

  /// The inferred configuration under the input's own, under the one given.
  private func configuration(_ inferred: InferredConfig.Result) throws(FileError) -> (JSONObject, [String]) {
    var config = inferred.config, isGiven = false
    for path in ["\(input)/config.json", config.isEmpty ? "" : self.config ?? ""] where !path.isEmpty && TextFile.exists(path) {
      guard let given = try JSONValue(contentsOf: path).object else { throw FileError(.badData, "the configuration is not an object", in: path, mend: "give a config.json") }
      config = Self.overlay(config, given)
      isGiven = true
    }
    if let path = self.config, !TextFile.exists(path) { throw FileError(.missingInput, "no such file", in: path, mend: "check the path") }
    return (config, isGiven ? [] : inferred.supposed.map { "supposed, since the tensors do not tell: \($0) (correct config.json, or give --config)" })
  }
  private static func overlay(_ base: JSONObject, _ layer: JSONObject) -> JSONObject {
    var result = base
    for (key, value) in layer.members {
      if let old = base[key]?.object, let new = value.object { result[key] = .object(overlay(old, new)) } else { result[key] = value }
    }
    return result
  }
  private func write(_ body: (String) throws(FileError) -> Void) throws(FileError) {
    // A folder is written whole: one that holds anything is not ours to replace.
    if try !folderIsEmpty(output) { throw FileError(.cannotCreate, "the folder is there and not empty", in: output, mend: "choose another name, or remove it") }
    try AtomicDirectory.write(to: output, body)
  }
  private func report(_ kind: ConversionKind, _ provider: TensorProvider, _ notes: [String]) -> Report {
    Report(kind: kind, tensors: provider.names.count, parameters: provider.names.reduce(0) { $0 + provider.shape($1).count }, notes: notes)
  }
  /// A pattern ends in `*` or is the name.
  private static func matches(_ name: String, _ pattern: String) -> Bool { pattern.hasSuffix("*") ? name.hasPrefix(pattern.dropLast()) : name == pattern }
}
