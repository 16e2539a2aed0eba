import TensorRuntime
import TestSupport
import Testing

/// Each reference case against the engine. A kind that is not in the table is a failure.
@Suite(.serialized) struct GoldenTests {
  typealias Evaluator = @Sendable (GoldenCase) throws -> [String: Tensor]
  static let evaluators: [String: Evaluator] = layerKinds.merging(modelKinds) { a, _ in a }.merging(transportKinds) { a, _ in a }.merging(postTrainingKinds) { a, _ in a }.merging(mapKinds) { a, _ in a }

  @Test(arguments: GoldenCase.all) func agrees(_ golden: GoldenCase) throws {
    guard let evaluate = Self.evaluators[golden.kind] else {
      Issue.record("\(golden): no evaluator for kind \(golden.kind)")
      return
    }
    golden.compare(try evaluate(golden))
  }
  @Test func everyPublicCaseIsThere() { #expect(GoldenCase.all.count >= 103) }
}
