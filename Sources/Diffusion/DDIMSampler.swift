public import Models
public import TensorRuntime

/// The sampler of VideoCrafter2's base model (DDIM; Song et al. 2021, arXiv:2010.02502, eq. 12;
/// videocrafter.md 6).
public struct DDIMSampler: LatentSampler, Equatable {
  public let schedule: DiffusionSchedule
  /// Times in ascending order.
  public let times: [Int]
  public let eta: Double
  public var guidanceScale: Double
  public let usesScale: Bool
  public var steps: Int { times.count }
  public var usesUnconditional: Bool { guidanceScale != 1 }

  /// nil: `steps` of them do not fit the training times.
  public init?(
    _ schedule: DiffusionSchedule, steps: Int, eta: Double = 1, guidanceScale: Double = 12,
    usesScale: Bool? = nil
  ) {
    let all = schedule.alphas.count
    guard steps > 0 && steps <= all else { return nil }
    let c = all / steps
    times = stride(from: 0, to: all, by: c).map { $0 + 1 }
    if times.last! >= all { return nil }
    self.schedule = schedule
    (self.eta, self.guidanceScale) = (eta, guidanceScale)
    self.usesScale = usesScale ?? schedule.parameters.useScale
  }

  /// ᾱ at a step, one below it, and the deviation of its noise.
  public func alpha(_ i: Int) -> Double { schedule.alphas[times[i]] }
  public func previousAlpha(_ i: Int) -> Double { i == 0 ? schedule.alphas[0] : alpha(i - 1) }
  public func sigma(_ i: Int) -> Double {
    let (a, b) = (alpha(i), previousAlpha(i))
    return eta * ((1 - b) / (1 - a) * (1 - a / b)).squareRoot()
  }
  /// κ at a step, and one below it.
  public func scale(_ i: Int) -> Double { usesScale ? schedule.scale(times[i]) : 1 }
  public func previousScale(_ i: Int) -> Double {
    usesScale ? schedule.scale(i == 0 ? 0 : times[i - 1]) : 1
  }
  /// The clean prediction, and the mean of the next state.
  func clean(_ i: Int) -> StateMixture {
    let z = schedule.data(times[i])
    return StateMixture(state: z.state / scale(i), output: z.output / scale(i))
  }
  func mean(_ i: Int) -> StateMixture {
    let (z, b, s) = (clean(i), previousAlpha(i), sigma(i))
    let factor = b.squareRoot() * previousScale(i)
    return StateMixture(
      state: factor * z.state, output: factor * z.output + (1 - b - s * s).squareRoot())
  }

  public func sample(
    _ model: some VideoDenoiser, noise: Tensor, _ prompt: PromptEmbedding,
    unconditional: PromptEmbedding?, stepNoise: (Int, borrowing Workspace) -> Tensor,
    in work: borrowing Workspace, each: (Int, Tensor) -> Void
  ) -> Tensor {
    sample(
      model, noise: noise, prompt, unconditional: unconditional, stepNoise: stepNoise, in: work,
      state: each, clean: { _ in })
  }
  /// The same; `clean` is called with the clean prediction of every step.
  public func sample(
    _ model: some VideoDenoiser, noise: Tensor, _ prompt: PromptEmbedding,
    unconditional: PromptEmbedding?, stepNoise: (Int, borrowing Workspace) -> Tensor,
    in work: borrowing Workspace, state each: (Int, Tensor) -> Void, clean: (Tensor) -> Void
  ) -> Tensor {
    var x = noise
    let b = noise.shape[0]
    for k in 0..<work.rounds(steps) {
      let i = steps - 1 - k
      let time = Array(repeating: Float(times[i]), count: b)
      var e = model(x, times: time, prompt, in: work)
      if guidanceScale != 1, let unconditional {
        let u = model(x, times: time, unconditional, in: work)
        e = work.combine(guidanceScale, e, 1 - guidanceScale, u)
      }
      let (c, m) = (self.clean(i), mean(i))
      clean(work.combine(c.state, x, c.output, e))
      x = work.combine(m.state, x, m.output, e)
      if sigma(i) > 0 { work.add(stepNoise(k, work), times: sigma(i), to: &x) }
      each(k, x)
    }
    return x
  }
}
