import TensorRuntime
import TestSupport
import Testing

@testable import Training

#if canImport(Glibc)
  import Glibc
#endif

/// Cross-entropy and contrast by their formulas, gradients by finite differences.
@Suite struct LossTests {
  /// -Σ w log softmax(row)[target] / Σ w over the rows that have a target.
  private func crossEntropy(_ x: [Double], _ columns: Int, _ targets: [Int?], _ weights: [Double])
    -> Double
  {
    var (sum, total) = (0.0, 0.0)
    for (i, target) in targets.enumerated() {
      guard let target else { continue }
      let row = x[i * columns..<(i + 1) * columns].map { exp($0) }
      sum -= weights[i] * log(row[target] / row.reduce(0, +))
      total += weights[i]
    }
    return sum / total
  }
  @Test func crossEntropyOfRows() {
    let targets: [Int?] = [2, nil, 0, 1]
    let weights = [1.5, 9, 1, 0.5]
    let logits = randomTensor(Shape(4, 3), seed: 1).doubles
    let found = CrossEntropy.rows(logits, columns: 3, targets: targets, weights: weights)
    #expect(abs(found.loss - crossEntropy(logits, 3, targets, weights)) < 1e-12)
    let equal = CrossEntropy.rows(logits, columns: 3, targets: targets)
    #expect(abs(equal.loss - crossEntropy(logits, 3, targets, [1, 1, 1, 1])) < 1e-12)
    let hits = [0, 2, 3].count { row in
      let values = logits[row * 3..<row * 3 + 3]
      return values.max() == values[row * 3 + targets[row]!]
    }
    #expect(found.hits == hits)
    let u = randomTensor(Shape(4, 3), seed: 2).doubles
    let numeric = directionalDerivative(logits, along: u) { crossEntropy($0, 3, targets, weights) }
    let analytic = zip(found.gradient, u).reduce(0) { $0 + $1.0 * $1.1 }
    #expect(abs(analytic - numeric) < 1e-9)
    // Large logits overflow nothing.
    let large = CrossEntropy.rows([1000, 0, -1000, 999], columns: 2, targets: [0, 1])
    #expect(abs(large.loss) < 1e-12 && large.gradient.allSatisfy { $0.isFinite })
  }

  // Four clips, of which 0 and 3 show the same; two more texts, wrong captions of clips 1 and 3.
  private let identities = ["x", "y", "z", "x"], doubted = [1, 3]
  /// Half the mean of -log softmax over a clip's texts and over a text's clips.
  private func contrast(_ video: [Double], _ text: [Double], _ temperature: Double) -> Double {
    func s(_ i: Int, _ j: Int) -> Double {
      (0..<5).reduce(0) { $0 + video[i * 5 + $1] * text[j * 5 + $1] } / temperature
    }
    func seen(_ i: Int, _ j: Int) -> Bool {
      j < 4 ? i == j || identities[i] != identities[j] : doubted[j - 4] == i
    }
    return (0..<4).reduce(0.0) { sum, i in
      let texts = (0..<6).filter { seen(i, $0) }.reduce(0) { $0 + exp(s(i, $1)) }
      let videos = (0..<4).filter { seen($0, i) }.reduce(0) { $0 + exp(s($1, i)) }
      return sum - (s(i, i) - log(texts)) / 8 - (s(i, i) - log(videos)) / 8
    }
  }
  @Test func contrastiveLoss() {
    let work = Workspace()
    let video = randomTensor(Shape(4, 5), seed: 3)
    let text = randomTensor(Shape(6, 5), seed: 4)
    let temperature = 0.6
    func loss(_ v: Tensor, _ t: Tensor, _ temperature: Double) -> ContrastiveLoss {
      ContrastiveLoss(
        video: v, text: t, temperature: temperature, identities: identities, doubted: doubted,
        in: work)
    }
    let found = loss(video, text, temperature)
    let (v, t) = (video.doubles, text.doubles)
    #expect(abs(found.loss - contrast(v, t, temperature)) < 1e-12)
    func check(_ analytic: Double, _ numeric: Double) {
      #expect(abs(analytic - numeric) < 1e-8 * (1 + abs(numeric)), "\(analytic), \(numeric)")
    }
    let dv = randomTensor(Shape(4, 5), seed: 5)
    check(
      work.dot(found.dVideo, dv),
      directionalDerivative(v, along: dv.doubles) { contrast($0, t, temperature) })
    let dt = randomTensor(Shape(6, 5), seed: 6)
    check(
      work.dot(found.dText, dt),
      directionalDerivative(t, along: dt.doubles) { contrast(v, $0, temperature) })
    check(
      found.dTemperature,
      directionalDerivative([temperature], along: [1], step: 1e-4) { contrast(v, t, $0[0]) })

    // Hard negatives: the softmax over the batch's texts that are wrong for the clip.
    for i in 0..<4 {
      let weights = (0..<4).map { j -> Double in
        if identities[i] == identities[j] { return 0 }
        return exp((0..<5).reduce(0) { $0 + v[i * 5 + $1] * t[j * 5 + $1] } / temperature)
      }
      for j in 0..<4 {
        #expect(abs(found.hardness[i][j] - weights[j] / weights.reduce(0, +)) < 1e-12)
      }
    }
    // The share of texts whose own clip is the nearest of those that may be compared.
    let right = (0..<4).count { j in
      func s(_ i: Int) -> Double { (0..<5).reduce(0) { $0 + v[i * 5 + $1] * t[j * 5 + $1] } }
      return (0..<4).allSatisfy { identities[$0] == identities[j] || s($0) < s(j) }
    }
    #expect(found.recall == Double(right) / 4)
  }
}
