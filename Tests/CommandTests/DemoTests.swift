import Files
import TestSupport
import Testing

/// The demo's order of events on tiny models: everything it promises comes out, and its words agree with its intervals.
@Suite struct DemoTests {
  @Test func reportsWhatHappened() async throws {
    let models = try await TinyModels(), out = models.folder("demo")
    let small = ["prompts=12", "sampler_steps=2", "map.steps=2", "map.pairs=64", "map.validation=64", "map.batch=16", "post.steps=3", "post.batch=2", "post.post.pool=4", "post.post.sampler_steps=2"]
    let run = try await ProgramRun(
      ProgramRun.program, ["demo", "--generator", models.generator, "--reward", models.reward, "--output", out, "--control", "--json", "--seed", "5"] + small.flatMap { ["--set", $0] })
    #expect(run.status == 0, "\(run.error)")
    let summary = try JSONValue(parsing: try #require(run.lines.last), name: "output")
    #expect(summary["seed"] == 5 && summary["prompts"] == 12)
    for key in ["semantic_change", "quality_change", "semantic_over_control", "quality_over_control"] {
      let c = try #require(summary[key], "\(key)"), low = try #require(c["low"]?.number), high = try #require(c["high"]?.number), difference = try #require(c["difference"]?.number)
      #expect(low <= difference && difference <= high, "\(key)")
    }
    for key in ["drift", "struct_rho", "mknn_after", "energy_distance_after", "seconds"] { #expect(summary[key]?.number != nil, "\(key)") }
    let phases = try #require(summary["phases"]?.array)
    #expect(phases.count >= 7 && phases.allSatisfy { $0["seconds"]?.number != nil && $0["peak_tensor_bytes"]?.integer != nil })
    for name in ["report.html", "samples.png", "samples.gif", "summary.json"] { #expect(FileTree.exists("\(out)/\(name)"), "\(name)") }
    let report = try TextFile.read("\(out)/report.html"), semantic = try #require(summary["semantic_change"])
    let word = semantic["low"]!.number! > 0 ? "semantic score rose" : semantic["high"]!.number! < 0 ? "semantic score fell" : "semantic score did not change measurably"
    #expect(report.contains(word))
    #expect(report.contains("the control"))
  }
  /// Without embedded models, and told to use none, it says so in one line.
  @Test func missingModels() async throws {
    let scratch = try ScratchFolder(), run = try await ProgramRun(ProgramRun.program, ["demo", "--generator", scratch("none"), "--output", scratch("out"), "--quiet"])
    #expect(run.status == 66 && run.errorLines.count == 1 && !FileTree.exists(scratch("out")), "\(run.error)")
  }
}
