import Files
import FoundationEssentials
import TestSupport
import Testing

/// `plan` of a configuration on networks that need not exist.
@Suite(.serialized) struct PlanTests {
  let folder = try! ScratchFolder()

  private func plan(_ settings: [String], _ options: [String]) async throws -> ProgramRun {
    try
      (["gemm", "attention", "conv"].map { "{\"bench\": \"\($0)\", \"gflops\": 100}" }
      .joined(separator: "\n") + "\n")
      .write(toFile: folder("rates.jsonl"), atomically: true, encoding: .utf8)
    return try await ProgramRun(
      ProgramRun.program,
      ["plan", "--rates", folder("rates.jsonl"), "--memory-rate", "10", "--gbit", "100", "--json"]
        + settings.flatMap { ["--set", $0] } + options)
  }

  /// More nodes than parts of a step compute them in groups, whose ranks take less memory each.
  @Test func groupsBeyondTheParts() async throws {
    let run = try await plan(
      ["accumulation=2", "weights.quality=0", "weights.semantic=0"],
      [
        "--model", "embedded:generator", "--frames", "9", "--height", "256", "--width", "256",
        "--nodes", "1,2,3,4,8",
      ])
    #expect(run.status == 0 && run.error.contains("3 nodes are no multiple"), "\(run.error)")
    let points = try run.lines.map { try JSONValue(parsing: $0, name: "plan") }
    #expect(points.map { $0["nodes"]?.integer } == [1, 2, 4, 8])
    #expect(points.map { $0["group"]?.integer } == [1, 1, 2, 4])
    let seconds = points.compactMap { $0["compute_seconds"]?.number }
    #expect(seconds.count == 4 && seconds == seconds.sorted().reversed())
    let bytes = points.compactMap { $0["peak_tensor_bytes"]?.integer }
    #expect(bytes.count == 4 && bytes == bytes.sorted().reversed(), "\(bytes)")
  }
  /// What backward needs is kept in `compute_dtype`, in a plan as in a run.
  @Test func typeOfWhatIsKept() async throws {
    var bytes: [Int] = []
    for type in ["f32", "bf16"] {
      let run = try await plan(
        ["accumulation=1", "weights.quality=0", "weights.semantic=0", "compute_dtype=\(type)"],
        [
          "--model", "embedded:generator", "--reward",
          "\(repository)/CSupport/Embedded/models/reward",
          "--frames", "9", "--height", "256", "--width", "256", "--nodes", "1",
        ])
      let point = try JSONValue(parsing: run.lines.first ?? "", name: "plan")
      bytes.append(point["peak_tensor_bytes"]?.integer ?? 0)
    }
    #expect(bytes[1] > 0 && Double(bytes[1]) < 0.7 * Double(bytes[0]), "\(bytes)")
  }
  /// HunyuanVideo at 848 x 480: the operations of a leaf as worked out on paper (2.5 PFLOP,
  /// cluster.md of the design), and more memory than this machine has.
  @Test func publishedSizes() async throws {
    let run = try await plan(
      ["accumulation=1", "activation_checkpointing=true", "vae.activation_checkpointing=true"],
      ["--nodes", "1"])
    #expect(run.status == 0 && run.error.contains("28.7 GB in bf16"), "\(run.error)")
    let point = try JSONValue(parsing: run.lines.first ?? "", name: "plan")
    let seconds = point["compute_seconds"]?.number ?? 0
    #expect(abs(seconds * 1e11 / 2.465e15 - 1) < 0.05)
    #expect((point["peak_tensor_bytes"]?.integer ?? 0) > 100_000_000_000)
  }
  @Test func whatIsRefused() async throws {
    for (settings, options, message) in [
      (["objective=grpo"], [], "only the direct step is planned"),
      (["accumulation=2"], ["--frames", "30"], "30 frames do not suit the model"),
      (["accumulation=2"], ["--run", folder("none")], "give --run FOLDER, or --config"),
      ([], [], "give --run FOLDER, or --config"),
    ] as [([String], [String], String)] {
      let run = try await plan(settings, options)
      #expect(run.status == 64 && run.error.contains(message), "\(run.error)")
    }
  }
}
