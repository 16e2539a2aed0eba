import Files
import TestSupport
import Testing

/// The demo's order of events on tiny models: everything it promises comes out, and its words agree
/// with its intervals.
@Suite struct DemoTests {
  @Test func reportsWhatHappened() async throws {
    let models = try await TinyModels()
    let out = models.folder("demo")
    let small = [
      "prompts=12", "sampler_steps=2", "map.steps=2", "map.pairs=64", "map.validation=64",
      "map.batch=16", "post.steps=3", "post.batch=2", "post.post.pool=4",
      "post.post.sampler_steps=2",
    ]
    let run = try await ProgramRun(
      ProgramRun.program,
      [
        "demo", "--generator", models.generator, "--reward", models.reward, "--output", out,
        "--control", "--json", "--seed", "5",
      ] + small.flatMap { ["--set", $0] })
    #expect(run.status == 0, "\(run.error)")
    let summary = try JSONValue(parsing: try #require(run.lines.last), name: "output")
    #expect(
      summary["seed"] == 5 && summary["prompts"] == 12
        && summary["peak_resident_bytes"]?.integer ?? 0 > 1 << 20)
    for side in ["unguided", "guided"] {
      for key in [
        "semantic_change", "quality_change", "semantic_over_control", "quality_over_control",
      ] {
        let c = try #require(summary[side]?[key], "\(side) \(key)")
        let difference = try #require(c["difference"]?.number)
        #expect(
          try #require(c["low"]?.number) <= difference && difference <= #require(c["high"]?.number),
          "\(side) \(key)")
        #expect(
          try abs(#require(c["after"]?.number) - #require(c["before"]?.number) - difference) < 1e-9,
          "\(side) \(key)")
      }
    }
    for key in ["drift", "struct_rho", "mknn_after", "energy_distance_after", "seconds"] {
      #expect(summary[key]?.number != nil, "\(key)")
    }
    let phases = try #require(summary["phases"]?.array)
    #expect(
      phases.count >= 10
        && phases.allSatisfy {
          $0["seconds"]?.number != nil && $0["peak_tensor_bytes"]?.integer != nil
        })
    for name in ["report.html", "samples.png", "samples.gif", "summary.json"] {
      #expect(FileTree.exists("\(out)/\(name)"), "\(name)")
    }
    let report = try TextFile.read("\(out)/report.html")
    let semantic = try #require(summary["unguided"]?["semantic_change"])
    let word =
      semantic["low"]!.number! > 0
      ? "semantic score rose"
      : semantic["high"]!.number! < 0
        ? "semantic score fell" : "semantic score did not change measurably"
    #expect(report.contains(word))
    #expect(report.contains("The control takes the same steps"))
    // A loop before and one after for each prompt shown, twice: without guidance and with.
    #expect(report.ranges(of: "class=\"loop\"").count == 4 * 12)
  }
  /// The control trains: without rewards it is not the generator before.
  @Test func theControlMoves() async throws {
    let models = try await TinyModels()
    let out = models.folder("control")
    let small = [
      "prompts=4", "shown=1", "sampler_steps=2", "map.steps=2", "map.pairs=64", "map.validation=64",
      "map.batch=16", "post.steps=3", "post.batch=2", "post.post.pool=4",
      "post.post.sampler_steps=2",
    ]
    try await models.pisces(
      [
        "demo", "--generator", models.generator, "--reward", models.reward, "--output", out,
        "--control", "--quiet",
      ] + small.flatMap { ["--set", $0] })
    let summary = try JSONValue(contentsOf: "\(out)/summary.json")
    let change = try #require(summary["unguided"]?["quality_change"])
    let over = try #require(summary["unguided"]?["quality_over_control"])
    #expect(change["before"] != over["before"])
  }
  /// Short video: distilled, then trained with rewards on own samples, and the same without them.
  @Test func shortVideo() async throws {
    let scratch = try ScratchFolder()
    let small = [
      "prompts=3", "shown=1", "base_steps=2", "few_steps=2", "distillation.steps=1",
      "distillation.batch=2", "distillation.clips=4", "post.steps=1", "post.batch=2",
      "post.post.pool=4", "post.ema.enabled=false",
    ]
    func demo(_ settings: [String], _ options: [String] = []) async throws -> ProgramRun {
      try await ProgramRun(
        ProgramRun.program,
        ["demo", "--generator", "short", "--output", scratch("out"), "--json", "--quiet"] + options
          + settings.flatMap { ["--set", $0] })
    }
    for setting in [
      "distillation.post.latents=self", "post.post.latents=data", "distillation.post.fps=4",
    ] {
      let run = try await demo(small + [setting])
      #expect(run.status == 64 && run.errorLines.count == 1 && !FileTree.exists(scratch("out")))
    }
    let run = try await demo(small, ["--control"])
    #expect(run.status == 0, "\(run.error)")
    let summary = try JSONValue(parsing: try #require(run.lines.last), name: "output")
    for key in ["distilled", "rewarded", "over_distilled", "control", "over_control"] {
      let change = try #require(summary[key]?["quality"], "\(key)")
      let difference = try #require(change["difference"]?.number)
      #expect(
        try #require(change["low"]?.number) <= difference
          && difference <= #require(change["high"]?.number), "\(key)")
    }
    // Training goes on from the distilled generator, with the rewards and without them.
    func quality(_ key: String, _ side: String) -> JSONValue? { summary[key]?["quality"]?[side] }
    #expect(quality("distilled", "after") == quality("over_distilled", "before"))
    #expect(quality("over_distilled", "after") != quality("over_distilled", "before"))
    #expect(quality("over_control", "before") != quality("over_control", "after"))
    #expect(try TextFile.read(scratch("out/report.html")).contains("without rewards"))
  }
  /// Without embedded models, and told to use none, it says so in one line.
  @Test func missingModels() async throws {
    let scratch = try ScratchFolder()
    let run = try await ProgramRun(
      ProgramRun.program,
      ["demo", "--generator", scratch("none"), "--output", scratch("out"), "--quiet"])
    #expect(
      run.status == 66 && run.errorLines.count == 1 && !FileTree.exists(scratch("out")),
      "\(run.error)")
  }
}
