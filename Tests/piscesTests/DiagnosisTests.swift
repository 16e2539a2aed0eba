import Files
import TestSupport
import Testing

/// `info`, `doctor` and `bench`, as a script reads them.
@Suite struct DiagnosisTests {
  private func objects(_ run: ProgramRun) throws -> [JSONValue] {
    try run.lines.map { try JSONValue(parsing: $0, name: "output") }
  }

  @Test func infoInJSON() async throws {
    let run = try await ProgramRun.pisces("info", "--json", "--quiet")
    #expect(run.status == 0 && run.error.isEmpty, "\(run.error)")
    let o = try #require(try objects(run).first)
    for key in [
      "version", "threads", "thread_origin", "isa", "isa_detected", "cpu",
      "openmp", "cpu_features", "debug_build",
    ] { #expect(o[key] != nil, "\(key)") }
    #expect(o["openmp"]?.array?.count == 1)
  }
  /// The instruction set can be lowered, the number of threads set, and both are obeyed.
  @Test(arguments: ["scalar", "avx2"]) func infoObeys(_ isa: String) async throws {
    let run = try await ProgramRun.pisces(
      "info", "--json", "--threads", "1", environment: ["PISCES_ISA": isa])
    let o = try #require(try objects(run).first)
    #expect(o["threads"] == 1 && o["thread_origin"] == "--threads")
    #expect(o["isa"]?.string == isa || o["isa_detected"] == "scalar")
    let limited = try await ProgramRun.pisces(
      "info", "--json", environment: ["OMP_NUM_THREADS": "1", "SLURM_CPUS_PER_TASK": nil])
    #expect(try objects(limited).first?["threads"] == 1)
  }
  @Test func doctorChecksKernelsAndLibraries() async throws {
    let run = try await ProgramRun.pisces("doctor", "--json")
    let checks = try objects(run)
    for name in ["threads", "openmp", "blis", "ffmpeg", "cgroup quota"] {
      #expect(checks.contains { $0["check"]?.string == name }, "\(name)")
    }
    let kernels = checks.filter { $0["check"]?.string?.hasPrefix("kernels") == true }
    #expect(!kernels.isEmpty && kernels.allSatisfy { $0["ok"] == true }, "\(run.output)")
    #expect(checks.first { $0["check"] == "openmp" }?["ok"] == true, "\(run.output)")
    #expect(run.status == (checks.allSatisfy { $0["ok"] == true } ? 0 : 1))
  }
  /// More threads than processors is something a doctor says.
  @Test func doctorFindsTooManyThreads() async throws {
    let run = try await ProgramRun.pisces("doctor", "--threads", "512")
    #expect(run.status == 1)
    #expect(run.lines.contains { $0.hasPrefix("FAIL threads") }, "\(run.output)")
  }
  /// A generator directory has three models: network, autoencoder and text encoder.
  @Test(arguments: ["embedded:generator", "embedded:reward"])
  func doctorRunsModels(_ model: String) async throws {
    let run = try await ProgramRun.pisces("doctor", model, "--json")
    let models = try objects(run).filter { $0["check"]?.string?.contains(model) == true }
    #expect(models.count == (model == "embedded:generator" ? 6 : 2), "\(run.output)")
    #expect(models.allSatisfy { $0["ok"] == true }, "\(run.output)")
  }
  @Test func missingAndCorruptModels() async throws {
    let folder = try ScratchFolder()
    #expect(try await ProgramRun.pisces("info", folder("nothing")).status == 66)
    try OutputFile.write("not a checkpoint", to: folder("bad.safetensors"))
    let run = try await ProgramRun.pisces("info", folder("bad.safetensors"))
    #expect(run.status == 65 && run.errorLines.last!.contains("bad.safetensors"), "\(run.error)")
  }

  @Test(arguments: [
    ["gemm", "--m", "33", "--n", "50", "--k", "17"],
    ["gemm", "--m", "33", "--n", "300", "--k", "500", "--packed", "--compute-dtype", "bf16"],
    ["gemm", "--m", "8", "--n", "9", "--k", "10", "--batch", "5", "--dtype", "bf16"],
    ["attention", "--heads", "2", "--tokens", "70", "--dimension", "8", "--pass", "both"],
    ["conv", "--channels", "4", "--frames", "3", "--size", "8", "--pass", "both"],
    ["generator", "--pass", "step"], ["startup"],
  ])
  func benchInJSON(_ arguments: [String]) async throws {
    let run = try await ProgramRun(
      ProgramRun.program, ["bench"] + arguments + ["--json", "--repeat", "2"])
    #expect(run.status == 0, "\(run.error)")
    let o = try #require(try objects(run).first)
    let fields = [
      "bench", "case", "threads", "isa", "median_seconds", "min_seconds", "max_seconds",
      "spread_seconds", "repeats", "seconds", "gflops", "gbytes_per_second", "gexp_per_second",
      "limit", "share_of_limit", "verified", "debug_build", "noisy",
      "version", "commit", "cpu", "date",
    ]
    #expect(o.object?.keys == fields)
    #expect(o["bench"]?.string == arguments[0] && o["verified"] == true && o["repeats"] == 2)
  }
  /// Intervals: all repeats alike leave no width; a case counts as slower only with its whole
  /// interval.
  @Test func benchesAreCompared() async throws {
    let folder = try ScratchFolder()
    func write(_ name: String, _ cases: [(m: Int, seconds: String)], debug: Bool = false) throws
      -> String
    {
      try OutputFile.write(
        cases.map {
          #"{"bench":"gemm","case":{"m":\#($0.m)},"threads":1,"isa":"avx2","seconds":[\#($0.seconds)],"debug_build":\#(debug),"noisy":false}"#
            + "\n"
        }.joined(), to: folder(name))
      return folder(name)
    }
    let before = try write("a", [(8, "1,1,1"), (9, "2,2,2"), (10, "1,1,1")])
    let after = try write("b", [(9, "3,3,3"), (8, "1,1,1.5,0.5,1"), (11, "1")])
    let run = try await ProgramRun.pisces("bench", "compare", before, after, "--json")
    let rows = try objects(run)
    #expect(
      run.status == 0 && rows.map { $0["ratio"]?.number } == [1, 1.5] && rows[1]["low"] == 1.5
        && rows[1]["high"] == 1.5, "\(run.output)")
    #expect(
      rows[0]["low"]!.number! < 1 && rows[0]["high"]!.number! > 1 && run.error.contains("m=10")
        && run.error.contains("m=11"), "\(run.output)\(run.error)")
    #expect(
      try await ProgramRun.pisces("bench", "compare", before, after, "--fail-if-slower", "60%")
        .status == 0)
    #expect(
      try await ProgramRun.pisces("bench", "compare", before, after, "--fail-if-slower", "40%")
        .status == 1)
    #expect(
      try await ProgramRun.pisces("bench", "compare", before, write("c", [(8, "1")], debug: true))
        .status == 65)
    #expect(
      try await ProgramRun.pisces("bench", "compare", before, write("d", [(1, "1")])).status == 65)
  }
  @Test(arguments: [
    ["bench", "gemm", "--m", "0"], ["bench", "compare", "a", "b", "--fail-if-slower", "-1"],
    ["bench", "attention", "--pass", "step"], ["bench", "nothing"],
    ["convert", "--input", "a", "--output", "b", "--kind", "c"],
  ])
  func wrongValuesAre64(_ arguments: [String]) async throws {
    #expect(try await ProgramRun(ProgramRun.program, arguments).status == 64)
  }
}
