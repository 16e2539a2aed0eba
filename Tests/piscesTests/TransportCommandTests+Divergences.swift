import Files
import Foundation
import TensorRuntime
import TestSupport
import Testing

/// The transport commands: divergences and barycenters.
extension TransportCommandTests {
  @Test func divergence() async throws {
    // a translation by (0.7, -0.4): its squared length, whatever epsilon
    let x = uniform(Shape(12, 2), seed: 1)
    let xs = try put("x.npy", x)
    let ys = try put(
      "y.npy", Tensor(x.doubles.enumerated().map { $1 + ($0 % 2 == 0 ? 0.7 : -0.4) }, x.shape))
    let r = try await results(
      "divergence", "--points", xs, ys, "--epsilon", "0.2", "--gradient", folder("g.safetensors"))[
        0]
    #expect(r["status"]?.string == "converged" && abs(number(r, "divergence") - 0.65) < 1e-9)
    for term in ["source_target", "source_source", "target_target"] {
      #expect(
        r[term]?["status"]?.string == "converged" && number(r[term]!, "marginal_error_l1") < 1e-9
          && abs(number(r[term]!, "gap")) < 1e-9)
    }
    // its gradient is 2 (x - y) / N
    let g = try TensorFile.read(folder("g.safetensors:source_points")).doubles
    #expect(g.enumerated().allSatisfy { abs($1 - 2 * ($0 % 2 == 0 ? -0.7 : 0.4) / 12) < 1e-7 })
    #expect(try TensorFile.read(folder("g.safetensors:target_weights")).shape == Shape(12))
    let same = try await results(
      "divergence", "--points", xs, xs, "--epsilon", "0.2", "--rho", "1", "--metric", "euclidean")[
        0]
    #expect(abs(number(same, "divergence")) < 1e-10)
    let strict = try await results(
      "divergence", "--points", xs, ys, "--epsilon", "0.001", "--max-iterations", "2", "--strict",
      status: 2)[0]
    #expect(strict["status"]?.string == "max_iterations")
    try await refuses(64, ["--points"], "divergence", "--epsilon", "0.2")
    try await refuses(
      65, [ys, "zero vector"], "divergence", "--points", xs,
      try put("y.npy", Tensor.zeros(Shape(3, 2), type: .f64)), "--metric", "cosine", "--epsilon",
      "0.2")
  }
  @Test func barycenter() async throws {
    let x = (0..<80).map { Double($0) / 79 }
    func gaussian(_ mean: Double, _ deviation: Double) -> [Double] {
      let g = x.map { exp(-($0 - mean) * ($0 - mean) / (2 * deviation * deviation)) }
      let sum = g.reduce(0, +)
      return g.map { $0 / sum }
    }
    let histograms = try put(
      "h.npy", Tensor(gaussian(0.3, 0.07) + gaussian(0.6, 0.07), Shape(2, 80)))
    let cost = try put(
      "c.npy", Tensor(x.flatMap { p in x.map { (p - $0) * (p - $0) } }, Shape(80, 80)))
    let r = try await results(
      "barycenter", "--histograms", histograms, "--cost", cost, "--epsilon", "0.005", "--weights",
      try put("w.npy", [3, 1]), "--out", folder("b.npy"))[0]
    #expect(
      r["status"]?.string == "converged" && abs(number(r, "gap")) < 1e-9
        && r["errors"]?.array?.count == 2 && r["barycenter"] == nil)
    let b = try NumpyFile.read(folder("b.npy")).doubles
    #expect(
      zip(b, gaussian(0.375, (0.0049 + 0.0025).squareRoot())).allSatisfy { abs($0 - $1) < 1e-4 })
    let sharp = try await results(
      "barycenter", "--histograms", histograms, "--cost", cost, "--epsilon", "0.005", "--debiased",
      "--tolerance", "1e-8")[0]
    #expect(sharp["status"]?.string == "converged" && sharp["dual"] == nil)
    #expect(
      zip(sharp["barycenter"]!.array!, gaussian(0.45, 0.07)).allSatisfy {
        abs($0.number! - $1) < 1e-5
      })
    _ = try await results(
      "barycenter", "--histograms", histograms, "--cost", cost, "--epsilon", "0.0001",
      "--max-iterations", "2", "--strict", status: 2)
    try await refuses(
      65, [histograms, cost], "barycenter", "--histograms", histograms, "--cost",
      try put("c.npy", uniform(Shape(3, 3), seed: 1)), "--epsilon", "1")
    try await refuses(
      65, ["h.npy", "negative"], "barycenter", "--histograms",
      try put("h.npy", Tensor([1.0, -1, 1], Shape(1, 3))), "--cost", cost, "--epsilon", "1")
    try await refuses(
      65, ["--own-cost"], "barycenter", "--histograms",
      try put("h.npy", Tensor([1.0, 1, 1], Shape(1, 3))), "--cost",
      try put("c.npy", uniform(Shape(3, 4), seed: 1)), "--epsilon", "1", "--debiased")
  }
}
