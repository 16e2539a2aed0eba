import ArgumentParser
import Diffusion
import Files
import FoundationEssentials
import Models
import Pipelines
import PostTraining
import TensorRuntime
import World

/// Settings for sampling a generator.
struct SamplingOptions: ParsableArguments {
  @Option(in: .whole(1...10_000), help: "Euler steps.") var steps = 16
  @Option(in: .shift, help: "Schedule shift; default: the generator's scheduler.") var shift:
    Double?
  @Option(in: .guidance, help: "Classifier-free guidance; 1: none.") var guidance = 1.0
  @Option(
    in: .embeddedGuidance,
    help: "Embedded guidance (1000 times the scale), for models that have it.")
  var embeddedGuidance = 6016.0
  @Option(in: .frames, help: "Frames.") var frames = 9
  @Option(in: .pixels, help: "Height.") var height = 32
  @Option(in: .pixels, help: "Width.") var width = 32
  @Option(in: .seed, help: "Seed.") var seed = 0

  func sampler(_ folder: GeneratorFolder) throws -> FlowSampler {
    FlowSampler(
      steps: steps, shift: try shift ?? folder.scheduler().shift, guidanceScale: guidance,
      embeddedGuidance: embeddedGuidance)
  }
  /// Shape `[C, n, h, w]` of the latents for the requested size.
  func latentShape(_ c: AutoencoderConfig, patch: SIMD3<Int>) throws -> [Int] {
    try c.check(frames: frames, height: height, width: width, patch: patch)
    return Array(c.latentShape(batch: 1, frames: frames, height: height, width: width).dropFirst())
  }
  /// Refuses clips for which the machine has no memory, before any is taken.
  func plan(
    _ model: VideoTransformer, _ sampler: FlowSampler, _ decoder: LatentDecoder, _ shape: [Int],
    atOnce count: Int, in work: borrowing Workspace,
    prompts: ([String], borrowing Workspace) -> PromptEmbedding
  ) throws {
    try MemoryBudget.plan(work.pool) { work in
      let list = Array(repeating: "", count: count)
      let noise = work.tensor(Shape([count] + shape))
      let z = sampler.sample(
        model, noise: noise, prompts(list, work),
        unconditional: guidance == 1 ? nil : prompts(list, work), in: work)
      _ = decoder(z, in: work)
    }
  }
}

