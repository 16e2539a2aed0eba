import ArgumentParser
import Diffusion
import Files
import FoundationEssentials
import Models
import Pipelines
import PostTraining
import TensorRuntime
import World

/// How a generator is sampled.
struct SamplingOptions: ParsableArguments {
  @Option(help: "Euler steps.") var steps = 16
  @Option(help: "Schedule shift; default: the generator's scheduler.") var shift: Double?
  @Option(help: "Classifier-free guidance; 1 = none.") var guidance = 1.0
  @Option(help: "Embedded guidance (1000 times the scale), for models that have it.") var embeddedGuidance = 6016.0
  @Option(help: "Frames.") var frames = 9
  @Option(help: "Height in pixels.") var height = 32
  @Option(help: "Width in pixels.") var width = 32
  @Option(help: "Seed.") var seed = 0

  func validate() throws {
    if steps < 1 || steps > 10000 { throw ValidationError("--steps takes 1 to 10000, not \(steps)") }
    if frames < 1 || height < 1 || width < 1 { throw ValidationError("--frames, --height and --width must be positive") }
    if seed < 0 { throw ValidationError("--seed must not be negative") }
  }
  func sampler(_ folder: GeneratorFolder) throws -> FlowSampler {
    FlowSampler(steps: steps, shift: try shift ?? folder.scheduler().shift, guidanceScale: guidance, embeddedGuidance: embeddedGuidance)
  }
  /// `[C, n, h, w]` of latents for the asked size.
  func latentShape(_ c: AutoencoderConfig, patch: SIMD3<Int>) throws -> [Int] {
    let (t, s) = (c.temporalCompressionRatio, c.spatialCompressionRatio)
    if (frames - 1) % t != 0 { throw ValidationError("--frames \(frames): this autoencoder makes 1 + \(t) k frames; try \((frames - 1) / t * t + 1)") }
    if height % (s * patch.y) != 0 || width % (s * patch.z) != 0 { throw ValidationError("--height and --width must be multiples of \(s * patch.y) for this model") }
    return Array(c.latentShape(batch: 1, frames: frames, height: height, width: width).dropFirst())
  }
}

struct Sample: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Text-to-video generation to mp4, GIF, PNG strip or tensor.")
  @OptionGroup var common: CommonOptions
  @OptionGroup var sampling: SamplingOptions
  @Option(help: "Generator directory.") var model: String
  @Option(parsing: .singleValue, help: "A prompt; may be repeated.") var prompt: [String] = []
  @Option(help: "File of prompts, one a line.") var prompts: String?
  @Option(help: "Take this many training prompts of the built-in world.") var worldPrompts: Int?
  @Option(help: "Precomputed prompt embeddings (prompt_embeds, prompt_attention_mask, pooled_prompt_embeds).") var promptEmbeds: String?
  @Option(help: "One file for one prompt (.mp4 .gif .png .npy .safetensors), or a folder.") var output: String?
  @Option(help: "Write all clips and prompts into one archive.") var archive: String?
  @Option(help: "File format in a folder.") var format = "mp4"
  @Option(help: "Frames a second of mp4 and GIF.") var fps = 8.0
  @Flag(help: "JSON Lines on standard output.") var json = false

  func run() async throws {
    try common.start()
    var captions = prompt
    if let prompts { captions += try TextFile.lines(prompts).filter { !$0.allSatisfy(\.isWhitespace) } }
    if let worldPrompts { captions += SceneSampler(.standard, seed: UInt64(sampling.seed)).trainingPrompts(count: worldPrompts).map(\.caption) }
    if captions.isEmpty && promptEmbeds == nil { throw ValidationError("give --prompt, --prompts, --world-prompts or --prompt-embeds") }
    if output == nil && archive == nil { throw ValidationError("give --output or --archive") }
    if let output, captions.count > 1, !VideoWriter.isFolder(output) {
      throw ValidationError("--output \(output) is one file for \(captions.count) prompts: give a folder (a name with / at its end is one)")
    }
    let folder = GeneratorFolder(model), work = Workspace(), transformer = try folder.transformer(), vae = try folder.autoencoderConfig()
    let shape = try sampling.latentShape(vae, patch: transformer.config.patch), sampler = try sampling.sampler(folder)
    let decoder = LatentDecoder(try folder.decoder(), scalingFactor: vae.scalingFactor, recompute: true)
    var clips: [Tensor] = [], truncated: Set<Int> = []
    if let promptEmbeds {
      let embedding = try PromptFile.read(promptEmbeds, transformer.config, in: work)
      if captions.isEmpty { captions = [promptEmbeds] }
      clips.append(try await write(decoder(sampler.sample(transformer, noise: noise(0, shape, in: work), embedding, in: work), in: work)[row: 0], 0, captions, truncated))
    } else {
      let encoder = try folder.promptEncoder()
      for (i, caption) in captions.enumerated() {
        if let cut = encoder.truncation(of: caption) {
          common.note("prompt \(i + 1): \(cut)")
          truncated.insert(i)
        }
      }
      for start in stride(from: 0, to: captions.count, by: 32) {
        let range = start..<min(start + 32, captions.count), list = Array(captions[range])
        let unconditional = sampling.guidance == 1 ? nil : encoder(list.map { _ in "" }, in: work)
        let z = sampler.sample(transformer, noise: work.stacked(range.map { noise($0, shape, in: work)[row: 0] }), encoder(list, in: work), unconditional: unconditional, in: work)
        let frames = decoder(z, in: work)
        for (i, index) in range.enumerated() { clips.append(try await write(work.copy(frames[row: i]), index, captions, truncated)) }
        common.note("\(range.upperBound) of \(captions.count)")
      }
    }
    if let archive { try ClipArchive.write(work.converted(work.stacked(clips), to: .bf16), captions: captions, to: archive) }
  }
  private func noise(_ index: Int, _ shape: [Int], in work: borrowing Workspace) -> Tensor {
    RandomStream(seed: UInt64(sampling.seed), .noise, sample: index).normal(Shape([1] + shape), in: work)
  }
  /// Writes a clip where it belongs and reports it; returns it for the archive.
  private func write(_ clip: Tensor, _ index: Int, _ captions: [String], _ truncated: Set<Int>) async throws -> Tensor {
    guard let output else { return clip }
    var path = output, record: JSONObject = ["index": .integer(index), "prompt": .string(captions[index])]
    if captions.count > 1 || VideoWriter.isFolder(output) {
      try createFolder(output)
      path = "\(output)/\(String(String(100000 + index).dropFirst())).\(format)"
      try OutputFile.write(JSONValue.object(["prompt": .string(captions[index]), "seed": .integer(sampling.seed), "index": .integer(index)]).line + "\n", to: path + ".json")
    }
    try await VideoWriter.write(clip, to: path, framesPerSecond: fps)
    record["file"] = .string(path)
    if truncated.contains(index) { record["truncated"] = true }
    StandardStreams.result(json ? JSONValue.object(record).line : path)
    return clip
  }
}
