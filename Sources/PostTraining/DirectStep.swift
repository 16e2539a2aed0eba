public import Diffusion
import Layers
public import Models
public import Pipelines
public import Rewards
public import TensorRuntime

/// One accumulation step of direct back-propagation, in the order of algorithm.md 7.5 (PISCES,
/// algorithm 1).
public struct DirectStep: Sendable {
  public struct Options: Sendable, Equatable {
    public var phases = 1
    public var consistencyWeight = 1.0, qualityWeight = 1.0, semanticWeight = 1.0
    public var huberC = 0.001
    /// Weight of flow matching: mean (v - (ε - z))² at x_t.
    public var flowWeight = 0.0
    /// Each reward's gradient is divided by the reward's standard deviation over the batch
    /// (algorithm.md 5.5, the adaptive variant).
    public var normalisesRewards = false
    /// Weight of mean |x̃| (`l1`) or mean x̃² (`l2`) of the consistency prediction.
    public var decayWeight = 0.0, decayIsSquared = false
    /// Classifier-free guidance of the teacher, v_φ + w (v_φ - v_uncond), if it is set.
    public var teacherGuidanceWeight: Double?
    /// Embedded guidance of student and teacher, for models with that input.
    public var studentGuidance = 6016.0, teacherGuidance = 6016.0
    /// Losses are divided by the number of accumulation steps.
    public var accumulation = 1
    /// Weight of mean (v_student - v_teacher)² at x_t, which keeps the student near the teacher.
    public var anchorWeight = 0.0
    /// Factor on the gradient of the rewards alone (D-18).
    public var rewardGradientScale = 1.0
    public var checkpointing = false
    /// Also compute the cosine of the two rewards' gradients with respect to the trainable
    /// parameters. This takes two more backward passes for each reward.
    public var comparesRewards = false
    public init() {}
  }
  public let schedule: NoiseSchedule
  public var options: Options
  public init(_ schedule: NoiseSchedule, _ options: Options = Options()) {
    (self.schedule, self.options) = (schedule, options)
  }

  /// What a step draws: scaled latents z `[B, C, n, h, w]`, noise of the same shape, a level and a
  /// prompt for each sample.
  public struct Batch: Sendable {
    public var latents, noise: Tensor
    public var indices: [Int]
    public var prompt: PromptEmbedding
    public var unconditional: PromptEmbedding?
    public var captions: CaptionBatch?
    public var crop: PixelPreprocessing.Crop
    public init(
      latents: Tensor, noise: Tensor, indices: [Int], prompt: PromptEmbedding,
      unconditional: PromptEmbedding? = nil, captions: CaptionBatch? = nil,
      crop: PixelPreprocessing.Crop = .center
    ) {
      (self.latents, self.noise, self.indices, self.prompt) = (latents, noise, indices, prompt)
      (self.unconditional, self.captions, self.crop) = (unconditional, captions, crop)
    }
  }
  /// Every quantity of the step; nil if its term is off. Losses are divided by the number of
  /// accumulation steps. Their weights are not applied.
  public struct Output: Sendable {
    public var noisy, velocity: Tensor
    public var clean, frames: Tensor?
    public var scores = RewardModel.Scores()
    public var prediction, previous, target: Tensor?
    public var consistencyLoss, qualityLoss, semanticLoss, decayLoss, anchorLoss, flowLoss: Double?
    /// Weighted sum of all terms.
    public var loss = 0.0
    /// Cosine of the gradients of the two rewards.
    public var rewardCosine: Double?
    /// rms of the difference of the student's and the teacher's velocity, relative to the rms of
    /// the teacher's (nil without a teacher pass).
    public var velocityDrift: Double?
  }

