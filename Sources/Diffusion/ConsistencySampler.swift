public import Models
public import TensorRuntime

/// Sampling a consistency-distilled network in a few steps: predict clean latents, add noise of the
/// next time, repeat (Luo et al. 2023, arXiv:2310.04378, algorithm 3; videocrafter.md 7).
public struct ConsistencySampler: LatentSampler, Equatable {
  public let schedule: DiffusionSchedule
  /// Times in descending order.
  public let times: [Int]
  /// The guidance that the network embeds.
  public var guidanceScale: Double
  /// The motion scale that it embeds, while the time is at least (1 − share) of all; then 0.
  public var motion = 0.0, motionShare = 0.5
  public var steps: Int { times.count }
  public var usesUnconditional: Bool { false }

  /// `originSteps` is the number of levels of the distillation; nil: they do not divide the
  /// training times, or are fewer than `steps`.
  public init?(
    _ schedule: DiffusionSchedule, steps: Int, originSteps: Int = 50, guidance: Double = 7.5
  ) {
    guard originSteps > 0, steps > 0, steps <= originSteps, originSteps <= schedule.alphas.count
    else { return nil }
    let r = schedule.alphas.count / originSteps
    let stride = originSteps / steps
    times = (0..<steps).map { (originSteps - $0 * stride) * r - 1 }
    (self.schedule, guidanceScale) = (schedule, guidance)
  }

  public func sample(
    _ model: some VideoDenoiser, noise: Tensor, _ prompt: PromptEmbedding,
    unconditional _: PromptEmbedding?, stepNoise: (Int, borrowing Workspace) -> Tensor,
    in work: borrowing Workspace, each: (Int, Tensor) -> Void
  ) -> Tensor {
    sample(
      model, noise: noise, prompt, stepNoise: stepNoise, in: work, state: each, clean: { _ in })
  }
  /// The same; `clean` is called with the prediction of every step, the last of which is returned.
  public func sample(
    _ model: some VideoDenoiser, noise: Tensor, _ prompt: PromptEmbedding,
    stepNoise: (Int, borrowing Workspace) -> Tensor, in work: borrowing Workspace,
    state each: (Int, Tensor) -> Void, clean: (Tensor) -> Void
  ) -> Tensor {
    var x = noise
    let last = work.rounds(steps) - 1
    for k in 0...last {
      let m = schedule.boundary(times[k])
      let e = output(model, x, times[k], prompt, in: work)
      let d = work.combine(m.state, x, m.output, e)
      clean(d)
      if k == last { return d }
      let a = schedule.alphas[times[k + 1]]
      x = work.combine(a.squareRoot(), d, (1 - a).squareRoot(), stepNoise(k, work))
      each(k, x)
    }
    return x
  }
  private func output(
    _ model: some VideoDenoiser, _ x: Tensor, _ time: Int, _ prompt: PromptEmbedding,
    in work: borrowing Workspace
  ) -> Tensor {
    func all(_ value: Double) -> [Float] { Array(repeating: Float(value), count: x.shape[0]) }
    var prompt = prompt
    let early = Double(time) >= Double(schedule.alphas.count) * (1 - motionShare)
    prompt.motion = all(early ? motion : 0)
    return model(
      x, times: all(Double(time)), prompt,
      guidance: model.embedsGuidance ? all(guidanceScale) : nil,
      in: work)
  }
}
