import ArgumentParser
import Benchmarking
import Files
import FoundationEssentials
import Models
import Pipelines
import TensorRuntime

struct BenchScore: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "score",
    abstract: "Whole processes of `score` with a reward model of random weights.",
    discussion:
      """
      From the start of a process to its first score, the time of each further pair beside that \
      of the video encoder's blocks alone, and the memory beyond the model's files. Needs 3 GB on \
      disk for the model unless one is given.
      """)
  @OptionGroup var common: CommonOptions
  @Option(in: .choice(RandomRewardModel.Preset.self), help: "full: 1.4 billion parameters.")
  var preset = RandomRewardModel.Preset.full
  @Option(in: .path, help: "Keep the model in this directory, or take the one that is there.")
  var model: String?
  @Option(in: .choice(["bf16", "int8"]), help: "How a new model is stored.")
  var dtype = WeightType.bf16
  @Option(in: .choice(ComputeChoice.self), help: "As score takes it.") var compute = ComputeChoice
    .f32
  @Option(in: .whole(1...1000), help: "Pairs after the first.") var pairs = 4
  @Flag(help: "One JSON object on standard output.") var json = false

  func run() async throws {
    try common.start()
    common.use(compute)
    let scratch =
      FileManager.default.temporaryDirectory.path + "/pisces-bench-\(UInt64.random(in: 0 ... .max))"
    try FileManager.default.createDirectory(atPath: scratch, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: scratch) }
    let folder = model ?? "\(scratch)/model"
    let isNew = !TextFile.exists("\(folder)/config.json")
    if isNew {
      try make(folder, scratch)
      ProcessMemory.resetPeak()
    }
    let result = try await ScoreBenchmark(
      program: "/proc/self/exe", model: folder, compute: Machine.computeType,
      pairs: pairs
    ).run(in: scratch)
    var record: JSONObject = [
      "bench": "score",
      "case": .object([
        "preset": isNew ? .string(preset.rawValue) : .null,
        "dtype": isNew ? .string(dtype.rawValue) : .null,
        "model": model.map { .string($0) } ?? .null,
        "compute_dtype": .string(Machine.computeType.rawValue), "pairs": .integer(pairs),
      ]),
      "threads": .integer(Machine.threads), "isa": .string(Machine.current.rawValue),
    ]
    for (key, value) in result.members + Environment.origin { record[key] = value }
    if json { return StandardStreams.result(JSONValue.object(record).line) }
    for (key, value) in result.members {
      StandardStreams.result("\(key.padded(to: 24)) \(value.line)")
    }
  }
  private func make(_ folder: String, _ scratch: String) throws {
    common.note("writing a model of random weights")
    if dtype == .bf16 { return try RandomRewardModel(preset).write(to: folder) }
    try RandomRewardModel(preset).write(to: "\(scratch)/wide")
    var converter = Converter(input: "\(scratch)/wide", output: folder)
    converter.type = dtype.element
    _ = try converter.run()
    try FileManager.default.removeItem(atPath: "\(scratch)/wide")
  }
}
