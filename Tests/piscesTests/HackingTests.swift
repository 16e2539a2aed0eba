import Files
import TensorRuntime
import TestSupport
import Testing

/// `train post --watch`: a held-out reward beside the run's own.
@Suite struct HackingTests {
  private static func post(_ models: TinyModels, _ run: String, _ more: [String]) -> [String] {
    [
      "train", "post", "--model", models.generator, "--reward", models.reward, "--config",
      models.folder("post.yaml"), "--run", models.folder(run),
    ] + TinyModels.size + more
  }

  /// Watching changes no bit of the training, and tells what it saw at its steps.
  @Test(arguments: ["direct", "grpo"]) func watchingOnlyLooks(_ objective: String) async throws {
    let models = try await TinyModels()
    let watch = ["--watch", models.reward, "--set", "watch.every=5", "--set", "watch.prompts=8"]
    try await models.pisces(Self.post(models, "plain", ["--objective", objective]))
    try await models.pisces(Self.post(models, "watched", ["--objective", objective] + watch))
    #expect(
      try TinyModels.weights(models.folder("plain/model/transformer"))
        == TinyModels.weights(models.folder("watched/model/transformer")))
    let steps = try JSONLines.read(models.folder("watched/metrics.jsonl")).filter {
      $0.1["watch_share"] != nil
    }
    #expect(steps.compactMap { $0.1["step"]?.integer } == [5, 10, 12])
    // The watch has the run's own reward model here: both changes are the same, and nothing rises
    // while it falls.
    for (_, step) in steps {
      let reward = try #require(step["watch_reward"]?.number)
      #expect(step["watch_held_out"]?.number == reward && step["watch_share"]?.number == 0)
    }
  }
  /// Against a reward that judges the other way round, every gain is hacking: a warning in log and
  /// report, a checkpoint, status 75.
  @Test func stopsWhenHacking() async throws {
    let models = try await TinyModels()
    let opposite = models.folder("opposite")
    try FileTree.copy(models.reward, to: opposite)
    // The matching head with its two outputs exchanged.
    let file = try SafetensorsFile("\(models.reward)/model.safetensors")
    try SafetensorsWriter.write(
      try file.names.map { name in
        let t = try file.tensor(named: name)
        return (name: name, tensor: name.hasPrefix("itm_head") ? Self.exchanged(t) : t)
      }, to: "\(opposite)/model.safetensors")
    let settings = [
      "weights.quality=0", "weights.consistency=0", "lora.enabled=false", "learning_rate=0.01",
      "watch.every=4", "watch.prompts=32", "steps=40", "post.latents=self",
    ].flatMap { ["--set", $0] }
    let run = try await ProgramRun(
      ProgramRun.program,
      Self.post(models, "hacked", ["--watch", opposite, "--stop-when-hacking"] + settings).filter {
        $0 != "--quiet"
      })
    #expect(
      run.status == 75 && run.error.contains("warning: the rewards are being hacked"),
      """
      \(run.status) \(run.error) \
      \((try? TextFile.read(models.folder("hacked/metrics.jsonl"))) ?? "")
      """
    )
    #expect(
      try TextFile.read(models.folder("hacked/log.txt")).contains(
        "warning: the rewards are being hacked"))
    #expect(
      try TextFile.read(models.folder("hacked/report.html")).contains(
        "warning: the rewards are being hacked"))
    // It goes on without the flag.
    try await models.pisces(["train", "post", "--resume", models.folder("hacked"), "--quiet"])
  }
  private static func exchanged(_ t: Tensor) -> Tensor {
    let x = t.floats
    let half = x.count / 2
    return Tensor(Array(x[half...] + x[..<half]), t.shape)
  }

  @Test func needsAWatch() async throws {
    let models = try await TinyModels()
    let run = try await ProgramRun(
      ProgramRun.program, Self.post(models, "none", ["--stop-when-hacking"]))
    #expect(
      run.status == 64 && run.errorLines.count == 1 && run.error.contains("--watch"), "\(run.error)"
    )
  }
}
