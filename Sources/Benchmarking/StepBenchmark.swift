import Files
public import PostTraining
import Layers
import Pipelines
import TensorRuntime
import Training

/// A whole post-training step: student, teacher, decoding, both rewards, backward, update, on the models given.
public struct StepBenchmark {
  let settings: PostSettings, models: PostModels, captions: [String], latentShape: [Int], preset: String
  public init(_ settings: PostSettings, models: PostModels, captions: [String], latentShape: [Int], preset: String) {
    (self.settings, self.models, self.captions, self.latentShape, self.preset) = (settings, models, captions, latentShape, preset)
  }

  private final class State {
    var task: DirectTask, step = 0
    let phases = StepPhases()
    init(_ task: DirectTask) { self.task = task }
  }

  /// The check takes one step of two samples with these kernels and with the scalar ones: losses and gradient agree.
  public func prepare() throws -> BenchmarkCase {
    let pool = BufferPool(), work = Workspace(pool: pool), s = settings, models = models, captions = captions, shape = latentShape
    func task(_ s: PostSettings, in work: borrowing Workspace) throws -> DirectTask { try DirectTask(s, models: models, pool: nil, captions: captions, latentShape: shape, companions: { _ in }, in: work) }
    let state = State(try task(s, in: work))
    return BenchmarkCase(
      "step", [("preset", .string(preset)), ("batch", .integer(s.batch)), ("parameters", .integer(models.teacher.parameterCount)), ("products", .string(Machine.products.rawValue))], .init(),
      verify: {
        let work = Workspace(pool: pool), current = Machine.current, tolerance = Machine.products == .bf16 ? 0.1 : 1e-3
        var small = s
        (small.batch, small.post.pool) = (2, 2)
        small.post.sampler_steps = 2
        let found = try { (work: borrowing Workspace) in var t = try task(small, in: work); return try t.step(0, in: work) }(work)
        Machine.limit(to: .scalar)
        defer { Machine.limit(to: current) }
        let expected = try { (work: borrowing Workspace) in var t = try task(small, in: work); return try t.step(0, in: work) }(work)
        return ([(found.loss, expected.loss), (found.gradientNorm, expected.gradientNorm)] + zip(found.terms, expected.terms).map { ($0.value, $1.value) })
          .allSatisfy { abs($0 - $1) <= tolerance * (0.01 + abs($1)) }
      },
      run: {
        let work = Workspace(pool: pool)
        _ = try state.task.step(state.step % s.steps, phases: state.phases, in: work)
        state.step += 1
      },
      phases: { state.phases.list.map { ($0.name, $0.seconds / Double(max(state.step, 1)), $0.peakBytes) } },
      predict: { state.task.plannedResidentBytes(0, in: pool) })
  }
}
