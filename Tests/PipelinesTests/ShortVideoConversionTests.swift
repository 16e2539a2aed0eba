import Files
import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

@testable import Pipelines

/// VideoCrafter2's files to a generator directory (videocrafter.md 12).
@Suite struct ShortVideoConversionTests {
  typealias Form = ShortVideoFiles
  private let folder: ScratchFolder
  init() throws { folder = try ScratchFolder() }

  private func expectSame(
    _ place: String, _ expected: Form.Tensors, _ sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    var table = try WeightTable(opening: place)
    #expect(Set(table.names) == Set(expected.map(\.name)), sourceLocation: sourceLocation)
    for (name, tensor) in expected {
      let found = try table.take(name)
      #expect(
        found.shape == tensor.shape && found.floats == tensor.floats, "\(name)",
        sourceLocation: sourceLocation)
    }
  }
  private func fails(
    _ words: String, _ change: (inout Converter) throws -> Void = { _ in }, input: String
  ) throws {
    var converter = Converter(input: input, output: folder("failed"))
    try change(&converter)
    #expect { try converter.run() } throws: { error in
      guard let fault = error as? FileError else { return false }
      let text = "\(fault)"
      if !text.contains(words) { Issue.record("\(text)") }
      return fault.exitStatus == 65 && !text.contains("\n")
    }
    #expect(
      !TextFile.exists(folder("failed/config.json"))
        && !TextFile.exists(folder("failed/unet/config.json")))
  }

  /// Every tensor arrives bit for bit, what nothing reads is left out, and the directory opens.
  @Test func wholeCheckpoint() throws {
    try TorchWriter.write(try Form.checkpoint(), to: folder("model.ckpt"))
    try OutputFile.write(Form.sizes, to: folder("sizes.json"))
    var converter = Converter(input: folder("model.ckpt"), output: folder("out"))
    converter.config = folder("sizes.json")
    let report = try converter.run()
    #expect(report.kind == .videocrafter2)
    try expectSame(folder("out/unet"), try Form.unetTensors())
    try expectSame(folder("out/vae"), try Form.vaeTensors())
    let unread = ["text_projection", "logit_scale"]
    try expectSame(
      folder("out/text_encoder"),
      try Form.textTensors().filter {
        !unread.contains($0.name) && !$0.name.hasPrefix("transformer.resblocks.2.")
      })
    let unet: VideoUNetConfig = try ModelFolder.config(folder("out/unet"))
    let vae: ImageAutoencoderConfig = try ModelFolder.config(folder("out/vae"))
    let text: OpenCLIPTextConfig = try ModelFolder.config(folder("out/text_encoder"))
    #expect(unet == Form.unet() && vae == Form.vae && text == Form.text)
    let index = try JSONValue(contentsOf: folder("out/model_index.json"))
    #expect(index["generator"] == "videocrafter2")
    #expect(try TextFile.lines(folder("out/tokenizer/merges.txt")).count >= 10)
    let licence = try TextFile.read("\(repository)/CSupport/Embedded/openclip/merges.LICENCE")
    #expect(
      try TextFile.read(folder("out/tokenizer/merges.LICENCE")).split(
        whereSeparator: \.isWhitespace)
        == licence.split(whereSeparator: \.isWhitespace))
    let generator = GeneratorFolder(folder("out"))
    let network = try generator.denoiser()
    #expect(network.textWidth == 12 && network.latentChannels == 4 && !network.embedsGuidance)
    let schedule = try JSONValue(contentsOf: folder("out/scheduler.json"))
    #expect(schedule["linear_start"] == 0.00085 && schedule["mid_step"] == 400)
    _ = try generator.process()
    let work = Workspace()
    let prompts = try generator.promptEncoder()
    let states = prompts(["a red circle"], in: work).states
    #expect(states.shape == Shape(1, 77, 12))
    _ = try generator.autoencoder.decoder()
    _ = try generator.autoencoder.encoder()
  }
  /// The mapping may lie in the file directly, in any floating type, and be written in another.
  @Test(arguments: [ElementType.f16, .bf16, .f64])
  func typesOfCheckpoints(_ type: ElementType) throws {
    let work = Workspace()
    let stored = try Form.checkpoint().map { ($0.name, work.converted($0.tensor, to: type)) }
    try TorchWriter.write(stored, to: folder("model.ckpt"))
    var converter = Converter(input: folder("model.ckpt"), output: folder("out"))
    converter.type = .bf16
    _ = try converter.run()
    var table = try WeightTable(opening: folder("out/unet"))
    for (name, tensor) in try Form.unetTensors() {
      let expected = work.converted(work.converted(tensor, to: type), to: .bf16)
      let found = try table.take(name)
      #expect(found.type == .bf16 && found.floats == expected.floats, "\(name)")
    }
  }
  /// A directory converts again, keeping its configurations, tokenizer and schedule.
  @Test func directoriesConvertAgain() throws {
    let base = try Form.directory(folder)
    try OutputFile.write("{\"use_scale\": false}", to: "\(base)/scheduler.json")
    let report = try Converter(input: base, output: folder("again")).run()
    #expect(report.kind == .videocrafter2 && report.notes.isEmpty)
    for part in ["unet", "vae", "text_encoder"] {
      #expect(
        try WeightTable(opening: "\(base)/\(part)").fingerprint()
          == WeightTable(opening: folder("again/\(part)")).fingerprint())
      #expect(
        try TextFile.read("\(base)/\(part)/config.json")
          == TextFile.read(folder("again/\(part)/config.json")))
    }
    #expect(try TextFile.read(folder("again/scheduler.json")).contains("false"))
  }
  /// diffusers' autoencoder and transformers' text tower give the folders of the original names.
  @Test func otherLayouts() throws {
    let levels = Form.vae.channelMult.count
    let vae = try Form.vaeTensors().map { (name, tensor) in
      let isMatrix = name.contains("attn_1") && tensor.shape.rank == 4
      return (
        name: Form.diffusers(name, levels: levels),
        tensor: isMatrix ? tensor.reshaped(Shape(tensor.shape[0], tensor.shape[1])) : tensor
      )
    }
    try createFolder(folder("vae"))
    try SafetensorsWriter.write(vae, to: folder("vae/diffusion_pytorch_model.safetensors"))
    try OutputFile.write(
      #"{"norm_num_groups": 4, "scaling_factor": 0.5, "block_out_channels": [4, 4, 8]}"#,
      to: folder("vae/config.json"))
    let report = try Converter(input: folder("vae"), output: folder("a")).run()
    #expect(report.kind == .imageVAE)
    try expectSame(folder("a"), try Form.vaeTensors())
    var expected = Form.vae
    expected.scalingFactor = 0.5
    #expect(try ModelFolder.config(folder("a")) == expected)

    let text = Form.transformers(try Form.textTensors())
    try createFolder(folder("text"))
    try SafetensorsWriter.write(text, to: folder("text/model.safetensors"))
    try OutputFile.write(
      #"{"num_attention_heads": 1, "hidden_act": "gelu"}"#, to: folder("text/config.json"))
    var converter = Converter(input: folder("text"), output: folder("b"))
    converter.kind = .openCLIPText
    #expect(try converter.run().kind == .openCLIPText)
    let unread = ["text_projection", "logit_scale"]
    try expectSame(
      folder("b"),
      try Form.textTensors().filter {
        !unread.contains($0.name) && !$0.name.hasPrefix("transformer.resblocks.2.")
      })
    try OutputFile.write(#"{"hidden_act": "quick_gelu"}"#, to: folder("text/config.json"))
    try fails("quick_gelu", { $0.kind = .openCLIPText }, input: folder("text"))
  }
  /// T2V-Turbo's students: a plain state dict becomes a `unet` folder, or with a base a directory.
  @Test(arguments: [nil, 8]) func students(_ motion: Int?) throws {
    let base = try Form.directory(folder)
    let student = Form.unet(guidance: 16, motion: motion)
    let tensors = try Form.unetTensors(student)
    try TorchWriter.write(tensors, to: folder("unet.pt"))
    #expect(
      try Converter(input: folder("unet.pt"), output: folder("unet")).run().kind
        == .videocrafterUNet)
    try expectSame(folder("unet"), tensors)
    #expect(try ModelFolder.config(folder("unet")) == student)
    var converter = Converter(input: folder("unet.pt"), output: folder("student"))
    converter.base = base
    #expect(try converter.run().kind == .videocrafter2)
    #expect(
      try Form.noise(folder("student"), guidance: 7.5)
        == Form.noise(try VideoUNet(student, from: Form.random(seed: 1)), guidance: 7.5))
    try expectSame(folder("student/vae"), try Form.vaeTensors())
    #expect(TextFile.exists(folder("student/tokenizer/merges.txt")))
  }
  @Test func faultsOfCheckpoints() throws {
    let good = try Form.checkpoint()
    func write(_ tensors: Form.Tensors) throws -> String {
      try TorchWriter.write(tensors, to: folder("bad.ckpt"))
      return folder("bad.ckpt")
    }
    let convolution = "model.diffusion_model.output_blocks.0.0.temopral_conv.conv3.3.weight"
    try fails(
      "temopral_conv.conv3.3.weight", input: try write(good.filter { $0.name != convolution }))
    try fails(
      "wrong shape",
      input: try write(
        good.map { ($0.name, $0.name == convolution ? .ones(Shape(16, 16, 3, 3, 1)) : $0.tensor) }))
    try fails(
      "'image_proj_model.weight'",
      input: try write(good + [("image_proj_model.weight", .ones(Shape(2)))]))
    try fails(
      "'surplus'",
      input: try write(good + [("model.diffusion_model.surplus", .ones(Shape(2)))]))
    try fails(
      "text_encoder is missing",
      input: try write(good.filter { !$0.name.hasPrefix("cond_stage_model.") }))
    // A tensor of another rank, and of no elements, where a size is read.
    for shape in [Shape(8), Shape(0, 4, 3, 3), Shape()] {
      try fails(
        "bad.ckpt",
        input: try write(
          good.map {
            ($0.name, $0.name.hasSuffix("input_blocks.0.0.weight") ? .zeros(shape) : $0.tensor)
          }))
    }
  }
  /// What is given to a command must be of its family.
  @Test func wrongFamilies() throws {
    try LayoutTests.write(try LayoutTests.model(), to: folder("hunyuan"))
    try fails("VideoCrafter2", { $0.kind = .videocrafter2 }, input: folder("hunyuan"))
    try fails("--base", { $0.base = "x" }, input: folder("hunyuan"))
    let student = folder("unet.pt")
    try TorchWriter.write(try Form.unetTensors(), to: student)
    try fails("HunyuanVideo", { $0.kind = .hunyuanTransformer }, input: student)
    try fails("not a VideoCrafter2 directory", { $0.base = folder("hunyuan") }, input: student)
    try fails("int8", { $0.type = .i8 }, input: student)
    try TorchWriter.write(try Form.vaeTensors(), to: folder("vae.pt"))
    try fails("--merge-lora", { $0.adapters = student }, input: folder("vae.pt"))
    try fails("input_blocks.0.0.weight", { $0.kind = .videocrafterUNet }, input: folder("vae.pt"))
  }
}
