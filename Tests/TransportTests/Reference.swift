import Foundation

/// Plain implementations of the transport problems, in f64 and by logarithms: the definitions, a
/// few loops each, without a kernel, scalings, acceleration or stopping rule. Every variant of the
/// solvers is held to them (ReferenceTests).
///
/// Matrices are arrays of rows. c: cost [n][m]; a, b: weights.
enum Reference {
  typealias Matrix = [[Double]]

  /// How a side of the general problem is met.
  enum Side {
    case hard, capped
    case relaxed(rho: Double)
  }

  static func logSumExp(_ x: [Double]) -> Double {
    let top = x.max() ?? -.infinity
    if top == -.infinity { return -.infinity }
    return top + log(x.reduce(0) { $0 + exp($1 - top) })
  }

  /// The plan of min <P,C> + ε Σ P (log P - 1) with the sides' conditions; capped sides have ΣP =
  /// mass. Block ascent of the dual: algorithm.md 4.8.
  static func plan(
    _ c: Matrix, _ a: [Double], _ b: [Double], epsilon: Double, _ source: Side, _ target: Side,
    mass: Double = 0, iterations: Int
  ) -> Matrix {
    let (n, m) = (a.count, b.count)
    var (u, v) = ([Double](repeating: 0, count: n), [Double](repeating: 0, count: m))
    var z = 0.0
    // log P_ij = u_i + v_j + z - C_ij / ε
    func updated(_ side: Side, _ weight: Double, _ lse: Double) -> Double {
      switch side {
      case .hard: log(weight) - lse
      case .relaxed(let rho): (log(weight) - lse) / (1 + epsilon / rho)
      case .capped: min(0, log(weight) - lse)
      }
    }
    for _ in 0..<iterations {
      for i in 0..<n {
        u[i] = updated(source, a[i], z + logSumExp((0..<m).map { v[$0] - c[i][$0] / epsilon }))
      }
      for j in 0..<m {
        v[j] = updated(target, b[j], z + logSumExp((0..<n).map { u[$0] - c[$0][j] / epsilon }))
      }
      if case .capped = source {
        z =
          log(mass)
          - logSumExp((0..<n * m).map { u[$0 / m] + v[$0 % m] - c[$0 / m][$0 % m] / epsilon })
      }
    }
    return (0..<n).map { i in (0..<m).map { j in exp(u[i] + v[j] + z - c[i][j] / epsilon) } }
  }

  enum Metric { case squared, euclidean, cosine }

  /// Costs between points, each coordinate difference taken.
  static func costs(_ x: Matrix, _ y: Matrix, _ metric: Metric, scale: Double) -> Matrix {
    func dot(_ p: [Double], _ q: [Double]) -> Double { zip(p, q).reduce(0) { $0 + $1.0 * $1.1 } }
    return x.map { p in
      y.map { q in
        let difference = zip(p, q).map { $0 - $1 }
        switch metric {
        case .squared: return dot(difference, difference) / scale
        case .euclidean: return dot(difference, difference).squareRoot() / scale
        case .cosine:
          return (1 - dot(p, q) / (dot(p, p).squareRoot() * dot(q, q).squareRoot())) / scale
        }
      }
    }
  }

  /// The cost of a head of token transport: algorithm.md 4.2 and 4.3. Token 0 is the class token,
  /// at t = -1, s = (-1, -1); then frames of side x side patches.
  static func tokenCosts(
    queries: Matrix, keys: Matrix, attention: Matrix, side: Int, gamma: Double, eta: Double
  ) -> Matrix {
    let m = keys.count
    let frames = (m - 1) / (side * side)
    func place(_ j: Int) -> (t: Double, row: Double, column: Double) {
      if j == 0 { return (-1, -1, -1) }
      let patch = (j - 1) % (side * side)
      let unit = side > 1 ? 1 / Double(side - 1) : 0
      return (
        Double((j - 1) / (side * side)), Double(patch / side) * unit, Double(patch % side) * unit
      )
    }
    let semantic = costs(queries, keys, .cosine, scale: 1)
    var c = semantic
    for i in 0..<queries.count {
      let total = max(attention[i].reduce(0, +), 1e-6)
      func mean(_ f: (Int) -> Double) -> Double {
        (0..<m).reduce(0) { $0 + attention[i][$1] / total * f($1) }
      }
      let (t, row, column) = (
        mean { place($0).t }, mean { place($0).row }, mean { place($0).column }
      )
      for j in 0..<m {
        let p = place(j)
        let distance = ((row - p.row) * (row - p.row) + (column - p.column) * (column - p.column))
          .squareRoot()
        c[i][j] +=
          gamma * abs(t - p.t) / Double(max(frames, 1)) + eta * distance / 2.0.squareRoot()
      }
    }
    let (low, high) = (c.joined().min()!, c.joined().max()!)
    return c.map { $0.map { ($0 - low) / max(high - low, 1e-6) } }
  }

  /// The token iteration: algorithm.md 4.4, the exponent instead of 1 / (1 + ε / ρ), uniform
  /// weights.
  static func tokenPlan(
    _ c: Matrix, epsilon: Double, exponent: Double, iterations: Int
  ) -> Matrix {
    let (n, m) = (c.count, c[0].count)
    var (u, v) = ([Double](repeating: 0, count: n), [Double](repeating: 0, count: m))
    for _ in 0..<iterations {
      for i in 0..<n {
        u[i] = exponent * (-log(Double(n)) - logSumExp((0..<m).map { v[$0] - c[i][$0] / epsilon }))
      }
      for j in 0..<m {
        v[j] = exponent * (-log(Double(m)) - logSumExp((0..<n).map { u[$0] - c[$0][j] / epsilon }))
      }
    }
    return (0..<n).map { i in (0..<m).map { j in exp(u[i] + v[j] - c[i][j] / epsilon) } }
  }

  /// The barycenter of histograms: iterated Bregman projections (Benamou et al. 2015, section 3).
  static func barycenter(
    _ histograms: Matrix, _ c: Matrix, weights: [Double], epsilon: Double, iterations: Int
  ) -> [Double] {
    let (n, m) = (c.count, c[0].count)
    var v = histograms.map { _ in [Double](repeating: 0, count: m) }
    var a = [Double](repeating: 0, count: m)
    for _ in 0..<iterations {
      var columns: Matrix = []
      for (k, b) in histograms.enumerated() {
        let u = (0..<n).map { i in
          log(b[i]) - logSumExp((0..<m).map { v[k][$0] - c[i][$0] / epsilon })
        }
        columns.append((0..<m).map { j in logSumExp((0..<n).map { u[$0] - c[$0][j] / epsilon }) })
      }
      for j in 0..<m {
        let logA = zip(weights, columns).reduce(0) { $0 + $1.0 * $1.1[j] }
        a[j] = exp(logA)
        for k in 0..<histograms.count { v[k][j] = logA - columns[k][j] }
      }
    }
    return a
  }
}
