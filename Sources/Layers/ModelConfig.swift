/// The sizes of a network, as its `config.json` has them.
public protocol ModelConfig: Codable, Sendable {
  /// What is wrong with these sizes, as `field: reason`, or nil: no network is built from sizes
  /// that have a problem.
  var problem: String? { get }
}
