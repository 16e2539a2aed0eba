import TensorRuntime

/// Pairs that a plan must not use: those whose cost is +inf.
enum ForbiddenPairs {
  /// A cost matrix of finite numbers and +inf, in `type`, and whether it holds any +inf. A finite
  /// number that only `type` makes infinite is refused, as any other that is none.
  static func checked(_ t: Tensor, as type: ElementType, in work: borrowing Workspace)
    throws(TransportError) -> (cost: Tensor, any: Bool)
  {
    let c = work.converted(t, to: type)
    if work.isFinite(c) { return (c, false) }
    let given = t.doubles
    if let i = given.firstIndex(where: { !$0.isFinite && $0 != .infinity }) {
      throw .notANumber(name: "cost", index: i)
    }
    if let i = zip(given, c.doubles).enumerated().first(where: { $1.0.isFinite && !$1.1.isFinite })?
      .offset
    {
      throw .notANumber(name: "cost as \(type)", index: i)
    }
    return (c, true)
  }
  /// Throws where no plan between these weights can avoid the forbidden pairs of `cost`.
  static func check(
    _ s: Workspace.SinkhornSettings, _ cost: Workspace.SinkhornCost, source a: [Double],
    target b: [Double], in work: borrowing Workspace
  ) throws(TransportError) {
    let hard = s.source == .hard && s.target == .hard
    let capped = s.source == .capped
    if !capped {
      let k = work.sinkhornWithoutPartner(s, cost: cost, source: a, target: b)
      if k < a.count { throw .noPartner(name: "source", index: k) }
      if k < a.count + b.count { throw .noPartner(name: "target", index: k - a.count) }
    }
    guard hard || capped else { return }
    let asked = capped ? s.mass : a.reduce(0, +)
    if work.sinkhornFeasibleMass(s, cost: cost, source: a, target: b) < asked * (1 - 1e-9) {
      throw .infeasible
    }
  }
}
