import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

/// What the golden cases of the image autoencoder leave out.
@Suite struct ImageAutoencoderTests {
  private let config = ModelGradientTests.smallImageAutoencoder

  /// Images in groups of one give what they give together, whether the group is kept or run again.
  @Test(arguments: [false, true]) func groupsDoNotMatter(_ checkpointing: Bool) throws {
    let work = Workspace()
    func run(_ pixelsAtOnce: Int) throws -> (y: [Double], dz: [Double], gradients: [[Double]]) {
      var decoder = try ImageAutoencoderDecoder(config, from: .random(seed: 1, type: .f64))
      decoder.pixelsAtOnce = pixelsAtOnce
      decoder.makeTrainable(in: work)
      let z = randomTensor(Shape(5, 2, 3, 2), seed: 2)
      let (y, saved) = decoder.forward(z, checkpointing: checkpointing, in: work)
      let dz = decoder.backward(y, saved, in: work)
      return (y.doubles, dz.doubles, decoder.trainableParameters().map { $0.gradient!.doubles })
    }
    let together = try run(1 << 20)
    // One image has 96 pixels: groups of 1, and of 2, 2 and 1.
    for pixels in [1, 200] {
      let apart = try run(pixels)
      #expect(apart.y == together.y && apart.dz == together.dz)
      for (a, b) in zip(apart.gradients, together.gradients) {
        let scale = b.reduce(0) { max($0, abs($1)) }
        #expect(zip(a, b).allSatisfy { abs($0 - $1) <= 1e-12 * (1 + scale) })
      }
    }
  }
  /// A frozen decoder fuses norms into its convolutions and keeps less; the gradient is the same.
  @Test func frozenDecoderHasTheSameGradient() throws {
    let work = Workspace()
    var decoder = try ImageAutoencoderDecoder(config, from: .random(seed: 3))
    let z = randomTensor(Shape(2, 2, 3, 2), seed: 4, type: .f32)
    func gradient() -> (y: [Float], dz: [Float]) {
      let (y, saved) = decoder.forward(z, in: work)
      return (y.floats, decoder.backward(y, saved, in: work).floats)
    }
    let frozen = gradient()
    #expect(decoder(z, in: work).floats == frozen.y)
    decoder.makeTrainable(in: work)
    let trainable = gradient()
    for (a, b) in [(frozen.y, trainable.y), (frozen.dz, trainable.dz)] {
      let scale = b.reduce(0) { max($0, abs($1)) }
      #expect(scale > 0 && zip(a, b).allSatisfy { abs($0 - $1) <= 1e-5 * scale })
    }
  }
  /// Weights in the types that they are stored in are read as their values, forward and backward.
  @Test(arguments: [ElementType.bf16, .f16]) func storedWeightsAreRead(_ type: ElementType) throws {
    let work = Workspace()
    let stored = ParameterSource { name, shape, initial, _ in
      let work = Workspace()
      return work.converted(
        try ParameterSource.random(seed: 6)(name, shape, initial).value, to: type)
    }
    var narrow = try ImageAutoencoderDecoder(config, from: stored)
    var wide = narrow
    wide.forEachParameter { $0.value = work.widened($0.value) }
    let z = randomTensor(Shape(2, 2, 3, 2), seed: 7, type: .f32)
    let (y, saved) = narrow.forward(z, in: work)
    let (expected, kept) = wide.forward(z, in: work)
    #expect(y.type == .f32 && y.floats == expected.floats)
    #expect(
      narrow.backward(y, saved, in: work).floats == wide.backward(y, kept, in: work).floats)
  }
  /// The memory of one frame serves the next.
  @Test func framesShareMemory() throws {
    let work = Workspace()
    var decoder = try ImageAutoencoderDecoder(config, from: .random(seed: 5))
    decoder.pixelsAtOnce = 1
    func decode(_ frames: Int) -> Int {
      let z = work.zeros(Shape(frames, 2, 8, 8))
      let before = work.pool.statistics.allocations
      let (y, saved) = decoder.forward(z, checkpointing: true, in: work)
      _ = decoder.backward(y, saved, in: work)
      return work.pool.statistics.allocations - before
    }
    let first = decode(2)
    #expect(first > 0)
    #expect(decode(2) == 0)
    // More frames have only more pixels and latents to keep.
    #expect(decode(6) < first / 2)
  }

  /// Parameters of the published sizes, by name: 83,653,863 values in 248 tensors (videocrafter.md
  /// 12).
  @Test func publishedSizes() throws {
    var shapes: [String: Shape] = [:]
    let source = ParameterSource { name, shape, _, _ in
      #expect(shapes.updateValue(shape, forKey: name) == nil)
      return Tensor.zeros(shape)
    }
    _ = try ImageAutoencoderEncoder(ImageAutoencoderConfig(), from: source)
    #expect(shapes.values.reduce(0) { $0 + $1.count } == 34_163_664)
    _ = try ImageAutoencoderDecoder(ImageAutoencoderConfig(), from: source)
    #expect(shapes.values.reduce(0) { $0 + $1.count } == 83_653_863)
    #expect(shapes.count == 248)
    #expect(shapes["decoder.up.0.block.0.nin_shortcut.weight"] == Shape(128, 256, 1, 1))
    #expect(shapes["encoder.mid.attn_1.proj_out.weight"] == Shape(512, 512, 1, 1))
    #expect(shapes["encoder.down.2.downsample.conv.weight"] == Shape(512, 512, 3, 3))

    // Every name has one in diffusers' layout, and comes back from there.
    let others = Set(shapes.keys.map(Self.diffusers))
    #expect(others.count == 248 && ImageAutoencoderNames.areDiffusers(others))
    #expect(!ImageAutoencoderNames.areDiffusers(shapes.keys))
    let back = others.compactMap { ImageAutoencoderNames.original(ofDiffusers: $0, levels: 4) }
    #expect(Set(back) == Set(shapes.keys))
  }
  /// The table of videocrafter.md 12, from right to left, as a list of replacements.
  private static func diffusers(_ name: String) -> String {
    var n = name
    for i in 0..<4 {
      n.replace("encoder.down.\(i).block.", with: "encoder.down_blocks.\(i).resnets.")
      n.replace("encoder.down.\(i).downsample", with: "encoder.down_blocks.\(i).downsamplers.0")
      n.replace("decoder.up.\(i).block.", with: "decoder.up_blocks.\(3 - i).resnets.")
      n.replace("decoder.up.\(i).upsample", with: "decoder.up_blocks.\(3 - i).upsamplers.0")
    }
    for (a, b) in [
      ("nin_shortcut", "conv_shortcut"), ("norm_out", "conv_norm_out"),
      ("mid.block_1", "mid_block.resnets.0"), ("mid.block_2", "mid_block.resnets.1"),
      ("mid.attn_1.norm", "mid_block.attentions.0.group_norm"),
      ("mid.attn_1.q", "mid_block.attentions.0.to_q"),
      ("mid.attn_1.k", "mid_block.attentions.0.to_k"),
      ("mid.attn_1.v", "mid_block.attentions.0.to_v"),
      ("mid.attn_1.proj_out", "mid_block.attentions.0.to_out.0"),
    ] { n.replace(a, with: b) }
    return n
  }
  @Test(
    arguments: [
      (
        "decoder.up_blocks.0.resnets.2.conv_shortcut.bias", "decoder.up.3.block.2.nin_shortcut.bias"
      ),
      ("decoder.up_blocks.2.upsamplers.0.conv.weight", "decoder.up.1.upsample.conv.weight"),
      ("decoder.mid_block.attentions.0.query.weight", "decoder.mid.attn_1.q.weight"),
      ("encoder.mid_block.attentions.0.proj_attn.bias", "encoder.mid.attn_1.proj_out.bias"),
      ("post_quant_conv.weight", "post_quant_conv.weight"),
      ("decoder.up_blocks.4.resnets.0.conv1.weight", nil), ("encoder.up_blocks.0.resnets.0.x", nil),
      ("encoder.down_blocks.0.resnets.0.time_emb_proj.weight", nil), ("weight", nil),
      ("encoder.conv_in.0.weight", nil), ("encoder.mid_block.resnets.2.conv1.weight", nil),
    ] as [(String, String?)]) func namesOfDiffusers(_ name: String, _ original: String?)
  {
    #expect(ImageAutoencoderNames.original(ofDiffusers: name, levels: 4) == original)
  }
  @Test func faultsOfSizesAreNamed() {
    func problem(_ change: (inout ImageAutoencoderConfig) -> Void) -> String? {
      var c = ImageAutoencoderConfig()
      change(&c)
      return c.problem
    }
    #expect(problem { _ in } == nil)
    #expect(problem { $0.channelMult = [] } == "ch_mult: needs 1 to 8 levels")
    #expect(problem { $0.channels = 100 } == "ch: 100 is not a multiple of norm_num_groups 32")
    #expect(problem { $0.channelMult[1] = 0 } == "ch_mult: 0 is out of range")
    #expect(problem { $0.numResBlocks = 0 } == "num_res_blocks: 0 is out of range")
    #expect(problem { $0.scalingFactor = 0 } == "scaling_factor: must be positive")
    let c = ImageAutoencoderConfig()
    #expect(c.latentShape(images: 3, height: 327, width: 512) == [3, 4, 40, 64])
  }
}
