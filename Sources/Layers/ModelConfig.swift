/// The sizes of a network, as stored in its `config.json`.
public protocol ModelConfig: Codable, Sendable {
  /// The fault in these sizes, as `field: reason`; nil if there is none. No network is built from
  /// sizes with a fault.
  var problem: String? { get }
}
