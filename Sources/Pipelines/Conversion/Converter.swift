public import Files
public import Models
public import TensorRuntime

/// One conversion, as `pisces convert` asks for it.
public struct Converter: Sendable {
  public var input: String
  /// The directory to be written.
  public var output: String
  /// nil: found from the names in the input.
  public var kind: ConversionKind?
  /// Type of floating-point tensors in the output; nil keeps their types.
  public var type: ElementType?
  /// Layout of the written transformer or adapter; nil: diffusers.
  public var layout: TransformerLayouts.Layout?
  /// Adapters to be merged into a transformer.
  public var adapters: String?
  /// α of adapters, written or merged; nil: the value in their file.
  public var alpha: Double?
  /// Values of `config.json` that the user gives. They win over what the shapes say.
  public var config: String?
  public var vocabulary: String?
  /// A VideoCrafter2 directory: what the input lacks of a generator is copied from it, and it tells
  /// the layers of adapters.
  public var base: String?
  /// The projection of the guidance scale that T2V-Turbo's LoRA files lack (videocrafter.md 14,
  /// D-46): a file, or `FILE:NAME`.
  public var guidanceProjection: String?
  /// Whether an OT map expects normalised input; nil keeps what the input's metadata says.
  public var normalisesText: Bool?
  /// Larger outputs are split into several files with an index.
  public var largestFile = 5_000_000_000

  public init(input: String, output: String) { (self.input, self.output) = (input, output) }

  /// The files that were written.
  public struct Report: Sendable {
    public let kind: ConversionKind
    public let tensors, parameters: Int
    /// What the input does not say and was assumed, and what was left out.
    public let notes: [String]
  }

  /// Converts. The output appears whole or not at all. Throws `FileError`.
  public func run() throws(FileError) -> Report {
    if kind == .lora { return try lora() }
    if kind == .otMap { return try otMap() }
    if kind == .videocrafter2 || ShortVideoPart(kind: kind) != nil { return try shortVideo() }
    if kind == nil && TextFile.exists("\(input)/unet/config.json") { return try shortVideo() }
    let isReward = TextFile.exists("\(input)/model.safetensors")
    if kind == nil && !isReward {
      if try TurboAdapterFile.isOne(input) { return try lora() }
      if try AdapterFile.isOne(Self.mapFile(input)) { return try lora() }
      if try Self.map(input).names.contains("net.6.weight") { return try otMap() }
    }
    let table = try WeightTable(
      opening: isReward ? "\(input)/model.safetensors" : input,
      stripping: ["vae.", "model.diffusion_model.", "diffusion_model."])
    let found = kind ?? Self.kind(table.names)
    try refuseForeignOptions(found)
    switch found {
    case .internvideo2: return try reward(table)
    case .hunyuanTransformer: return try transformer(table)
    case .hunyuanVAE: return try autoencoder(table)
    case .otMap: return try otMap()
    case .lora: return try lora()
    case .videocrafter2, .videocrafterUNet, .imageVAE, .openCLIPText: return try shortVideo()
    case nil:
      throw FileError(
        .badData, "not a checkpoint that can be recognised", in: input,
        mend: "say what it is with --kind")
    }
  }

  /// The kind of a checkpoint, found from its names; nil if it cannot be converted.
  static func kind(_ names: [String]) -> ConversionKind? {
    if names.contains(where: {
      $0.hasPrefix("first_stage_model.") || $0.hasPrefix("cond_stage_model.")
    }) {
      return .videocrafter2
    }
    if names.contains(where: {
      $0.hasPrefix("vision_encoder.") || $0.hasPrefix("text_encoder.bert.")
    }) {
      return .internvideo2
    }
    if TransformerLayouts.layout(of: names) != nil { return .hunyuanTransformer }
    if names.contains("decoder.conv_in.conv.weight") { return .hunyuanVAE }
    if names.contains("net.6.weight") { return .otMap }
    return ShortVideoPart(names: names)?.kind
  }
  /// Options that belong to VideoCrafter2's family alone.
  private func refuseForeignOptions(_ kind: ConversionKind?) throws(FileError) {
    guard [.internvideo2, .hunyuanTransformer, .hunyuanVAE, .otMap].contains(kind) else { return }
    for (option, value) in [("--base", base), ("--time-cond-proj", guidanceProjection)] {
      guard let value else { continue }
      throw FileError(
        .badData, "\(option) is for VideoCrafter2's family, the input is \(kind!.rawValue)",
        in: value, mend: "leave it out")
    }
  }

