#if canImport(Glibc)
  import Glibc
#endif

/// Learning rate as a function of the number of completed steps.
public enum LearningRateSchedule: Sendable, Equatable {
  case constant
  /// Half a cosine over all steps, down to `floor` times the rate: lr_min + (lr - lr_min)(1 +
  /// cos(πk/n))/2.
  case cosine(floor: Double)
  /// Linear, down to `floor` times the rate.
  case linear(floor: Double)
  /// Constant for the share `hold` of the steps, then linear.
  case holdThenLinear(hold: Double, floor: Double)

  /// The rate at step `k` (0-based) of `total`. The first `warmup` steps rise linearly.
  public func rate(_ base: Double, step k: Int, of total: Int, warmup: Int = 0) -> Double {
    if k < warmup { return base * Double(k + 1) / Double(warmup) }
    let t = min(1, Double(k - warmup) / Double(max(total - warmup, 1)))
    switch self {
    case .constant: return base
    case .cosine(let floor): return base * (floor + (1 - floor) * (1 + cos(.pi * t)) / 2)
    case .linear(let floor): return base * (floor + (1 - floor) * (1 - t))
    case .holdThenLinear(let hold, let floor):
      return t < hold ? base : base * (floor + (1 - floor) * (1 - (t - hold) / (1 - hold)))
    }
  }
}
