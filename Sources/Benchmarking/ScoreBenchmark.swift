public import Files
import Models
import Pipelines
public import TensorRuntime

/// `score` in processes of its own, with a reward model of random weights: from the start of a
/// process to its first score, and over many pairs, beside the rate of the encoder's blocks alone.
public struct ScoreBenchmark: Sendable {
  public let program: String, model: String
  public let compute: Machine.ComputeType, pairs: Int
  public init(
    program: String, model: String, compute: Machine.ComputeType, pairs: Int
  ) {
    (self.program, self.model) = (program, model)
    (self.compute, self.pairs) = (compute, pairs)
  }

  public struct Result: Sendable {
    /// A process with one pair; what is not part of the pair; the pairs after the first of many.
    public var firstSeconds = 0.0, outsideSeconds = 0.0, pairSeconds = 0.0
    /// One block, and the time of all blocks over that of a pair; nil for blocks of another size
    /// than those of `bench encoder`.
    public var blockSeconds, shareOfBlocks: Double?
    /// Of all files of the model; the largest size of a process, with one pair and with all.
    public var modelBytes = 0, firstResidentBytes = 0, residentBytes = 0
    public var members: [(String, JSONValue)] {
      [
        ("first_seconds", .number(firstSeconds)), ("outside_seconds", .number(outsideSeconds)),
        ("pair_seconds", .number(pairSeconds)), ("block_seconds", JSONValue(blockSeconds)),
        ("share_of_blocks", JSONValue(shareOfBlocks)), ("model_bytes", .integer(modelBytes)),
        ("first_resident_bytes", .integer(firstResidentBytes)),
        ("resident_bytes", .integer(residentBytes)),
        ("bytes_beyond_model", .integer(residentBytes - modelBytes)),
      ]
    }
  }

  /// Writes its clips into `folder`. Throws `badData` if a process fails.
  public func run(in folder: String) async throws(FileError) -> Result {
    var result = Result()
    for file in ["model", "ot_map"] {
      result.modelBytes += try MappedFile("\(model)/\(file).safetensors").count
    }
    let config = try Self.config(model).visionEncoder
    var lines: [String] = []
    for i in 0...pairs {
      let work = Workspace()
      let clip = RandomStream(seed: 5, .bench, sample: i).uniform(
        Shape(config.numFrames, 3, config.imgSize, config.imgSize), .f32, in: work)
      try SafetensorsWriter.write([("pixels", clip)], to: "\(folder)/\(i).safetensors")
      let pair: JSONObject = [
        "video": .string("\(i).safetensors"),
        "prompt": .string("a small cat walking on the left of a red circle"),
      ]
      lines.append(JSONValue.object(pair).line)
    }
    try OutputFile.write(lines[0] + "\n", to: "\(folder)/first.jsonl")
    try OutputFile.write(lines.joined(separator: "\n") + "\n", to: "\(folder)/all.jsonl")
    let first = try await score("\(folder)/first.jsonl")
    (result.firstSeconds, result.firstResidentBytes) = (first.seconds, first.resident)
    result.outsideSeconds = first.seconds - first.pairs
    let all = try await score("\(folder)/all.jsonl")
    result.pairSeconds = (all.seconds - first.seconds) / Double(pairs)
    result.residentBytes = all.resident
    var full = VideoEncoderConfig()
    (full.depth, full.initValues) = (config.depth, config.initValues)
    if config == full {
      let block = try await block()
      result.blockSeconds = block
      result.shareOfBlocks = Double(config.depth) * block / result.pairSeconds
    }
    return result
  }
  private static func config(_ folder: String) throws(FileError) -> VideoTextConfig {
    try JSONValue(contentsOf: "\(folder)/config.json").decoded(name: "\(folder)/config.json")
  }
  private func block() async throws(FileError) -> Double {
    do {
      let block = try EncoderBenchmark(preset: .vitBlock, storage: .bf16).prepare()
      var runner = BenchmarkRunner(repeats: 5, isDebugBuild: false)
      runner.skipsCheck = true
      return try await runner.run(block).median
    } catch { throw FileError(.badData, "\(error)", in: "vit-block", mend: "run bench encoder") }
  }
  /// Wall time of a process, the sum of its pairs' own times, and the largest resident size of all
  /// processes so far.
  private func score(_ manifest: String) async throws(FileError) -> (
    seconds: Double, pairs: Double, resident: Int
  ) {
    let clock = ContinuousClock()
    let start = clock.now
    let (status, text) = try await ChildProcess.output(
      program,
      [
        "score", "--model", model, "--manifest", manifest, "--compute", compute.rawValue, "--json",
        "--quiet", "--threads", "\(Machine.threads)",
      ])
    let seconds = (clock.now - start) / .seconds(1)
    guard status == 0 else {
      throw FileError(
        .badData, "score ended with status \(status)", in: manifest, mend: "run it by itself")
    }
    var pairs = 0.0
    for line in text.split(separator: "\n") {
      let record = try JSONValue(parsing: String(line), name: "a score")
      pairs += record["seconds"]?.number ?? 0
    }
    return (seconds, pairs, ProcessMemory.largestChild)
  }
}
