public import Models
public import TensorRuntime

/// Settings for sampling a velocity network: Euler steps along the flow from noise to data
/// (algorithm.md 7.8).
public struct FlowSampler: LatentSampler, Equatable {
  public var steps = 50
  public var shift = 7.0
  /// Classifier-free guidance s: v = v_u + s (v_c - v_u). With 1 only the conditional network is
  /// run.
  public var guidanceScale = 1.0
  /// Embedded guidance, an input of some networks: 1000 times the scale.
  public var embeddedGuidance = 6016.0

  public init(
    steps: Int = 50, shift: Double = 7, guidanceScale: Double = 1, embeddedGuidance: Double = 6016
  ) {
    (self.steps, self.shift, self.guidanceScale, self.embeddedGuidance) = (
      steps, shift, guidanceScale, embeddedGuidance
    )
  }
  public var sigmas: [Double] {
    NoiseSchedule.samplerLevels(steps: steps, shift: shift).map { Double(Float($0)) }
  }

  public var usesUnconditional: Bool { guidanceScale != 1 }

  /// The velocity at one level, with guidance.
  public func velocity(
    _ model: some VideoDenoiser, _ x: Tensor, sigma: Double, _ prompt: PromptEmbedding,
    unconditional: PromptEmbedding?, in work: borrowing Workspace
  ) -> Tensor {
    let times = Array(repeating: Float(1000 * sigma), count: x.shape[0])
    let guidance =
      model.embedsGuidance ? Array(repeating: Float(embeddedGuidance), count: x.shape[0]) : nil
    let v = model(x, times: times, prompt, guidance: guidance, in: work)
    guard guidanceScale != 1, let unconditional else { return v }
    let u = model(x, times: times, unconditional, guidance: guidance, in: work)
    return work.combine(guidanceScale, v, 1 - guidanceScale, u)
  }
  /// No step adds noise.
  public func sample(
    _ model: some VideoDenoiser, noise: Tensor, _ prompt: PromptEmbedding,
    unconditional: PromptEmbedding?, stepNoise _: (Int, borrowing Workspace) -> Tensor,
    in work: borrowing Workspace, each: (Int, Tensor) -> Void
  ) -> Tensor {
    var x = noise
    let levels = sigmas
    for k in 0..<work.rounds(steps) {
      let v = velocity(model, x, sigma: levels[k], prompt, unconditional: unconditional, in: work)
      x = work.combine(1, x, levels[k + 1] - levels[k], v)
      each(k, x)
    }
    return x
  }
}
