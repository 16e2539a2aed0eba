import Evaluation
import Files
import PostTraining
import TensorRuntime
import TestSupport
import Testing
import Training

/// Every option of every command and every key of every run file, with values that are wrong nearly
/// everywhere: the program answers with a documented status and one error line, and never ends by a
/// signal. The lists come from the program itself, so that nothing new is left out.
@Suite(.serialized) struct RangeTests {
  static let values = ["0", "-1", "\(Int.min)", "\(Int.max)", "1e308", "nan", "inf", "", "word"]
  private static let documented: Set<Int32> = [0, 1, 2, 3, 4, 64, 65, 66, 69, 73, 74]
  private let models: TinyModels
  init() async throws {
    models = try await TinyModels()
    try Self.writeArrays(models.folder.path)
  }

  private static func writeArrays(_ folder: String) throws {
    try NumpyFile.write(
      Tensor([0, 1, 2, 3, 1, 0] as [Float], Shape(2, 3)), to: "\(folder)/cost.npy")
    try NumpyFile.write(Tensor([0, 1, 1, 0] as [Float], Shape(2, 2)), to: "\(folder)/square.npy")
    try NumpyFile.write(
      Tensor([0.5, 0.5, 0.25, 0.75] as [Float], Shape(2, 2)), to: "\(folder)/histograms.npy")
    try NumpyFile.write(Tensor([0, 1, 2, 3] as [Float], Shape(2, 2)), to: "\(folder)/points.npy")
    let result =
      "{\"bench\":\"x\",\"case\":{},\"threads\":1,\"isa\":\"scalar\",\"median_seconds\":1,\"seconds\":[1,1],\"debug_build\":false}\n"
    try OutputFile.write(result, to: "\(folder)/bench.jsonl")
    try OutputFile.write("a red circle\n", to: "\(folder)/prompts.txt")
  }

  /// A working and quick invocation of a command, without options that are tried on top of it.
  private func invocation(_ command: String) -> [String]? {
    let f = { (name: String) in models.folder(name) }
    let clip = "\(repository)/Tests/FilesTests/Clips/rabbit-look.mp4"
    let tiny = ["--size", "16", "--frames", "9"]
    let one = ["--steps", "1"]
    let sampling = ["--height", "16", "--width", "16", "--frames", "9", "--steps", "1"]
    switch command {
    case "score":
      return ["--model", models.reward, "--video", clip, "--prompt", "a rabbit", "--frames", "9"]
    case "embed":
      return [
        "--data", "\(repository)/Tests/FilesTests/Clips", "--reward", models.reward, "--frames",
        "9", "--output", f("out"),
      ]
    case "sample":
      return ["--model", models.generator, "--prompt", "a", "--output", f("out.npy")] + sampling
    case "train vae": return ["--config", f("vae.yaml"), "--run", f("run")] + tiny + one
    case "train encoders": return ["--config", f("encoders.yaml"), "--run", f("run")] + tiny + one
    case "train generator":
      return [
        "--config", f("generator.yaml"), "--run", f("run"), "--vae", models.vae, "--text-encoder",
        models.reward,
      ] + tiny + one
    case "train ot-map":
      return [
        "--reward", models.reward, "--run", f("run"), "--set", "pairs=16", "--set", "validation=16",
        "--set", "batch=8", "--set", "inner=1",
      ] + tiny + one
    case "train post":
      return [
        "--config", f("post.yaml"), "--run", f("run"), "--model", models.generator, "--reward",
        models.reward,
      ] + tiny + one
    case "train keys": return ["post"]
    case "evaluate": return ["--model", models.generator, "--prompts", "1"] + sampling
    case "demo":
      let small = [
        "prompts=2", "sampler_steps=1", "map.steps=1", "map.pairs=64", "map.validation=64",
        "map.batch=16", "post.steps=1", "post.batch=2", "post.post.pool=4",
        "post.post.sampler_steps=1",
      ]
      return ["--generator", models.generator, "--reward", models.reward, "--output", f("out")]
        + small.flatMap { ["--set", $0] }
    case "ot solve": return ["--cost", f("cost.npy"), "--epsilon", "1", "--max-iterations", "100"]
    case "ot exact": return ["--cost", f("cost.npy")]
    case "ot divergence":
      return [
        "--points", f("points.npy"), f("points.npy"), "--epsilon", "1", "--max-iterations", "100",
      ]
    case "ot barycenter":
      return [
        "--histograms", f("histograms.npy"), "--cost", f("square.npy"), "--epsilon", "1",
        "--max-iterations", "100",
      ]
    case "bench gemm": return ["--m", "16", "--n", "16", "--k", "16", "--repeat", "1"]
    case "bench attention":
      return ["--heads", "1", "--tokens", "16", "--dimension", "16", "--repeat", "1"]
    case "bench conv": return ["--channels", "4", "--frames", "2", "--size", "8", "--repeat", "1"]
    case "bench ot": return ["--text", "4", "--video", "9", "--heads", "1", "--repeat", "1"]
    case "bench ot-map": return ["--batch", "8", "--inner", "1", "--repeat", "1"]
    case "bench step": return ["--generator", models.folder("none")]
    // Their sizes are the real ones: only what is refused is tried.
    case "bench encoder", "bench generator", "bench vae", "bench startup", "bench all": return []
    // A model that cannot be written, so that nothing long begins.
    case "bench score": return ["--model", "/dev/null/model"]
    case "bench cluster", "bench rates": return []
    case "plan": return ["--run", f("none")]
    case "bench compare": return [f("bench.jsonl"), f("bench.jsonl")]
    case "convert": return ["--input", "\(models.reward)/model.safetensors", "--output", f("out")]
    case "info": return [models.vae]
    case "doctor": return []
    default: return nil
    }
  }
  /// Options whose valid values start long work, for the commands above: only values that must be
  /// refused are tried.
  private static func isOnlyRefused(_ command: String) -> Bool {
    [
      "bench encoder", "bench generator", "bench vae", "bench startup", "bench score", "bench all",
      "bench cluster", "bench rates", "plan", "doctor",
    ].contains(command)
  }

