public import TensorRuntime

/// A network whose layers take low-rank adapters.
public protocol AdaptableNetwork: Layer {
  /// Visits every layer that may be adapted, in the order of checkpoints.
  mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows
  /// The layers that the published recipe adapts: a target matches the last components of a
  /// layer's name, and `all` every layer.
  static var defaultTargets: [String] { get }
  /// The rank of the adapter of one layer where `rank` is asked for.
  static func adapterRank(_ rank: Int, of weight: Shape) -> Int
  /// Parameters that are trained as a whole beside adapters.
  static var trainedInFull: [String] { get }
}

extension AdaptableNetwork {
  public static func adapterRank(_ rank: Int, of weight: Shape) -> Int { rank }
  public static var trainedInFull: [String] { [] }

  private static func matches(_ module: String, _ targets: [String]) -> Bool {
    targets.contains { $0 == "all" || module == $0 || module.hasSuffix(".\($0)") }
  }
  /// Freezes everything but `trainedInFull` and adds trainable adapters to the layers that match
  /// `targets`, with s = α / rank. Returns their number.
  @discardableResult
  public mutating func attachAdapters(
    targets: [String] = defaultTargets, rank: Int, alpha: Double, from source: ParameterSource,
    in work: borrowing Workspace
  ) throws -> Int {
    freeze()
    var count = 0
    try forEachAdaptable { layer in
      guard Self.matches(layer.module, targets) else { return }
      let own = Self.adapterRank(rank, of: layer.weight.value.shape)
      try layer.attachAdapter(
        rank: own, alpha: alpha * Double(own) / Double(rank), from: source, in: work)
      count += 1
    }
    makeTrainable(in: work) { Self.trainedInFull.contains($0) }
    return count
  }
  /// W ← W + s B A in every adapted layer; the adapters are removed.
  public mutating func mergeAdapters(in work: borrowing Workspace) {
    forEachAdaptable { $0.mergeAdapter(in: work) }
  }
  /// The same network with every adapter's scale multiplied by `factor`.
  public func scalingAdapters(by factor: Double) -> Self {
    var copy = self
    copy.forEachAdaptable { $0.adapter?.scale *= factor }
    return copy
  }
  /// Only the adapters' parameters.
  public func adapterParameters() -> [Parameter] {
    var copy = self
    var list: [Parameter] = []
    copy.forEachAdaptable { layer in
      if let a = layer.adapter { list += [a.a, a.b] }
    }
    return list
  }
}
