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

  /// Opens the generator for clips of the requested size.
  func open(_ folder: GeneratorFolder) throws -> VideoGenerator {
    let transformer = try folder.transformer()
    let c = try folder.autoencoderConfig()
    try c.check(frames: frames, height: height, width: width, patch: transformer.config.patch)
    let shape = c.latentShape(batch: 1, frames: frames, height: height, width: width).dropFirst()
    let sampler = FlowSampler(
      steps: steps, shift: try shift ?? folder.scheduler().shift, guidanceScale: guidance,
      embeddedGuidance: embeddedGuidance)
    let decoder = LatentDecoder(
      try folder.decoder(), scalingFactor: c.scalingFactor, checkpointing: true)
    return VideoGenerator(transformer, sampler, decoder, latentShape: Array(shape))
  }
  /// Refuses clips for which the machine has no memory, before any is taken.
  func plan(
    _ generator: VideoGenerator, atOnce count: Int, in work: borrowing Workspace,
    prompts: ([String], borrowing Workspace) -> PromptEmbedding
  ) throws {
    try MemoryBudget.plan(work.pool) { work in
      let list = Array(repeating: "", count: count)
      let noise = work.tensor(Shape([count] + generator.latentShape))
      let z = generator.sampler.sample(
        generator.transformer, noise: noise, prompts(list, work),
        unconditional: guidance == 1 ? nil : prompts(list, work), in: work)
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
    let generator = try sampling.open(folder)
    let clips: [Tensor]
    if let promptEmbeds {
      clips = try await sample(generator, embeds: promptEmbeds, captions, in: work)
    } else {
      clips = try await sample(generator, try folder.promptEncoder(), captions, in: work)
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
    let embedding = try PromptFile.read(embeds, generator.transformer.config, in: work)
    try sampling.plan(generator, atOnce: 1, in: work) { _, _ in embedding }
    if !Cluster.current.isFirst { return [] }
    let z = generator.sampler.sample(
      generator.transformer, noise: noise([0], generator.latentShape, in: work), embedding, in: work
    )
    let clip = try generator.decoder.samples(z, in: work)[row: 0]
    try await write(clip, 0, captions)
    report(0, captions)
    return [clip]
  }
  /// Writes a clip of every caption; returns them if an archive is asked for. Ranks share out the
  /// batches, and each writes its own files.
  private func sample(
    _ generator: VideoGenerator, _ encoder: PromptEncoder, _ captions: [String],
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
      let z = generator.sampler.sample(
        generator.transformer, noise: noise(range, generator.latentShape, in: work),
        captions: Array(captions[range]), encoder, in: work)
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