  /// Adds to the student's gradients. `target` is the network of the consistency target: the moving
  /// average, or nil for the student itself.
  public func run(
    student: inout VideoTransformer, teacher: VideoTransformer, target: VideoTransformer? = nil,
    decoder: inout LatentDecoder, reward: inout RewardModel?, _ batch: Batch,
    phases: StepPhases? = nil, in work: borrowing Workspace
  ) -> Output {
    let o = options
    let b = batch.indices.count
    let g = Double(o.accumulation)
    let z = batch.latents
    let sigma = batch.indices.map { schedule.sigmas[$0] }
    let previous = batch.indices.map { schedule.previous[$0] }
    let end = batch.indices.map { schedule.endLevel($0, phases: o.phases) }
    let clean = batch.indices.map { _ in schedule.cleanLevel }
    func velocity(
      _ model: VideoTransformer, _ x: Tensor, _ levels: [Double], _ prompt: PromptEmbedding,
      _ guidance: Double
    ) -> Tensor {
      model(
        x, times: levels.map { Float(1000 * $0) }, prompt,
        guidance: Self.guidance(model, guidance, b), in: work)
    }
    let x = work.noised(z, batch.noise, sigmas: sigma)
    let (v, saved) = student.forward(
      x, times: sigma.map { Float(1000 * $0) }, batch.prompt,
      guidance: Self.guidance(student, o.studentGuidance, b), checkpointing: o.checkpointing,
      in: work)
    var out = Output(noisy: x, velocity: v)
    var dv = work.zeros(v.shape, v.type)
    phases?.end("student forward", in: work)

    if let captions = batch.captions, var model = reward.take() {
      let prediction = work.flowStep(x, velocity: v, from: sigma, to: clean)
      let (frames, decoded) = decoder.forward(prediction, in: work)
      phases?.end("decode", in: work)
      let (scores, scored) = model.forward(
        frames, captions, crop: batch.crop, checkpointing: o.checkpointing, in: work)
      phases?.end("rewards", in: work)
      let weight = -o.rewardGradientScale / (Double(b) * g)
      func slopes(_ rewards: [Double], _ w: Double) -> [Double] {
        let unit = o.normalisesRewards ? GRPO.deviation(rewards) + 1e-6 : 1
        return rewards.map { _ in weight * w / unit }
      }
      let dFrames = model.backward(
        dQuality: slopes(scores.quality, o.qualityWeight),
        dSemantic: slopes(scores.semantic, o.semanticWeight), scored, in: work)
      phases?.end("rewards backward", in: work)
      let dClean = decoder.backward(dFrames, decoded, in: work)
      if o.comparesRewards, !scores.quality.isEmpty, !scores.semantic.isEmpty {
        func gradient(_ dQuality: [Double], _ dSemantic: [Double]) -> [Tensor] {
          var reward = model
          var d = decoder
          var copy = student
          copy.zeroGradients(in: work)
          let dClean = d.backward(
            reward.backward(dQuality: dQuality, dSemantic: dSemantic, scored, in: work), decoded,
            in: work)
          copy.backward(
            work.mixEach(
              clean.indices.map { clean[$0] - sigma[$0] }, dClean, clean.map { _ in 0 }, dClean),
            saved, in: work)
          return copy.trainableParameters().compactMap(\.gradient)
        }
        let none = scores.quality.map { _ in 0.0 }
        let one = scores.quality.map { _ in weight }
        let a = gradient(one, none)
        let b = gradient(none, one)
        func dot(_ x: [Tensor], _ y: [Tensor]) -> Double {
          zip(x, y).reduce(0) { $0 + work.dot($1.0, $1.1) }
        }
        out.rewardCosine = dot(a, b) / max((dot(a, a) * dot(b, b)).squareRoot(), 1e-300)
      }
      phases?.end("decode backward", in: work)
      dv = work.mixEach(
        clean.indices.map { clean[$0] - sigma[$0] }, dClean, clean.map { _ in 0 }, dClean)
      (out.clean, out.frames, out.scores) = (prediction, frames, scores)
      if !scores.quality.isEmpty { out.qualityLoss = -mean(scores.quality) / g }
      if !scores.semantic.isEmpty { out.semanticLoss = -mean(scores.semantic) / g }
      if let loss = out.qualityLoss { out.loss += o.qualityWeight * loss }
      if let loss = out.semanticLoss { out.loss += o.semanticWeight * loss }
      reward = model
    }

    var teacherVelocity: Tensor?
    if o.consistencyWeight > 0 || o.decayWeight > 0 {
      let prediction = work.flowStep(x, velocity: v, from: sigma, to: end)
      out.prediction = prediction
      var dPrediction = work.zeros(v.shape, v.type)
      if o.consistencyWeight > 0 {
        var phi = velocity(teacher, x, sigma, batch.prompt, o.teacherGuidance)
        teacherVelocity = phi
        if let w = o.teacherGuidanceWeight, let unconditional = batch.unconditional {
          phi = work.combine(
            1 + w, phi, -w, velocity(teacher, x, sigma, unconditional, o.teacherGuidance))
        }
        let before = work.flowStep(x, velocity: phi, from: sigma, to: previous)
        let minus = velocity(target ?? student, before, previous, batch.prompt, o.teacherGuidance)
        let goal = work.flowStep(before, velocity: minus, from: previous, to: end)
        let (loss, d) = work.pseudoHuber(prediction, target: goal, c: o.huberC)
        work.add(d, times: o.consistencyWeight / g, to: &dPrediction)
        (out.previous, out.target, out.consistencyLoss) = (before, goal, loss / g)
        out.loss += o.consistencyWeight * loss / g
      }
      if o.decayWeight > 0 {
        let zero = work.zeros(v.shape, v.type)
        let (loss, d) =
          o.decayIsSquared
          ? work.meanSquaredError(prediction, target: zero)
          : work.pseudoHuber(prediction, target: zero, c: 1e-12)
        work.add(d, times: o.decayWeight / g, to: &dPrediction)
        out.decayLoss = loss / g
        out.loss += o.decayWeight * loss / g
      }
      work.add(
        work.mixEach(
          end.indices.map { end[$0] - sigma[$0] }, dPrediction, end.map { _ in 0 }, dPrediction),
        to: &dv)
    }
    if o.anchorWeight > 0 {
      let phi = teacherVelocity ?? velocity(teacher, x, sigma, batch.prompt, o.teacherGuidance)
      let (loss, d) = work.meanSquaredError(v, target: phi)
      work.add(d, times: o.anchorWeight / g, to: &dv)
      out.anchorLoss = loss / g
      out.loss += o.anchorWeight * loss / g
      out.velocityDrift = (loss / (work.sumOfSquares(phi) / Double(phi.count))).squareRoot()
    }
    if o.flowWeight > 0 {
      let (loss, d) = work.meanSquaredError(v, target: work.difference(batch.noise, z))
      work.add(d, times: o.flowWeight / g, to: &dv)
      out.flowLoss = loss / g
      out.loss += o.flowWeight * loss / g
    }
    phases?.end("teacher", in: work)
    student.backward(dv, saved, in: work)
    phases?.end("student backward", in: work)
    return out
  }

  static func guidance(_ model: VideoTransformer, _ value: Double, _ count: Int) -> [Float]? {
    model.config.guidanceEmbeds ? Array(repeating: Float(value), count: count) : nil
  }
  private func mean(_ x: [Double]) -> Double { x.reduce(0, +) / Double(x.count) }
}
