import Files
import TensorRuntime
import TestSupport
import Testing

/// The second family of generators by the commands, from nothing: an autoencoder of frames, a UNet,
/// sampling, distillation with rewards, GRPO on the few-step sampler.
@Suite struct ShortVideoTrainingTests {
  private let scratch: ScratchFolder
  init() throws { scratch = try ScratchFolder() }

  private func pisces(_ arguments: [String]) async throws {
    let run = try await ProgramRun(ProgramRun.program, arguments + ["--quiet"])
    #expect(run.status == 0, "\(arguments.prefix(2)): \(run.error)")
  }
  private func set(_ keys: [String]) -> [String] { keys.flatMap { ["--set", $0] } }
  private func metrics(_ run: String) throws -> JSONValue {
    try #require(try JSONLines.read("\(scratch(run))/metrics.jsonl").last?.1)
  }
  private func generator() async throws -> String {
    try OutputFile.write(
      """
      network: frames
      image: {ch: 8, ch_mult: [1, 2], num_res_blocks: 1, z_channels: 4, embed_dim: 4, \
      norm_num_groups: 4}
      steps: 2
      frames_per_step: 4
      clips_per_step: 2

      """, to: scratch("vae.yaml"))
    try await pisces(
      ["train", "vae", "--config", scratch("vae.yaml"), "--run", scratch("vae"), "--size", "16"])
    try OutputFile.write(
      """
      network: unet
      unet: {model_channels: 8, channel_mult: [1, 2], num_res_blocks: 1, \
      attention_resolutions: [2], num_head_channels: 8, init_attn_heads: 1, norm_num_groups: 4}
      steps: 2
      batch: 4
      clips: 8

      """, to: scratch("unet.yaml"))
    try await pisces([
      "train", "generator", "--config", scratch("unet.yaml"), "--run", scratch("unet"), "--size",
      "16", "--vae", scratch("vae/model"), "--text-encoder", "embedded:reward",
    ])
    return scratch("unet/model")
  }

  @Test func fromNothingToFewSteps() async throws {
    let base = try await generator()
    let size = ["--height", "16", "--width", "16"]
    try await pisces(
      ["sample", "--model", base, "--prompt", "a red star", "--steps", "10", "--output"]
        + [scratch("base.npy")] + size)
    let common = ["train", "post", "--model", base, "--reward", "embedded:reward", "--size", "16"]
    let short = [
      "steps=2", "batch=2", "accumulation=2", "clips=8", "reward.frames=0", "lora.rank=4",
      "lora.alpha=4", "learning_rate=1e-3",
    ]
    try await pisces(common + ["--run", scratch("direct")] + set(short))
    let direct = try metrics("direct")
    for term in ["consistency", "reward_quality", "reward_semantic"] {
      #expect(direct[term]?.number?.isFinite == true, "\(term)")
    }
    // The student embeds guidance: few steps are sampled from it.
    let config = try JSONValue(contentsOf: scratch("direct/model/unet/config.json"))
    #expect(config["time_cond_proj_dim"]?.integer == 256)
    try await pisces(
      ["sample", "--model", scratch("direct/model"), "--prompt", "a red star", "--output"]
        + [scratch("few.npy")] + size)
    let lora = try SafetensorsFile(scratch("direct/model/lora/adapter_model.safetensors"))
    #expect(lora.names.contains("time_cond_proj.weight"))

    try await pisces(
      common + ["--objective", "grpo", "--run", scratch("grpo")]
        + set(
          short + ["grpo.generations=4", "grpo.best_of=2", "grpo.sampling_steps=4"]))
    let grpo = try metrics("grpo")
    #expect(abs(try #require(grpo["ratio"]?.number) - 1) < 1e-3)
  }

  /// Own samples are drawn at the frame rate of the run, as its steps are trained.
  @Test func frameRateOfOwnSamples() async throws {
    func pool(_ fps: String) async throws -> [Float] {
      try await pisces(
        [
          "train", "post", "--model", "embedded:short", "--size", "16", "--run", scratch(fps),
        ]
          + set([
            "steps=1", "batch=1", "accumulation=1", "clips=1", "weights.quality=0",
            "weights.semantic=0", "post.latents=self", "post.pool=1", "post.sampler_steps=2",
            "post.fps=\(fps)",
          ]))
      let state = try SafetensorsFile("\(scratch(fps))/checkpoints/step-000001/state.safetensors")
      return try state.tensor(named: "pool.latents").floats
    }
    let (slow, again, fast) = (try await pool("8"), try await pool("8.0"), try await pool("24"))
    #expect(slow == again)
    #expect(slow != fast)
  }

  /// What does not fit this family is refused before anything is written.
  @Test func refusals() async throws {
    let base = try await generator()
    func refused(_ arguments: [String], _ words: String) async throws {
      let run = try await ProgramRun(ProgramRun.program, arguments + ["--quiet"])
      #expect(
        run.status == 64 && run.error.contains(words) && run.error.hasPrefix("pisces: error: "),
        "\(arguments): \(run.status) \(run.error)")
    }
    let sample = ["sample", "--model", base, "--prompt", "x", "--output", scratch("x.npy")]
    try await refused(sample + ["--height", "18"], "a multiple of 4")
    try await refused(sample + ["--steps", "999"], "999 steps")
    try await refused(sample + ["--conditioning-fps", "0"], "--conditioning-fps")
    let post = [
      "train", "post", "--model", base, "--reward", "embedded:reward", "--size", "16", "--run",
      scratch("no"),
    ]
    try await refused(post + set(["guidance.range=[5, 1]"]), "guidance.range")
    try await refused(
      post + ["--objective", "grpo"] + set(["grpo.mode=single_step"]), "grpo.mode")
    try await refused(
      post + ["--objective", "grpo"] + set(["grpo.sampling_steps=64"]), "grpo.sampling_steps")
    #expect(!FileTree.exists(scratch("no")))
  }
}
