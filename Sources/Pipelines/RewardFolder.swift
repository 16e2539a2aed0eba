public import Files
import Layers
public import Models
public import Rewards
public import TensorRuntime
public import Transport

/// A reward-model directory (interfaces.md 4), opened strictly. Every parameter that the rewards
/// need must be there, have the right shape and be finite. Parameters that they are known not to
/// need are ignored. Any other tensor is reported once.
public struct RewardFolder: Sendable {
  public let path: String
  public let config: VideoTextConfig
  public let model: VideoTextModel
  public let tokenizer: WordPieceTokenizer
  public let map: NeuralMap?
  /// Whether the map was trained on normalised text, by its metadata; nil if they do not say.
  public let mapNormalizesText: Bool?
  private let tables: [WeightTable]
  /// Tensors that nothing requested.
  public let unexpected: [String]

  /// When all weights are read to see that they are finite: when the directory is opened, or by a
  /// call of `check`, because that is a pass over gigabytes.
  public enum Check: Sendable { case atOnce, later }

  /// `otMap` replaces the directory's own `ot_map.safetensors`. `frames` is the number of frames
  /// for which the encoder is built.
  public init(
    _ path: String, otMap: String? = nil, frames: Int? = nil, check: Check = .atOnce
  ) throws {
    self.path = path
    let file = "\(path)/config.json"
    var c: VideoTextConfig = try JSONValue(contentsOf: file).decoded(name: file)
    if let p = c.problem { throw FileError(.badData, p, in: file, mend: "correct the field") }
    if let frames {
      if frames < 1 || frames % c.visionEncoder.tubeletSize != 0 {
        throw FileError(
          .badData,
          "\(frames) frames are no multiple of tubelet_size \(c.visionEncoder.tubeletSize)",
          in: file, mend: "choose another --frames, or reward.frames of a run")
      }
      c.visionEncoder.numFrames = frames
    }
    config = c
    let holder = try WeightHolder.opening(
      "\(path)/model.safetensors", checksFinite: check == .atOnce)
    model = try VideoTextModel(c, from: holder.source)
    unexpected = holder.table.unexpected(ignoring: VideoTextModel.ignoredNames)
    tokenizer = try Vocabulary.tokenizer("\(path)/vocab.txt", size: c.textEncoder.vocabSize)
    let own = "\(path)/ot_map.safetensors"
    if let mapPath = otMap ?? (TextFile.exists(own) ? own : nil) {
      let opened = try OTMapFile(mapPath, config: c.otMap)
      (map, mapNormalizesText) = (opened.map, opened.normalizesText)
      tables = [holder.table, opened.table]
      if c.otMap.inputDim != c.embedDim || c.otMap.outputDim != c.embedDim {
        throw FileError(
          .badData,
          """
          an OT map from \(c.otMap.inputDim) to \(c.otMap.outputDim) for features of \(c.embedDim)
          """,
          in: file, mend: "correct ot_map.input_dim and output_dim")
      }
    } else {
      (map, mapNormalizesText, tables) = (nil, nil, [holder.table])
    }
  }
  /// Reads all weights that the rewards use. Throws `badData` for a value that is not finite.
  public func check() throws(FileError) { try tables[0].checkTaken() }
  /// Fingerprint of all weights in the directory, based on their CRC. Reads all of them.
  public func fingerprint() throws(FileError) -> UInt64 {
    var print = try tables[0].fingerprint()
    for table in tables.dropFirst() { print = print &* 0x100_0000_01b3 ^ (try table.fingerprint()) }
    return print
  }

  /// `storage` keeps the weights in another floating-point type. Arithmetic stays f32.
  public func reward(_ options: RewardOptions = RewardOptions(), storage: ElementType? = nil) throws
    -> RewardModel
  {
    var model = model
    if let storage {
      let work = Workspace()
      model.forEachParameter { p in
        if p.value.type != .i8 { p.value = work.converted(p.value, to: storage) }
      }
    }

    var apply: RewardModel.Map?
    if let map { apply = { x, work in map(x, in: work) } }
    return try RewardModel(model, tokenizer: tokenizer, map: apply, options: options)
  }
}

/// An OT map on disk: raw tensors `net.*`, or a training checkpoint that contains them
/// (checkpoints.md 3).
public struct OTMapFile {
  public let map: NeuralMap, normalizesText: Bool?
  let table: WeightTable

  public init(_ path: String, config c: VideoTextConfig.MapConfig) throws {
    let holder = try WeightHolder.opening(path, stripping: [])
    map = try NeuralMap(
      .init(input: c.inputDim, hidden: c.hiddenDim, output: c.outputDim), from: holder.source)
    normalizesText =
      path.hasSuffix(".safetensors")
      ? try SafetensorsFile(path).metadata["normalize_text"].map { $0 == "true" } : nil
    table = holder.table
  }
  /// Writes the ten tensors and the flag that says whether text is normalised.
  public static func write(_ map: NeuralMap, normalizesText: Bool, step: Int, to path: String)
    throws(FileError)
  {
    var tensors: [(name: String, tensor: Tensor)] = []
    map.readParameters { tensors.append(($0.name, $0.value)) }
    let metadata = [
      ("format", "pt"), ("normalize_text", normalizesText ? "true" : "false"), ("step", "\(step)"),
      ("dim", "\(map.config.input)"),
    ]
    try SafetensorsWriter.write(
      tensors, metadata: metadata.map { (key: $0.0, value: $0.1) }, to: path)
  }
}