  private struct Failure: Sendable, CustomStringConvertible {
    let arguments: [String], status: Int32, error: String
    var description: String {
      """
      pisces \(arguments.map { $0.isEmpty ? "''" : $0 }.joined(separator: " ")): status \(status): \
      \(error.prefix(400))
      """
    }
  }
  /// Runs all, two at a time; what did not end as documented.
  private func failures(_ runs: [[String]]) async throws -> [Failure] {
    try await withThrowingTaskGroup(of: Failure?.self) { group in
      var found: [Failure] = []
      var next = 0
      func start(_ group: inout ThrowingTaskGroup<Failure?, any Error>) {
        guard next < runs.count else { return }
        // Every run has a folder of its own for what it writes.
        let scratch = "\(models.folder.path)/\(next)"
        let arguments = runs[next].map {
          $0.replacing("\(models.folder.path)/run", with: "\(scratch)-run").replacing(
            "\(models.folder.path)/out", with: "\(scratch)-out")
        }
        let folder = models.folder.path
        next += 1
        group.addTask {
          let run = try await ProgramRun(
            "/usr/bin/timeout", ["60", ProgramRun.program] + arguments + ["--quiet"],
            environment: ["OMP_WAIT_POLICY": "passive"], folder: folder)
          let lines = run.errorLines
          let isSaid =
            [0, 1, 4].contains(run.status)
            ? true : lines.count == 1 && lines[0].hasPrefix("pisces: error: ")
          return Self.documented.contains(run.status) && isSaid
            ? nil : Failure(arguments: arguments, status: run.status, error: run.error)
        }
      }
      for _ in 0..<2 { start(&group) }
      while let result = try await group.next() {
        if let result { found.append(result) }
        start(&group)
      }
      return found
    }
  }

