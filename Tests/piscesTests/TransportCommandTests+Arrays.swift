import Files
import Foundation
import TensorRuntime
import TestSupport
import Testing

/// The files that costs and weights of `pisces ot` are read from.
extension TransportCommandTests {
  @Test func archivesAndNames() async throws {
    let zip = folder("all.npz")
    try OutputFile.write(Array(Data(base64Encoded: Self.archive)!), to: zip)
    let r = try await results(
      "solve", "--cost", "\(zip):C", "--source-weights", "\(zip):a", "--epsilon", "0.1")[0]
    #expect(r["status"]?.string == "converged")
    try await refuses(65, [zip, "'C'", "'a'"], "solve", "--cost", zip, "--epsilon", "0.1")
    try await refuses(65, [zip, "'b'"], "solve", "--cost", "\(zip):b", "--epsilon", "0.1")
  }
  /// numpy.savez_compressed(f, C=[[0, 1, 2], [3, 4, 5]] / 4, a=[0.25, 0.75]) of numpy 2.4.
  static let archive = """
    UEsDBC0AAAAIAAAAIQA0MXjI//////////8FABQAQy5ucHkBABAAsAAAAAAAAABXAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6TZqGuo6Cell9UUpSYF59flJIKEndLzClOBYoX
    ZyQWpAL5GkY6CsaaOgq1CmQDLgYUcMEeQj+A0i+g9Aco/cUeAFBLAwQtAAAACAAAACEA/U3qpv//////////BQAUAGEubnB5AQAQAJAAAAAAAAAATQAAAAAAAACb7BfqGxDJyFDGUK2e
    klqcXKRupaBuk2ahrqOgnpZfVFKUmBefX5SSChJ3S8wpTgWKF2ckFqQC+RpGOpo6CrUKFAAuBjC4YA+hX9gDAFBLAQItAy0AAAAIAAAAIQA0MXjIVwAAALAAAAAFAAAAAAAAAAAAAACA
    AQAAAABDLm5weVBLAQItAy0AAAAIAAAAIQD9TeqmTQAAAJAAAAAFAAAAAAAAAAAAAACAAY4AAABhLm5weVBLBQYAAAAAAgACAGYAAAASAQAAAAA=
    """.filter { !$0.isWhitespace }
  /// One cost in every form that numpy writes it in.
  @Test func formsOfArrays() async throws {
    let values: [UInt8] = [0, 3, 1, 2, 5, 4]
    let expected = number(
      try await results(
        "exact", "--cost", try put("c.npy", Tensor(values.map { Double($0) }, Shape(2, 3))))[0],
      "cost")
    func file(_ type: String, _ isFortran: Bool, _ bytes: [UInt8]) throws -> String {
      let text =
        "{'descr': '\(type)', 'fortran_order': \(isFortran ? "True" : "False"), 'shape': (2, 3), }\n"
      try OutputFile.write(
        [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(text.utf8.count), 0] + Array(text.utf8) + bytes,
        to: folder("form.npy"))
      return folder("form.npy")
    }
    let fortran = [0, 3, 1, 4, 2, 5].map { values[$0] }
    for (type, encode) in [
      (">f8", { withUnsafeBytes(of: Double($0).bitPattern.bigEndian) { Array($0) } }),
      (">i2", { [0, $0] }), ("<u4", { [$0, 0, 0, 0] }), ("|u1", { [$0] }),
      (">i8", { [0, 0, 0, 0, 0, 0, 0, $0] }),
    ] as [(String, (UInt8) -> [UInt8])] {
      for (isFortran, x) in [(false, values), (true, fortran)] {
        for command in [["exact"], ["solve", "--epsilon", "1e-3"]] {
          let r = try await ProgramRun(
            ProgramRun.program,
            ["ot"] + command + [
              "--cost", try file(type, isFortran, x.flatMap(encode)), "--json", "--quiet",
            ])
          let found = number(
            try JSONValue(parsing: r.lines.first ?? "null", name: "output"), "cost")
          #expect(r.status == 0 && abs(found - expected) < 1e-6, "\(type) \(isFortran): \(r.error)")
        }
      }
    }
  }
}
