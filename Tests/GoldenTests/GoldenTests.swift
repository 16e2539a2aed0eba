import TensorRuntime
import TestSupport
import Testing

/// Each reference case against the engine. A kind that is not in the table is a failure.
@Suite(.serialized) struct GoldenTests {
  typealias Evaluator = @Sendable (GoldenCase) throws -> [String: Tensor]
  static let evaluators: [String: Evaluator] = [
    layerKinds, modelKinds, transportKinds, postTrainingKinds, mapKinds, shortVideoKinds,
    openCLIPKinds, imageAutoencoderKinds,
  ].reduce(into: [:]) { all, kinds in
    all.merge(kinds) { _, _ in preconditionFailure("a kind twice") }
  }

  @Test(arguments: GoldenCase.all) func agrees(_ golden: GoldenCase) throws {
    try agrees(golden, coarser: 1)
  }
  private func agrees(_ golden: GoldenCase, coarser: Double) throws {
    guard let evaluate = Self.evaluators[golden.kind] else {
      Issue.record("\(golden): no evaluator for kind \(golden.kind)")
      return
    }
    golden.compare(try evaluate(golden), coarser: coarser)
  }
  /// The same cases on the plainer sets of kernels; `agrees` takes the widest.
  @Test(.enabled(if: Machine.available.contains(.scalar)), arguments: GoldenCase.all)
  func agreesOnScalar(_ golden: GoldenCase) throws { try agrees(golden, on: .scalar) }
  @Test(
    .enabled(if: Machine.available.contains(.avx2), "this processor has no AVX2"),
    arguments: GoldenCase.all) func agreesOnAVX2(_ golden: GoldenCase) throws
  { try agrees(golden, on: .avx2) }
  /// Tolerances are 10 to 20 errors of f32 (Golden/README.md); bf16 operands are rounded 2^15 times
  /// more coarsely, and an eighth of that is allowed; half for the UNet's small cases, which
  /// amplify it (torch's bf16 is off by .52 of the largest value in `unet-frames16`, and weights
  /// alone, rounded, move it by .44).
  @Test(
    .enabled(if: Machine.hasBF16, "this processor has no AVX512-BF16"), arguments: GoldenCase.all)
  func agreesInBF16(_ golden: GoldenCase) throws {
    Machine.computeType = .bf16
    defer { Machine.computeType = .f32 }
    let runsUNet = ["unet", "ddim_sample", "lcm_sample", "lcd_step"].contains {
      golden.kind == "videocrafter.\($0)"
    }
    try agrees(golden, coarser: runsUNet ? 16384 : 4096)
  }
  private func agrees(_ golden: GoldenCase, on isa: Machine.InstructionSet) throws {
    Machine.limit(to: isa)
    defer { Machine.limit(to: .avx512) }
    try agrees(golden)
  }
  @Test func everyPublicCaseIsThere() { #expect(GoldenCase.all.count >= 103) }
}
