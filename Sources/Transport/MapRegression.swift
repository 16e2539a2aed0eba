public import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// What a map can be fitted to instead of transport, to compare (PISCES Table 4): loss of mapped
/// text `[B, D]` against video `[B, D]`, and its gradient with respect to the mapped text.
public enum MapRegression: String, Sendable, CaseIterable {
  /// Each text to its own video: mean over the batch of |T(y) - x|².
  case l2
  /// The distribution of all texts to that of all videos, both taken as Gaussians with independent
  /// coordinates: KL(text || video), summed over coordinates. The paper does not define its "KL
  /// mapping"; this is the closed form without a transport cost.
  case kl

  public func loss(_ mapped: Tensor, _ video: Tensor, in work: borrowing Workspace) -> (
    loss: Double, gradient: Tensor
  ) {
    let b = Double(mapped.shape[0])
    switch self {
    case .l2:
      let d = work.difference(mapped, video)
      return (work.sumOfSquares(d) / b, work.scaled(d, by: 2 / b))
    case .kl:
      let (n, d) = (mapped.shape[0], mapped.shape[1])
      let t = mapped.doubles
      let x = video.doubles
      var loss = 0.0
      var gradient = Array(repeating: 0.0, count: n * d)
      func moments(_ v: [Double], _ k: Int) -> (mean: Double, variance: Double) {
        let column = (0..<n).map { v[$0 * d + k] }
        let mean = column.reduce(0, +) / b
        return (mean, column.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / b + 1e-6)
      }
      for k in 0..<d {
        let (p, q) = (moments(t, k), moments(x, k))
        let shift = p.mean - q.mean
        let ratio: Double = p.variance / q.variance
        loss += 0.5 * (ratio - 1 - log(ratio) + shift * shift / q.variance)
        let toMean: Double = shift / q.variance
        let spread: Double = 1 / q.variance - 1 / p.variance
        for i in 0..<n { gradient[i * d + k] = (toMean + (t[i * d + k] - p.mean) * spread) / b }
      }
      return (loss, Tensor(gradient, mapped.shape, as: mapped.type))
    }
  }
}

extension NeuralMapTrainer {
  /// As many updates of the map as in an outer step, on pairs, without a potential.
  public mutating func regressionStep(
    _ batches: FeatureBatches, _ regression: MapRegression, in work: borrowing Workspace
  ) throws -> Record {
    var record = Record(step: step + 1)
    record.mapLearningRate = mapRate
    for iteration in 0..<work.rounds(options.mapIterations) {
      let (y, x) = batches.pair(step * options.mapIterations + iteration, in: work)
      try fitMap(y, &record, in: work) { mapped, work in regression.loss(mapped, x, in: work) }
    }
    step += 1
    return record
  }
}
