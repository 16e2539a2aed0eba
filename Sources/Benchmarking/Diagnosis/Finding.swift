/// The outcome of one check.
public struct Finding: Sendable {
  public let name: String
  public let isGood: Bool
  /// One line: what was found and, if it is not good, how to mend it.
  public let detail: String
  public init(_ name: String, _ isGood: Bool, _ detail: String) {
    (self.name, self.isGood, self.detail) = (name, isGood, detail)
  }
}
