import Benchmarking
import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import TestSupport
import Testing

/// Stage-2 checkpoints and OT maps, as PyTorch writes them, to our folders.
@Suite struct RewardTests {
  @Test func stageTwoCheckpoint() throws {
    let folder = try ScratchFolder()
    let work = Workspace()
    var vision = VideoEncoderConfig()
    var text = TextEncoderConfig()
    (
      vision.imgSize, vision.numFrames, vision.patchSize, vision.dModel, vision.depth,
      vision.numHeads, vision.attnPoolNumHeads, vision.clipEmbedDim
    ) = (28, 4, 14, 32, 2, 16, 16, 24)
    (vision.mlpRatio, vision.initValues) = (2, 1)
    (
      text.vocabSize, text.hiddenSize, text.numHiddenLayers, text.numAttentionHeads,
      text.intermediateSize, text.maxPositionEmbeddings
    ) = (50, 64, 3, 1, 96, 16)
    (text.fusionLayer, text.encoderWidth) = (2, 32)
    let source = ParameterSource.random(seed: 1)
    var tensors =
      LayoutTests.tensors(try VideoEncoder(vision, embedDim: 8, from: source))
      + LayoutTests.tensors(try TextEncoder(text, from: source))
    tensors +=
      LayoutTests.tensors(try Linear("text_proj", 64, 8, from: source))
      + LayoutTests.tensors(try Linear("itm_head", 64, 2, from: source))
    tensors += [
      ("temp", Tensor(scalar: 1)),
      ("vision_encoder.clip_decoder.0.head.weight", .ones(Shape(2, 2))),
      ("text_encoder.cls.predictions.bias", .ones(Shape(50))),
    ]
    try TorchWriter.write(tensors.map { ("module.\($0.name)", $0.tensor) }, to: folder("stage2.pt"))
    try OutputFile.write("[PAD]\n[UNK]\n", to: folder("words.txt"))

    var converter = Converter(input: folder("stage2.pt"), output: folder("rewards"))
    (converter.vocabulary, converter.type) = (folder("words.txt"), .bf16)
    let report = try converter.run()
    #expect(report.kind == .internvideo2 && report.tensors == tensors.count - 3)
    let config = try JSONValue(contentsOf: folder("rewards/config.json"))
    #expect(config["model_type"] == "internvideo2_stage2" && config["embed_dim"] == 8)
    var found: VideoEncoderConfig = try config["vision_encoder"]!.decoded(name: "vision")
    found.initValues = 1
    #expect(found == vision)
    let words: TextEncoderConfig = try config["text_encoder"]!.decoded(name: "text")
    #expect(words == text)
    #expect(try TextFile.lines(folder("rewards/vocab.txt")) == ["[PAD]", "[UNK]"])
    let table = try WeightTable(opening: folder("rewards"))
    #expect(table.entry("vision_encoder.blocks.1.mlp.fc1.weight")?.type == .bf16)
    // As a directory it goes on with all it has: model, configuration, vocabulary and map.
    var map: [(name: String, tensor: Tensor)] = []
    for (i, shape) in [
      ("0", Shape(12, 8)), ("2", Shape(12)), ("3", Shape(12, 12)), ("5", Shape(12)),
      ("6", Shape(8, 12)),
    ] {
      map.append(("net.\(i).weight", randomTensor(shape, seed: UInt64(map.count), type: .f32)))
      map.append(("net.\(i).bias", .ones(Shape(shape[0]))))
    }
    try SafetensorsWriter.write(
      map, metadata: [("normalize_text", "true"), ("step", "7")],
      to: folder("rewards/ot_map.safetensors"))
    var again = Converter(input: folder("rewards"), output: folder("again"))
    again.type = .f16
    #expect(try again.run().kind == .internvideo2)
    #expect(
      try FolderContents.files(folder("again")) == [
        "config.json", "model.safetensors", "ot_map.safetensors", "vocab.txt",
      ])
    let other = try SafetensorsFile(folder("again/ot_map.safetensors"))
    #expect(
      other.metadata["normalize_text"] == "true" && other.metadata["step"] == "7"
        && other.entry(named: "net.3.weight")?.type == .f16)
    #expect(try TextFile.lines(folder("again/vocab.txt")) == ["[PAD]", "[UNK]"])
    #expect(
      try WeightTable(opening: folder("again/model.safetensors")).names
        == WeightTable(opening: folder("rewards/model.safetensors")).names)
    // The map alone when that is what is asked for.
    again = Converter(input: folder("rewards"), output: folder("map.safetensors"))
    again.kind = .otMap
    #expect(try again.run().kind == .otMap)
    // It loads strictly and answers.
    #expect(try ModelCheck.run(folder("rewards")).allSatisfy(\.isGood))
    _ = work
  }

  @Test(arguments: [true, false]) func otMap(_ structured: Bool) throws {
    let folder = try ScratchFolder()
    var tensors: [(name: String, tensor: Tensor)] = []
    for (i, shape) in [
      ("0", Shape(12, 8)), ("2", Shape(12)), ("3", Shape(12, 12)), ("5", Shape(12)),
      ("6", Shape(8, 12)),
    ] {
      tensors.append(
        ("net.\(i).weight", randomTensor(shape, seed: UInt64(tensors.count), type: .f32)))
      tensors.append(("net.\(i).bias", .ones(Shape(shape[0]))))
    }
    let input = folder(structured ? "raw.safetensors" : "raw.pt")
    if structured {
      try SafetensorsWriter.write(tensors, metadata: [("step", "7")], to: input)
    } else {
      try TorchWriter.write(tensors, to: input)
    }
    var converter = Converter(input: input, output: folder("rewards"))
    converter.normalisesText = true
    #expect(try converter.run().kind == .otMap)
    let file = try SafetensorsFile(folder("rewards/ot_map.safetensors"))
    #expect(
      file.metadata["normalize_text"] == "true" && file.metadata["dim"] == "8"
        && file.metadata["step"] == (structured ? "7" : nil))
    #expect(file.names.count == 10)
    #expect(try file.tensor(named: "net.3.weight").floats == tensors[4].tensor.floats)
    #expect(try ModelCheck.run(folder("rewards/ot_map.safetensors")).allSatisfy(\.isGood))
  }
}
