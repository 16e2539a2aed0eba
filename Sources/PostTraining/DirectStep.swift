public import Diffusion
public import Layers
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
    /// Weight of plain denoising: mean (v - (ε - z))² at x_t, or mean (ε̂ - ε)².
    public var flowWeight = 0.0
    /// Each reward's gradient is divided by the reward's standard deviation over the batch
    /// (algorithm.md 5.5, the adaptive variant).
    public var normalisesRewards = false
    /// Weight of mean |x̃| (`l1`) or mean x̃² (`l2`) of the consistency prediction.
    public var decayWeight = 0.0, decayIsSquared = false
    /// Classifier-free guidance of the teacher, v_φ + w (v_φ - v_uncond), if it is set and the
    /// batch has no weights of its own.
    public var teacherGuidanceWeight: Double?
    /// Embedded guidance of student and teacher, for models with that input, if the batch has none.
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
  public let schedule: any DistillationSchedule
  public var options: Options
  /// What this process has of the rows of student, teacher, target, decoder and video encoder.
  public let rows: RowShare
  public init(
    _ schedule: any DistillationSchedule, _ options: Options = Options(),
    sharing rows: RowShare = .whole
  ) {
    (self.schedule, self.options, self.rows) = (schedule, options, rows)
  }

  /// What a step draws: scaled latents z `[B, C, n, h, w]`, noise of the same shape, a level and a
  /// prompt for each sample.
  public struct Batch: Sendable {
    public var latents, noise: Tensor
    public var indices: [Int]
    public var prompt: PromptEmbedding
    public var unconditional: PromptEmbedding?
    /// Guidance weights w: the teacher is guided with them, and the student embeds them
    /// (videocrafter.md 8).
    public var guidance: [Double]?
    public var captions: CaptionBatch?
    public var crop: PixelPreprocessing.Crop
    /// Latent frames that are decoded for the rewards; nil: all.
    public var rewardFrames: [Int]?
    public init(
      latents: Tensor, noise: Tensor, indices: [Int], prompt: PromptEmbedding,
      unconditional: PromptEmbedding? = nil, guidance: [Double]? = nil,
      captions: CaptionBatch? = nil, crop: PixelPreprocessing.Crop = .center,
      rewardFrames: [Int]? = nil
    ) {
      (self.latents, self.noise, self.indices, self.prompt) = (latents, noise, indices, prompt)
      (self.unconditional, self.captions, self.crop) = (unconditional, captions, crop)
      (self.guidance, self.rewardFrames) = (guidance, rewardFrames)
    }
  }
  /// Every quantity of the step; nil if its term is off. Losses are divided by the number of
  /// accumulation steps. Their weights are not applied.
  public struct Output: Sendable {
    /// x_t and the student's output there: its velocity, or its noise.
    public var noisy, output: Tensor
    public var clean, frames: Tensor?
    public var scores = RewardModel.Scores()
    public var prediction, previous, target: Tensor?
    public var consistencyLoss, qualityLoss, semanticLoss, decayLoss, anchorLoss, flowLoss: Double?
    /// Weighted sum of all terms.
    public var loss = 0.0
    /// Cosine of the gradients of the two rewards.
    public var rewardCosine: Double?
    /// rms of the difference of the student's and the teacher's output, relative to the rms of
    /// the teacher's (nil without a teacher pass).
    public var velocityDrift: Double?
  }

  /// Adds to the student's gradients. `target` is the network of the consistency target: the moving
  /// average, or nil for the student itself.
  public func run<Model: VideoDenoiser>(
    student: inout Model, teacher: Model, target: Model? = nil,
    decoder: inout LatentDecoder, reward: inout RewardModel?, _ batch: Batch,
    phases: StepPhases? = nil, in work: borrowing Workspace
  ) -> Output {
    let x = Self.noised(batch, schedule, in: work)
    let times = batch.indices.map { schedule.time($0) }
    let (v, saved) = student.predict(
      x, times: times, batch.prompt,
      guidance: Self.guidance(student, batch, otherwise: options.studentGuidance),
      keeping: Keeping(checkpointing: options.checkpointing), sharing: rows, in: work)
    var out = Output(noisy: x, output: v)
    phases?.end("student forward", in: work)

    let isRewarded = batch.captions != nil && reward != nil
    let half = isRewarded ? halves : nil
    var dv = work.zeros(v.shape, v.type)
    if let captions = batch.captions, half?.isSecond != true, var model = reward.take() {
      dv = rewards(
        decoder: &decoder, &model, batch, captions, phases, &out,
        gradients: { dv, work in
          var copy = student
          copy.zeroGradients(in: work)
          copy.predictBackward(dv, saved, in: work)
          return rows.sum(copy.trainableParameters().compactMap(\.gradient), in: work)
        }, in: work)
      reward = model
    }
    var matching = Matching()
    if half?.isSecond != false {
      matching = self.matching(
        batch, &out, teacher: teacher, target: { target ?? student },
        sharing: half?.rows ?? rows, in: work)
    }
    if half != nil { swap(&dv, &matching, &out, reward!.options, in: work) }
    add(matching, to: &dv, &out, in: work)
    if options.flowWeight > 0 { flow(batch, &out, to: &dv, in: work) }
    phases?.end("teacher", in: work)
    student.predictBackward(dv, consume saved, in: work)
    phases?.end("student backward", in: work)
    return out
  }

  private static func noised(
    _ batch: Batch, _ schedule: some DistillationSchedule, in work: borrowing Workspace
  ) -> Tensor { work.noised(batch.latents, batch.noise, at: batch.indices, of: schedule) }

  /// What the teacher makes of a step: the gradient at the student's output and the losses of
  /// consistency and of decay, and the teacher's output at x, where they are needed.
  struct Matching {
    var gradient, teacher: Tensor?
    var consistencyLoss, decayLoss: Double?
  }
  /// Consistency, and decay of its prediction. The teacher embeds no weights of a batch: it is
  /// guided with them.
  private func matching<Model: VideoDenoiser>(
    _ batch: Batch, _ out: inout Output, teacher: Model, target: () -> Model,
    sharing rows: RowShare, in work: borrowing Workspace
  ) -> Matching {
    let o = options
    let g = Double(o.accumulation)
    var matching = Matching()
    let distillation = ConsistencyDistillation(
      schedule, indices: batch.indices, phases: o.phases, huberC: o.huberC)
    let x = out.noisy
    let times = distillation.times
    func teacherOutput(_ prompt: PromptEmbedding) -> Tensor {
      let guidance =
        batch.guidance == nil
        ? Self.guidance(teacher, batch, otherwise: o.teacherGuidance) : nil
      return teacher(x, times: times, prompt, guidance: guidance, sharing: rows, in: work)
    }
    if o.consistencyWeight > 0 || o.anchorWeight > 0 {
      matching.teacher = teacherOutput(batch.prompt)
    }
    guard o.consistencyWeight > 0 || o.decayWeight > 0 else { return matching }
    let prediction = distillation.prediction(x, output: out.output, in: work)
    out.prediction = prediction
    var dPrediction = work.zeros(prediction.shape, prediction.type)
    if o.consistencyWeight > 0 {
      var phi = matching.teacher!
      let weights =
        batch.guidance ?? o.teacherGuidanceWeight.map { w in batch.indices.map { _ in w } }
      if let weights, let unconditional = batch.unconditional {
        phi = work.mixEach(
          weights.map { 1 + $0 }, phi, weights.map { -$0 }, teacherOutput(unconditional))
      }
      let (before, goal) = distillation.goal(
        x, teacher: phi,
        output: { x, times in
          let model = target()
          return model(
            x, times: times, batch.prompt,
            guidance: Self.guidance(model, batch, otherwise: o.teacherGuidance), sharing: rows,
            in: work)
        }, in: work)
      let (loss, d) = distillation.loss(prediction, goal: goal, in: work)
      work.add(d, times: o.consistencyWeight / g, to: &dPrediction)
      (out.previous, out.target, matching.consistencyLoss) = (before, goal, loss)
    }
    if o.decayWeight > 0 {
      let zero = work.zeros(prediction.shape, prediction.type)
      let (loss, d) =
        o.decayIsSquared
        ? work.meanSquaredError(prediction, target: zero)
        : work.pseudoHuber(prediction, target: zero, c: 1e-12)
      work.add(d, times: o.decayWeight / g, to: &dPrediction)
      matching.decayLoss = loss
    }
    matching.gradient = distillation.predictionBackward(dPrediction, in: work)
    return matching
  }
  /// Adds it to the gradient of the velocity and to the loss; also the anchor.
  private func add(
    _ matching: Matching, to dv: inout Tensor, _ out: inout Output, in work: borrowing Workspace
  ) {
    let g = Double(options.accumulation)
    if let loss = matching.consistencyLoss {
      out.consistencyLoss = loss / g
      out.loss += options.consistencyWeight * loss / g
    }
    if let loss = matching.decayLoss {
      out.decayLoss = loss / g
      out.loss += options.decayWeight * loss / g
    }
    if let gradient = matching.gradient { work.add(gradient, to: &dv) }
    if options.anchorWeight > 0 { anchor(matching.teacher!, &out, to: &dv, in: work) }
  }
  /// mean (v − φ)² keeps the student near the teacher.
  private func anchor(
    _ phi: Tensor, _ out: inout Output, to dv: inout Tensor, in work: borrowing Workspace
  ) {
    let g = Double(options.accumulation)
    let (loss, d) = work.meanSquaredError(out.output, target: phi)
    work.add(d, times: options.anchorWeight / g, to: &dv)
    out.anchorLoss = loss / g
    out.loss += options.anchorWeight * loss / g
    out.velocityDrift = (loss / (work.sumOfSquares(phi) / Double(phi.count))).squareRoot()
  }
  /// Plain denoising: the mean squared difference from the ideal output, ε − z or ε.
  private func flow(
    _ batch: Batch, _ out: inout Output, to dv: inout Tensor, in work: borrowing Workspace
  ) {
    let g = Double(options.accumulation)
    let (loss, d) = work.meanSquaredError(
      out.output,
      target: work.combine(schedule.ideal.noise, batch.noise, schedule.ideal.data, batch.latents))
    work.add(d, times: options.flowWeight / g, to: &dv)
    out.flowLoss = loss / g
    out.loss += options.flowWeight * loss / g
  }

  static func guidance(_ model: some VideoDenoiser, _ value: Double, _ count: Int) -> [Float]? {
    model.embedsGuidance ? Array(repeating: Float(value), count: count) : nil
  }
  /// The batch's own weights, or the same number for all samples.
  private static func guidance(_ model: some VideoDenoiser, _ batch: Batch, otherwise value: Double)
    -> [Float]?
  {
    guard model.embedsGuidance, let own = batch.guidance else {
      return guidance(model, value, batch.indices.count)
    }
    return own.map { Float($0) }
  }
}
