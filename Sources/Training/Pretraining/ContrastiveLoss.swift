import TensorRuntime

#if canImport(Glibc)
  import Glibc
#endif

/// Cross-entropy of rows, each with one correct column.
enum CrossEntropy {
  /// logits `[n, m]`, row-major. A row whose `target[i]` is nil does not count. Returns the
  /// weighted mean over the rows that count, and its gradient.
  static func rows(_ logits: [Double], columns m: Int, targets: [Int?], weights: [Double]? = nil)
    -> (loss: Double, gradient: [Double], hits: Int)
  {
    var gradient = Array(repeating: 0.0, count: logits.count)
    var loss = 0.0
    var hits = 0
    let total = targets.indices.reduce(0.0) { $0 + (targets[$1] == nil ? 0 : weights?[$1] ?? 1) }
    for (i, target) in targets.enumerated() {
      guard let target else { continue }
      let row = logits[i * m..<(i + 1) * m]
      let top = row.max()!
      let w = (weights?[i] ?? 1) / total
      let sum = row.reduce(0.0) { $0 + exp($1 - top) }
      loss -= w * (row[i * m + target] - top - log(sum))
      for j in 0..<m {
        gradient[i * m + j] = w * (exp(row[i * m + j] - top) / sum - (j == target ? 1 : 0))
      }
      if row[i * m + target] == top { hits += 1 }
    }
    return (loss, gradient, hits)
  }
}

/// Symmetric contrastive loss between unit rows (InfoNCE; Radford et al. 2021). There may be more
/// texts than videos: text B + k is one more negative of video `doubted[k]`. Pairs that show the
/// same thing are masked.
struct ContrastiveLoss {
  /// Gradient of the loss with respect to videos `[B, D]`, texts `[B + K, D]` and the temperature.
  let loss: Double, dVideo, dText: Tensor, dTemperature: Double
  let recall: Double
  /// For every video the softmax over the texts of the batch without its own. Hard negatives are
  /// drawn from it.
  let hardness: [[Double]]

  init(
    video: Tensor, text: Tensor, temperature: Double, identities: [String], doubted: [Int],
    in work: borrowing Workspace
  ) {
    let b = video.shape[0]
    let m = text.shape[0]
    let s = work.matmul(video, text, transposeB: true).doubles
    // Leave out pairs off the diagonal that show the same thing, and swapped captions of other
    // clips.
    func hidden(_ i: Int, _ j: Int) -> Bool {
      j < b ? i != j && identities[i] == identities[j] : doubted[j - b] != i
    }
    var toText = Array(repeating: 0.0, count: b * m)
    var toVideo = Array(repeating: 0.0, count: b * b)
    for i in 0..<b {
      for j in 0..<m { toText[i * m + j] = hidden(i, j) ? -1e9 : s[i * m + j] / temperature }
      for j in 0..<b { toVideo[i * b + j] = hidden(j, i) ? -1e9 : s[j * m + i] / temperature }
    }
    let diagonal = (0..<b).map { Optional($0) }
    let a = CrossEntropy.rows(toText, columns: m, targets: diagonal)
    let c = CrossEntropy.rows(toVideo, columns: b, targets: diagonal)
    var ds = a.gradient.map { 0.5 * $0 }
    for i in 0..<b { for j in 0..<b { ds[j * m + i] += 0.5 * c.gradient[i * b + j] } }
    dTemperature = -zip(ds, s).reduce(0) { $0 + $1.0 * $1.1 } / (temperature * temperature)
    let d = Tensor(ds.map { $0 / temperature }, Shape(b, m), as: video.type)
    (dVideo, dText) = (work.matmul(d, text), work.matmul(d, video, transposeA: true))
    (loss, recall) = (0.5 * (a.loss + c.loss), Double(c.hits) / Double(b))
    hardness = (0..<b).map { i in
      let w = (0..<b).map { i == $0 || hidden(i, $0) ? 0 : exp((s[i * m + $0] - 1) / temperature) }
      let total = w.reduce(0, +)
      return total > 0 ? w.map { $0 / total } : w
    }
  }
}
