import Files
import TestSupport
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// What is wrong with an input is said in one line that names the file, with the documented status
/// (interfaces.md 1).
@Suite(.serialized) struct BadInputTests {
  private let models: TinyModels
  private let clip = "\(repository)/Tests/FilesTests/Clips/rabbit-look.mp4"
  init() async throws { models = try await TinyModels() }

  /// One error line, no result, nothing left under `folder("out")`.
  private func expect(
    _ status: Int32, _ words: [String], _ arguments: [String],
    sourceLocation: SourceLocation = #_sourceLocation
  ) async throws {
    let run = try await ProgramRun(ProgramRun.program, arguments + ["--quiet"])
    #expect(run.status == status, "\(run.error)", sourceLocation: sourceLocation)
    #expect(
      run.errorLines.count == 1 && run.error.hasPrefix("pisces: error: ") && run.output.isEmpty,
      "\(run.error)", sourceLocation: sourceLocation)
    for word in words {
      #expect(run.error.contains(word), "\(run.error)", sourceLocation: sourceLocation)
    }
    #expect(!FileTree.exists(models.folder("out")), sourceLocation: sourceLocation)
  }
  private func score(
    _ model: String, video: String? = nil, prompt: String = "a rabbit", _ more: String...
  ) -> [String] {
    ["score", "--model", model, "--video", video ?? clip, "--prompt", prompt, "--frames", "9"]
      + more
  }
  /// A copy of the reward model with one file changed.
  private func changed(_ file: String, _ change: ([UInt8]) -> [UInt8]?) throws -> String {
    let copy = models.folder("changed-\(UInt32.random(in: 0 ... .max))")
    try FileTree.copy(models.reward, to: copy)
    if let bytes = change(try FolderContents.bytes("\(copy)/\(file)")) {
      try OutputFile.write(bytes, to: "\(copy)/\(file)")
    } else {
      unlink("\(copy)/\(file)")
    }
    return copy
  }

  @Test func brokenWeights() async throws {
    let weights = "model.safetensors"
    let whole = try FolderContents.bytes("\(models.reward)/\(weights)")
    let header = 8 + Int(LittleEndian.u64(whole))
    for cut in [0, 4, 8, 1000, header, whole.count - 1] {
      try await expect(65, [weights], score(try changed(weights) { Array($0[..<cut]) }))
    }
    // A header longer than the file, one of 2^63 - 1 bytes, one that is no JSON, offsets outside
    // the file, overlapping names.
    try await expect(
      65, [weights],
      score(try changed(weights) { [0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0] + $0[8...] }))
    try await expect(
      65, [weights],
      score(try changed(weights) { [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f] + $0[8...] }))
    try await expect(
      65, [weights],
      score(
        try changed(weights) {
          $0[..<8] + [UInt8](repeating: 0x7b, count: header - 8) + $0[header...]
        }))
    // A value that is not finite, named with its tensor.
    try await expect(
      65, [weights, "not finite", "'"],
      score(
        try changed(weights) { $0[..<(header + 400)] + [0, 0, 0xc0, 0x7f] + $0[(header + 404)...] })
    )
    try await expect(
      65, ["ot_map.safetensors"], score(try changed("ot_map.safetensors") { Array($0[..<100]) }))
  }
  @Test func brokenModelFolders() async throws {
    try await expect(66, ["vocab.txt"], score(try changed("vocab.txt") { _ in nil }))
    try await expect(
      65, ["vocab.txt", "[CLS]"],
      score(try changed("vocab.txt") { _ in Array("[PAD]\n[UNK]\nred\n".utf8) }))
    try await expect(66, ["config.json"], score(try changed("config.json") { _ in nil }))
    try await expect(
      65, ["config.json"], score(try changed("config.json") { _ in Array("{".utf8) }))
    try await expect(
      66, ["model.safetensors"], score(try changed("model.safetensors") { _ in nil }))
    try await expect(66, ["nothing"], score(models.folder("nothing")))
    // A configuration of other shapes than the weights: the tensor is named.
    let wider = try changed("config.json") {
      Array(
        String(decoding: $0, as: UTF8.self).replacing(
          "\"intermediate_size\": 32", with: "\"intermediate_size\": 48"
        ).utf8)
    }
    try await expect(65, ["shape", "intermediate.dense.weight"], score(wider))
    try await expect(
      65, ["config.json", "tubelet_size"],
      ["score", "--model", models.reward, "--video", clip, "--prompt", "a", "--frames", "10"])
  }
  /// Broken torch archives: cut, no archive at all, a pickle that would run a command.
  @Test func brokenTorchFiles() async throws {
    for (name, bytes) in [
      ("text.pt", Array("no".utf8)), ("empty.pt", []),
      ("zip.pt", [0x50, 0x4b, 3, 4] + [UInt8](repeating: 0, count: 60)),
    ] {
      try OutputFile.write(bytes, to: models.folder(name))
      try await expect(
        65, [name], ["convert", "--input", models.folder(name), "--output", models.folder("out")])
    }
  }

  /// A pair that cannot be scored is answered with its error; the others are scored all the same.
  @Test func brokenVideos() async throws {
    try OutputFile.write([UInt8](), to: models.folder("zero.mp4"))
    try OutputFile.write("hello\n", to: models.folder("text.mp4"))
    var arguments = ["score", "--model", models.reward, "--frames", "9", "--json", "--quiet"]
    for video in [
      models.folder("zero.mp4"), clip, models.folder("text.mp4"), models.folder("none.mp4"),
    ] { arguments += ["--video", video, "--prompt", "a rabbit"] }
    let run = try await ProgramRun(ProgramRun.program, arguments)
    #expect(run.status == 4)
    let lines = try run.lines.map { try JSONValue(parsing: $0, name: "output") }
    #expect(lines.map { $0["error"] != nil } == [true, false, true, true], "\(run.output)")
    #expect(
      lines.count == 4 && lines[1]["semantic"]?.number != nil && lines[1]["quality"]?.number != nil)
    for (line, name) in zip(lines, ["zero.mp4", "rabbit-look.mp4", "text.mp4", "none.mp4"]) {
      #expect(line["video"]?.string?.hasSuffix(name) == true)
    }
    let few = try await ProgramRun(
      ProgramRun.program,
      [
        "score", "--model", models.reward, "--frames", "999", "--json", "--quiet", "--video", clip,
        "--prompt", "a",
      ])
    #expect(few.status == 4 && few.lines.count == 1 && few.output.contains("999"), "\(few.output)")
  }
  /// Prompts of any length are scored; words beyond the model's length are cut, as the tokenizer
  /// says.
  @Test func oddPrompts() async throws {
    for prompt in [
      "", " ", String(repeating: "word ", count: 10000), "\u{1F407} кролик", "a\u{0}b",
    ] {
      let run = try await ProgramRun(
        ProgramRun.program,
        score(models.reward, prompt: prompt.replacing("\u{0}", with: "")) + ["--json", "--quiet"])
      #expect(run.status == 0 && run.lines.count == 1, "\(run.error)")
    }
  }

  @Test func configuration() async throws {
    let post = [
      "train", "post", "--model", models.generator, "--reward", models.reward, "--run",
      models.folder("out"),
    ]
    try await expect(64, ["lora.rnk", "lora.rank"], post + ["--set", "lora.rnk=3"])
    try await expect(64, ["rate_schedule"], post + ["--set", "rate_schedule=square"])
    try await expect(64, ["products"], post + ["--set", "products=f8"])
    try await expect(64, ["moments", "f32 or bf16"], post + ["--set", "moments=f8"])
    try await expect(
      64, ["moments", "f32 or bf16"],
      ["demo", "--output", models.folder("out"), "--set", "post.moments=f8"])
    try OutputFile.write("stepz: 4\n", to: models.folder("bad.yaml"))
    try await expect(
      64, ["stepz", "steps", "bad.yaml"], post + ["--config", models.folder("bad.yaml")])
    try OutputFile.write("steps: [1\n", to: models.folder("worse.yaml"))
    try await expect(64, ["worse.yaml"], post + ["--config", models.folder("worse.yaml")])
    try await expect(66, ["none.yaml"], post + ["--config", models.folder("none.yaml")])
    try await expect(
      66, ["out"],
      [
        "train", "post", "--model", models.generator, "--reward", models.reward, "--resume",
        models.folder("out"),
      ])
    try await expect(
      73, ["vae", "--resume"],
      [
        "train", "vae", "--config", models.folder("vae.yaml"), "--run",
        String(models.vae.dropLast(6)),
      ] + TinyModels.size.dropLast())
  }

  private func sample(_ output: String) -> [String] {
    [
      "sample", "--model", models.generator, "--prompt", "a red circle", "--output", output,
      "--height", "16", "--width", "16", "--frames", "33", "--steps", "2",
    ]
  }
  @Test func unwritableOutput() async throws {
    try await expect(73, ["/proc/x.safetensors"], sample("/proc/x.safetensors"))
    try await expect(73, ["no-folder"], sample(models.folder("no-folder/x.safetensors")))
    try await expect(
      73, ["/proc/run"],
      ["train", "vae", "--config", models.folder("vae.yaml"), "--run", "/proc/run"]
        + TinyModels.size.dropLast())
  }
  /// A disk that is full (a tmpfs of 64 KiB): status 74, and neither the output nor a piece of it.
  @Test(.enabled("mounting a tmpfs needs root") { geteuid() == 0 }) func fullDisk() async throws {
    let disk = models.folder("disk")
    try await models.run("mkdir", [disk])
    guard
      try await ProgramRun(
        "/usr/bin/env", ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]
      ).status == 0
    else { return }
    let run = try await ProgramRun(
      ProgramRun.program, sample("\(disk)/x.safetensors") + ["--quiet"])
    let left = try FolderContents.files(disk)
    try await models.run("umount", [disk])
    #expect(
      run.status == 74 && run.errorLines.count == 1 && run.error.contains("\(disk)/x.safetensors"),
      "\(run.error)")
    #expect(left == [])
  }
}

private enum LittleEndian {
  static func u64(_ bytes: [UInt8]) -> UInt64 {
    (0..<8).reduce(0) { $0 | UInt64(bytes[$1]) << (8 * UInt64($1)) }
  }
}
