import Files
import TestSupport
import Testing

/// The networks inside the program do what the world's recipe asks of them, on held-out
/// combinations. Shape bounds are the recipe's aims (for the autoencoder less three standard errors
/// of the number of clips); the others lie well below what was measured.
@Suite struct EmbeddedModelTests {
  private func evaluate(_ arguments: [String]) async throws -> [JSONValue] {
    let run = try await ProgramRun(
      ProgramRun.program, ["evaluate", "--json", "--quiet"] + arguments)
    #expect(run.status == 0, "\(run.error)")
    return try run.lines.map { try JSONValue(parsing: $0, name: "output") }
  }

  /// Aim: the oracle reads shape through the reconstruction in 95 of 100 clips.
  @Test func autoencoderKeepsShapes() async throws {
    let e = try #require(
      try await evaluate(["--vae", "embedded:generator/vae", "--prompts", "256"]).first)
    #expect(
      e["shape"]!.number! > 0.95 - 3 * 0.0136 && e["colour"]!.number! > 0.99
        && e["psnr"]!.number! > 32)
  }
  /// With guidance half of the shapes and of the two-object prompts are right; without, it makes
  /// the mistakes its captions made, which post-training is there to mend.
  @Test func generatorFollowsPrompts() async throws {
    let e = try #require(
      try await evaluate([
        "--model", "embedded:generator", "--reward", "embedded:reward", "--prompts", "96",
        "--guidance", "4",
      ]).first)
    #expect(
      e["shape"]!.number! > 0.5 && e["multi"]!.number! > 0.5 && e["colour"]!.number! > 0.9
        && e["quality"]!.number! > 0.8)
    let unguided = try #require(
      try await evaluate(["--model", "embedded:generator", "--prompts", "96"]).first)
    #expect(
      unguided["semantic"]!.number! > 0.4
        && unguided["semantic"]!.number! < e["semantic"]!.number! - 0.15)
    #expect(e["reward_quality"]!.number! > 0.5 && e["reward_semantic"]!.number! > 0.2)
  }
  /// Matching captions, captions of other clips, and captions with one attribute changed; with
  /// token plans and without.
  @Test func matchingHeadTellsCaptionsApart() async throws {
    let both = try await evaluate(["--reward", "embedded:reward", "--prompts", "256"])
    #expect(both.count == 2)
    for e in both {
      #expect(
        e["auc_shuffled"]!.number! > 0.98 && e["auc_swapped"]!.number! > 0.88, "\(e["attention"]!)")
    }
  }
  /// A clip sampled by one embedded model is scored by the other, map and token plans included.
  @Test func scoresItsOwnSamples() async throws {
    let scratch = try ScratchFolder()
    let clip = scratch("clip.mp4")
    let prompt = "a large red circle moving left"
    let sampled = try await ProgramRun(
      ProgramRun.program,
      [
        "sample", "--model", "embedded:generator", "--prompt", prompt, "--output", clip,
        "--guidance", "4", "--quiet",
      ])
    #expect(sampled.status == 0, "\(sampled.error)")
    let scored = try await ProgramRun(
      ProgramRun.program,
      [
        "score", "--model", "embedded:reward", "--frames", "9", "--json", "--video", clip,
        "--prompt", prompt, "--video", clip, "--prompt", "a small blue star turning",
      ])
    #expect(scored.status == 0 && scored.lines.count == 2, "\(scored.error)")
    let s = try scored.lines.map { try JSONValue(parsing: $0, name: "output") }
    #expect(
      s[0]["semantic"]!.number! > s[1]["semantic"]!.number!
        && s[0]["quality"]!.number! > s[1]["quality"]!.number!)
    // a second caption of a video uses what the first one left, and gets the bits it would get
    // alone
    let alone = try await ProgramRun(
      ProgramRun.program,
      [
        "score", "--model", "embedded:reward", "--frames", "9", "--json", "--video", clip,
        "--prompt", "a small blue star turning",
      ])
    let t = try JSONValue(parsing: try #require(alone.lines.first), name: "output")
    for key in ["quality", "semantic", "vanilla_quality", "vanilla_semantic"] {
      #expect(t[key]?.number == s[1][key]?.number, "\(key)")
    }
  }
}
