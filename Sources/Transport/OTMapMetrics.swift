public import TensorRuntime

/// How well a map fits (algorithm.md 3.6). Features are paired rows `[n, D]`, n up to some ten
/// thousand: everything but the ranks is worked on in blocks.
public enum OTMapMetrics {
  private static let block = 256

  /// Mean share of common neighbours: (1/n) Σ |N_A(i) ∩ N_B(i)| / k with N the k most similar other
  /// rows by cosine, ties to the lower index; k at most n - 1. Needs n >= 2.
  public static func mutualNeighbours(
    _ a: Tensor, _ b: Tensor, k: Int = 10, in work: borrowing Workspace
  ) -> Double {
    let n = a.shape[0]
    precondition(
      a.shape.rank == 2 && b.shape.rank == 2 && b.shape[0] == n && n >= 2 && k >= 1,
      "mutual neighbours of \(a.shape), \(b.shape)")
    let (x, y) = (normalised(a, in: work), normalised(b, in: work))
    let count = min(k, n - 1)
    var common = 0
    for start in stride(from: 0, to: n, by: block) {
      let rows = start..<min(start + block, n)
      let p = neighbours(x, rows, count, in: work)
      let q = neighbours(y, rows, count, in: work)
      for i in 0..<rows.count { common += p[i].reduce(0) { $0 + (q[i].contains($1) ? 1 : 0) } }
    }
    return Double(common) / Double(n * count)
  }
  /// Share of the rows of a whose own row of b is among the k rows of b most similar to it by
  /// cosine (recall at k).
  public static func recall(_ a: Tensor, _ b: Tensor, k: Int = 10, in work: borrowing Workspace)
    -> Double
  {
    let n = a.shape[0]
    precondition(
      a.shape.rank == 2 && b.shape == a.shape && n >= 1 && k >= 1,
      "recall of \(a.shape), \(b.shape)")
    let (x, y) = (normalised(a, in: work), normalised(b, in: work))
    var found = 0
    for start in stride(from: 0, to: n, by: block) {
      let rows = start..<min(start + block, n)
      let s = work.matmul(x.slice(rows), y, transposeB: true).doubles
      for i in rows {
        let at = (i - start) * n
        let own = s[at + i]
        if (0..<n).count(where: { s[at + $0] > own }) < k { found += 1 }
      }
    }
    return Double(found) / Double(n)
  }
  /// The gap between two modalities (Liang et al. 2022, arXiv:2203.02053): mean cosine of pairs,
  /// distance of the means of unit rows, and how many rows the hyperplane halfway between the means
  /// gives to the right modality (a linear classifier).
  public static func gap(_ a: Tensor, _ b: Tensor, in work: borrowing Workspace) -> (
    cosine: Double, distance: Double, accuracy: Double
  ) {
    let (n, d) = (a.shape[0], a.shape[1])
    let x = normalised(a, in: work).doubles
    let y = normalised(b, in: work).doubles
    var p = Array(repeating: 0.0, count: d)
    var q = p
    var cosine = 0.0
    for i in 0..<n {
      for j in 0..<d {
        p[j] += x[i * d + j] / Double(n)
        q[j] += y[i * d + j] / Double(n)
        cosine += x[i * d + j] * y[i * d + j] / Double(n)
      }
    }
    let normal = zip(p, q).map { $0 - $1 }
    let middle = zip(p, q).reduce(0) { $0 + ($1.0 * $1.0 - $1.1 * $1.1) / 2 }
    func side(_ v: [Double], _ i: Int) -> Double {
      (0..<d).reduce(-middle) { $0 + v[i * d + $1] * normal[$1] }
    }
    let right = (0..<n).reduce(0) { $0 + (side(x, $1) > 0 ? 1 : 0) + (side(y, $1) < 0 ? 1 : 0) }
    return (cosine, normal.reduce(0) { $0 + $1 * $1 }.squareRoot(), Double(right) / Double(2 * n))
  }
  /// Rows divided by their norm (at least 1e-12), f64.
  private static func normalised(_ a: Tensor, in work: borrowing Workspace) -> Tensor {
    let d = a.shape[1]
    var x = a.doubles
    for i in 0..<a.shape[0] {
      var s = 0.0
      for j in i * d..<(i + 1) * d { s += x[j] * x[j] }
      let f = 1 / max(s.squareRoot(), 1e-12)
      for j in i * d..<(i + 1) * d { x[j] *= f }
    }
    return Tensor(x, a.shape)
  }
  private static func neighbours(
    _ x: Tensor, _ rows: Range<Int>, _ k: Int, in work: borrowing Workspace
  ) -> [[Int]] {
    let n = x.shape[0]
    let similarity = work.matmul(x.slice(rows), x, transposeB: true)
    return similarity.withSpan(of: Double.self) { s in
      rows.map { i in
        let at = (i - rows.lowerBound) * n
        var best: [(value: Double, index: Int)] = []  // descending, ties by index
        for j in 0..<n where j != i {
          let v = s[at + j]
          if best.count == k && !(v > best[k - 1].value) { continue }
          if best.count == k { best.removeLast() }
          best.insert((v, j), at: best.firstIndex { v > $0.value } ?? best.count)
        }
        return best.map { $0.index }
      }
    }
  }

