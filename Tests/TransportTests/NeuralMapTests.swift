import Foundation
import Layers
import TensorRuntime
import TestSupport
import Testing
import Transport

extension TransportSuite {
  @Suite struct NeuralMapTests {
    /// A direction through x and every parameter at once, with a random cotangent.
    @Test func backwardAgainstFiniteDifferences() throws {
      let work = Workspace()
      let config = NeuralMap.Config(input: 5, hidden: 7, output: 4)
      var net = try NeuralMap(config, from: .random(seed: 1, type: .f64))
      net.makeTrainable(in: work)
      let x = randomTensor(Shape(6, 5), seed: 2)
      let dy = randomTensor(Shape(6, 4), seed: 3)
      let (_, saved) = net.forward(x, in: work)
      let dx = net.backward(dy, saved, in: work)
      var values = x.doubles
      var gradients = dx.doubles
      net.readParameters {
        values += $0.value.doubles
        gradients += $0.gradient!.doubles
      }
      let direction = randomTensor(Shape(values.count), seed: 4).doubles
      let numeric = directionalDerivative(values, along: direction, step: 1e-5) { v in
        var at = x.count
        var copy = net
        copy.forEachParameter {
          $0.value = Tensor(Array(v[at..<at + $0.value.count]), $0.value.shape)
          at += $0.value.count
        }
        return dot(copy(Tensor(Array(v[0..<x.count]), x.shape), in: work).doubles, dy.doubles)
      }
      #expect(abs(numeric - dot(gradients, direction)) < 1e-8 * (1 + abs(numeric)))
    }
    /// What stands beside transport, to compare: gradients against finite differences, and zero
    /// where there is nothing left to fit.
    @Test(arguments: MapRegression.allCases) func regressions(_ regression: MapRegression) {
      let work = Workspace()
      let x = randomTensor(Shape(9, 3), seed: 21)
      let t = randomTensor(Shape(9, 3), seed: 22)
      let direction = randomTensor(Shape(27), seed: 23).doubles
      let gradient = regression.loss(t, x, in: work).gradient
      let numeric = directionalDerivative(t.doubles, along: direction, step: 1e-4) {
        regression.loss(Tensor($0, t.shape), x, in: work).loss
      }
      #expect(abs(numeric - dot(gradient.doubles, direction)) < 1e-7 * (1 + abs(numeric)))
      #expect(
        abs(regression.loss(x, x, in: work).loss) < 1e-12
          && regression.loss(t, x, in: work).loss > 0.01)
      // Moments do not know which text belongs to which video; pairs do.
      let turned = work.stacked((0..<9).map { x[row: ($0 + 1) % 9] })
      #expect((regression.loss(turned, x, in: work).loss < 1e-9) == (regression == .kl))
    }
    @Test func sizesAndNames() throws {
      let t = try NeuralMap(.init(), from: .random(seed: 1))
      let f = try NeuralMap(.init(output: 1), from: .random(seed: 1))
      #expect(t.parameterCount == 2_103_808 && f.parameterCount == 1_580_033)
      var names: [String] = []
      t.readParameters { names.append($0.name) }
      #expect(names == [0, 2, 3, 5, 6].flatMap { ["net.\($0).weight", "net.\($0).bias"] })
    }

