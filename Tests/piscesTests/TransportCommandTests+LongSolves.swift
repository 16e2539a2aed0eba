import Files
import Foundation
import TensorRuntime
import TestSupport
import Testing

/// The transport commands: interrupts, progress and memory.
extension TransportCommandTests {
  @Test func interruptLeavesPotentials() async throws {
    let x = try put("x.npy", uniform(Shape(3000, 6), seed: 1))
    let y = try put("y.npy", uniform(Shape(3000, 6), seed: 2))
    let out = folder("u.safetensors")
    let arguments = [
      "ot", "solve", "--points", x, y, "--epsilon", "1e-4", "--tolerance", "1e-15",
      "--max-iterations", "100000000", "--potentials", out,
    ]
    let status = try await ProgramRun.signalled(ProgramRun.program, arguments, SIGINT) {
      try await Task.sleep(for: .seconds(2))
    }
    #expect(status == 75)
    #expect(try TensorFile.read("\(out):log_u").shape == Shape(3000))
  }
  @Test func progressOfLongSolves() async throws {
    let x = try put("x.npy", uniform(Shape(3000, 6), seed: 1))
    let r = try await run(
      "solve", "--points", x, x, "--epsilon", "1e-3", "--tolerance", "0", "--max-iterations", "60")
    #expect(r.status == 0)
    #expect(r.errorLines.allSatisfy { $0.hasPrefix("pisces: ") })
    if let line = r.errorLines.first(where: { $0.contains("residual") }) {
      #expect(line.contains(" iterations, residual ") && line.hasSuffix(" s"))
    }
  }
  /// A file of 40 GB without contents: its problem is refused before anything is read.
  @Test func memoryIsSaidAndRefused() async throws {
    let n = 100_000
    let path = folder("big.npy")
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (\(n), \(n)), }"
    // data from byte 128, as numpy aligns them
    let header = text + String(repeating: " ", count: 117 - text.utf8.count) + "\n"
    try OutputFile.write(
      [0x93] + Array("NUMPY".utf8) + [1, 0, UInt8(header.utf8.count), 0] + Array(header.utf8),
      to: path)
    guard truncate(path, 10 + header.utf8.count + 4 * n * n) == 0 else { return }
    try await refuses(1, [path, "GB", "--points"], "solve", "--cost", path, "--epsilon", "0.1")
  }
}