  /// Spearman's ρ between the distance matrices of x and y, all n² entries with the zero diagonal,
  /// ties sharing their mean rank. Memory about 20 n² bytes. Needs n >= 2; NaN when all points of
  /// one cloud coincide.
  public static func structurePreservation(_ x: Tensor, _ y: Tensor, in work: borrowing Workspace)
    -> Double
  {
    let n = x.shape[0]
    precondition(
      x.shape.rank == 2 && y.shape.rank == 2 && y.shape[0] == n && n >= 2,
      "structure preservation of \(x.shape), \(y.shape)")
    let (p, dp) = work.averageRanks(pairDistances(x, in: work), points: n)
    let (q, dq) = work.averageRanks(pairDistances(y, in: work), points: n)
    let mean = (Double(n) * Double(n) + 1) / 2
    var (pq, pp, qq) = (0.0, 0.0, 0.0)
    p.withSpan(of: Double.self) { p in
      q.withSpan(of: Double.self) { q in
        for i in 0..<p.count {
          let (a, b) = (p[i] - mean, q[i] - mean)
          pq += a * b
          pp += a * a
          qq += b * b
        }
      }
    }
    func full(_ pairs: Double, _ a: Double, _ b: Double) -> Double {
      2 * pairs + Double(n) * (a - mean) * (b - mean)
    }
    return full(pq, dp, dq) / (full(pp, dp, dp) * full(qq, dq, dq)).squareRoot()
  }
  /// Distances of pairs i < j, row after row.
  private static func pairDistances(_ x: Tensor, in work: borrowing Workspace) -> Tensor {
    let n = x.shape[0]
    let wide = work.converted(x, to: .f64)
    var out = work.tensor(Shape(n * (n - 1) / 2), .f64)
    var at = 0
    for start in stride(from: 0, to: n, by: block) {
      let rows = start..<min(start + block, n)
      let d = work.distances(wide.slice(rows), wide)
      out.withMutableSpan(of: Double.self) { o in
        d.withSpan(of: Double.self) { d in
          for i in rows {
            for j in i + 1..<max(n, i + 1) {
              o[at] = d[(i - start) * n + j]
              at += 1
            }
          }
        }
      }
    }
    return out
  }

  /// 2 E|x - y| - E|x - x'| - E|y - y'| over all pairs of rows, x `[n, D]`, y `[m, D]` (Székely,
  /// Rizzo 2013; V-statistic, so it is never negative and 0 for equal clouds).
  public static func energyDistance(_ x: Tensor, _ y: Tensor, in work: borrowing Workspace)
    -> Double
  {
    let (p, q) = (work.converted(x, to: .f64), work.converted(y, to: .f64))
    func mean(_ a: Tensor, _ b: Tensor) -> Double {
      let scratch = Workspace(pool: work.pool)
      var sum = 0.0
      for start in stride(from: 0, to: a.shape[0], by: block) {
        sum += scratch.total(scratch.distances(a.slice(start..<min(start + block, a.shape[0])), b))
      }
      return sum / (Double(a.shape[0]) * Double(b.shape[0]))
    }
    return 2 * mean(p, q) - mean(p, p) - mean(q, q)
  }
}
