import Files
import TensorRuntime
import TestSupport
import Testing

/// What the README of the reference cases allows beyond the shapes of the cases that are here: each
/// is a case written another way, whose answers are known from it.
@Suite struct GoldenAdapterTests {
  private let scratch: ScratchFolder
  init() throws { scratch = try ScratchFolder() }

  /// The case `name` with tensors put in place of its own.
  private func rewritten(_ name: String, _ changes: [String: Tensor]) throws -> GoldenCase {
    let from = "\(repository)/Tests/Golden/\(name)"
    let to = scratch(name)
    let old = try SafetensorsFile("\(from)/tensors.safetensors")
    try FileTree.copy(from, to: to)
    let kept = try old.names.filter { changes[$0] == nil }.map { ($0, try old.tensor(named: $0)) }
    try SafetensorsWriter.write(
      kept.map { (name: $0.0, tensor: $0.1) }
        + changes.sorted { $0.key < $1.key }.map { (name: $0.key, tensor: $0.value) },
      to: "\(to)/tensors.safetensors")
    return try GoldenCase(to)
  }
  private func distance(_ a: Tensor, _ b: Tensor) -> Double {
    zip(a.doubles, b.doubles).reduce(0) { max($0, abs($1.0 - $1.1)) }
  }

  /// Two samples with a bias of their own each, `[2, 1, N, M]`: sample 0 is the known case, sample
  /// 1 the same with a bias shifted by a constant, which softmax does not see.
  @Test func attentionBiasPerSample() throws {
    let work = Workspace()
    let known = try GoldenCase("\(repository)/Tests/Golden/nn.attention-bias")
    func twice(_ name: String) throws -> Tensor {
      let t = try known.tensor(name)
      return work.concatenated([t, t], axis: 0)
    }
    let bias = try known.input("bias")
    let shifted = Tensor(bias.floats.map { $0 + 2 }, bias.shape)
    var changes: [String: Tensor] = ["input.bias": work.concatenated([bias, shifted], axis: 0)]
    for name in [
      "input.q", "input.k", "input.v", "grad_output.y", "output.y", "grad.input.q", "grad.input.k",
      "grad.input.v", "grad.input.bias",
    ] {
      changes[name] = try twice(name)
    }
    let case2 = try rewritten("nn.attention-bias", changes)
    case2.compare(try GoldenTests.attention(case2))
  }
  /// A bias of each head, and one without its leading axes.
  @Test func attentionBiasOfOtherShapes() throws {
    let work = Workspace()
    let known = try GoldenCase("\(repository)/Tests/Golden/nn.attention-bias")
    let bias = try known.input("bias")
    let (n, m) = (bias.shape[2], bias.shape[3])
    let expected = try GoldenTests.attention(known)
    let flat = try GoldenTests.attention(
      try rewritten("nn.attention-bias", ["input.bias": bias.reshaped(Shape(n, m))]))
    let heads = try known.input("q").shape[1]
    let repeated = work.repeated(bias.reshaped(Shape(n, m)), heads).reshaped(Shape(1, heads, n, m))
    let each = try GoldenTests.attention(
      try rewritten("nn.attention-bias", ["input.bias": repeated]))
    for found in [flat, each] { #expect(distance(found["output.y"]!, expected["output.y"]!) == 0) }
    #expect(distance(flat["grad.input.bias"]!, expected["grad.input.bias"]!) == 0)
    let parts = each["grad.input.bias"]!.doubles
    let sums = (0..<n * m).map { i in (0..<heads).reduce(0) { $0 + parts[$1 * n * m + i] } }
    #expect(zip(sums, expected["grad.input.bias"]!.doubles).allSatisfy { abs($0 - $1) < 1e-6 })
  }
  /// One noise for every member of a group, `[K, ...]` (`same_noise: false`), all equal here: the
  /// answers of one noise for all.
  @Test func rolloutNoisePerMember() throws {
    let work = Workspace()
    let known = try GoldenCase("\(repository)/Tests/Golden/grpo.step-rollout")
    let noise = try known.input("noise")
    let each = try rewritten(
      "grpo.step-rollout",
      ["input.noise": work.repeated(noise[row: 0], known.integer("generations"))])
    each.compare(try GoldenTests.rollout(each))
  }
  /// Members that differ start from noise of their own.
  @Test func rolloutNoiseDiffers() throws {
    let work = Workspace()
    let known = try GoldenCase("\(repository)/Tests/Golden/grpo.step-rollout")
    let k = known.integer("generations")
    let noise = try known.input("noise")
    let other = RandomStream(seed: 1, .noise).normal(
      Shape([k] + noise.shape.dims.dropFirst()), in: work)
    let states = try GoldenTests.rollout(
      try rewritten("grpo.step-rollout", ["input.noise": other]))["output.states"]!
    for member in 0..<k { #expect(states[row: member][row: 0].floats == other[row: member].floats) }
  }
}
