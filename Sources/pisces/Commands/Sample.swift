import ArgumentParser
import Cluster
import Diffusion
import Files
import FoundationEssentials
import Models
import Pipelines
import PostTraining
import TensorRuntime
import Training
import World

/// Settings for sampling a generator.
struct SamplingOptions: ParsableArguments {
  @Option(
    in: .whole(1...10_000),
    help: "Steps; default: 16, or 4 of a consistency-distilled network, 50 of DDIM.")
  var steps: Int?
  @Option(in: .shift, help: "Flow: schedule shift; default: the generator's scheduler.") var shift:
    Double?
  @Option(
    in: .guidance,
    help:
      """
      Classifier-free guidance; 1: none. Default: 1, or 7.5 embedded by a distilled network, 12 of \
      DDIM.
      """)
  var guidance: Double?
  @Option(
    in: .real(0.1...1000),
    help: "Frames a second that the network is told, if it embeds them; default: 8, or 28 of DDIM.")
  var conditioningFps: Double?
  @Option(in: .real(0...1), help: "DDIM: share η of the noise of a step.") var ddimEta = 1.0
  @Option(
    in: .whole(1...1000), help: "Levels of the distillation of which few steps are a part.")
  var originSteps = 50
  @Option(
    in: .embeddedGuidance,
    help: "Embedded guidance (1000 times the scale), for models that have it.")
  var embeddedGuidance = 6016.0
  @Option(
    in: .choice(ComputeChoice.self),
    help: "Operands of products, attention and convolutions; auto: bf16 where it is no slower.")
  var compute = ComputeChoice.f32
  @Option(in: .frames, help: "Frames.") var frames = 9
  @Option(in: .pixels, help: "Height.") var height = 32
  @Option(in: .pixels, help: "Width.") var width = 32
  @Option(in: .seed, help: "Seed.") var seed = 0

