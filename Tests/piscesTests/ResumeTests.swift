import Files
import FoundationEssentials
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Stopping, going on, and the number of threads change nothing in the result.
@Suite(.serialized) struct ResumeTests {
  private func post(_ models: TinyModels, _ run: String, _ more: [String]) -> [String] {
    [
      "train", "post", "--model", models.generator, "--reward", models.reward, "--config",
      models.folder("post.yaml"), "--run", models.folder(run),
    ] + TinyModels.size + more
  }
  private static let objectives: [[String]] = [
    ["--objective", "direct"], ["--objective", "direct", "--set", "post.latents=self"],
    ["--objective", "direct", "--set", "lora.enabled=false"],
    ["--objective", "grpo", "--set", "grpo.mode=rollout"],
    ["--objective", "grpo", "--set", "grpo.mode=single_step"],
  ]

  @Test(arguments: objectives) func sameBitsOnAnyNumberOfThreads(_ objective: [String]) async throws
  {
    let models = try await TinyModels()
    var first: [String: [UInt8]]?
    for threads in ["1", "2", "3"] {
      try await models.pisces(
        post(models, "post-\(threads)", objective + ["--set", "steps=4", "--threads", threads]))
      let weights = try TinyModels.weights(models.folder("post-\(threads)/model"))
      #expect(weights.count >= 3)
      if let first { #expect(weights == first, "\(threads) threads") } else { first = weights }
    }
    #expect(
      first?["transformer/diffusion_pytorch_model.safetensors"]
        != (try FolderContents.bytes(
          "\(models.generator)/transformer/diffusion_pytorch_model.safetensors")),
      "nothing was trained")
  }

