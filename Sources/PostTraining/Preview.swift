import Diffusion
import Models
import Pipelines
import TensorRuntime

extension PostModels {
  /// Samples for the first captions, one row each: the teacher on the left and `student` on the
  /// right, from the same noise.
  func preview(
    _ student: Model, _ settings: PostSettings, captions: [String], latentShape: [Int],
    in work: borrowing Workspace
  ) -> [[Tensor]] {
    let list = Array(captions.prefix(4))
    let noise = RandomStream(seed: UInt64(settings.seed), .evaluation).normal(
      Shape([list.count] + latentShape), in: work)
    func clips(_ model: Model) -> Tensor {
      decoder(
        settings.sampler(process, for: model).sample(
          model, noise: noise, captions: list, prompts, seed: UInt64(settings.seed), in: work),
        in: work)
    }
    let before = clips(teacher)
    let after = clips(student)
    return list.indices.map { [work.copy(before[row: $0]), work.copy(after[row: $0])] }
  }
}
