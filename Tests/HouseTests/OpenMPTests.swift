import Files
import TensorRuntime
import TestSupport
import Testing

/// Exactly one OpenMP runtime is in the process, LLVM's: two would mean two teams of threads on the
/// same cores.
@Suite struct OpenMPTests {
  /// The OpenMP runtimes among the files mapped by a process, each once.
  static func runtimes(in maps: String) -> Set<String> {
    Set(
      maps.split(separator: "\n").compactMap { $0.split(separator: " ").last }.map(String.init)
        .filter { path in
          let name = path.split(separator: "/").last ?? ""
          return ["libomp", "libgomp", "libiomp"].contains { name.hasPrefix($0) }
        })
  }

  @Test func oneRuntimeInThisProcess() throws {
    // A product large enough for several tiles: the OpenMP team has been at work.
    let work = Workspace()
    let a = randomTensor(Shape(600, 300), seed: 1, type: .f32)
    let b = randomTensor(Shape(300, 800), seed: 2, type: .f32)
    #expect(work.matmul(a, b).shape == Shape(600, 800))
    let found = Self.runtimes(in: try #require(TextFile.system("/proc/self/maps")))
    #expect(found.count == 1, "\(found)")
    #expect(found.allSatisfy { $0.contains("libomp") }, "\(found)")
  }

  @Test func theLinkerBringsOneRuntimeIntoTheProgram() async throws {
    let run = try await ProgramRun(
      "/usr/bin/env", ["LD_TRACE_LOADED_OBJECTS=1", ProgramRun.program])
    let libraries = run.lines.compactMap { $0.split(whereSeparator: \.isWhitespace).first }.filter {
      $0.hasPrefix("libomp") || $0.hasPrefix("libgomp") || $0.hasPrefix("libiomp")
    }
    #expect(libraries == ["libomp.so.5"], "\(run.output)")
    #expect(!run.output.contains("libblis"))
  }
}
