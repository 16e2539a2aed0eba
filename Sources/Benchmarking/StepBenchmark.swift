import Files
import Layers
public import Models
import Pipelines
public import PostTraining
import TensorRuntime
import Training

/// A whole post-training step on the given models: direct (student, teacher, decoding, both
/// rewards, backward, update) or GRPO (rollouts, decoding, rewards, training, update).
public struct StepBenchmark<Model: VideoDenoiser> {
  let settings: PostSettings, models: PostModels<Model>, captions: [String], latentShape: [Int],
    preset: String
  public init(
    _ settings: PostSettings, models: PostModels<Model>, captions: [String], latentShape: [Int],
    preset: String
  ) {
    (self.settings, self.models, self.captions, self.latentShape, self.preset) = (
      settings, models, captions, latentShape, preset
    )
  }

  private final class State {
    var task: any PhasedTask, step = 0
    let phases = StepPhases()
    init(_ task: any PhasedTask) { self.task = task }
  }
  private func task(_ s: PostSettings, in work: borrowing Workspace) throws -> any PhasedTask {
    try s.objective.task(for: Model.self).init(
      s, models: models, pool: nil, captions: captions, latentShape: latentShape,
      components: { _ in }, in: work)
  }

  /// The check takes one step of two samples with these kernels and with the scalar ones. Losses
  /// and gradients must agree.
  public func prepare() throws -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let s = settings
    let task = task
    let state = State(try task(s, work))
    let isGroup = s.objective == .grpo
    let sizes: [(String, JSONValue)] = [
      ("preset", .string(preset)),
      ("samples", .integer(isGroup ? s.grpo.prompts * s.grpo.generations : s.batch)),
      ("parameters", .integer(models.teacher.parameterCount)),
      ("compute_dtype", .string(Machine.computeType.rawValue)),
    ]
    return BenchmarkCase(
      "step", sizes, .init(),
      verify: {
        let work = Workspace(pool: pool)
        let current = Machine.current
        let tolerance = Machine.computeType == .bf16 ? 0.1 : 1e-3
        var small = s
        (
          small.batch, small.post.pool, small.grpo.prompts, small.grpo.generations,
          small.grpo.best_of
        ) = (2, 2, 1, 2, 2)
        small.post.sampler_steps = 2
        let found = try { (work: borrowing Workspace) in
          var t = try task(small, work)
          return try t.step(0, in: work)
        }(work)
        Machine.limit(to: .scalar)
        defer { Machine.limit(to: current) }
        let expected = try { (work: borrowing Workspace) in
          var t = try task(small, work)
          return try t.step(0, in: work)
        }(work)
        return
          ([(found.loss, expected.loss), (found.gradientNorm, expected.gradientNorm)]
          + zip(found.terms, expected.terms).map { ($0.value, $1.value) })
          .allSatisfy { abs($0 - $1) <= tolerance * (0.01 + abs($1)) }
      },
      run: {
        let work = Workspace(pool: pool)
        _ = try state.task.step(state.step % s.steps, phases: state.phases, in: work)
        state.step += 1
      },
      phases: {
        state.phases.list.map { ($0.name, $0.seconds / Double(max(state.step, 1)), $0.peakBytes) }
      },
      predict: { state.task.plannedResidentBytes(0, in: pool) }, countsOperations: true)
  }
}