  // MARK: kinds

  private func reward(_ table: WeightTable) throws(FileError) -> Report {
    // The single-frame table is small and wanted for clips of one frame.
    let ignored = VideoTextModel.ignoredNames.filter { $0 != "vision_encoder.img_pos_embed" }
    let all = try TensorProvider(
      table, widening: floating, where: { name in !ignored.contains { Self.matches(name, $0) } })
    let provider = type == .i8 ? all.quantized(path: input) : all.stored(as: type)
    var (config, notes) = try configuration(try InferredConfig.reward(all, path: input))
    let dropped = table.names.count - all.names.count
    if dropped > 0 { notes.append("\(dropped) tensors that the rewards do not need were left out") }
    // A reward directory has its own vocabulary and map.
    let words = vocabulary ?? (TextFile.exists("\(input)/vocab.txt") ? "\(input)/vocab.txt" : nil)
    if words == nil {
      notes.append("no vocab.txt was given: copy BERT's uncased vocabulary there, or use --vocab")
    }
    let lines = try words.map { (path) throws(FileError) in
      try TextFile.lines(path).joined(separator: "\n") + "\n"
    }
    let map =
      TextFile.exists("\(input)/ot_map.safetensors")
      ? try mapTensors("\(input)/ot_map.safetensors") : nil
    if let map { notes += ["ot_map.safetensors is written, too"] + map.notes }
    config["model_type"] = "internvideo2_stage2"
    try write { (folder) throws(FileError) in
      try provider.write("model", to: folder, metadata: [("format", "pt")], largest: largestFile)
      try OutputFile.write(JSONValue.object(config).pretty, to: "\(folder)/config.json")
      if let lines { try OutputFile.write(lines, to: "\(folder)/vocab.txt") }
      if let map {
        try map.provider.write("ot_map", to: folder, metadata: map.metadata, largest: .max)
      }
    }
    return report(.internvideo2, provider, notes)
  }

  /// The type of what is not quantized.
  private var floating: ElementType? { type == .i8 ? nil : type }
  /// Bytes with scales are read by the encoders alone.
  func refuseBytes() throws(FileError) {
    if type == .i8 {
      throw FileError(
        .badData, "int8 is for reward models", in: input, mend: "give --dtype bf16 or f16")
    }
  }

  private func transformer(_ table: WeightTable) throws(FileError) -> Report {
    try refuseBytes()
    var provider = try TensorProvider(table, widening: type).renamed {
      TransformerLayouts.parameter($0) ?? $0
    }
    var notes: [String] = []
    guard let found = TransformerLayouts.layout(of: provider.names),
      let embed = ["img_in.proj.weight", "x_embedder.proj.weight"].first(where: {
        provider.names.contains($0)
      })
    else {
      throw FileError(
        .badData, "not a HunyuanVideo transformer", in: input,
        mend: "give its checkpoint, or another --kind")
    }
    let layouts = TransformerLayouts(width: provider.shape(embed)[0])
    var unknown: [String] = []
    // Everything is converted through diffusers' layout, which configuration and adapters use.
    if found == .original {
      provider = try provider.laidOut(as: .diffusers, layouts, path: input) { unknown.append($0) }
    }
    let (config, supposed) = try configuration(
      try InferredConfig.transformer(provider, path: input))
    if let adapters {
      let all = try Self.laidOut(
        try AdapterFile.read(adapters, alpha: alpha), as: .diffusers, layouts, path: adapters)
      provider = try provider.merging(all, path: adapters)
    }
    if layout == .original {
      provider = try provider.laidOut(as: .original, layouts, path: input) { unknown.append($0) }
    }
    provider = provider.stored(as: type)
    notes += supposed + unknown.map { "left out: \($0)" }
    try write { (folder) throws(FileError) in
      try provider.write(
        "diffusion_pytorch_model", to: folder, metadata: [("format", "pt")], largest: largestFile)
      try OutputFile.write(JSONValue.object(config).pretty, to: "\(folder)/config.json")
    }
    return report(.hunyuanTransformer, provider, notes)
  }

