import Files
import TensorRuntime
import TestSupport
import Testing

/// Real mp4s with captions, from file to checkpoint to sampled mp4. Networks this small learn
/// little; that losses fall and files come out is what is tested.
@Suite(.serialized) struct RealClipTests {
  private let clips = "\(repository)/Tests/FilesTests/Clips"

  @Test func everyTrainingCommandTakesAFolderOfClips() async throws {
    let models = try await TinyModels()
    let f = models.folder
    let data = ["--data", clips, "--size", "16", "--frames", "9", "--quiet"]
    try await models.pisces(
      [
        "train", "vae", "--config", f("vae.yaml"), "--run", f("real/vae"), "--set", "steps=60",
        "--set", "single_frame_share=0", "--set", "learning_rate=0.01",
      ] + data)
    try await models.pisces(
      [
        "train", "encoders", "--config", f("encoders.yaml"), "--run", f("real/encoders"), "--set",
        "batch=2", "--set", "steps=60", "--set", "learning_rate=0.01",
      ] + data)
    try await models.pisces(
      [
        "train", "generator", "--config", f("generator.yaml"), "--run", f("real/generator"),
        "--vae", f("real/vae/model"), "--text-encoder", f("real/encoders/model"), "--set",
        "steps=60", "--set", "batch=2",
      ] + data)
    try await models.pisces(
      [
        "train", "ot-map", "--reward", f("real/encoders/model"), "--run", f("real/map"), "--set",
        "steps=4", "--set", "batch=2",
      ] + data)
    try await models.pisces(
      [
        "train", "post", "--model", f("real/generator/model"), "--reward", f("real/encoders/model"),
        "--ot-map", f("real/map/model/ot_map.safetensors"), "--config", f("post.yaml"), "--run",
        f("real/post"),
        "--set", "batch=1", "--set", "steps=3",
      ] + data)
    for run in ["vae", "encoders", "generator"] {
      let losses = try JSONLines.read(f("real/\(run)/metrics.jsonl")).compactMap {
        $0.value["loss"]?.number
      }
      let first = losses.prefix(10).reduce(0, +)
      let last = losses.suffix(10).reduce(0, +)
      #expect(losses.count == 60 && last < first, "\(run): \(first / 10) to \(last / 10)")
    }
    try await models.pisces(
      [
        "sample", "--model", f("real/post/model"), "--prompt", "a rabbit", "--output",
        f("real.mp4"), "--height", "16", "--width", "16", "--frames", "9", "--steps", "2",
        "--quiet",
      ])
    let clip = try await ProgramRun(
      "/usr/bin/env",
      [
        "ffprobe", "-v", "error", "-count_frames", "-select_streams", "v", "-show_entries",
        "stream=nb_read_frames", "-of", "csv=p=0", f("real.mp4"),
      ])
    #expect(clip.output.hasPrefix("9"), "\(clip.output)\(clip.error)")
    try await models.pisces([
      "embed", "--data", clips, "--reward", models.reward, "--output", f("features.safetensors"),
      "--frames", "9", "--quiet",
    ])
    let features = try SafetensorsFile(f("features.safetensors"))
    for name in ["text", "video"] {
      #expect(try features.tensor(named: name).shape.dims == [2, 16])
    }
  }

  /// The contract's fields, in any order of pairs, one at a time or together.
  @Test func scoresDoNotDependOnCompany() async throws {
    let models = try await TinyModels()
    func score(_ names: [String]) async throws -> [JSONValue] {
      var arguments = ["score", "--model", models.reward, "--frames", "9", "--json", "--quiet"]
      for name in names {
        arguments += [
          "--video", "\(clips)/\(name).mp4", "--prompt", try TextFile.read("\(clips)/\(name).txt"),
        ]
      }
      let run = try await ProgramRun(ProgramRun.program, arguments)
      #expect(run.status == 0, "\(run.error)")
      return try run.lines.map { try JSONValue(parsing: $0, name: "output") }
    }
    let both = try await score(["rabbit-look", "gradient-turn"])
    let turned = try await score(["gradient-turn", "rabbit-look"])
    let alone = try await score(["rabbit-look"])
    #expect(both.count == 2 && turned.count == 2 && alone.count == 1)
    for key in ["quality", "semantic", "vanilla_quality", "vanilla_semantic"] {
      let value = try #require(both[0][key]?.number)
      #expect(value == alone[0][key]?.number && value == turned[1][key]?.number, "\(key)")
      #expect(both[1][key]?.number == turned[0][key]?.number)
      #expect(key.hasSuffix("semantic") ? (0...1).contains(value) : (-1...1).contains(value))
    }
    #expect(
      both[0]["seconds"]?.number != nil && both[0]["prompt"]?.string != nil
        && both[0]["video"]?.string?.hasSuffix("rabbit-look.mp4") == true)
  }
}