    /// Text: a Gaussian; video: it stretched and moved.
    func toy(_ n: Int) -> (text: Tensor, video: Tensor) {
      let x = randomTensor(Shape(n, 3), seed: 5)
      let e = randomTensor(Shape(n, 3), seed: 6).doubles
      let y = (0..<n * 3).map { 0.5 * e[$0] + [1.5, -1, 0.5][$0 % 3] }
      return (Workspace().converted(x, to: .f32), Tensor(y.map { Float($0) }, Shape(n, 3)))
    }
    func trainer(_ steps: Int) -> NeuralMapTrainer {
      var o = NeuralMapTrainer.Options()
      (o.maxSteps, o.mapLearningRate, o.potentialLearningRate, o.mseWeight) = (
        steps, 1e-3, 1e-3, 0.1
      )
      return NeuralMapTrainer(
        o, dimension: 3, mapHidden: 32, potentialHidden: 32, seed: 7, in: Workspace())
    }
    @Test func trainingMovesTextTowardsVideo() throws {
      let work = Workspace()
      let (text, video) = toy(512)
      let batches = FeatureBatches(text: text, video: video, batch: 64, seed: 8)
      var t = trainer(80)
      let fresh = OTMapMetrics.energyDistance(t.map(text, in: work), video, in: work)
      for _ in 0..<80 { _ = try t.outerStep(batches, in: work) }
      let before = OTMapMetrics.energyDistance(text, video, in: work)
      let after = OTMapMetrics.energyDistance(t.map(text, in: work), video, in: work)
      #expect(
        after < 0.1 * before && after < 0.2 * fresh,
        "energy distance \(before), fresh map \(fresh), trained \(after)")
    }
    @Test func resumingGivesTheSameBits() throws {
      let work = Workspace()
      let (text, video) = toy(64)
      let batches = FeatureBatches(text: text, video: video, batch: 24, seed: 8)
      var whole = trainer(6)
      var records: [NeuralMapTrainer.Record] = []
      for _ in 0..<6 { records.append(try whole.outerStep(batches, in: work)) }
      var first = trainer(6)
      for _ in 0..<3 { _ = try first.outerStep(batches, in: work) }
      var second = trainer(6)
      try second.restore(first.state)
      for k in 3..<6 { #expect(try second.outerStep(batches, in: work) == records[k]) }
      for (x, y) in zip(whole.state.tensors, second.state.tensors) {
        #expect(x.name == y.name && x.value.doubles == y.value.doubles)
      }
      var broken = first.state
      broken.tensors.removeFirst()
      #expect(throws: NeuralMapTrainer.TrainingError.missing("T.net.0.weight")) {
        try second.restore(broken)
      }
    }
    @Test func ratesFollowTheCosine() throws {
      let work = Workspace()
      let (text, video) = toy(64)
      let batches = FeatureBatches(text: text, video: video, batch: 24, seed: 8)
      var t = trainer(4)
      for k in 0..<4 {
        let r = try t.outerStep(batches, in: work)
        #expect(
          abs(r.mapLearningRate - (5e-5 + 9.5e-4 * (1 + cos(.pi * Double(k) / 4)) / 2)) < 1e-12)
        #expect(abs(r.mapLoss - (0.1 * r.mse - r.criticScore)) < 1e-12)
      }
    }
    @Test func aNonFiniteGradientIsNamed() throws {
      let work = Workspace()
      var t = trainer(4)
      let bad = Tensor([Float](repeating: .nan, count: 6), Shape(2, 3))
      #expect(
        throws: NeuralMapTrainer.TrainingError.nonFiniteGradient(
          network: "T", parameter: "net.0.weight", step: 1)
      ) {
        try t.outerStep(text: { _ in bad }, pair: { (bad, bad) }, in: work)
      }
    }
    @Test func everyEpochVisitsEveryPair() {
      let work = Workspace()
      let n = 10
      let x = Tensor((0..<n).map { Float($0) }, Shape(n, 1))
      let batches = FeatureBatches(text: x, video: x, batch: 5, seed: 1)
      var orders: [[Double]] = []
      for epoch in 0..<2 {
        let seen = (0..<2).flatMap { batches.pair(2 * epoch + $0, in: work).text.doubles }
        #expect(seen.sorted() == x.doubles)
        orders.append(seen)
      }
      #expect(orders[0] != orders[1])
    }
  }

  @Suite struct OTMapMetricsTests {
    /// Straight from the definition, on the full lists.
    func spearman(_ x: Tensor, _ y: Tensor) -> Double {
      func ranks(_ t: Tensor) -> [Double] {
        let (n, d) = (t.shape[0], t.shape[1])
        let v = t.doubles
        var all: [Double] = []
        for i in 0..<n {
          for j in 0..<n {
            all.append(
              (0..<d).reduce(0) { $0 + pow(v[i * d + $1] - v[j * d + $1], 2) }.squareRoot())
          }
        }
        return all.map { a in
          Double(all.filter { $0 < a }.count) + (Double(all.filter { $0 == a }.count) + 1) / 2
        }
      }
      let (a, b) = (ranks(x), ranks(y))
      let mean = a.reduce(0, +) / Double(a.count)
      let (p, q) = (a.map { $0 - mean }, b.map { $0 - mean })
      return dot(p, q) / (dot(p, p) * dot(q, q)).squareRoot()
    }
    @Test func structurePreservationByDefinition() {
      let work = Workspace()
      // integers on a line: many ties, some points equal
      var stream = RandomStream(seed: 3, .test)
      let x = Tensor((0..<13).map { _ in Double(stream.below(6)) }, Shape(13, 1))
      let y = Tensor((0..<26).map { _ in Double(stream.below(4)) }, Shape(13, 2))
      #expect(abs(OTMapMetrics.structurePreservation(x, y, in: work) - spearman(x, y)) < 1e-12)
      let p = randomTensor(Shape(20, 17), seed: 1)
      let q = randomTensor(Shape(20, 9), seed: 2)
      #expect(abs(OTMapMetrics.structurePreservation(p, q, in: work) - spearman(p, q)) < 1e-12)
      #expect(
        abs(OTMapMetrics.structurePreservation(p, work.scaled(p, by: 3), in: work) - 1) < 1e-12)
    }
    @Test func neighbours() {
      let work = Workspace()
      let p = randomTensor(Shape(300, 8), seed: 1)
      #expect(OTMapMetrics.mutualNeighbours(p, work.scaled(p, by: 2), in: work) == 1)
      // unrelated clouds share k / (n - 1) of their neighbours on average
      let chance = OTMapMetrics.mutualNeighbours(p, randomTensor(Shape(300, 8), seed: 2), in: work)
      #expect(abs(chance - 10.0 / 299) < 0.015)
      // ties go to the lower index: all rows equal, N(i) = the first k others
      let equal = Tensor([Double](repeating: 1, count: 12), Shape(6, 2))
      #expect(OTMapMetrics.mutualNeighbours(equal, equal, k: 2, in: work) == 1)
      #expect(OTMapMetrics.mutualNeighbours(p.slice(0..<3), p.slice(0..<3), k: 10, in: work) == 1)
    }
    @Test func recallAndGap() {
      let work = Workspace()
      let x = randomTensor(Shape(300, 6), seed: 31)
      let mirrored = work.scaled(x, by: -1)
      #expect(
        OTMapMetrics.recall(x, x, k: 1, in: work) == 1
          && OTMapMetrics.recall(x, mirrored, k: 100, in: work) == 0)
      // The k nearest of n by chance.
      #expect(
        abs(OTMapMetrics.recall(x, randomTensor(Shape(300, 6), seed: 32), k: 30, in: work) - 0.1)
          < 0.06)
      // Two clouds around opposite directions: fully apart; the same cloud: not at all.
      var far = x.doubles
      var near = x.doubles
      for i in 0..<300 { (far[6 * i], near[6 * i]) = (20, -20) }
      let apart = OTMapMetrics.gap(Tensor(far, x.shape), Tensor(near, x.shape), in: work)
      let same = OTMapMetrics.gap(x, x, in: work)
      #expect(apart.accuracy == 1 && abs(apart.distance - 2) < 0.1 && apart.cosine < -0.9)
      #expect(abs(same.cosine - 1) < 1e-12 && same.distance == 0)
    }
    @Test func energyDistance() {
      let work = Workspace()
      // one point each: 2 |x - y|
      #expect(
        abs(
          OTMapMetrics.energyDistance(
            Tensor([0.0, 0], Shape(1, 2)), Tensor([3.0, 4], Shape(1, 2)), in: work) - 10) < 1e-12)
      let p = randomTensor(Shape(300, 19), seed: 1)
      #expect(abs(OTMapMetrics.energyDistance(p, p, in: work)) < 1e-12)
      #expect(OTMapMetrics.energyDistance(p, work.scaled(p, by: 1.5), in: work) > 0.01)
    }
  }
}