struct Sample: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Text-to-video generation to mp4, GIF, PNG strip or tensor.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var sampling: SamplingOptions
  @Option(in: .path, help: "Generator directory.") var model: String
  @Option(parsing: .singleValue, in: .text, help: "A prompt; may be repeated.") var prompt:
    [String] = []
  @Option(in: .path, help: "File of prompts, one a line.") var prompts: String?
  @Option(in: .whole(1...1_000_000), help: "Take this many training prompts of the built-in world.")
  var worldPrompts: Int?
  @Option(
    in: .path,
    help:
      "Precomputed prompt embeddings (prompt_embeds, prompt_attention_mask, pooled_prompt_embeds).")
  var promptEmbeds: String?
  @Option(
    in: .path, help: "One file for one prompt (.mp4 .gif .png .npy .safetensors), or a folder.")
  var output: String?
  @Option(in: .path, help: "Write all clips and prompts into one archive.") var archive: String?
  @Option(
    in: .choice(["mp4", "gif", "png", "npy", "safetensors"]), help: "File format in a folder.")
  var format = "mp4"
  @Option(in: .real(0.01...1000), help: "Frames a second of mp4 and GIF.") var fps = 8.0
  @Flag(help: "JSON Lines on standard output.") var json = false

  func run() async throws {
    try common.start()
    var captions = prompt
    if let prompts {
      captions += try TextFile.lines(prompts).filter { !$0.allSatisfy(\.isWhitespace) }
    }
    if let worldPrompts {
      captions += SceneSampler(.standard, seed: UInt64(sampling.seed)).trainingPrompts(
        count: worldPrompts
      ).map(\.caption)
    }
    if captions.isEmpty && promptEmbeds == nil {
      throw ValidationError("give --prompt, --prompts, --world-prompts or --prompt-embeds")
    }
    if output == nil && archive == nil { throw ValidationError("give --output or --archive") }
    if let output, captions.count > 1, !VideoWriter.isFolder(output) {
      throw ValidationError(
        """
        --output \(output) is one file for \(captions.count) prompts: give a folder (a name with / \
        at its end is one)
        """
      )
    }
    let folder = GeneratorFolder(model)
    let work = Workspace()
    let transformer = try folder.transformer()
    let vae = try folder.autoencoderConfig()
    let shape = try sampling.latentShape(vae, patch: transformer.config.patch)
    let sampler = try sampling.sampler(folder)
    let decoder = LatentDecoder(
      try folder.decoder(), scalingFactor: vae.scalingFactor, checkpointing: true)
    var clips: [Tensor] = []
    var truncated: Set<Int> = []
    if let promptEmbeds {
      let embedding = try PromptFile.read(promptEmbeds, transformer.config, in: work)
      if captions.isEmpty { captions = [promptEmbeds] }
      try sampling.plan(transformer, sampler, decoder, shape, atOnce: 1, in: work) { _, _ in
        embedding
      }
      let z = sampler.sample(transformer, noise: noise(0, shape, in: work), embedding, in: work)
      clips.append(try await write(decoder.samples(z, in: work)[row: 0], 0, captions, truncated))
    } else {
      let encoder = try folder.promptEncoder()
      for (i, caption) in captions.enumerated() {
        if let cut = encoder.truncation(of: caption) {
          common.note("prompt \(i + 1): \(cut)")
          truncated.insert(i)
        }
      }
      try sampling.plan(
        transformer, sampler, decoder, shape, atOnce: min(captions.count, 32), in: work
      ) { encoder($0, in: $1) }
      for start in stride(from: 0, to: captions.count, by: 32) {
        let range = start..<min(start + 32, captions.count)
        let list = Array(captions[range])
        let unconditional = sampling.guidance == 1 ? nil : encoder(list.map { _ in "" }, in: work)
        let z = sampler.sample(
          transformer, noise: work.stacked(range.map { noise($0, shape, in: work)[row: 0] }),
          encoder(list, in: work), unconditional: unconditional, in: work)
        let frames = try decoder.samples(z, first: start, in: work)
        for (i, index) in range.enumerated() {
          clips.append(try await write(work.copy(frames[row: i]), index, captions, truncated))
        }
        common.note("\(range.upperBound) of \(captions.count)")
      }
    }
    if let archive {
      try ClipArchive.write(
        work.converted(work.stacked(clips), to: .bf16), captions: captions, to: archive)
    }
  }
  private func noise(_ index: Int, _ shape: [Int], in work: borrowing Workspace) -> Tensor {
    RandomStream(seed: UInt64(sampling.seed), .noise, sample: index).normal(
      Shape([1] + shape), in: work)
  }
  /// Writes a clip to its place and reports it. Returns the clip for the archive.
  private func write(_ clip: Tensor, _ index: Int, _ captions: [String], _ truncated: Set<Int>)
    async throws -> Tensor
  {
    guard let output else { return clip }
    var path = output
    var record: JSONObject = ["index": .integer(index), "prompt": .string(captions[index])]
    if captions.count > 1 || VideoWriter.isFolder(output) {
      try createFolder(output)
      path = "\(output)/\(String(String(100000 + index).dropFirst())).\(format)"
      try OutputFile.write(
        JSONValue.object([
          "prompt": .string(captions[index]), "seed": .integer(sampling.seed),
          "index": .integer(index),
        ]).line + "\n", to: path + ".json")
    }
    try await VideoWriter.write(clip, to: path, framesPerSecond: fps)
    record["file"] = .string(path)
    if truncated.contains(index) { record["truncated"] = true }
    StandardStreams.result(json ? JSONValue.object(record).line : path)
    return clip
  }
}