  private func autoencoder(_ table: WeightTable) throws(FileError) -> Report {
    try refuseBytes()
    let provider = try TensorProvider(table, widening: type).stored(as: type)
    let (config, notes) = try configuration(try InferredConfig.autoencoder(provider, path: input))
    try write { (folder) throws(FileError) in
      try provider.write(
        "diffusion_pytorch_model", to: folder, metadata: [("format", "pt")], largest: largestFile)
      try OutputFile.write(JSONValue.object(config).pretty, to: "\(folder)/config.json")
    }
    return report(.hunyuanVAE, provider, notes)
  }

  /// The tensors of an OT map, the metadata for the file and the notes for the user.
  private func mapTensors(_ path: String) throws(FileError) -> (
    provider: TensorProvider, metadata: [(key: String, value: String)], notes: [String]
  ) {
    let source = try Self.map(path)
    let table = try WeightTable(source)
    let names = table.names.filter { $0.hasPrefix("net.") }
    let provider = try TensorProvider(table, widening: floating, where: { $0.hasPrefix("net.") })
      .stored(as: floating)
    for name in ["net.0", "net.2", "net.3", "net.5", "net.6"].flatMap({
      ["\($0).weight", "\($0).bias"]
    }) where !names.contains(name) {
      throw FileError(
        .badData, "missing parameter", in: "\(path), '\(name)'",
        mend: "give an OT map (net.0 to net.6), raw or as a training checkpoint")
    }
    var metadata: [(key: String, value: String)] = [
      ("format", "pt"), ("dim", "\(provider.shape("net.0.weight")[1])"),
    ]
    var notes: [String] = []
    let old = source.metadata
    if let flag = normalisesText.map({ "\($0)" }) ?? old["normalize_text"] {
      metadata.append(("normalize_text", flag))
    } else {
      notes.append("whether its input is normalised is not recorded: say it with --normalize-text")
    }
    if let step = try Self.step(path) ?? old["step"] { metadata.append(("step", step)) }
    return (provider, metadata, notes)
  }
  private func otMap() throws(FileError) -> Report {
    try refuseBytes()
    let (provider, metadata, notes) = try mapTensors(input)
    // A map is added to an existing reward directory, or written to a file of its own.
    var folder = output
    var stem = "ot_map"
    if output.hasSuffix(".safetensors") {
      let parts = output.split(separator: "/", omittingEmptySubsequences: false)
      (folder, stem) = (
        parts.count == 1 ? "." : parts.dropLast().joined(separator: "/"),
        String(parts.last!.dropLast(".safetensors".count))
      )
    } else {
      try createFolder(output)
    }
    try provider.write(stem, to: folder, metadata: metadata, largest: .max)
    return report(.otMap, provider, notes)
  }
  /// The parameters of a map: of a raw map, or under `T` of a training checkpoint.
  private static func map(_ path: String) throws(FileError) -> any TensorSource {
    let file = mapFile(path)
    if TorchCheckpoint.isOne(file),
      let inner = try TorchCheckpoint(file).mapping?.mapping(named: "T")
    {
      return inner
    }
    return try WeightTable.source(file)
  }
  private static func mapFile(_ path: String) -> String {
    TextFile.exists("\(path)/ot_map.safetensors") ? "\(path)/ot_map.safetensors" : path
  }
  private static func step(_ path: String) throws(FileError) -> String? {
    TorchCheckpoint.isOne(path)
      ? try TorchCheckpoint(path).mapping?.value(named: "step")?.integer.map { "\($0)" } : nil
  }

