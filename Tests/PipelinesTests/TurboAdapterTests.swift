import Files
import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

@testable import Pipelines

/// T2V-Turbo's `unet_lora.pt`, our LoRA folder, and merged students (videocrafter.md 10).
@Suite struct TurboAdapterTests {
  typealias Form = ShortVideoFiles
  private let folder: ScratchFolder
  private let base: String
  init() throws {
    folder = try ScratchFolder()
    base = try Form.directory(folder)
  }

  /// A student with random adapters, and its projection trained.
  private func student(
    rank: Int = 3, targets: [String] = VideoUNet.defaultTargets, alpha: Double = 6
  )
    throws -> VideoUNet
  {
    let work = Workspace()
    var model = try VideoUNet(Form.unet(), from: Form.random(seed: 1)).student()
    try model.attachAdapters(
      targets: targets, rank: rank, alpha: alpha, from: Form.random(seed: 8), in: work)
    let width = model.config.timeCondProjDim!
    model.forEachParameter {
      if $0.name == "time_cond_proj.weight" {
        $0.value = randomTensor(Shape(8, width), seed: 9, scale: 0.2, type: .f32)
      }
    }
    return model
  }
  private func merged(_ model: VideoUNet) -> VideoUNet {
    var copy = model
    copy.mergeAdapters(in: Workspace())
    return copy
  }
  private func convert(_ input: String, _ name: String, _ change: (inout Converter) -> Void) throws
    -> Converter.Report
  {
    var converter = Converter(input: input, output: folder(name))
    change(&converter)
    return try converter.run()
  }
  private func fails(_ words: String, _ input: String, _ change: (inout Converter) -> Void) {
    #expect { try convert(input, "failed", change) } throws: { error in
      let text = "\(error)"
      if !text.contains(words) { Issue.record("\(text)") }
      return (error as? FileError)?.exitStatus == 65 && !text.contains("\n")
    }
  }

  /// Student, our folder, and the conversion with its adapters merged give the same bits; so do
  /// adapters of the attention alone, and a whole directory given as input.
  @Test(arguments: [VideoUNet.defaultTargets, VideoUNet.attentionTargets])
  func foldersMergeAgain(_ targets: [String]) throws {
    let model = try student(targets: targets)
    try LoraFolder.write(
      model, rank: 3, alpha: 6, targets: targets, step: 5, to: folder("lora"))
    _ = try convert("\(base)/unet", "unet") { $0.adapters = folder("lora") }
    _ = try convert(base, "student") { $0.adapters = folder("lora") }
    let expected = Form.noise(merged(model), guidance: 7.5)
    #expect(try Form.noise(folder("student"), guidance: 7.5) == expected)
    #expect(
      try WeightTable(opening: folder("unet")).fingerprint()
        == WeightTable(opening: folder("student/unet")).fingerprint())
    #expect(expected != Form.noise(try VideoUNet(Form.unet(), from: Form.random(seed: 1))))
  }
  /// Our folder to T2V-Turbo's list, merged from there, and back to a folder.
  @Test(arguments: [VideoUNet.defaultTargets, VideoUNet.attentionTargets])
  func listsHoldTheSameChange(_ targets: [String]) throws {
    let model = try student(targets: targets)
    try LoraFolder.write(
      model, rank: 3, alpha: 6, targets: targets, step: 5, to: folder("lora"))
    let report = try convert(folder("lora"), "list") { ($0.base, $0.layout) = (base, .original) }
    #expect(report.kind == .lora && report.notes.contains { $0.contains("time_cond_proj") })
    let list = folder("list/unet_lora.pt")
    let count = try TorchCheckpoint(list).listCount
    #expect(count == 2 * (try VideoUNet.adaptableModules(model.config).count))
    let expected = Form.noise(merged(model), guidance: 7.5)
    let noted = try convert(base, "from-list") { $0.adapters = list }
    #expect(noted.notes.contains { $0.contains("time_cond_proj.weight: zero is taken") })
    #expect(close(try Form.noise(folder("from-list"), guidance: 7.5), expected))
    _ = try convert(list, "peft") { $0.base = base }
    _ = try convert(base, "from-peft") { $0.adapters = folder("peft") }
    #expect(close(try Form.noise(folder("from-peft"), guidance: 7.5), expected))
  }
  /// The list is read in T2V-Turbo's order: each pair changes its own layer by B A, times α / r.
  @Test func pairsGoToTheirLayers() throws {
    var config = Form.unet()
    config.timeCondProjDim = 16
    let modules = try VideoUNet.adaptableModules(config)
    #expect(
      modules.prefix(6).map(\.name) == [
        "time_embed.0", "time_embed.2", "fps_embedding.0", "fps_embedding.2", "time_cond_proj",
        "input_blocks.0.0",
      ])
    var list: [Tensor] = []
    for (i, module) in modules.enumerated() {
      let (w, seed) = (module.weight, UInt64(2 * i))
      let kernel = w.dims.dropFirst(2)
      list += [
        randomTensor(Shape([w[0], 2] + kernel.map { _ in 1 }), seed: seed, scale: 0.1, type: .f32),
        randomTensor(Shape([2, w[1]] + kernel), seed: seed + 1, scale: 0.1, type: .f32),
      ]
    }
    try TorchWriter.write(list: list, to: folder("unet_lora.pt"))
    try TorchWriter.write(
      [("projection", .ones(Shape(8, 16)))], to: folder("projection.pt"))
    let report = try convert(base, "student") {
      $0.adapters = folder("unet_lora.pt")
      $0.alpha = 6
      $0.guidanceProjection = folder("projection.pt")
    }
    #expect(!report.notes.contains { $0.contains("zero is taken") })
    var table = try WeightTable(opening: folder("student/unet"))
    let before = Dictionary(uniqueKeysWithValues: try Form.unetTensors())
    for (i, module) in modules.enumerated() {
      let found = try table.take("\(module.name).weight")
      let old = before["\(module.name).weight"]?.doubles ?? Array(repeating: 1, count: 8 * 16)
      let (b, a) = (list[2 * i].doubles, list[2 * i + 1].doubles)
      let columns = module.weight.count / module.weight[0]
      for (at, value) in found.doubles.enumerated() {
        let (row, column) = (at / columns, at % columns)
        let change = (0..<2).reduce(0.0) { $0 + b[2 * row + $1] * a[columns * $1 + column] }
        #expect(abs(value - (old[at] + 3 * change)) < 1e-5, "\(module.name) \(at)")
      }
    }
  }
  private func close(_ a: [Float], _ b: [Float]) -> Bool {
    let scale = b.reduce(0) { max($0, abs($1)) }
    return a.count == b.count && scale > 0
      && zip(a, b).allSatisfy { abs($0 - $1) <= 1e-4 * scale }
  }

  @Test func faults() throws {
    let modules = try VideoUNet.adaptableModules(try student().config)
    func pair(_ w: Shape) -> [Tensor] {
      let kernel = w.dims.dropFirst(2)
      return [
        .ones(Shape([w[0], 1] + kernel.map { _ in 1 })), .ones(Shape([1, w[1]] + kernel)),
      ]
    }
    let list = folder("unet_lora.pt")
    let good = modules.flatMap { pair($0.weight) }
    func write(_ tensors: [Tensor]) throws { try TorchWriter.write(list: tensors, to: list) }
    // The first misfit is named: another network's list, a short one, a long one.
    try write(good)
    fails("give the generator's directory with --base", list) { _ in }
    try write(Array(good.dropFirst(20)) + good.prefix(20))
    fails("'time_embed.0'", base) { $0.adapters = list }
    try write(Array(good.dropLast(2)))
    fails("'out.2'", base) { $0.adapters = list }
    try write(good + good.prefix(2))
    fails("tensor \(good.count)", base) { $0.adapters = list }
    try write(good.map { Tensor.ones(Shape($0.shape.dims.dropLast())) })
    fails("'time_embed.0'", base) { $0.adapters = list }
    // A list where a state dict is expected, and adapters for the other family.
    try write(good)
    fails("list of", list) { $0.kind = .videocrafterUNet }
    try LayoutTests.write(try LayoutTests.model(), to: folder("hunyuan"))
    fails("list of", folder("hunyuan")) { $0.adapters = list }
    try LoraFolder.write(
      try student(), rank: 3, alpha: 6, targets: ["all"], step: 1, to: folder("lora"))
    fails("time_cond_proj.weight", folder("hunyuan")) { $0.adapters = folder("lora") }
    try AdapterTests.peft(folder("other"), #"{"r": 3, "lora_alpha": 6}"#)
    fails("does not have", base) { $0.adapters = folder("other") }
    // A projection of another network.
    try TorchWriter.write([("p", .ones(Shape(9, 16)))], to: folder("p.pt"))
    fails("--time-cond-proj", base) {
      ($0.adapters, $0.guidanceProjection) = (list, folder("p.pt"))
    }
  }
}
