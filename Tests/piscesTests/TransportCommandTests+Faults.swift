import Files
import Foundation
import TensorRuntime
import TestSupport
import Testing

/// The transport commands: hostile inputs.
extension TransportCommandTests {
  @Test func wrongUsage() async throws {
    let c = try put("c.npy", uniform(Shape(3, 4), seed: 1))
    let x = try put("x.npy", uniform(Shape(3, 2), seed: 1))
    let out = folder("out.npy")
    for epsilon in ["0", "nan", "inf", "-1"] {
      try await refuses(
        64, ["epsilon"], "solve", "--cost", c, "--epsilon=\(epsilon)", "--plan", out)
    }
    try await refuses(64, ["epsilon"], "solve", "--cost", c)
    try await refuses(64, ["--cost", "--points"], "solve", "--epsilon", "1")
    try await refuses(
      64, ["--cost", "--points"], "solve", "--cost", c, "--points", x, x, "--epsilon", "1")
    try await refuses(64, ["two files"], "solve", "--points", x, "--epsilon", "1")
    try await refuses(
      64, ["--plan", "--cost"], "solve", "--points", x, x, "--epsilon", "1", "--plan", out)
    try await refuses(64, ["--batch"], "solve", "--points", x, x, "--epsilon", "1", "--batch")
    try await refuses(
      64, ["--projection"], "solve", "--cost", c, "--epsilon", "1", "--projection", out)
    try await refuses(
      64, ["--gradient"], "solve", "--cost", c, "--epsilon", "1", "--gradient-of", "cost")
    try await refuses(
      64, ["exclude"], "solve", "--cost", c, "--epsilon", "1", "--balanced", "--mass", "0.5")
    try await refuses(
      64, ["metric"], "solve", "--points", x, x, "--epsilon", "1", "--metric", "manhattan")
    try await refuses(64, ["--scale"], "solve", "--points", x, x, "--epsilon", "1", "--scale", "0")
    try await refuses(64, ["tolerance"], "solve", "--cost", c, "--epsilon", "1", "--tolerance=-1")
    try await refuses(
      64, ["iterations"], "solve", "--cost", c, "--epsilon", "1", "--max-iterations", "0")
    try await refuses(
      64, ["mass"], "solve", "--cost", c, "--epsilon", "1", "--mass", "3", "--exact-mass")
    try await refuses(64, ["strength"], "solve", "--cost", c, "--epsilon", "1", "--rho-source", "0")
    try await refuses(
      73, ["no-folder"], "solve", "--cost", c, "--epsilon", "1", "--plan", folder("no-folder/p.npy")
    )
  }
  @Test func valuesThatAreNoNumbers() async throws {
    for (name, bad) in [("nan", Double.nan), ("inf", .infinity), ("minus", -.infinity)] {
      let c = try put("\(name).npy", Tensor((0..<12).map { $0 == 7 ? bad : 1 }, Shape(3, 4)))
      let good = try put("c.npy", uniform(Shape(3, 4), seed: 1))
      // an infinite cost forbids its pair
      if bad != .infinity {
        try await refuses(
          65, [c, "element 7"], "solve", "--cost", c, "--epsilon", "1", "--plan", folder("out.npy"))
      }
      try await refuses(65, [c, "element 7"], "solve", "--points", c, good, "--epsilon", "1")
      try await refuses(65, [c, "element 7"], "divergence", "--points", good, c, "--epsilon", "1")
      try await refuses(
        65, [c, "element 7"], "barycenter", "--histograms",
        try put("h.npy", Tensor.full(Shape(2, 3), 1, type: .f64)), "--cost", c, "--epsilon", "1")
      try await refuses(
        65, [c, "element"], "barycenter", "--histograms", c, "--cost",
        try put("d.npy", uniform(Shape(4, 4), seed: 1)), "--epsilon", "1")
      let w = try put("w.npy", [1, bad, 1])
      try await refuses(
        65, [w, "element 1"], "solve", "--cost", good, "--source-weights", w, "--epsilon", "1")
    }
  }
  @Test func weights() async throws {
    let c = try put("c.npy", uniform(Shape(3, 4), seed: 1))
    let w = folder("w.npy")
    for (values, words) in [
      ([1, -0.5, 1], ["negative", "element 1"]), ([0, 0, 0], ["zero"]), ([1, 1], ["shape"]),
      ([], ["shape"]),
    ] as [([Double], [String])] {
      _ = try put("w.npy", values)
      try await refuses(
        65, [w] + words, "solve", "--cost", c, "--source-weights", w, "--epsilon", "1", "--plan",
        folder("out.npy"))
    }
    // zeros among them are exact
    let r = try await results(
      "solve", "--cost", c, "--source-weights", try put("w.npy", [1, 0, 1]), "--epsilon", "0.1",
      "--plan", folder("p.npy"))[0]
    #expect(r["status"]?.string == "converged")
    #expect(try NumpyFile.read(folder("p.npy")).doubles[4..<8].allSatisfy { $0 == 0 })
  }
  @Test(arguments: [[0, 5], [5, 0], [0, 0], [4], [2, 2, 2]]) func shapes(_ extents: [Int])
    async throws
  {
    let c = try put("c.npy", Tensor.zeros(Shape(extents), type: .f64))
    try await refuses(65, [c], "solve", "--cost", c, "--epsilon", "1", "--plan", folder("out.npy"))
    if extents.count != 3 {
      try await refuses(65, [c], "solve", "--cost", c, "--epsilon", "1", "--batch")
    }
    if extents.count != 2 || extents.contains(0) {
      try await refuses(65, [c], "divergence", "--points", c, c, "--epsilon", "1")
    }
    try await refuses(
      65, [c], "barycenter", "--histograms", c, "--cost",
      try put("d.npy", uniform(Shape(3, 3), seed: 1)), "--epsilon", "1")
  }
  /// Numbers at the ends of the range: an answer whose status says what it is worth.
  @Test func extremes() async throws {
    let c = uniform(Shape(4, 5), seed: 1)
    let huge = try put("huge.npy", Tensor(c.doubles.map { $0 * 1e30 }, c.shape))
    let cost = try put("c.npy", c)
    for arguments in [
      ["--cost", huge, "--epsilon", "1"], ["--cost", cost, "--epsilon", "1e-300"],
      ["--cost", cost, "--epsilon", "1e-12"], ["--cost", cost, "--epsilon", "1e300"],
    ] {
      let run = try await ProgramRun(
        ProgramRun.program, ["ot", "solve", "--json", "--quiet", "--strict"] + arguments)
      let r = try JSONValue(parsing: run.lines.first ?? "null", name: "output")
      #expect(run.lines.count == 1 && run.error.isEmpty)
      let status = r["status"]?.string
      let isRight = number(r, "marginal_error_l1") < 1e-8
      #expect(run.status == (status == "converged" ? 0 : 2))
      #expect(
        status == "converged"
          ? isRight : ["stalled", "max_iterations", "non_finite"].contains(status ?? ""),
        "\(run.output)")
    }
    let scaled = try await results("solve", "--cost", huge, "--epsilon", "1e29")[0]
    let normal = try await results("solve", "--cost", cost, "--epsilon", "0.1")[0]
    #expect(abs(number(scaled, "cost") / number(normal, "cost") / 1e30 - 1) < 1e-9)
    try await refuses(
      65, ["f32"], "solve", "--cost",
      try put("wide.npy", Tensor(c.doubles.map { $0 * 1e300 }, c.shape)), "--epsilon", "1e299",
      "--dtype", "f32")
  }
  @Test func filesThatAreNoArrays() async throws {
    let good = try FolderContents.bytes(try put("c.npy", uniform(Shape(3, 4), seed: 1)))
    let out = folder("out.npy")
    func file(_ name: String, _ bytes: [UInt8]) throws -> String {
      try OutputFile.write(bytes, to: folder(name))
      return folder(name)
    }
    for cut in [0, 5, 9, 40, good.count - 1] {
      let path = try file("cut.npy", Array(good.prefix(cut)))
      try await refuses(65, [path], "solve", "--cost", path, "--epsilon", "1", "--plan", out)
    }
    func header(_ text: String) -> [UInt8] {
      [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(text.utf8.count), 0] + Array(text.utf8)
    }
    for (name, text, words) in [
      ("object", "{'descr': '|O', 'fortran_order': False, 'shape': (3, 4), }\n", ["|O"]),
      ("complex", "{'descr': '<c16', 'fortran_order': False, 'shape': (3, 4), }\n", ["<c16"]),
      ("text", "{'descr': '<U1', 'fortran_order': False, 'shape': (3, 4), }\n", ["<U1"]),
      (
        "claim", "{'descr': '<f8', 'fortran_order': False, 'shape': (3000000000, 3000000000), }\n",
        ["needs more"]
      ),
      ("evil", "__import__('os').system('true')\n", ["malformed"]),
    ] {
      let path = try file("\(name).npy", header(text) + [UInt8](repeating: 0, count: 96))
      try await refuses(
        65, [path] + words, "solve", "--cost", path, "--epsilon", "1", "--plan", out)
    }
    let archive = Array(Data(base64Encoded: Self.archive)!)
    for (name, bytes) in [
      ("cut.npz", Array(archive.dropLast(9))), ("text.npz", Array("hello".utf8)), ("none.npz", []),
      ("damaged.npz", archive.prefix(60) + [0xff, 0xff, 0xff, 0xff] + archive.dropFirst(64)),
    ] {
      let path = try file(name, bytes)
      try await refuses(65, [path], "solve", "--cost", "\(path):C", "--epsilon", "1", "--plan", out)
    }
    try await refuses(66, ["none.npy"], "solve", "--cost", folder("none.npy"), "--epsilon", "1")
    try await refuses(65, [folder.path], "solve", "--cost", folder.path, "--epsilon", "1")
    let c = folder("c.npy")
    let u = folder("u.safetensors")
    try SafetensorsWriter.write(
      [
        ("log_u", Tensor([0.0, .nan, 0], Shape(3))), ("log_v", Tensor.zeros(Shape(4), type: .f64)),
      ], to: u)
    try await refuses(
      65, [u, "log_u", "nan"], "solve", "--cost", c, "--epsilon", "1", "--start", u)
    try SafetensorsWriter.write(
      [
        ("log_u", Tensor.zeros(Shape(2), type: .f64)),
        ("log_v", Tensor.zeros(Shape(4), type: .f64)),
      ], to: u)
    try await refuses(65, [u, "[3, 4]"], "solve", "--cost", c, "--epsilon", "1", "--start", u)
    try SafetensorsWriter.write([("other", Tensor.zeros(Shape(2), type: .f64))], to: u)
    try await refuses(65, [u, "log_u"], "solve", "--cost", c, "--epsilon", "1", "--start", u)
  }
}
