import Layers
import TensorRuntime
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// Schedules, clipping, AdamW and the moving average, written out as their papers have them.
@Suite struct OptimizerTests {
  /// 10 steps of warm-up, then 100: t = 0, 1/4, 1/2, 1 of the schedule behind it.
  @Test func schedules() {
    func rates(_ schedule: LearningRateSchedule) -> [Double] {
      [10, 35, 60, 110, 500].map { schedule.rate(2, step: $0, of: 110, warmup: 10) }
    }
    func close(_ a: [Double], _ b: [Double]) -> Bool {
      zip(a, b).allSatisfy { abs($0 - $1) < 1e-12 }
    }
    let half = 0.5.squareRoot()
    #expect(rates(.constant) == [2, 2, 2, 2, 2])
    // lr_min + (lr - lr_min) (1 + cos πt) / 2 with lr 2, lr_min 0.2.
    #expect(
      close(
        rates(.cosine(floor: 0.1)),
        [2, 0.2 + 0.9 * (1 + half), 1.1, 0.2, 0.2]))
    #expect(close(rates(.linear(floor: 0.1)), [2, 1.55, 1.1, 0.2, 0.2]))
    // The full rate for three tenths, then 7/10 of the way in a straight line.
    #expect(
      close(
        rates(.holdThenLinear(hold: 0.3, floor: 0.1)), [2, 2, 2 - 1.8 * 0.2 / 0.7, 0.2, 0.2]))
    // The warm-up ends at the full rate, and does not start at 0.
    for schedule in [LearningRateSchedule.constant, .cosine(floor: 0), .linear(floor: 0)] {
      #expect(
        (0..<10).allSatisfy {
          abs(schedule.rate(2, step: $0, of: 110, warmup: 10) - 0.2 * Double($0 + 1)) < 1e-12
        })
    }
    // A run of warm-up alone.
    #expect(LearningRateSchedule.cosine(floor: 0).rate(1, step: 4, of: 4, warmup: 4) == 1)
  }

  /// PyTorch's clip_grad_norm_: the factor is max / (norm + 1e-6), never above 1; 0 switches it
  /// off.
  @Test func clipping() {
    #expect(abs(clippingFactor(norm: 4, maximum: 1) - 1 / 4.000001) < 1e-15)
    #expect(clippingFactor(norm: 0.5, maximum: 1) == 1 && clippingFactor(norm: 9, maximum: 0) == 1)
    #expect(clippingFactor(norm: 1, maximum: 1) < 1)
  }

  /// Norm over all trainable parameters together; the first with a value that is not finite.
  @Test func gradientNorm() throws {
    let work = Workspace()
    var layer = try Linear("l", 3, 2, from: .random(seed: 1, type: .f64))
    layer.makeTrainable(in: work)
    layer.weight.gradient = Tensor([1, 2, 3, 4, 5, 6] as [Double], Shape(2, 3))
    layer.bias!.gradient = Tensor([-7, 8] as [Double], Shape(2))
    #expect(abs(layer.gradientNorm(in: work) - 204.0.squareRoot()) < 1e-12)
    #expect(layer.firstNonFiniteGradient(in: work) == nil)
    layer.bias!.gradient = Tensor([-7, Double.nan], Shape(2))
    #expect(layer.firstNonFiniteGradient(in: work) == "l.bias")
  }

  /// A student's values are copied when it becomes trainable, not in its first update.
  @Test func trainedValuesHaveTheirOwnMemory() throws {
    let work = Workspace()
    let teacher = try Linear("l", 300, 200, from: .random(seed: 1, type: .f32))
    var student = teacher
    student.makeTrainable(in: work)
    let copies = work.pool.statistics.copies
    student.weight.value.withMutableSpan(of: Float.self) { $0[0] = 7 }
    #expect(copies == 2 && work.pool.statistics.copies == 2)
    #expect(teacher.weight.value.floats[0] != 7)
  }

  /// Five steps of Loshchilov, Hutter 2019, algorithm 2, in f64, with the average after each:
  /// `weightDecay` is applied to the weight, `l2` to the gradient.
  @Test(arguments: [(0.1, 0.0), (0, 0.05)]) func adamW(_ decay: Double, _ l2: Double) throws {
    let work = Workspace()
    var layer = try Linear("l", 3, 2, bias: false, from: .random(seed: 2, type: .f64))
    layer.makeTrainable(in: work)
    var average: MovingAverage? = MovingAverage(decay: 0.9, of: layer, in: work)
    var optimizer = AdamW(
      .init(beta1: 0.8, beta2: 0.95, epsilon: 1e-6, weightDecay: decay, l2: l2), for: layer,
      in: work)
    var w = layer.weight.value.doubles
    var mean = w
    var (m, v) = (w.map { _ in 0.0 }, w.map { _ in 0.0 })
    for t in 1...5 {
      let gradient = randomTensor(Shape(2, 3), seed: UInt64(10 + t))
      layer.weight.gradient = gradient
      // In the first two steps the average follows faster.
      let d = t < 3 ? 0.5 : 0.9
      optimizer.step(
        &layer, learningRate: 0.01 * Double(t), gradientScale: 0.5, averaging: &average, decay: d,
        in: work)
      for i in w.indices {
        let g = 0.5 * gradient.doubles[i] + l2 * w[i]
        m[i] = 0.8 * m[i] + 0.2 * g
        v[i] = 0.95 * v[i] + 0.05 * g * g
        let unbiased = (m[i] / (1 - pow(0.8, Double(t))), v[i] / (1 - pow(0.95, Double(t))))
        w[i] -= 0.01 * Double(t) * (unbiased.0 / (unbiased.1.squareRoot() + 1e-6) + decay * w[i])
        mean[i] = d * mean[i] + (1 - d) * w[i]
      }
      #expect(zip(layer.weight.value.doubles, w).allSatisfy { abs($0 - $1) < 1e-12 }, "step \(t)")
      #expect(zip(average!.values[0].value.doubles, mean).allSatisfy { abs($0 - $1) < 1e-12 })
    }
    #expect(optimizer.steps == 5 && optimizer.names == ["l.weight"])
    #expect(average!.applied(to: layer).weight.value.doubles == average!.values[0].value.doubles)
  }
}
