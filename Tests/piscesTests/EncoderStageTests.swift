import Files
import TensorRuntime
import TestSupport
import Testing

/// What `train encoders` and `train generator` can be shown beside sound pairs.
@Suite struct EncoderStageTests {
  private static func encoders(_ models: TinyModels, _ run: String, _ more: [String]) -> [String] {
    [
      "train", "encoders", "--config", models.folder("encoders.yaml"), "--run", models.folder(run),
      "--set", "malformed_per_step=0",
    ] + TinyModels.size + more
  }
  /// Names of the tensors in which two reward directories differ.
  private static func changed(_ a: String, _ b: String) throws -> [String] {
    let (x, y) = (
      try SafetensorsFile("\(a)/model.safetensors"), try SafetensorsFile("\(b)/model.safetensors")
    )
    return try x.names.filter { try x.tensor(named: $0).floats != y.tensor(named: $0).floats }
  }

  /// A tower that is trained by itself leaves the other as it was; both together start from there.
  @Test func towersApart() async throws {
    let models = try await TinyModels()
    let f = models.folder
    try await models.pisces(
      Self.encoders(models, "text", ["--set", "stage=text", "--initial", models.reward]))
    try await models.pisces(
      Self.encoders(models, "video", ["--set", "stage=video", "--initial", f("text/model")]))
    let text = try Self.changed(models.reward, f("text/model"))
    let video = try Self.changed(f("text/model"), f("video/model"))
    #expect(
      !text.isEmpty
        && text.allSatisfy {
          $0.hasPrefix("text_encoder.bert.") && !$0.contains("layer.1.") && !$0.contains("layer.2.")
        }, "\(text)")
    #expect(!video.isEmpty && video.allSatisfy { $0.hasPrefix("vision_encoder.") }, "\(video)")
    try await models.pisces(
      Self.encoders(
        models, "joint",
        ["--initial", f("video/model")]
          + [
            "temperature=0.01", "learn_temperature=false", "caption_noise=0.5", "swapped_share=0.5",
            "swapped_contrast=false",
          ].flatMap { ["--set", $0] }))
    for (_, step) in try JSONLines.read(f("joint/metrics.jsonl")) {
      #expect(step["temperature"]?.number == 0.01)
    }
  }
  /// Predictions of generators as positives; settings without what they need are refused.
  @Test func predictions() async throws {
    let models = try await TinyModels()
    let share = ["--set", "prediction_share=0.5"]
    try await models.pisces(
      Self.encoders(
        models, "predicted",
        share + ["--generator", models.generator, "--generator", models.generator]))
    try await models.pisces(Self.encoders(models, "plain", []))
    #expect(
      !(try Self.changed(models.folder("plain/model"), models.folder("predicted/model")).isEmpty))
    for (more, word) in [
      (share, "--generator"), (["--set", "reconstruction_share=0.5"], "--vae"),
      (share + ["--set", "reconstruction_share=0.6"], "add up"),
    ] {
      let run = try await ProgramRun(ProgramRun.program, Self.encoders(models, "none", more))
      #expect(
        run.status == 64 && run.errorLines.count == 1 && run.error.contains(word),
        "\(more): \(run.error)")
    }
  }
  /// Token plans in the matching pass reach what the attention is made of.
  @Test func plansInMatching() async throws {
    let models = try await TinyModels()
    let f = models.folder
    try await models.pisces(Self.encoders(models, "plain", ["--initial", models.reward]))
    try await models.pisces(
      Self.encoders(
        models, "planned", ["--initial", models.reward, "--set", "token_transport=true"]))
    let changed = try Self.changed(f("plain/model"), f("planned/model"))
    #expect(changed.contains { $0.contains("crossattention.self.query") }, "\(changed)")
  }
  /// Wrong captions change what is learnt, from the world; clips of one's own cannot have them.
  @Test func captionNoise() async throws {
    let models = try await TinyModels()
    let f = models.folder
    func generator(_ run: String, _ more: [String]) -> [String] {
      [
        "train", "generator", "--vae", models.vae, "--text-encoder", models.reward, "--config",
        f("generator.yaml"), "--run", f(run),
      ] + TinyModels.size + more
    }
    try await models.pisces(generator("sound", []))
    try await models.pisces(generator("noisy", ["--set", "caption_noise=0.45"]))
    #expect(
      try TinyModels.weights(f("sound/model/transformer"))
        != TinyModels.weights(f("noisy/model/transformer")))
    let data = "\(repository)/Tests/FilesTests/Clips"
    let run = try await ProgramRun(
      ProgramRun.program, generator("own", ["--data", data, "--set", "caption_noise=0.1"]))
    #expect(run.status != 0 && run.errorLines.count == 1, "\(run.error)")
  }
  /// The crowded world has two objects in most clips, and is a run's own.
  @Test func worlds() async throws {
    let models = try await TinyModels()
    let f = models.folder
    try await models.pisces(Self.encoders(models, "crowded", ["--world", "crowded"]))
    #expect(try JSONValue(contentsOf: f("crowded/run.json"))["world"] == "crowded")
    let both = try await ProgramRun(
      ProgramRun.program, Self.encoders(models, "both", ["--world", "crowded", "--harder"]))
    #expect(both.status == 64 && both.errorLines.count == 1, "\(both.error)")
  }
}
