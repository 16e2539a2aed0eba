import FoundationEssentials
import TestSupport
import Testing

/// The Python module's own tests, on the library built here. They need numpy; what needs torch or
/// POT, too, is skipped by them where these are missing.
@Suite(.serialized) struct PythonTests {
  private static func has(_ module: String) async -> Bool {
    (try? await ProgramRun("/usr/bin/env", ["python3", "-c", "import \(module)"]).status) == 0
  }

  @Test(.enabled("python3 has no numpy here") { await has("numpy") }) func modulesTestsPass()
    async throws
  {
    let built = try await ProgramRun("\(repository)/tools/library")
    #expect(built.status == 0, "\(built.error)")
    for name in ["test_pisces_ot.py", "test_pot_habits.py"] {
      let run = try await ProgramRun(
        "/usr/bin/env", ["python3", "\(repository)/tools/python/\(name)"],
        environment: ["PISCES_OT_LIBRARY": nil])
      #expect(run.status == 0 && run.error.contains("OK"), "\(name): \(run.error.suffix(3000))")
    }
  }
  /// Those of the package for the rewards, on the library that tools/test makes.
  @Test(
    .enabled("libpisces is not built: tools/reward-library") {
      await has("numpy")
        && FileManager.default.fileExists(atPath: "\(repository)/.build/library/libpisces.so.1")
    }) func rewardPackageTestsPass() async throws
  {
    let run = try await ProgramRun(
      "/usr/bin/env", ["python3", "\(repository)/tools/python/test_pisces.py"],
      environment: ["PISCES_LIBRARY": nil, "PISCES_PROGRAM": ProgramRun.program])
    #expect(run.status == 0 && run.error.contains("OK"), "\(run.error.suffix(3000))")
  }
  /// Loading the library with variables that stop LLVM's runtime elsewhere (omp_environment.c).
  @Test(
    .enabled("python3 has no numpy here") { await has("numpy") },
    arguments: ["", "abc", "-1", "99999999999999999999"])
  func oddThreadVariables(_ value: String) async throws {
    let script =
      "import numpy as np, pisces_ot as ot; print(ot.sinkhorn2([.5, .5], [.5, .5], np.eye(2), 1.0))"
    let run = try await ProgramRun(
      "/usr/bin/env", ["python3", "-c", script],
      environment: [
        "OMP_NUM_THREADS": value, "PYTHONPATH": "\(repository)/tools/python",
        "PISCES_OT_LIBRARY": nil,
      ])
    #expect(run.status == 0 && run.error.isEmpty, "'\(value)': \(run.status) \(run.error)")
  }
}