  private func lora() throws(FileError) -> Report {
    try refuseBytes()
    if try isShortVideoLora() { return try shortVideoLora() }
    try refuseForeignOptions(.hunyuanTransformer)
    let target = layout ?? .diffusers
    let read = try AdapterFile.read(input, alpha: alpha)
    let all = try Self.laidOut(
      read, as: target, TransformerLayouts.width(of: read).map { TransformerLayouts(width: $0) },
      path: input)
    try write { (folder) throws(FileError) in
      if target == .diffusers {
        try AdapterFile.writeDiffusers(all, to: folder, type: type)
      } else {
        try AdapterFile.writePEFT(all, to: folder, type: type)
      }
    }
    return Report(
      kind: .lora, tensors: 2 * all.count,
      parameters: all.reduce(0) { $0 + $1.a.count + $1.b.count }, notes: [])
  }
  /// Adapters under the names of one layout. Refuses adapters of modules that the model does not
  /// have, because nothing would read them.
  private static func laidOut(
    _ all: [AdapterWeights], as target: TransformerLayouts.Layout, _ layouts: TransformerLayouts?,
    path: String
  ) throws(FileError) -> [AdapterWeights] {
    let unknown = all.map(\.module).filter { TransformerLayouts.module($0) == nil }
    if !unknown.isEmpty {
      let names =
        unknown.prefix(5).map { "'\($0)'" }.joined(separator: ", ")
        + (unknown.count > 5 ? " and \(unknown.count - 5) more" : "")
      throw FileError(
        .badData, "adapters of layers that HunyuanVideo's transformer does not have",
        in: "\(path), \(names)", mend: "give a LoRA of this transformer alone")
    }
    let foreign = all.filter { TransformerLayouts.layout(ofModule: $0.module) != target }
    if foreign.isEmpty { return all }
    let own = all.filter { TransformerLayouts.layout(ofModule: $0.module) == target }
    for x in foreign where layouts.map({ !$0.fits(x, to: target) }) ?? true {
      throw FileError(
        .badData, "an adapter of shape [\(x.b.shape[0]), \(x.a.shape[1])] that cannot be split",
        in: "\(path), '\(x.module)'", mend: "give a LoRA of HunyuanVideo's transformer")
    }
    let result = own + layouts!.adapters(foreign, to: target, in: Workspace())
    if let twice = Dictionary(grouping: result, by: \.module).first(where: { $0.value.count > 1 }) {
      throw FileError(
        .badData, "two adapters for one layer", in: "\(path), '\(twice.key)'",
        mend: "give a file with one adapter")
    }
    return result
  }

  // MARK: parts

  /// The configuration: what the user gave wins over the input's own, and that over the inferred
  /// one.
  private func configuration(_ inferred: InferredConfig.Result) throws(FileError) -> (
    JSONObject, [String]
  ) {
    var config = inferred.config
    var isGiven = false
    for path in ["\(input)/config.json", config.isEmpty ? "" : self.config ?? ""]
    where !path.isEmpty && TextFile.exists(path) {
      guard let given = try JSONValue(contentsOf: path).object else {
        throw FileError(
          .badData, "the configuration is not an object", in: path, mend: "give a config.json")
      }
      config = Self.overlay(config, given)
      isGiven = true
    }
    if let path = self.config, !TextFile.exists(path) {
      throw FileError(.missingInput, "no such file", in: path, mend: "check the path")
    }
    return (
      config,
      isGiven
        ? []
        : inferred.supposed.map {
          "supposed, since the tensors do not tell: \($0) (correct config.json, or give --config)"
        }
    )
  }
  private static func overlay(_ base: JSONObject, _ layer: JSONObject) -> JSONObject {
    var result = base
    for (key, value) in layer.members {
      if let old = base[key]?.object, let new = value.object {
        result[key] = .object(overlay(old, new))
      } else {
        result[key] = value
      }
    }
    return result
  }
  func write(_ body: (String) throws(FileError) -> Void) throws(FileError) {
    // A folder is written as a whole. A folder that is not empty is not replaced.
    if try !folderIsEmpty(output) {
      throw FileError(
        .cannotCreate, "the folder is there and not empty", in: output,
        mend: "choose another name, or remove it")
    }
    try AtomicDirectory.write(to: output, body)
  }
  func report(_ kind: ConversionKind, _ provider: TensorProvider, _ notes: [String])
    -> Report
  {
    Report(
      kind: kind, tensors: provider.names.count,
      parameters: provider.names.reduce(0) { $0 + provider.shape($1).count }, notes: notes)
  }
  /// A pattern is a name, or a prefix followed by `*`.
  private static func matches(_ name: String, _ pattern: String) -> Bool {
    pattern.hasSuffix("*") ? name.hasPrefix(pattern.dropLast()) : name == pattern
  }
}
