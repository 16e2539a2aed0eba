import Benchmarking
import Files
import Layers
import Models
import Pipelines
import TensorRuntime
import TestSupport
import Testing

/// A directory of random weights is a whole reward model, whose quantized copy can be written by
/// everything that writes models.
@Suite struct RandomRewardModelTests {
  @Test func directory() throws {
    let folder = try ScratchFolder()
    var c = SmallModels.videoText
    (c.textEncoder.vocabSize, c.otMap.hiddenDim) = (1200, 8)
    (c.otMap.inputDim, c.otMap.outputDim) = (c.embedDim, c.embedDim)
    try RandomRewardModel(c).write(to: folder("model"))
    let opened = try RewardFolder(folder("model"))
    #expect(opened.unexpected.isEmpty && opened.map != nil)
    let caption = "a small cat walking on the left of a red circle"
    let tokens = opened.tokenizer.encode(caption, maxLength: 40)
    #expect(tokens.count == 12 && !tokens.contains(opened.tokenizer.unknown))
    let full = RandomRewardModel(.full).config
    #expect(full.visionEncoder.depth == 40 && full.problem == nil)
    #expect(RandomRewardModel(.thin).config.problem == nil)
  }

  /// The scales of quantized matrices are written beside them.
  @Test func quantizedModelsAreWrittenWhole() throws {
    let folder = try ScratchFolder()
    let work = Workspace()
    var model = try VideoTextModel(SmallModels.videoText, from: .random(seed: 1))
    model.forEachParameter { p in
      if p.value.shape.rank == 2 { p.value = work.quantized(p.value) }
    }
    try ModelFolder.write(
      model, config: SmallModels.videoText, weights: "model.safetensors", to: folder("m"))
    let again = try VideoTextModel(
      SmallModels.videoText,
      from: try WeightHolder.opening("\(folder("m"))/model.safetensors").source)
    #expect(again.matchingHead.weight.value.type == .i8)
    #expect(again.matchingHead.weight.value.floats == model.matchingHead.weight.value.floats)
  }
}