  /// SIGTERM after a few steps: status 75 and a checkpoint; the resumed run ends with the bits of
  /// the one that was never stopped, and its metrics tell of every step once.
  @Test(arguments: objectives) func stoppedAndResumed(_ objective: [String]) async throws {
    let models = try await TinyModels()
    let more = objective + ["--set", "steps=120"]
    try await models.pisces(post(models, "whole", more))
    let status = try await stop(
      post(models, "stopped", more), after: 5, run: models.folder("stopped"))
    #expect(status == 75)
    #expect(
      !TextFile.exists(models.folder("stopped/model/model_index.json")),
      "it was over before it was stopped")
    try await models.pisces(
      [
        "train", "post", "--model", models.generator, "--reward", models.reward, "--resume",
        models.folder("stopped"),
      ] + TinyModels.size + objective.prefix(2))
    #expect(
      try TinyModels.weights(models.folder("stopped/model"))
        == TinyModels.weights(models.folder("whole/model")))
    #expect(try steps(models.folder("stopped")) == Array(1...120))
    #expect(TextFile.exists(models.folder("stopped/report.html")))
  }

  /// A folder of three clips of the world with captions, another of the same clips without the
  /// last.
  private func datasets(_ models: TinyModels) async throws -> (data: String, fewer: String) {
    let data = models.folder("data")
    let fewer = models.folder("fewer")
    try await models.pisces(
      [
        "sample", "--model", models.generator, "--output", data, "--format", "safetensors",
        "--steps", "1", "--height", "16", "--width", "16", "--frames", "9", "--quiet",
      ]
        + ["red", "green", "blue"].flatMap { ["--prompt", "a \($0) circle"] })
    for (i, word) in ["red", "green", "blue"].enumerated() {
      try OutputFile.write("a \(word) circle\n", to: "\(data)/0000\(i).txt")
    }
    try FileTree.copy(data, to: fewer)
    unlink("\(fewer)/00002.txt")
    unlink("\(fewer)/00002.safetensors")
    return (data, fewer)
  }
  /// Every kind of training: `--resume RUN` alone goes on with the run's own data, models and
  /// sizes, to the bits of the run that was never stopped; other ones are refused with what
  /// differs.
  @Test(arguments: ["vae", "encoders", "generator", "ot-map", "post"]) func resumedAlone(
    _ command: String
  ) async throws {
    let models = try await TinyModels()
    let (data, fewer) = try await datasets(models)
    let f = { (name: String) in models.folder(name) }
    var given = ["--data", data, "--size", "16", "--frames", "9"]
    switch command {
    case "generator": given += ["--vae", models.vae, "--text-encoder", models.reward]
    case "ot-map": given += ["--reward", models.reward]
    case "post": given += ["--model", models.generator, "--reward", models.reward]
    default: break
    }
    let config =
      command == "ot-map"
      ? ["--set", "batch=2", "--set", "inner=1"] : ["--config", f("\(command).yaml")]
    let settings =
      config + ["--set", "checkpoint_every=2"]
      + (command == "generator" ? ["--set", "batch=2"] : [])
      + (command == "encoders" ? ["--set", "malformed_per_step=0"] : [])
    func run(_ name: String, _ steps: Int) -> [String] {
      ["train", command, "--run", f(name), "--steps", "\(steps)", "--quiet"] + settings + given
    }
    try await models.pisces(run("whole", 6))
    // Stopped in the middle of a run of six steps: the run itself, cut back to its second
    // checkpoint.
    try FileTree.copy(f("whole"), to: f("cut"))
    try OutputFile.write("step-000004\n", to: f("cut/checkpoints/latest"))
    try FileManager.default.removeItem(atPath: f("cut/model"))
    try FileTree.copy(f("cut"), to: f("cut-again"))
    try await models.pisces(["train", command, "--resume", f("cut"), "--quiet"])
    #expect(try TinyModels.weights(f("cut/model")) == TinyModels.weights(f("whole/model")))

    func refused(_ words: [String], _ more: [String], status: Int32 = 64) async throws {
      let run = try await ProgramRun(
        ProgramRun.program, ["train", command, "--resume", f("cut-again"), "--quiet"] + more)
      #expect(
        run.status == status && run.errorLines.count == 1, "\(more): \(run.status) \(run.error)")
      for word in words { #expect(run.error.contains(word), "\(run.error)") }
    }
    try await refused(["--data", data], ["--data", fewer])
    try await refused(["--size", "16", "32"], ["--size", "32"])
    try await refused(["--frames"], ["--frames", "5"])
    try await refused(["--world", "harder", "standard"], ["--harder"])
    if command == "post" { try await refused(["--objective", "direct"], ["--objective", "grpo"]) }
    let other = command == "vae" ? "encoders" : "vae"
    let wrong = try await ProgramRun(
      ProgramRun.program, ["train", other, "--resume", f("cut-again"), "--quiet"])
    #expect(wrong.status == 64, "\(wrong.error)")
    // The same clips in another place are the same data; changed ones are not.
    try FileManager.default.moveItem(atPath: data, toPath: f("moved"))
    try await refused([data, "--data"], [], status: 66)
    try await models.pisces([
      "train", command, "--resume", f("cut-again"), "--quiet", "--data", f("moved"),
    ])
    #expect(try TinyModels.weights(f("cut-again/model")) == TinyModels.weights(f("whole/model")))
    try OutputFile.write("a white circle\n", to: f("moved/00001.txt"))
    try await refused([f("moved"), "--data"], ["--data", f("moved")])
  }
  /// A model that is another one is refused, too.
  @Test func anotherModelIsRefused() async throws {
    let models = try await TinyModels()
    let other = models.folder("other")
    try await models.pisces(post(models, "run", ["--set", "steps=2"]))
    try FileTree.copy(models.generator, to: other)
    try FileManager.default.removeItem(atPath: "\(other)/scheduler")
    for (option, path) in [
      ("--model", other), ("--reward", other), ("--ot-map", "\(models.reward)/ot_map.safetensors"),
    ] {
      let run = try await ProgramRun(
        ProgramRun.program,
        ["train", "post", "--resume", models.folder("run"), option, path, "--quiet"])
      #expect(
        run.status == 64 && run.errorLines.count == 1 && run.error.contains(option),
        "\(run.status) \(run.error)")
    }
  }

  /// Launchers send a signal to a process and to its group, and more than once: within a second it
  /// is one request, and a checkpoint follows.
  @Test(arguments: [SIGTERM, SIGINT, SIGUSR1]) func signalsWithinASecondAreOne(_ signal: Int32)
    async throws
  {
    let models = try await TinyModels()
    let status = try await stop(
      post(models, "twice", ["--set", "steps=100000"]), after: 3, run: models.folder("twice"),
      with: signal, again: [.zero, .milliseconds(30), .milliseconds(200)])
    #expect(status == 75)
    #expect(TextFile.exists(models.folder("twice/checkpoints/latest")))
  }
  /// One that comes later leaves at once, in the middle of a step.
  @Test func aLaterSignalLeavesAtOnce() async throws {
    let models = try await TinyModels()
    let long = post(
      models, "long",
      ["--set", "accumulation=1000000", "--set", "steps=2", "--stop-within", "1000000"])
    let config = models.folder("long/config.json")
    let status = try await ProgramRun.signalled(
      ProgramRun.program, long, SIGTERM, again: [.milliseconds(1500)]
    ) {
      while !TextFile.exists(config) { try await Task.sleep(for: .milliseconds(10)) }
    }
    #expect(status == 128 + SIGTERM)
  }

  /// A step that would take too long is given up, and taken again when the run is resumed.
  @Test func aLongStepIsGivenUp() async throws {
    let models = try await TinyModels()
    let long = post(models, "long", ["--set", "accumulation=1000000", "--set", "steps=2"])
    let config = models.folder("long/config.json")
    #expect(
      try await ProgramRun.signalled(ProgramRun.program, long, SIGTERM) {
        while !TextFile.exists(config) { try await Task.sleep(for: .milliseconds(10)) }
      } == 75)
    #expect(!TextFile.exists(models.folder("long/checkpoints/latest")))
    #expect(try TextFile.read(models.folder("long/log.txt")).contains("stopped inside step 1"))

    let more = ["--set", "steps=3", "--set", "accumulation=60", "--stop-within", "0"]
    try await models.pisces(post(models, "whole", more))
    #expect(
      try await stop(post(models, "cut", more), after: 1, run: models.folder("cut")) == 75)
    #expect(try TextFile.read(models.folder("cut/log.txt")).contains("stopped inside step"))
    try await resume(models, "cut")
    #expect(
      try TinyModels.weights(models.folder("cut/model"))
        == TinyModels.weights(models.folder("whole/model")))
    #expect(try steps(models.folder("cut")) == [1, 2, 3])
  }

  /// A run that was killed goes on from its last checkpoint; what it had told of later steps is
  /// told again, not twice.
  @Test func killedAndResumed() async throws {
    let models = try await TinyModels()
    let more = ["--set", "steps=40", "--set", "checkpoint_every=4"]
    try await models.pisces(post(models, "whole", more))
    #expect(
      try await stop(
        post(models, "killed", more), after: 6, run: models.folder("killed"), with: SIGKILL) == 128
        + SIGKILL)
    try await resume(models, "killed")
    #expect(
      try TinyModels.weights(models.folder("killed/model"))
        == TinyModels.weights(models.folder("whole/model")))
    #expect(try steps(models.folder("killed")) == Array(1...40))
  }

  /// A run is there once its config.json is, the last of its first files. What was killed before is
  /// begun again.
  @Test func killedBeforeItWasThere() async throws {
    let models = try await TinyModels()
    try await models.pisces(post(models, "whole", ["--set", "steps=2"]))
    let early = models.folder("early")
    try createFolder("\(early)/checkpoints")
    for name in ["environment.json", "run.json"] {
      try FileTree.copy(models.folder("whole/\(name)"), to: "\(early)/\(name)")
    }
    try await models.pisces(post(models, "early", ["--set", "steps=2"]))
    #expect(
      try TinyModels.weights("\(early)/model")
        == TinyModels.weights(models.folder("whole/model")))
  }

  private func resume(_ models: TinyModels, _ run: String) async throws {
    try await models.pisces(
      [
        "train", "post", "--model", models.generator, "--reward", models.reward, "--resume",
        models.folder(run),
      ] + TinyModels.size)
  }
  private func steps(_ run: String) throws -> [Int] {
    try JSONLines.read("\(run)/metrics.jsonl").compactMap { $0.value["step"]?.integer }
  }
  /// Starts the program and sends a signal once its metrics have `count` lines; its status.
  private func stop(
    _ arguments: [String], after count: Int, run: String, with signal: Int32 = SIGTERM,
    again: [Duration] = []
  ) async throws -> Int32 {
    let folder = run
    let waiter = Task {
      while !Task.isCancelled {
        if let text = try? TextFile.read("\(folder)/metrics.jsonl"),
          text.utf8.count(where: { $0 == 0x0a }) >= count
        {
          return
        }
        try await Task.sleep(for: .milliseconds(1))
      }
    }
    defer { waiter.cancel() }
    return try await ProgramRun.signalled(ProgramRun.program, arguments, signal, again: again) {
      try await waiter.value
    }
  }
}
