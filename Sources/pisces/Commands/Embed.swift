import ArgumentParser
import Cluster
import Files
import FoundationEssentials
import Models
import Pipelines
import Rewards
import TensorRuntime
import Training

struct Embed: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Text and video features, VAE latents and prompt embeddings of a dataset.",
    discussion:
      """
      Writes one safetensors file: text [n,E] (not normalised), video [n,E] (unit rows) with \
      --reward; latents [n,C,t,h,w] (not scaled) and prompt embeddings with --generator.
      """
  )
  @OptionGroup var common: CommonOptions
  @Option(in: .path, help: "Dataset: folder, JSON Lines or tar shards.") var data: String
  @Option(in: .path, help: "Reward-model directory: text and video features.") var reward: String?
  @Option(in: .path, help: "Generator directory: latents and prompt embeddings.") var generator:
    String?
  @Option(in: .frames, help: "Frames sampled from each clip.") var frames = 8
  @Option(in: .pixels, help: "Side in pixels for latents.") var size = 32
  @Option(
    in: .choice(ComputeChoice.self),
    help: "Type to which operands of products are rounded; as score takes it.")
  var compute = ComputeChoice.f32
  @Option(in: .path, help: "Output file (.safetensors).") var output: String
  @Flag(help: "A broken sample is an error instead of being skipped.") var strict = false
  @Flag(help: "JSON Lines on standard output: one record a clip.") var json = false
  @Option(in: .text, help: "\(ShardOption.help)") var shard: String?

  func validate() throws {
    if let shard { _ = try ShardOption.parse(shard) }
  }
  func run() async throws {
    // Tasks of a job that have parts of their own need no MPI.
    if shard == nil { try common.startRanks() } else { try common.start(isPart: true) }
    common.use(compute)
    if reward == nil && generator == nil {
      throw ValidationError("give --reward or --generator, or both")
    }
    let work = Workspace(pool: BufferPool(panelBudget: PanelBudget(bytes: 64 << 20)))
    let dataset = try Dataset(data)
    let share = try ShardOption.share(shard)
    if generator != nil && share.count > 1 {
      throw ValidationError("latents are made by one process: leave --generator out")
    }
    if strict, let problem = dataset.problems.first { throw problem }
    var tensors: [(name: String, tensor: Tensor)] = []
    var captions: [String] = []
    var skipped = 0
    if let reward {
      let found = try await features(of: dataset, reward, share, in: work)
      if !Cluster.current.isFirst { return }
      (captions, skipped) = (found.captions, found.skipped)
      tensors += [("text", found.text), ("video", found.video)]
    }
    if let generator {
      let found = try await latents(of: dataset, GeneratorFolder(generator), in: work)
      captions = found.captions
      tensors += found.tensors
    }
    for problem in dataset.problems { common.note("skipped: \(problem)") }
    try SafetensorsWriter.write(
      tensors,
      metadata: [
        ("format", "pt"), ("captions", JSONValue.array(captions.map { .string($0) }).line),
      ], to: output)
    common.note(
      "\(captions.count) clips embedded, \(skipped + dataset.problems.count) skipped: \(output)")
  }

  /// Text features `[N, E]` and video features `[N, E]` of the samples of a share that can be read;
  /// of several ranks the first one has all.
  private func features(
    of dataset: Dataset, _ reward: String, _ share: PairQueue.Share, in work: borrowing Workspace
  ) async throws -> (text: Tensor, video: Tensor, captions: [String], skipped: Int) {
    let model = try RewardFolder(reward, frames: frames).reward()
    let cluster = Cluster.current
    let outbox = Outbox(cluster)
    var text: [Tensor] = []
    var video: [Tensor] = []
    var captions: [String] = []
    var skipped = 0
    for (i, sample) in dataset.samples.enumerated() {
      let owner = i % share.count
      var found: Embedded
      if owner == share.index {
        do {
          found = try await embedded(sample, model, in: work)
        } catch let error as FileError {
          if strict || !error.isOfOneItem { throw error }
          found = Embedded(notes: ["skipped: \(error)"])
        }
        if !cluster.isFirst {
          outbox.send(found.bytes, to: 0)
          continue
        }
      } else if cluster.size > 1 && cluster.isFirst {
        found = try Embedded(try cluster.receive(from: owner))
      } else {
        continue
      }
      for note in found.notes { common.note(note) }
      guard let record = found.record else {
        skipped += 1
        continue
      }
      if json { StandardStreams.result(record) }
      let width = found.features.count / 2
      text.append(Tensor(Array(found.features.prefix(width)), Shape(1, width)))
      video.append(Tensor(Array(found.features.suffix(width)), Shape(1, width)))
      captions.append(sample.caption)
    }
    try outbox.finish()
    if text.isEmpty && cluster.isFirst {
      throw FileError(.badData, "no clip could be read", in: data, mend: "see the messages above")
    }
    if text.isEmpty { return (work.zeros(Shape(0)), work.zeros(Shape(0)), [], 0) }
    return (
      work.concatenated(text, axis: 0), work.concatenated(video, axis: 0), captions, skipped
    )
  }
  /// Mean latents `[N, C, t, h, w]` and, where the generator has a text encoder, prompt embeddings.
  private func latents(
    of dataset: Dataset, _ folder: GeneratorFolder, in work: borrowing Workspace
  ) async throws -> (tensors: [(name: String, tensor: Tensor)], captions: [String]) {
    let encoder = try folder.autoencoder.encoder()
    try encoder.geometry.check(frames: frames, height: size, width: size)
    let (clips, captions) = try await ClipLoader(frames: frames, size: size).load(
      dataset, strict: strict, in: work
    ) { common.note($0) }
    let latents = clips.map { clip in
      encoder(clip.reshaped(Shape([1] + clip.shape.dims)), in: work)
    }
    var tensors = [(name: "latents", tensor: work.concatenated(latents, axis: 0))]
    if folder.hasPromptEncoder {
      let encoder = try folder.promptEncoder()
      let e = encoder(captions, in: work)
      common.noteCut(captions) { encoder.truncation(of: $0) }
      let mask = e.counts.flatMap { n in
        (0..<e.states.shape[1]).map { Int32($0 < Int(n) ? 1 : 0) }
      }
      tensors += [
        ("prompt_embeds", e.states),
        ("prompt_attention_mask", Tensor(mask, Shape(e.counts.count, e.states.shape[1]))),
      ]
      if let pooled = e.pooled { tensors.append(("pooled_prompt_embeds", pooled)) }
    }
    return (tensors, captions)
  }
  /// What one sample gives: its text and its video features, one behind the other, and a record; or
  /// neither, and why.
  private struct Embedded {
    var features: [Float] = []
    var record: String?
    var notes: [String] = []

    init(notes: [String]) { self.notes = notes }
    init(features: [Float], record: String, notes: [String]) {
      (self.features, self.record, self.notes) = (features, record, notes)
    }
    /// As it travels: a line of JSON, then the features.
    var bytes: [UInt8] {
      let head = JSONValue.array(
        [record.map { .string($0) } ?? .null] + notes.map { .string($0) })
      return Array(head.line.utf8) + [0x0a]
        + features.flatMap { x in
          (0..<4).map { UInt8(truncatingIfNeeded: x.bitPattern >> (8 * $0)) }
        }
    }
    init(_ bytes: [UInt8]) throws {
      let end = bytes.firstIndex(of: 0x0a) ?? bytes.count
      let head = try JSONValue(parsing: Array(bytes[..<end]), name: "another rank").array ?? []
      record = head.first?.string
      notes = head.dropFirst().compactMap(\.string)
      features = stride(from: end + 1, to: bytes.count, by: 4).map { at in
        Float(bitPattern: (0..<4).reduce(0) { $0 | UInt32(bytes[at + $1]) << UInt32(8 * $1) })
      }
    }
  }
  private func embedded(_ sample: Files.Sample, _ model: RewardModel, in work: borrowing Workspace)
    async throws -> Embedded
  {
    let video = try await sample.video(frames: frames)
    let clip = video.pixels
    if strict, let error = video.damageError(sample.name) { throw error }
    let text = model.captions([sample.caption], in: work).feature
    let unit = model.videos(clip.reshaped(Shape([1] + clip.shape.dims)), in: work).unit
    var notes: [String] = []
    var record: JSONObject = [
      "name": .string(sample.name), "prompt": .string(sample.caption),
      "text_norm": .number(work.sumOfSquares(text).squareRoot()),
    ]
    if let damage = video.damage {
      record["damaged"] = true
      notes.append(
        "\(sample.name): the video is damaged (\(damage)): used as far as it could be decoded")
    }
    if let cut = model.truncation(of: sample.caption) {
      record["truncated"] = true
      notes.append("\(sample.name): \(cut)")
    }
    return Embedded(
      features: text.floats + unit.floats, record: JSONValue.object(record).line, notes: notes)
  }
}
