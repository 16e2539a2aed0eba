import Files
import FoundationEssentials
import TensorRuntime
import TestSupport
import Testing

/// Open MPI's launcher; nil where it is not installed.
private let mpirun = ["/usr/bin/mpirun.openmpi", "/usr/bin/mpirun"].first {
  FileManager.default.isExecutableFile(atPath: $0)
}

/// Runs of several ranks.
@Suite(.serialized, .enabled(if: mpirun != nil, "mpirun of Open MPI is not installed"))
struct RanksTests {
  let folder = try! ScratchFolder()

  func ranks(
    _ count: Int, _ arguments: [String], options: [String] = [],
    environment: [String: String?] = [:]
  ) async throws -> ProgramRun {
    var variables: [String: String?] = [
      "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    ]
    variables.merge(environment) { $1 }
    return try await ProgramRun(
      mpirun!,
      ["--oversubscribe", "--bind-to", "none", "-n", "\(count)"] + options
        + [ProgramRun.program] + arguments, environment: variables)
  }
  /// A small post-training run; `settings` come on top.
  func post(_ run: String, _ settings: [String] = []) -> [String] {
    let all =
      [
        "steps=2", "batch=2", "accumulation=5", "learning_rate=0.0001", "clips=16",
        "checkpoint_every=1", "lora.rank=4", "post.index_range=[4,49]",
      ] + settings
    return [
      "train", "post", "--threads", "1", "--model", "embedded:generator", "--reward",
      "embedded:reward", "--run", folder(run),
    ] + all.flatMap { ["--set", $0] }
  }
  /// Files of a run that must not depend on the number of ranks.
  func results(_ run: String) throws -> [String: Data] {
    var files: [String: Data] = [:]
    for part in ["checkpoints", "model", "early", "samples"]
    where FileManager.default.fileExists(atPath: folder("\(run)/\(part)")) {
      for file in try FolderContents.files(folder("\(run)/\(part)")) {
        files["\(part)/\(file)"] = FileManager.default.contents(
          atPath: folder("\(run)/\(part)/\(file)"))
      }
    }
    return files.filter { !$0.value.isEmpty }
  }
  func expectSame(_ a: String, _ b: String) throws {
    let (one, other) = (try results(a), try results(b))
    #expect(one.count > 4 && one.keys.sorted() == other.keys.sorted())
    for (name, bytes) in one { #expect(other[name] == bytes, "\(name) of \(a) and \(b)") }
  }

  @Test(arguments: [
    ("lora", []), ("full", ["lora.enabled=false", "moments=bf16", "ema.enabled=true"]),
    ("early", ["lora.enabled=false", "parameters=bf16", "cluster.sums=early"]),
    (
      "grpo",
      [
        "objective=grpo", "grpo.generations=4", "grpo.best_of=2", "grpo.prompts=2",
        "grpo.sampling_steps=3", "grpo.chunk=3",
      ]
    ),
  ]) func bitsDoNotDependOnRanks(_ name: String, _ settings: [String]) async throws {
    let one = try await ProgramRun(ProgramRun.program, post("\(name)-1", settings))
    #expect(one.status == 0, "\(one.error)")
    for count in [2, 3] {
      let run = try await ranks(count, post("\(name)-\(count)", settings))
      #expect(run.status == 0, "\(run.error)")
      #expect(run.error.contains("\(count) ranks on 1 host"))
      try expectSame("\(name)-1", "\(name)-\(count)")
    }
  }
  /// The average of pretraining lies in shards. Models kept on the way, pictures of progress and
  /// what a resumed run reads are those of one process.
  @Test(arguments: ["f32", "bf16"]) func averagesAreSharedOut(_ parameters: String) async throws {
    try OutputFile.write(TinyModels.generatorConfig + "\n", to: folder("g.yaml"))
    func train(_ run: String) -> [String] {
      let settings = [
        "accumulation=3", "keep_at=[2]", "checkpoint_every=2", "sample_every=2",
        "parameters=\(parameters)",
      ]
      return [
        "train", "generator", "--threads", "1", "--vae", "embedded:generator/vae",
        "--text-encoder", "embedded:reward", "--config", folder("g.yaml"), "--steps", "3", "--run",
        folder(run),
      ] + settings.flatMap { ["--set", $0] }
    }
    let one = try await ProgramRun(ProgramRun.program, train("one"))
    #expect(one.status == 0, "\(one.error)")
    let files = try results("one").keys
    #expect(files.contains { $0.hasPrefix("early/") } && files.contains("samples/step-2.png"))
    for count in [2, 3] {
      let run = try await ranks(count, train("\(count)"))
      #expect(run.status == 0, "\(run.error)")
      try expectSame("one", "\(count)")
    }
    try forget(after: 2, "3")
    let resumed = try await ranks(2, ["train", "generator", "--resume", folder("3")])
    #expect(resumed.status == 0, "\(resumed.error)")
    try expectSame("one", "3")
  }
  /// Leaves a run as if it had been killed after step `step`, of which there is a checkpoint.
  func forget(after step: Int, _ run: String) throws {
    try FileManager.default.removeItem(atPath: folder("\(run)/model"))
    for name in try FileManager.default.contentsOfDirectory(atPath: folder("\(run)/checkpoints")) {
      if let n = Int(name.dropFirst("step-".count)), n > step {
        try FileManager.default.removeItem(atPath: folder("\(run)/checkpoints/\(name)"))
      }
    }
    let name = "step-" + String(repeating: "0", count: 6 - "\(step)".count) + "\(step)"
    try "\(name)\n".write(
      toFile: folder("\(run)/checkpoints/latest"), atomically: true, encoding: .utf8)
  }
  /// A checkpoint that the first rank cannot write ends all ranks at once, with a line.
  @Test func aCheckpointThatCannotBeWrittenEndsAllRanks() async throws {
    try FileManager.default.createDirectory(
      atPath: folder("run/checkpoints"), withIntermediateDirectories: true)
    try OutputFile.write("in the way", to: folder("run/checkpoints/step-000001"))
    let run = try await ranks(2, post("run"))
    #expect(run.status == 73 || run.status == 74, "\(run.status): \(run.error)")
    #expect(run.error.contains("step-000001"), "\(run.error)")
    #expect(try FolderContents.files(folder("run/checkpoints")) == ["step-000001"])
  }
  /// Ranks that share the rows of a micro-step: bits depend on the number of strips alone. Six
  /// heads are not shared out evenly, and three ranks make no group.
  @Test(arguments: [
    (
      "rows-lora",
      ["activation_checkpointing=true", "post.cosine_every=1", "cluster.sums=early"], [2, 8]
    ),
    (
      "rows-full",
      [
        "lora.enabled=false", "moments=bf16", "parameters=bf16", "ema.enabled=true",
        "post.anchor_weight=0.1", "guidance.teacher_cfg=1", "weights.decay=0.01",
      ], [3, 4]
    ),
  ]) func bitsDoNotDependOnGroups(
    _ name: String, _ settings: [String], _ counts: [Int]
  ) async throws {
    let groups = ["cluster.group=4", "cluster.strips=4", "accumulation=3"] + settings
    let one = try await ProgramRun(ProgramRun.program, post("\(name)-1", groups))
    #expect(one.status == 0, "\(one.error)")
    for count in counts {
      let run = try await ranks(count, post("\(name)-\(count)", groups))
      #expect(run.status == 0, "\(run.error)")
      #expect(run.error.contains("groups of 1 rank") == (count == 3))
      try expectSame("\(name)-1", "\(name)-\(count)")
    }
    // From groups of 4 to one of 2.
    let run = "\(name)-\(counts[1])"
    try forget(after: 1, run)
    let resumed = try await ranks(2, ["train", "post", "--resume", folder(run)])
    #expect(resumed.status == 0, "\(resumed.error)")
    try expectSame("\(name)-1", run)
  }
  /// A checkpoint of any number of ranks is read by any other.
  @Test func resumedOnOtherRanks() async throws {
    let straight = try await ProgramRun(
      ProgramRun.program, post("straight", ["steps=3", "lora.enabled=false"]))
    #expect(straight.status == 0, "\(straight.error)")
    let first = try await ranks(4, post("resumed", ["steps=3", "lora.enabled=false"]))
    #expect(first.status == 0, "\(first.error)")
    for count in [2, 1] {
      try forget(after: 2, "resumed")
      let run = try await ranks(count, ["train", "post", "--resume", folder("resumed")])
      #expect(run.status == 0, "\(run.error)")
      try expectSame("straight", "resumed")
    }
  }
  /// Records come in input order, whoever computes them; a file is gone on with.
  @Test func scoresAreThoseOfOneProcess() async throws {
    func record(_ line: String) throws -> [String: String] {
      var fields: [String: String] = [:]
      let object = try JSONValue(parsing: line, name: "record").object
      for (key, value) in object?.members ?? [] where key != "seconds" { fields[key] = value.line }
      return fields
    }
    var manifest = ""
    for i in 0..<9 {
      let clip = ["red-circle", "gone", "blue-square"][i / 2 % 3]
      manifest +=
        i == 4 ? "no pair\n" : "{\"video\": \"\(clip).safetensors\", \"prompt\": \"clip \(i)\"}\n"
    }
    for (i, name) in ["red-circle", "blue-square"].enumerated() {
      let clip = Tensor(
        (0..<9 * 3 * 32 * 32).map { Float(($0 * (i + 3)) % 97) / 97 }, Shape(9, 3, 32, 32))
      try SafetensorsWriter.write([("video", clip)], to: folder("\(name).safetensors"))
    }
    try manifest.write(toFile: folder("m.jsonl"), atomically: true, encoding: .utf8)
    let score = [
      "score", "--threads", "1", "--model", "embedded:reward", "--frames", "9", "--manifest",
      folder("m.jsonl"), "--json",
    ]
    let one = try await ProgramRun(ProgramRun.program, score)
    #expect(one.status == 4 && one.lines.count == 9, "\(one.error)")
    let wanted = try one.lines.map(record)
    let three = try await ranks(3, score)
    #expect(three.status == 4, "\(three.error)")
    #expect(try three.lines.map(record) == wanted)
    // Three shards, put together by their items.
    var parts: [(Int, [String: String])] = []
    for i in 0..<3 {
      for line in try await ProgramRun(ProgramRun.program, score + ["--shard", "\(i)/3"]).lines {
        var fields = try record(line)
        parts.append((Int(fields.removeValue(forKey: "item") ?? "") ?? -1, fields))
      }
    }
    #expect(parts.sorted { $0.0 < $1.0 }.map(\.1) == wanted)
    // A file whose last record is in parts.
    let half = one.lines.prefix(4).joined(separator: "\n") + "\n{\"video\": \"bl"
    try half.write(toFile: folder("half.jsonl"), atomically: true, encoding: .utf8)
    let output = ["--output", folder("half.jsonl")]
    #expect(try await ProgramRun(ProgramRun.program, score + output).status == 73)
    let rest = try await ranks(2, score + output + ["--resume"])
    #expect(rest.status == 4, "\(rest.error)")
    let file = try String(contentsOfFile: folder("half.jsonl"), encoding: .utf8)
    #expect(try file.split(separator: "\n").map { try record(String($0)) } == wanted)
    // Fewer pairs than records.
    let short = manifest.split(separator: "\n").prefix(3).joined(separator: "\n") + "\n"
    try short.write(toFile: folder("short.jsonl"), atomically: true, encoding: .utf8)
    let fewer = score.map { $0 == folder("m.jsonl") ? folder("short.jsonl") : $0 }
    let refused = try await ranks(2, fewer + output + ["--resume"])
    #expect(refused.status == 65 && refused.error.contains("record 4 is of another pair"))
    let other = try await ProgramRun(
      ProgramRun.program,
      score.map { $0 == folder("m.jsonl") ? folder("other.jsonl") : $0 } + output + ["--resume"])
    #expect(other.status == 66)
  }
  /// What a plan says of the nodes that a run could use.
  @Test func planOfARun() async throws {
    let one = try await ProgramRun(ProgramRun.program, post("planned", ["accumulation=4"]))
    #expect(one.status == 0, "\(one.error)")
    let plan = try await ProgramRun(
      ProgramRun.program,
      ["plan", "--run", folder("planned"), "--nodes", "1,2,4,8", "--gbit", "1", "--json"])
    #expect(plan.status == 0 && plan.error.contains("8 nodes for the 4 parts of a step"))
    let points = try plan.lines.map { try JSONValue(parsing: $0, name: "plan") }
    #expect(points.map { $0["nodes"]?.integer } == [1, 2, 4])
    let seconds = points.compactMap { $0["seconds"]?.number }
    #expect(seconds.count == 3 && seconds == seconds.sorted().reversed())
    let links = try await ranks(2, ["bench", "cluster", "--threads", "1", "--json"])
    #expect(links.status == 0, "\(links.error)")
    try links.output.write(toFile: folder("links.jsonl"), atomically: true, encoding: .utf8)
    let measured = try await ProgramRun(
      ProgramRun.program,
      ["plan", "--run", folder("planned"), "--nodes", "2", "--links", folder("links.jsonl")])
    #expect(measured.status == 0 && measured.lines.count == 1, "\(measured.error)")
  }
  @Test func whatDiffersIsRefused() async throws {
    let tooMany = try await ranks(3, post("many", ["accumulation=2"]))
    #expect(tooMany.status == 64 && tooMany.error.contains("3 ranks for the 2 parts of a step"))
    #expect(!FileManager.default.fileExists(atPath: folder("many")))
    let none = try await ranks(
      2, post("none"), options: ["-x", "PISCES_MPI=/nowhere/libmpi.so"],
      environment: ["PISCES_MPI": "/nowhere/libmpi.so"])
    #expect(none.status == 69 && none.error.contains("no MPI library"))
    #expect(!FileManager.default.fileExists(atPath: folder("none")))
  }
  /// A command that is not shared out says that it runs several times.
  @Test func copiesAreTold() async throws {
    let doubled = try await ranks(2, ["ot", "solve", "--help"])
    #expect(doubled.status == 0)
    try SafetensorsWriter.write([("c", .ones(Shape(3, 3)))], to: folder("c.safetensors"))
    let solve = ["ot", "solve", "--cost", folder("c.safetensors"), "--epsilon", "1"]
    let told = try await ranks(2, solve)
    #expect(told.error.split(separator: "\n").count { $0.contains("started 2 processes") } == 1)
    #expect(try await !ranks(1, solve).error.contains("processes"))
  }
  /// All ranks end by the lowest leaf that is not finite, as one process does.
  @Test func notFinite() async throws {
    let settings = ["lora.enabled=false", "learning_rate=1000", "weight_decay=0", "steps=3"]
    let one = try await ProgramRun(ProgramRun.program, post("nan-1", settings))
    let three = try await ranks(3, post("nan-3", settings))
    #expect(one.status == 3 && three.status == 3)
    let line = one.errorLines.first { $0.hasPrefix("pisces: error: ") }
    #expect(line?.contains("is not finite: step 2, sample 0") == true)
    #expect(three.errorLines.filter { $0.hasPrefix("pisces: error: ") } == [line])
  }
  /// A fault of one rank ends all of them, with its status.
  @Test func oneRanksFault() async throws {
    _ = try await ProgramRun(ProgramRun.program, post("there"))
    let run = try await ranks(2, post("there"))
    #expect(run.status == 73 && run.error.contains("a run is there already"))
  }
}