  @Test func everyOption() async throws {
    let help = try await ProgramRun(ProgramRun.program, ["--experimental-dump-help"])
    let tree = try #require(try JSONValue(parsing: help.output, name: "help")["command"])
    var runs: [[String]] = []
    var commands: [String] = []
    func visit(_ command: JSONValue, _ path: [String]) throws {
      let children = command["subcommands"]?.array ?? []
      for child in children { try visit(child, path + [child["commandName"]?.string ?? ""]) }
      if !children.isEmpty || path == ["help"] { return }
      let name = path.joined(separator: " ")
      let base = try #require(invocation(name), "\(name) has no invocation in RangeTests")
      commands.append(name)
      for argument in command["arguments"]?.array ?? [] where argument["kind"]?.string != "flag" {
        let option = argument["valueName"]?.string ?? ""
        for value in Self.values {
          if Self.isOnlyRefused(name) && ["repeat", "threads"].contains(option) == false
            && value != "" && value != "word"
          {
            continue
          }
          if Self.isOnlyRefused(name) && value == "0" { continue }
          var arguments = base
          if argument["kind"]?.string == "positional" {
            arguments = [value] + base.dropFirst()
          } else {
            while let i = arguments.firstIndex(of: "--\(option)"),
              argument["isRepeating"]?.bool != true
            { arguments.removeSubrange(i...i + 1) }
            arguments += ["--\(option)", value]
          }
          runs.append(path + arguments)
        }
      }
    }
    try visit(tree, [])
    #expect(runs.count > 1500)
    // The invocations that values are put into do work by themselves: a refusal is then the
    // value's.
    for (i, command) in commands.enumerated()
    where !Self.isOnlyRefused(command) && command != "bench step" {
      let arguments =
        command.split(separator: " ").map(String.init)
        + invocation(command)!.map {
          $0.replacing(models.folder("run"), with: models.folder("base-run-\(i)")).replacing(
            models.folder("out"), with: models.folder("base-out-\(i)"))
        }
      let run = try await ProgramRun(ProgramRun.program, arguments)
      #expect(run.status == 0, "pisces \(arguments.joined(separator: " ")): \(run.error)")
    }
    for failure in try await failures(runs) { Issue.record("\(failure)") }
  }

