#if canImport(Glibc)
  import Glibc
#endif

/// Denoising diffusion with VideoCrafter2's noise (videocrafter.md 5): x_t = √ᾱ_t z + √(1 − ᾱ_t) ε
/// at times 0 to 999. The network predicts ε.
public struct DiffusionSchedule: Sendable, Equatable {
  /// What `scheduler.json` holds.
  public struct Parameters: Codable, Sendable, Equatable {
    public var linearStart = 0.00085, linearEnd = 0.012
    public var numTrainTimesteps = 1000
    /// The scale of clean latents in the base model's sampler: from `scaleA` to `scaleB` over
    /// `midStep` times.
    public var useScale = true, scaleA = 1.0, scaleB = 0.7, midStep = 400
    public var scalingFactor = 0.18215
    enum CodingKeys: String, CodingKey {
      case linearStart = "linear_start"
      case linearEnd = "linear_end"
      case numTrainTimesteps = "num_train_timesteps"
      case useScale = "use_scale"
      case scaleA = "scale_a"
      case scaleB = "scale_b"
      case midStep = "mid_step"
      case scalingFactor = "scaling_factor"
    }
    public init() {}
    public init(from decoder: any Decoder) throws {
      let c = try decoder.container(keyedBy: CodingKeys.self)
      func read<T: Decodable>(_ key: CodingKeys, _ value: inout T) throws {
        value = try c.decodeIfPresent(T.self, forKey: key) ?? value
      }
      try read(.linearStart, &linearStart)
      try read(.linearEnd, &linearEnd)
      try read(.numTrainTimesteps, &numTrainTimesteps)
      try read(.useScale, &useScale)
      try read(.scaleA, &scaleA)
      try read(.scaleB, &scaleB)
      try read(.midStep, &midStep)
      try read(.scalingFactor, &scalingFactor)
    }
    /// The fault in these numbers, as `field: reason`; nil if there is none.
    public var problem: String? {
      if !(linearStart > 0 && linearStart <= linearEnd && linearEnd < 1) {
        return "linear_start, linear_end: must rise between 0 and 1"
      }
      if numTrainTimesteps < 2 || numTrainTimesteps > 100_000 {
        return "num_train_timesteps: \(numTrainTimesteps) is out of range"
      }
      if !(scaleA > 0 && scaleB > 0) || midStep < 2 || midStep > numTrainTimesteps {
        return "scale_a, scale_b, mid_step: out of range"
      }
      if !(scalingFactor > 0) { return "scaling_factor: must be above 0" }
      return nil
    }
  }
  public let parameters: Parameters
  /// ᾱ of every time, products in double, rounded to f32 once (D-48).
  public let alphas: [Double]

  public init(_ p: Parameters = Parameters()) {
    parameters = p
    let (a, b) = (p.linearStart.squareRoot(), p.linearEnd.squareRoot())
    var product = 1.0
    alphas = (0..<p.numTrainTimesteps).map { i in
      let root = a + (b - a) * Double(i) / Double(p.numTrainTimesteps - 1)
      product *= 1 - root * root
      return Double(Float(product))
    }
  }
  /// κ of a time: the scale of clean latents (videocrafter.md 5).
  public func scale(_ time: Int) -> Double {
    let p = parameters
    if time >= p.midStep { return p.scaleB }
    return p.scaleA + (p.scaleB - p.scaleA) * Double(time) / Double(p.midStep - 1)
  }
  /// ẑ = (x − √(1 − ᾱ) ε̂) / √ᾱ.
  public func data(_ time: Int) -> StateMixture {
    let a = alphas[time].squareRoot()
    return StateMixture(state: 1 / a, output: -(1 - alphas[time]).squareRoot() / a)
  }
  /// c_skip x + c_out ẑ, with σ_data = 0.5 and times scaled by 10 (videocrafter.md 7).
  public func boundary(_ time: Int) -> StateMixture {
    let t = 10 * Double(time)
    let skip = 0.25 / (t * t + 0.25)
    let out = t / (t * t + 0.25).squareRoot()
    let z = data(time)
    return StateMixture(state: skip + out * z.state, output: out * z.output)
  }
  /// DDIM from one time to another: √ᾱ' ẑ + √(1 − ᾱ') ε̂.
  public func step(from time: Int, to next: Int) -> StateMixture {
    let a = alphas[next].squareRoot()
    let z = data(time)
    return StateMixture(
      state: a * z.state, output: a * z.output + (1 - alphas[next]).squareRoot())
  }
}
