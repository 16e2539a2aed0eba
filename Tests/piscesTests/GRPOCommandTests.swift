import Files
import TestSupport
import Testing

/// GRPO by the command: how much goes into one pass changes memory and speed, not what is sampled.
@Suite struct GroupTests {
  @Test(arguments: ["true", "false"]) func passesSampleAlike(_ sameNoise: String) async throws {
    let models = try await TinyModels()
    func rewards(_ chunk: Int) async throws -> (quality: Double, semantic: Double, ratio: Double) {
      let run = models.folder("chunk-\(chunk)")
      let settings = [
        "steps=1", "weights.consistency=0", "grpo.prompts=3", "grpo.window=2", "grpo.tail=1",
        "grpo.kl=0.1",
        "grpo.same_noise=\(sameNoise)", "grpo.chunk=\(chunk)",
      ]
      try await models.pisces(
        [
          "train", "post", "--objective", "grpo", "--model", models.generator, "--reward",
          models.reward,
        ]
          + ["--config", models.folder("post.yaml"), "--run", run] + TinyModels.size
          + settings.flatMap { ["--set", $0] })
      let first = try #require(try JSONLines.read("\(run)/metrics.jsonl").first?.1)
      return (
        try #require(first["reward_quality"]?.number),
        try #require(first["reward_semantic"]?.number),
        try #require(first["ratio"]?.number)
      )
    }
    let whole = try await rewards(64)
    #expect(abs(whole.ratio - 1) < 1e-5)
    // Parts of a group, one group, one group and part of the next.
    for chunk in [1, 3, 4, 9] {
      let parts = try await rewards(chunk)
      #expect(
        abs(parts.quality - whole.quality) < 1e-6 && abs(parts.semantic - whole.semantic) < 1e-6,
        "\(chunk)")
    }
  }
}