  /// Values that are inside their ranges and do not go together.
  @Test func keysThatDoNotGoTogether() async throws {
    let cases: [(command: String, overrides: [String])] = [
      ("train vae", ["model.block_out_channels=[4]"]), ("train vae", ["model.norm_num_groups=3"]),
      ("train vae", ["model.temporal_compression_ratio=3"]),
      ("train vae", ["model.block_out_channels=[4, 4]", "model.temporal_compression_ratio=4"]),
      ("train vae", ["model.spatial_compression_ratio=128"]),
      ("train encoders", ["model.vision_encoder.tubelet_size=2"]),
      ("train encoders", ["model.vision_encoder.num_heads=3"]),
      ("train encoders", ["model.max_txt_l=600"]),
      ("train encoders", ["model.text_encoder.fusion_layer=9"]),
      ("train encoders", ["model.vision_encoder.mlp_ratio=1e-9"]),
      ("train encoders", ["malformed_share=[0.5, 0.5]"]),
      ("train generator", ["model.patch_size=3"]), ("train generator", ["model.patch_size_t=2"]),
      ("train generator", ["model.mlp_ratio=1e-9"]),
      ("train generator", ["model.rope_axes_dim=[2, 2, 6]"]),
      ("train generator", ["distil_guidance=2"]), ("train ot-map", ["batch=17"]),
      ("train post", ["schedule.levels=3"]), ("train post", ["schedule.phases=4000-51"]),
      ("train post", ["post.index_range=[5, 3]"]), ("train post", ["lora.targets=[\"x\"]"]),
      ("train post", ["post.latents=self", "post.pool=1"]),
      ("train post", ["objective=grpo", "lora.targets=[\"x\"]"]), ("demo", ["map.pairs=8"]),
      ("demo", ["post.objective=grpo"]), ("train post", ["accumulation=3", "cluster.leaf=2"]),
      ("train generator", ["batch=2", "accumulation=3"]), ("train vae", ["accumulation=50"]),
    ]
    for (i, one) in cases.enumerated() {
      let base = invocation(one.command)!.map {
        $0.replacing(models.folder("run"), with: models.folder("pair-\(i)"))
      }
      let run = try await ProgramRun(
        ProgramRun.program,
        one.command.split(separator: " ").map(String.init) + base
          + one.overrides.flatMap { ["--set", $0] } + ["--quiet"])
      #expect(
        run.status == 64 && run.errorLines.count == 1 && run.error.hasPrefix("pisces: error: "),
        "\(one): \(run.status) \(run.error)")
    }
  }

  /// Every field of every `config.json` of a model with values no network has: refused, or
  /// harmless, never a signal.
  @Test func everyFieldOfAModel() async throws {
    let size = ["--height", "16", "--width", "16", "--frames", "9"]
    let clip = "\(repository)/Tests/FilesTests/Clips/rabbit-look.mp4"
    let sample = { (folder: String) in
      [
        "sample", "--model", folder, "--prompt", "a", "--output", "\(folder)/out.npy", "--steps",
        "1",
      ] + size
    }
    let score = { (folder: String) in
      ["score", "--model", folder, "--video", clip, "--prompt", "a rabbit", "--frames", "9"]
    }
    let targets: [(model: String, file: String, commands: [(String) -> [String]])] = [
      (
        models.generator, "vae/config.json",
        [sample, { ["evaluate", "--vae", "\($0)/vae", "--prompts", "1"] + size }]
      ), (models.generator, "transformer/config.json", [sample]),
      (models.generator, "scheduler/scheduler_config.json", [sample]),
      (models.generator, "text_encoder/config.json", [sample]),
      (models.reward, "config.json", [score, { ["doctor", $0] }]),
    ]
    let values: [JSONValue] = [
      0, -1, .integer(.min), .integer(.max), .number(1e308), "word", .null, .array([]),
    ]
    var runs: [[String]] = []
    for (model, file, commands) in targets {
      let config = try JSONValue(contentsOf: "\(model)/\(file)")
      for path in Self.leaves(config) {
        for (i, value) in values.enumerated() {
          let copy = models.folder("field-\(runs.count)-\(i)")
          try FileTree.copy(model, to: copy)
          try OutputFile.write(
            Self.replacing(config, path[...], with: value).line, to: "\(copy)/\(file)")
          for command in path.contains("img_size") || commands.count == 1 || file != "config.json"
            ? commands[...] : commands.prefix(1)
          { runs.append(command(copy)) }
        }
      }
    }
    #expect(runs.count > 400)
    for failure in try await failures(runs) { Issue.record("\(failure)") }
  }
  private static func leaves(_ value: JSONValue, _ path: [String] = []) -> [[String]] {
    guard let members = value.object?.members else { return [path] }
    return members.flatMap { leaves($0.value, path + [$0.key]) }
  }
  private static func replacing(
    _ config: JSONValue, _ path: ArraySlice<String>, with value: JSONValue
  ) -> JSONValue {
    guard let key = path.first, var object = config.object else { return value }
    object[key] = replacing(object[key] ?? .null, path.dropFirst(), with: value)
    return .object(object)
  }

  /// Values that the reader refuses are tried on the program once for each key, the others all.
  @Test(arguments: ["vae", "encoders", "generator", "ot-map", "post", "demo"]) func everyKey(
    of owner: String
  ) async throws {
    let keys = try await ProgramRun(ProgramRun.program, ["train", "keys", owner, "--json"])
    let command = owner == "demo" ? ["demo"] : ["train", owner]
    let base = try #require(invocation(command.joined(separator: " ")))
    let settings: any Settings.Type =
      switch owner {
      case "vae": AutoencoderSettings.self
      case "encoders": EncoderSettings.self
      case "generator": GeneratorSettings.self
      case "ot-map": OTMapSettings.self
      case "post": PostSettings.self
      default: DemoSettings.self
      }
    var runs: [[String]] = []
    var tried = 0
    for line in keys.lines {
      let row = try JSONValue(parsing: line, name: "keys")
      let key = try #require(row["key"]?.string)
      // The demo's parts have the keys of the training commands.
      let choices =
        owner == "demo" && key.contains(".") ? [] : Self.choices(row["range"]?.string ?? "")
      var refused = false
      for value in Self.values + choices {
        tried += 1
        let setting = "\(key)=\(value)"
        if let refusal = Self.refusal(of: setting, settings) {
          #expect(refusal.contains(key) && !refusal.contains { $0.isNewline }, "\(refusal)")
          if refused { continue }
          refused = true
        }
        runs.append(command + base + ["--set", setting])
      }
    }
    #expect(tried > 100 && runs.count > keys.lines.count)
    for failure in try await failures(runs) { Issue.record("\(failure)") }
  }
  /// What the reader of run files says against a setting; nil: nothing.
  private static func refusal<S: Settings>(of setting: String, _: S.Type) -> String? {
    do {
      _ = try SettingsReader.read(S.self, overrides: [setting])
      return nil
    } catch { return "\(error)" }
  }
  /// The values of a range such as "constant, linear or cosine"; none of one of numbers.
  private static func choices(_ range: String) -> [String] {
    let words = range.replacing(" or ", with: ", ").split(separator: ", ").map(String.init)
    return words.contains { $0.contains(" ") } ? [] : words
  }
}