  /// Opens the generator for clips of the requested size.
  func open(_ folder: GeneratorFolder) throws -> VideoGenerator {
    let denoiser = try folder.denoiser()
    let c = try folder.autoencoder.geometry()
    try c.check(frames: frames, height: height, width: width, patch: denoiser.latentDivisors)
    let shape = c.latentShape(batch: 1, frames: frames, height: height, width: width).dropFirst()
    let decoder = try folder.autoencoder.decoder(checkpointing: true)
    return VideoGenerator(
      denoiser, try sampler(try folder.process(), denoiser), decoder, latentShape: Array(shape))
  }
  /// A network of denoising diffusion that embeds guidance is one that was distilled.
  private func sampler(_ process: GenerativeProcess, _ model: any VideoDenoiser) throws
    -> any LatentSampler
  {
    switch process {
    case .flow(let own):
      return FlowSampler(
        steps: steps ?? 16, shift: shift ?? own, guidanceScale: guidance ?? 1,
        embeddedGuidance: embeddedGuidance)
    case .diffusion(let parameters):
      let schedule = DiffusionSchedule(parameters)
      if model.embedsGuidance {
        guard
          let sampler = ConsistencySampler(
            schedule, steps: steps ?? 4, originSteps: originSteps, guidance: guidance ?? 7.5)
        else {
          throw ConfigurationError(
            "\(steps ?? 4) steps of \(originSteps) levels", "--steps",
            "give at most --origin-steps, which is at most \(schedule.alphas.count)")
        }
        return sampler
      }
      guard
        let sampler = DDIMSampler(
          schedule, steps: steps ?? 50, eta: ddimEta, guidanceScale: guidance ?? 12)
      else {
        throw ConfigurationError(
          "\(steps ?? 50) steps do not fit \(schedule.alphas.count) times", "--steps",
          "give a divisor such as 25 or 50")
      }
      return sampler
    }
  }
  /// Embeds prompts, with the frame rate that the network is told.
  func prompts(_ folder: GeneratorFolder, _ generator: VideoGenerator) throws
    -> any PromptEmbedder
  {
    try folder.promptEncoder().at(framesPerSecond: framesPerSecond(generator))
  }
  func framesPerSecond(_ generator: VideoGenerator) -> Float {
    Float(conditioningFps ?? (generator.sampler is DDIMSampler ? 28 : 8))
  }
  /// Refuses clips for which the machine has no memory, before any is taken.
  func plan(
    _ generator: VideoGenerator, atOnce count: Int, in work: borrowing Workspace,
    prompts: ([String], borrowing Workspace) -> PromptEmbedding
  ) throws {
    try MemoryBudget.plan(work.pool) { work in
      let list = Array(repeating: "", count: count)
      let noise = work.tensor(Shape([count] + generator.latentShape))
      let z = generator.latents(
        noise, prompts(list, work),
        unconditional: generator.sampler.usesUnconditional ? prompts(list, work) : nil, in: work)
      _ = generator.decoder(z, in: work)
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
  enum Format: String, CaseIterable, Sendable { case mp4, gif, png, npy, safetensors }
  @Option(in: .choice(Format.self), help: "File format in a folder.") var format = Format.mp4
  @Option(in: .real(0.01...1000), help: "Frames a second of mp4 and GIF.") var fps = 8.0
  @Flag(help: "JSON Lines on standard output.") var json = false

  /// Clips sampled at once.
  private static let batch = 32

  func run() async throws {
    try common.startRanks()
    let captions = try captions()
    let folder = GeneratorFolder(model)
    let work = Workspace()
    common.use(sampling.compute)
    let generator = try sampling.open(folder)
    let clips: [Tensor]
    if let promptEmbeds {
      clips = try await sample(generator, embeds: promptEmbeds, captions, in: work)
    } else {
      clips = try await sample(
        generator, try sampling.prompts(folder, generator), captions, in: work)
    }
    if let archive, Cluster.current.isFirst {
      try ClipArchive.write(
        work.converted(work.stacked(clips), to: .bf16), captions: captions, to: archive)
    }
  }

  /// All prompts, in the order of their options; the file of embeddings stands for its own. Refuses
  /// outputs that do not fit them.
  private func captions() throws -> [String] {
    var captions = prompt
    if let prompts {
      captions += try TextFile.lines(prompts).filter { !$0.allSatisfy(\.isWhitespace) }
    }
    if let worldPrompts {
      captions += SceneSampler(.standard, seed: UInt64(sampling.seed)).trainingPrompts(
        count: worldPrompts
      ).map(\.caption)
    }
    if captions.isEmpty {
      guard let promptEmbeds else {
        throw ValidationError("give --prompt, --prompts, --world-prompts or --prompt-embeds")
      }
      captions = [promptEmbeds]
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
    return captions
  }

  /// One clip from precomputed embeddings.
  private func sample(
    _ generator: VideoGenerator, embeds: String, _ captions: [String], in work: borrowing Workspace
  ) async throws -> [Tensor] {
    var embedding = try PromptFile.read(embeds, for: generator.denoiser, in: work)
    embedding.framesPerSecond = sampling.framesPerSecond(generator)
    let prompt = embedding
    try sampling.plan(generator, atOnce: 1, in: work) { _, _ in prompt }
    if !Cluster.current.isFirst { return [] }
    let z = generator.latents(
      noise([0], generator.latentShape, in: work), prompt, seed: UInt64(sampling.seed), in: work)
    let clip = try generator.decoder.samples(z, in: work)[row: 0]
    try await write(clip, 0, captions)
    report(0, captions)
    return [clip]
  }
  /// Writes a clip of every caption; returns them if an archive is asked for. Ranks share out the
  /// batches, and each writes its own files.
  private func sample(
    _ generator: VideoGenerator, _ encoder: any PromptEmbedder, _ captions: [String],
    in work: borrowing Workspace
  ) async throws -> [Tensor] {
    var truncated: Set<Int> = []
    for (i, caption) in captions.enumerated() {
      if let cut = encoder.truncation(of: caption) {
        common.note("prompt \(i + 1): \(cut)")
        truncated.insert(i)
      }
    }
    try sampling.plan(generator, atOnce: min(captions.count, Self.batch), in: work) {
      encoder($0, in: $1)
    }
    let cluster = Cluster.current
    let batches = (captions.count + Self.batch - 1) / Self.batch
    func rows(_ batch: Int) -> Range<Int> {
      batch * Self.batch..<min((batch + 1) * Self.batch, captions.count)
    }
    var own: [Int: [Tensor]] = [:]
    for batch in stride(from: cluster.rank, to: batches, by: cluster.size) {
      let range = rows(batch)
      let z = generator.latents(
        noise(range, generator.latentShape, in: work), captions: Array(captions[range]), encoder,
        seed: UInt64(sampling.seed), first: range.lowerBound, in: work)
      let frames = try generator.decoder.samples(z, first: range.lowerBound, in: work)
      for (i, index) in range.enumerated() {
        let clip = work.copy(frames[row: i])
        try await write(clip, index, captions)
        if cluster.size == 1 { report(index, captions, isTruncated: truncated.contains(index)) }
        if archive != nil { own[batch, default: []].append(clip) }
      }
      common.note("\(range.upperBound) of \(captions.count)")
    }
    try cluster.barrier()
    if cluster.size > 1 && cluster.isFirst {
      for i in captions.indices { report(i, captions, isTruncated: truncated.contains(i)) }
    }
    if archive == nil { return [] }
    var clips: [Int: Tensor] = [:]
    let shape = Shape(generator.decoder.clipShape(of: generator.latentShape))
    try BlockShare.run(batches, in: work) {
      Array(repeating: (shape, ElementType.f32), count: rows($0).count)
    } body: { batch, _ in
      own[batch]!
    } take: { batch, list, _ in
      for (index, clip) in zip(rows(batch), list) { clips[index] = clip }
    }
    return captions.indices.map { clips[$0]! }
  }
  private func noise(
    _ indices: some Sequence<Int>, _ shape: [Int], in work: borrowing Workspace
  ) -> Tensor {
    work.stacked(
      indices.map {
        RandomStream(seed: UInt64(sampling.seed), .noise, sample: $0).normal(
          Shape(shape), in: work)
      })
  }
  /// The file of clip `index`; nil without `--output`.
  private func path(_ index: Int, _ captions: [String]) -> String? {
    guard let output else { return nil }
    if captions.count == 1 && !VideoWriter.isFolder(output) { return output }
    return "\(output)/\(String(String(100000 + index).dropFirst())).\(format.rawValue)"
  }
  /// Writes a clip to its place, if there is one.
  private func write(_ clip: Tensor, _ index: Int, _ captions: [String]) async throws {
    guard let output, let path = path(index, captions) else { return }
    if path != output {
      try createFolder(output)
      try OutputFile.write(
        JSONValue.object([
          "prompt": .string(captions[index]), "seed": .integer(sampling.seed),
          "index": .integer(index),
        ]).line + "\n", to: path + ".json")
    }
    try await VideoWriter.write(clip, to: path, framesPerSecond: fps)
  }
  /// Says where a clip is, if it was written.
  private func report(_ index: Int, _ captions: [String], isTruncated: Bool = false) {
    guard let path = path(index, captions) else { return }
    guard json else { return StandardStreams.result(path) }
    var record: JSONObject = [
      "index": .integer(index), "prompt": .string(captions[index]), "file": .string(path),
    ]
    if isTruncated { record["truncated"] = true }
    StandardStreams.result(JSONValue.object(record).line)
  }
}
