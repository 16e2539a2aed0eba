import Diffusion
import Files
import Layers
import Models
import Pipelines
import Rewards
import TensorRuntime
import TestSupport
import Testing
import Transport

/// Models, adapters, prompts and clips on disk: what is read is what was written.
@Suite struct FolderTests {
  private let folder: ScratchFolder
  init() throws { folder = try ScratchFolder() }

  private static let words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "red", "star"]
  private static var config: VideoTextConfig {
    var c = SmallModels.videoText
    (c.otMap.inputDim, c.otMap.hiddenDim, c.otMap.outputDim) = (6, 8, 6)
    return c
  }
  private static func write(_ model: VideoTextModel, to folder: String) throws {
    try ModelFolder.write(model, config: config, weights: "model.safetensors", to: folder)
    try OutputFile.write(words.map { $0 + "\n" }.joined(), to: "\(folder)/vocab.txt")
  }
  private static let pixels = Workspace().affineClamp(
    randomTensor(Shape(1, 2, 3, 16, 16), seed: 1, type: .f32), alpha: 0.2, beta: 0.5, to: 0...1)
  private func scores(_ reward: RewardModel) -> (quality: Double, semantic: Double) {
    let work = Workspace()
    let s = reward.forward(Self.pixels, reward.captions(["a red star"], in: work), in: work).scores
    return (s.quality[0], s.semantic[0])
  }

  @Test func rewardModels() throws {
    let model = try VideoTextModel(Self.config, from: .random(seed: 2))
    try Self.write(model, to: folder("rewards"))
    let opened = try RewardFolder(folder("rewards"))
    let tokenizer = try WordPieceTokenizer(vocabulary: Self.words)
    let expected = scores(try RewardModel(model, tokenizer: tokenizer, map: nil))
    #expect(opened.unexpected.isEmpty && opened.map == nil && opened.mapNormalizesText == nil)
    #expect(scores(try opened.reward()) == expected)

    // A map beside the model is found, and moves the quality reward alone.
    let map = try NeuralMap(.init(input: 6, hidden: 8, output: 6), from: .random(seed: 3))
    try OTMapFile.write(
      map, normalizesText: true, step: 5, to: folder("rewards/ot_map.safetensors"))
    let mapped = try RewardFolder(folder("rewards"))
    #expect(mapped.mapNormalizesText == true)
    #expect(try mapped.fingerprint() != opened.fingerprint())
    let withMap = scores(
      try RewardModel(model, tokenizer: tokenizer, map: { map($0, in: $1) }))
    #expect(scores(try mapped.reward()) == withMap)
    #expect(withMap.quality != expected.quality && withMap.semantic == expected.semantic)

    // One number of one weight changes the fingerprint; a tensor too many is named.
    var other = model
    other.matchingHead.bias!.value = Tensor([0.5, 0.25] as [Float], Shape(2))
    try Self.write(other, to: folder("other"))
    #expect(try RewardFolder(folder("other")).fingerprint() != opened.fingerprint())
    var tensors: [(name: String, tensor: Tensor)] = [("surplus", .ones(Shape(2)))]
    model.readParameters { tensors.append(($0.name, $0.value)) }
    try SafetensorsWriter.write(tensors, to: folder("other/model.safetensors"))
    #expect(try RewardFolder(folder("other")).unexpected == ["surplus"])
    // What a needed tensor lacks is an error with its name.
    for broken in [
      tensors.filter { $0.name != "itm_head.bias" },
      tensors.map { ($0.name, $0.name == "itm_head.bias" ? .ones(Shape(3)) : $0.tensor) },
      tensors.map {
        ($0.name, $0.name == "itm_head.bias" ? .full(Shape(2), .nan) : $0.tensor)
      },
    ] as [[(name: String, tensor: Tensor)]] {
      try SafetensorsWriter.write(broken, to: folder("other/model.safetensors"))
      #expect { try RewardFolder(folder("other")) } throws: {
        "\($0)".contains("itm_head.bias")
      }
      // What cannot be told from the header may be told later.
      #expect {
        try RewardFolder(folder("other"), check: .later).check()
      } throws: { "\($0)".contains("itm_head.bias") }
    }
  }

  /// The parts of a generator directory, written from an autoencoder and a reward model.
  @Test func generators() throws {
    let work = Workspace()
    struct Parts: Layer {
      var encoder: AutoencoderEncoder
      var decoder: AutoencoderDecoder
      mutating func forEachParameter(_ body: (inout Parameter) throws -> Void) rethrows {
        try encoder.forEachParameter(body)
        try decoder.forEachParameter(body)
      }
    }
    let config = SmallModels.autoencoder
    let parts = Parts(
      encoder: try AutoencoderEncoder(config, from: .random(seed: 4)),
      decoder: try AutoencoderDecoder(config, from: .random(seed: 5)))
    try ModelFolder.write(
      parts, config: config, weights: "diffusion_pytorch_model.safetensors", to: folder("vae"))
    let model = try VideoTextModel(Self.config, from: .random(seed: 6))
    try Self.write(model, to: folder("rewards"))
    try PipelineComponents(vae: folder("vae"), textEncoder: folder("rewards"), process: .flow(shift: 4.5))
      .write(to: folder("generator"))

    let generator = GeneratorFolder(folder("generator"))
    #expect(try ModelFolder.config(folder("generator/vae")) == config)
    #expect(try generator.process() == .flow(shift: 4.5))
    let z = randomTensor(Shape(1, 3, 2, 2, 2), seed: 7, type: .f32)
    #expect(
      try generator.autoencoder.decoder()(z, in: work).floats
        == LatentDecoder(.clips(parts.decoder))(z, in: work).floats)
    let clip = Tensor.full(Shape(1, 5, 3, 16, 16), 0.3)
    #expect(
      try generator.autoencoder.encoder()(clip, in: work).floats
        == LatentEncoder(.clips(parts.encoder))(clip, in: work).floats)
    // Prompts: the states of the text layers, [CLS] as the pooled vector, the empty prompt [CLS].
    let embedder = try generator.promptEncoder()
    let prompt = embedder(["a red star", ""], in: work)
    let hidden = model.text.text(TokenBatch([[2, 4, 5, 6], [2]], special: [0, 2]), in: work).hidden
    #expect(prompt.states.floats == hidden.floats && prompt.counts == [4, 1])
    #expect(prompt.pooled![row: 1].floats == Array(hidden[row: 1].floats[..<8]))
    // A folder without a scheduler: HunyuanVideo's shift.
    #expect(try GeneratorFolder(folder("nothing")).process() == .flow(shift: 7))
  }

  /// A trained student's adapters, written and merged, give the student's velocity.
  @Test func adaptersOfAStudent() throws {
    let work = Workspace()
    let base = try LayoutTests.model()
    try LayoutTests.write(base, to: folder("base"))
    var student = base
    let count = try student.attachAdapters(rank: 3, alpha: 6, from: .random(seed: 8), in: work)
    #expect(LayoutTests.velocity(student) == LayoutTests.velocity(base))
    student.forEachParameter { p in
      if p.name.hasSuffix("lora_B.weight") {
        p.value = randomTensor(
          p.value.shape, seed: UInt64(p.name.utf8.count), scale: 0.3, type: .f32)
      }
    }
    try LoraFolder.write(
      student, rank: 3, alpha: 6, targets: VideoTransformer.defaultTargets, step: 12,
      to: folder("lora"))
    let adapters = try AdapterFile.read(folder("lora"))
    #expect(adapters.count == count && adapters.allSatisfy { $0.scale == 2 && $0.rank == 3 })
    var converter = Converter(input: folder("base"), output: folder("merged"))
    converter.adapters = folder("lora")
    _ = try converter.run()
    let velocity = LayoutTests.velocity(student)
    var merged = student
    merged.mergeAdapters(in: work)
    #expect(merged.adapterParameters().isEmpty)
    let scale = velocity.map { abs($0) }.max()!
    for other in [
      LayoutTests.velocity(try LayoutTests.load(folder("merged"))), LayoutTests.velocity(merged),
    ] { #expect(zip(other, velocity).allSatisfy { abs($0 - $1) < 2e-5 * scale }) }
    #expect(velocity != LayoutTests.velocity(base))
    // Half of the change: every scale is halved.
    var half = student.scalingAdapters(by: 0.5)
    var scales: Set<Double> = []
    half.forEachAdaptable { layer in
      if let adapter = layer.adapter { scales.insert(adapter.scale) }
    }
    #expect(scales == [1])
  }

  @Test func archives() throws {
    let clips = randomTensor(Shape(2, 2, 3, 4, 4), seed: 9, type: .f32)
    let captions = ["a \"red\" star", "é, 2"]
    for type in [ElementType.f32, .bf16] {
      let stored = Workspace().converted(clips, to: type)
      try ClipArchive.write(stored, captions: captions, to: folder("a.safetensors"))
      let back = try ClipArchive.read(folder("a.safetensors"))
      #expect(back.captions == captions)
      #expect(back.clips.map(\.floats) == (0..<2).map { stored[row: $0].floats })
    }
    try SafetensorsWriter.write([("pixels", clips)], to: folder("b.safetensors"))
    #expect(throws: FileError.self) { try ClipArchive.read(folder("b.safetensors")) }
  }

  @Test func embeddedPrompts() throws {
    let work = Workspace()
    let c = LayoutTests.config
    let model = try LayoutTests.model()
    let states = randomTensor(Shape(5, c.textEmbedDim), seed: 10, type: .f32)
    let pooled = randomTensor(Shape(c.pooledProjectionDim), seed: 11, type: .f32)
    func read(_ mask: [Int32], _ states: Tensor) throws -> PromptEmbedding {
      try SafetensorsWriter.write(
        [
          ("prompt_embeds", states), ("prompt_attention_mask", Tensor(mask, Shape(mask.count))),
          ("pooled_prompt_embeds", pooled),
        ], to: folder("p.safetensors"))
      return try PromptFile.read(folder("p.safetensors"), for: model, in: work)
    }
    let prompt = try read([1, 1, 1, 0, 0], states)
    #expect(prompt.states.shape == Shape(1, 5, c.textEmbedDim) && prompt.counts == [3])
    #expect(prompt.states.floats == states.floats && prompt.pooled!.floats == pooled.floats)
    for mask in [[1, 0, 1, 0, 0], [1, 1, 1]] as [[Int32]] {
      #expect(throws: FileError.self) { try read(mask, states) }
    }
    #expect(throws: FileError.self) { try read([1, 1, 1, 1, 1], .ones(Shape(5, 7))) }
  }

  /// The shorter side becomes `size`, then the middle is cut out.
  @Test func clipsOfOneSize() {
    let work = Workspace()
    let loader = ClipLoader(frames: 2, size: 4)
    let wide = work.affineClamp(
      randomTensor(Shape(2, 3, 4, 8), seed: 12, type: .f32), alpha: 0.2, beta: 0.5, to: 0...1)
    let cut = loader.fit(wide, in: work).floats
    let x = wide.floats
    let middle = (0..<24).map { row in Array(x[row * 8 + 2..<row * 8 + 6]) }
    #expect(cut == Array(middle.joined()))
    // A constant picture stays one at any size; the result has values of pictures.
    let constant = loader.fit(.full(Shape(1, 3, 10, 6), 0.3), in: work)
    #expect(constant.shape == Shape(1, 3, 4, 4))
    #expect(constant.floats.allSatisfy { abs($0 - 0.3) < 1e-6 })
    let sharp = loader.fit(
      Tensor((0..<300).map { Float($0 / 5 % 2) }, Shape(1, 3, 10, 10)), in: work)
    #expect(sharp.floats.allSatisfy { (0...1).contains($0) })
  }
}
