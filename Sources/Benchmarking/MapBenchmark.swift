import Files
import TensorRuntime
import Transport

/// One outer step of Neural OT training: `inner` updates of T and one of f. The widths are
/// 512-1024-1024-512 and 512-1024-1024-1 (algorithm.md 3).
public struct MapBenchmark: Sendable {
  public var batch = 128, inner = 10
  public init(batch: Int = 128, inner: Int = 10) { (self.batch, self.inner) = (batch, inner) }

  private final class State {
    var trainer: NeuralMapTrainer
    init(_ trainer: NeuralMapTrainer) { self.trainer = trainer }
  }

  /// The check runs one outer step of a small trainer in f32 and f64 from the same weights.
  public func prepare() -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let width = 512
    let hidden = 1024
    let n = 4 * batch
    var options = NeuralMapTrainer.Options()
    options.mapIterations = inner
    let fixed = options
    let state = State(
      NeuralMapTrainer(
        options, dimension: width, mapHidden: hidden, potentialHidden: hidden, seed: 3, in: work))
    let batches = FeatureBatches(
      text: BenchmarkReference.normal(Shape(n, width), 1, work),
      video: BenchmarkReference.normal(Shape(n, width), 2, work), batch: batch, seed: 1)
    let (d, h, b) = (Double(width), Double(hidden), Double(batch))
    let map = 2 * b * (2 * d * h + h * h)
    let potential = 2 * b * (d * h + h * h + h)
    // T: forward and backward of T, without the gradient of its input; forward of f and its
    // backward to the input. f: forward of T, and forward and backward of f on both batches.
    let first = 2 * b * d * h
    let flops = Double(inner) * (3 * map - first + 2 * potential) + map + 6 * potential - 2 * first
    return BenchmarkCase(
      "ot-map", [("batch", .integer(batch)), ("inner", .integer(inner))], .init(flops: flops),
      verify: {
        let work = Workspace(pool: pool)
        func losses(_ type: ElementType) throws -> [Double] {
          var small = NeuralMapTrainer(
            fixed, dimension: 16, mapHidden: 32, potentialHidden: 32, seed: 3, type: type, in: work)
          let text = work.converted(BenchmarkReference.normal(Shape(64, 16), 3, work), to: type)
          let video = work.converted(BenchmarkReference.normal(Shape(64, 16), 4, work), to: type)
          let r = try small.outerStep(
            FeatureBatches(text: text, video: video, batch: 16, seed: 1), in: work)
          return [
            r.mapLoss, r.mse, r.criticScore, r.potentialLoss, r.mapGradientNorm,
            r.potentialGradientNorm,
          ]
        }
        let tolerance = Machine.computeType == .bf16 ? 1.0 / 32 : 1e-4
        return zip(try losses(.f32), try losses(.f64)).allSatisfy {
          abs($0 - $1) <= tolerance * (1 + abs($1))
        }
      },
      run: { _ = try state.trainer.outerStep(batches, in: Workspace(pool: pool)) })
  }
}
