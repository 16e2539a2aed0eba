import ArgumentParser
import Benchmarking
import Files
import Layers
import Models
import Pipelines
import PostTraining
import TensorRuntime

/// `plan` without a run: a configuration of `train post` on networks of given sizes.
struct PlanSizes: ParsableArguments {
  @Option(in: .path, help: "Run file of train post (direct); networks of the published sizes.")
  var config: String?
  @Option(
    name: .customLong("set"), parsing: .singleValue, in: .text,
    help: "Override one key of the run file: --set accumulation=128.") var overrides: [String] = []
  @Option(
    in: .choice(ModelSizes.Published.self),
    help: "With --config or --set: the generator whose published sizes are taken.")
  var generator = ModelSizes.Published.hunyuanVideo
  @Option(in: .path, help: "With --config or --set: generator directory with other sizes.")
  var model: String?
  @Option(in: .path, help: "With --config or --set: reward-model directory with other sizes.")
  var reward: String?
  @Option(in: .frames, help: "Frames of a clip; default: as published, 29 or 16.") var frames: Int?
  @Option(in: .pixels, help: "Height of a clip; default: 480 or 320.") var height: Int?
  @Option(in: .pixels, help: "Width of a clip; default: 848 or 512.") var width: Int?
  @Option(in: .whole(1...4096), help: "Tokens of a prompt; OpenCLIP's tower takes 77.")
  var tokens = 256
  @Option(in: .path, help: "Output of `pisces bench rates --json` on a node.") var rates: String?
  @Option(in: .real(0.001...1e6), help: "GB/s of a node's memory; default: measured here.")
  var memoryRate: Double?

  var areGiven: Bool { config != nil || !overrides.isEmpty }

  /// The points of these numbers of nodes; nil for those that cannot be used. `sharesRows`: whether
  /// several ranks can share a sample.
  func points(_ nodes: [Int], _ network: (latency: Double, link: Double), file: Double)
    throws -> (points: [(Int, ScalingPlan.Point?)], frozenBytes: Int, sharesRows: Bool)
  {
    var sizes = try model.map { try ModelSizes(of: GeneratorFolder($0)) } ?? ModelSizes(generator)
    sizes.words = tokens
    let settings: PostSettings = try SettingsReader.read(
      over: .published(for: sizes.process), file: config, overrides: overrides, note: { _ in })
    try settings.check(hasRewardModel: true)
    try settings.check(for: sizes.process)
    if settings.objective != .direct {
      throw ConfigurationError(
        "only the direct step is planned", "objective", "set it to direct, or give --run")
    }
    if let reward {
      let file = "\(reward)/config.json"
      sizes.reward = try JSONValue(contentsOf: file).decoded(name: file)
    }
    let usual = sizes.usualClip
    let frames = frames ?? usual.frames
    let (height, width) = (height ?? usual.height, width ?? usual.width)
    let denoiser = try sizes.denoiser(from: .shapes)
    try sizes.geometry.check(
      frames: frames, height: height, width: width, patch: denoiser.latentDivisors)
    let seen = sizes.rewardFrames(settings, of: frames)
    try sizes.reward.visionEncoder.check(
      frames: seen, named: seen == frames ? "--frames" : "reward.frames")
    let shape = Array(
      sizes.geometry.latentShape(batch: 1, frames: frames, height: height, width: width)
        .dropFirst())
    let rates = ClusterRates(
      operations: try operationRates(),
      memory: memoryRate.map { $0 * 1e9 }
        ?? MachineRates
        .measure().bytes, file: file, latency: network.latency, link: network.link)
    // What is kept for backward has this type.
    Machine.computeType = settings.compute_dtype
    // A plan may be of more than this machine has.
    MemoryLimit.set(check: { _ in }, refuse: { _ in fatalError("no address space for a plan") })
    func cost(_ ranks: Int) throws -> StepCost? {
      try StepCost(sizes, settings, frames: frames, latentShape: shape, ranks: ranks)
    }
    let single = try cost(1)!
    // A value, and its two moments.
    let moments = settings.moments == .bf16 ? 4 : 8
    let points = try nodes.map { n in
      (
        n,
        try (n == 1 ? single : cost(n)).map {
          rates.point($0, single: single, checkpointBytes: (4 + moments) * single.parameters)
        }
      )
    }
    return (points, single.frozenBytes, denoiser.shared(latentShape: shape) != nil)
  }
  /// Operations a second of each kind.
  private func operationRates() throws -> [OperationCount.Kind: Double] {
    guard let rates else {
      throw ValidationError(
        "a plan of a configuration needs --rates, from pisces bench rates --json")
    }
    let rows = try JSONLines.read(rates).map(\.value)
    var found: [OperationCount.Kind: Double] = [:]
    for (kind, name) in [
      (OperationCount.Kind.product, "gemm"), (.attention, "attention"), (.convolution, "conv"),
    ] {
      let row = rows.first { $0["bench"]?.string == name }
      guard let rate = row?["gflops"]?.number, rate > 0 else {
        throw FileError(
          .badData, "no rate of \(name) in it", in: rates,
          mend: "write it with pisces bench rates --json")
      }
      found[kind] = rate * 1e9
    }
    return found
  }
}
