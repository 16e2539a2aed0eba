import Cluster
import Layers
import Models
import Pipelines
public import PostTraining
public import TensorRuntime
import Training

/// What a step of direct post-training costs a rank, found by running the step itself without its
/// arithmetic (`MemoryPlan`), as two ranks of the last group of as many as are asked for:
/// operations and traffic of the one that computes more, and the larger memory, are those of the
/// program, not of a formula.
public struct StepCost: Sendable {
  /// Ranks, and those of a group.
  public let ranks, group: Int
  /// Of the rank with the most leaves, and of its step.
  public let leaves: Int, parameters: Int
  /// Of a leaf.
  public let operations: [OperationCount.Kind: Int]
  /// Of a leaf for its group, and of a step for its sums: bytes sent, and messages.
  public let sampleTraffic, stepTraffic: (bytes: Int, messages: Int)
  /// Memory beside the frozen weights, and these, which the ranks of a host have in common.
  public let bytes, frozenBytes: Int

  /// The smallest group with which `ranks` have a leaf each; nil if there is none.
  public static func group(_ ranks: Int, leaves: Int) -> Int? {
    var group = 1
    while ranks > leaves * group { group *= 2 }
    return ranks % group == 0 ? group : nil
  }

  /// `latentShape` is `[C, n, h, w]`. nil if the ranks are no multiple of the group that they need,
  /// or if a network that is not cut into strips would need one. `Cluster.current` is another one
  /// meanwhile.
  public init?(
    _ sizes: ModelSizes, _ settings: PostSettings, frames: Int, latentShape: [Int], ranks: Int
  ) throws {
    let leaves = settings.accumulation / settings.cluster.leaf
    guard let group = Self.group(ranks, leaves: leaves),
      try group == 1 || sizes.denoiser(from: .shapes).shared(latentShape: latentShape) != nil
    else { return nil }
    var s = settings
    s.post.latents = .data
    (s.cluster.group, s.cluster.strips) = (group, max(group, settings.cluster.strips))
    let groups = ranks / group
    let own = (leaves + groups - 1) / groups
    // The last rank of a group has the text; the first one decodes.
    let plans = try Set([ranks - 1, ranks - group]).sorted().map { rank in
      try Cluster.imagining(rank: rank, size: ranks) {
        try Self.plan(sizes, s, frames: frames, latentShape: latentShape)
      }
    }
    func total(_ plan: MemoryPlan) -> Int { plan.operations.values.reduce(0, +) }
    let (plan, frozen, parameters) = plans.max { total($0.0) < total($1.0) }!
    let planned = min(own, 2)
    func traffic(_ occasion: MemoryPlan.Occasion, of count: Int) -> (bytes: Int, messages: Int) {
      ((plan.traffic[occasion] ?? 0) / count, (plan.messages[occasion] ?? 0) / count)
    }
    (self.ranks, self.group, self.leaves, self.parameters) = (ranks, group, own, parameters)
    operations = plan.operations.mapValues { $0 / planned }
    (sampleTraffic, stepTraffic) = (traffic(.sample, of: planned), traffic(.step, of: 1))
    (bytes, frozenBytes) = (plans.map { $0.0.bytes }.max()!, frozen)
  }
  /// A step of a task of this rank, which holds at most two leaves; also the bytes of frozen
  /// weights and the number of trained parameters.
  private static func plan(
    _ sizes: ModelSizes, _ s: PostSettings, frames: Int, latentShape: [Int]
  ) throws -> (MemoryPlan, frozen: Int, parameters: Int) {
    var (frozen, parameters) = (0, 0)
    var failure: (any Error)?
    let plan = MemoryPlan(BufferPool()) { work in
      do {
        let weights = PlannedWeights()
        parameters = try step(
          try sizes.denoiser(from: weights.source), sizes, s, frames: frames,
          latentShape: latentShape, from: weights.source, in: work)
        frozen = weights.bytes
      } catch { failure = error }
    }
    if let failure { throw failure }
    return (plan!, frozen, parameters)
  }
  /// Takes the step; returns the number of trained parameters.
  private static func step<Model: VideoDenoiser>(
    _ teacher: Model, _ sizes: ModelSizes, _ s: PostSettings, frames: Int, latentShape: [Int],
    from source: ParameterSource, in work: borrowing Workspace
  ) throws -> Int {
    let caption = Array(repeating: "a", count: sizes.words).joined(separator: " ")
    let pool = LatentPool(
      latents: work.tensor(Shape([s.batch] + latentShape)),
      captions: Array(repeating: caption, count: s.batch))
    var task = try DirectTask(
      s, models: try sizes.models(teacher, s, frames: frames, from: source), pool: pool,
      captions: [], latentShape: latentShape, components: { _ in }, in: work)
    _ = try task.step(0, in: work)
    return task.student.trainableParameters().reduce(0) { $0 + $1.value.count }
  }
}

/// What nodes and links do in a second.
public struct ClusterRates: Sendable {
  /// Multiplications and additions, each counted, of products, attention and convolutions.
  public var operations: [OperationCount.Kind: Double]
  /// Of memory and of the file system, in bytes.
  public var memory, file: Double
  /// Seconds of a message, and bytes a second each way with both directions busy.
  public var latency, link: Double
  public init(
    operations: [OperationCount.Kind: Double], memory: Double, file: Double, latency: Double,
    link: Double
  ) {
    (self.operations, self.memory, self.file) = (operations, memory, file)
    (self.latency, self.link) = (latency, link)
  }

  /// `single` is the step of one rank.
  public func point(_ c: StepCost, single: StepCost, checkpointBytes: Int) -> ScalingPlan.Point {
    let (step, one) = (seconds(c), seconds(single))
    let checkpoint = Double(checkpointBytes) / file
    let sent = c.leaves * c.sampleTraffic.bytes + c.stepTraffic.bytes
    return ScalingPlan.Point(
      nodes: c.ranks, group: c.group, seconds: step.all, compute: step.compute,
      exchange: step.exchange,
      bytesSent: sent, efficiency: one.all / step.all / Double(c.ranks), peakBytes: c.bytes,
      checkpointSeconds: checkpoint,
      checkpointInterval: ScalingPlan.interval(checkpoint, nodes: c.ranks),
      notice: step.all + checkpoint)
  }
  private func seconds(_ c: StepCost) -> (all: Double, compute: Double, exchange: Double) {
    let leaf = c.operations.reduce(0) { $0 + Double($1.value) / operations[$1.key]! }
    let leaves = Double(c.leaves)
    // Gradient, value and both moments are read, three of them written.
    let update = 28 * Double(c.parameters) / Double(c.ranks) / memory
    let compute = leaves * leaf + update
    let bytes = leaves * Double(c.sampleTraffic.bytes) + Double(c.stepTraffic.bytes)
    let messages = leaves * Double(c.sampleTraffic.messages) + Double(c.stepTraffic.messages)
    // Packed before it is sent, and put into its place afterwards.
    let exchange = bytes / link + 3 * bytes / memory + latency * messages
    return ((compute + exchange) * (c.ranks == 1 ? 1 : 1.02), compute, exchange)
  }
}
