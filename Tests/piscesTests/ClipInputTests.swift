import Files
import TestSupport
import Testing

/// Damaged clips, long prompts, lists of prompts and outputs, as the commands take them.
@Suite struct ClipInputTests {
  let folder: ScratchFolder
  init() throws { folder = try ScratchFolder() }
  private static let clips = "\(repository)/Tests/FilesTests/Clips"
  private let score = ["score", "--model", "embedded:reward", "--frames", "9", "--json"]
  private func pisces(_ arguments: [String], environment: [String: String?] = [:]) async throws
    -> ProgramRun
  { try await ProgramRun(ProgramRun.program, arguments, environment: environment) }
  /// A clip with a page of zeros in it.
  private func damagedClip(_ name: String) throws -> String {
    try FileTree.copy("\(Self.clips)/gradient-turn.mp4", to: folder("sound.mp4"))
    var bytes = try FolderContents.bytes(folder("sound.mp4"))
    for i in bytes.count * 2 / 5..<bytes.count * 2 / 5 + 1500 { bytes[i] = 0 }
    try OutputFile.write(bytes, to: folder(name))
    return folder(name)
  }

  @Test func damageReachesTheUser() async throws {
    let clip = try damagedClip("a.mp4")
    let pair = ["--video", clip, "--prompt", "x"]
    let run = try await pisces(score + pair)
    #expect(
      run.status == 0 && run.output.contains("\"damaged\":true") && run.error.contains("damaged"),
      "\(run.output)\(run.error)")
    let strict = try await pisces(score + pair + ["--strict"])
    #expect(
      strict.status == 4 && strict.output.contains("\"error\"")
        && strict.output.contains("damaged"), "\(strict.output)")
    let sound = try await pisces(
      score + ["--strict", "--video", folder("sound.mp4"), "--prompt", "x"])
    #expect(
      sound.status == 0 && !sound.output.contains("damaged") && !sound.output.contains("notes"))
    try OutputFile.write(
      "{\"video\":\"a.mp4\",\"prompt\":\"x\"}\n{\"video\":\"sound.mp4\",\"prompt\":\"y\"}\n",
      to: folder("m.jsonl"))
    for options in [["--reward", "embedded:reward"], ["--generator", "embedded:generator"]] {
      let embed =
        [
          "embed", "--data", folder("m.jsonl"), "--frames", "9", "--output",
          folder("o.safetensors"), "--json",
        ] + options
      let run = try await pisces(embed)
      let strict = try await pisces(embed + ["--strict", "--quiet"])
      #expect(run.status == 0 && run.error.contains("damaged"), "\(run.error)")
      #expect(
        strict.status == 65 && strict.errorLines.count == 1 && strict.error.contains("damaged"),
        "\(strict.error)")
    }
    let train = [
      "train", "vae", "--data", folder("m.jsonl"), "--strict", "--run", folder("run"), "--steps",
      "1", "--frames", "9",
    ]
    #expect(try await pisces(train).status == 65)
  }
  /// Lines without a prompt, clips without a caption.
  @Test func strictnessOfEmbed() async throws {
    try FileTree.copy("\(Self.clips)/gradient-turn.mp4", to: folder("a.mp4"))
    try FileTree.copy("\(Self.clips)/gradient-turn.mp4", to: folder("b.mp4"))
    try OutputFile.write("one\n", to: folder("a.txt"))
    try OutputFile.write(
      "{\"video\":\"a.mp4\",\"prompt\":\"x\"}\n{\"video\":\"b.mp4\"}\n", to: folder("m.jsonl"))
    for (data, status) in [(folder("m.jsonl"), Int32(65)), (folder.path, 66)] {
      for options in [["--reward", "embedded:reward"], ["--generator", "embedded:generator"]] {
        let embed =
          [
            "embed", "--data", data, "--frames", "9", "--output", folder("o.safetensors"),
            "--quiet",
          ] + options
        #expect(try await pisces(embed).status == 0)
        #expect(try await pisces(embed + ["--strict"]).status == status)
      }
    }
  }
  @Test func whatIsCutOffAPromptIsSaid() async throws {
    let long = String(repeating: "a red circle ", count: 200)
    let run = try await pisces(
      score + [
        "--video", "\(Self.clips)/gradient-turn.mp4", "--prompt", long, "--video",
        "\(Self.clips)/gradient-turn.mp4", "--prompt", "short",
      ])
    #expect(
      run.lines.count == 2 && run.lines[0].contains("\"truncated\":true")
        && !run.lines[1].contains("truncated"), "\(run.output)")
    #expect(run.errorLines.filter { $0.contains("601 tokens") }.count == 1, "\(run.error)")
    try OutputFile.write("short\r\n  \r\n\(long)\r\n", to: folder("p.txt"))
    let sample = try await pisces([
      "sample", "--model", "embedded:generator", "--prompts", folder("p.txt"), "--steps", "1",
      "--format", "npy", "--output", folder("out"), "--json",
    ])
    #expect(
      sample.lines.count == 2 && !sample.lines[0].contains("truncated")
        && sample.lines[1].contains("\"truncated\":true"), "\(sample.output)\(sample.error)")
    #expect(sample.errorLines.filter { $0.contains("601 tokens") }.count == 1)
  }
  /// Captions of a dataset, too.
  @Test func whatIsCutOffACaptionIsSaid() async throws {
    let long = String(repeating: "a red circle ", count: 200)
    try OutputFile.write(
      "{\"video\":\"\(Self.clips)/gradient-turn.mp4\",\"prompt\":\"\(long)\"}\n{\"video\":\"\(Self.clips)/gradient-turn.mp4\",\"prompt\":\"short\"}\n",
      to: folder("m.jsonl"))
    // As an editor on Windows leaves it.
    try OutputFile.write(
      "\u{feff}" + TinyModels.generatorConfig.replacing("\n", with: "\r\n") + "\r\n",
      to: folder("g.yaml"))
    for (i, command) in [
      ["embed", "--reward", "embedded:reward", "--output", folder("o.safetensors")],
      ["embed", "--generator", "embedded:generator", "--output", folder("o.safetensors")],
      [
        "train", "generator", "--vae", "embedded:generator/vae", "--text-encoder",
        "embedded:reward", "--run", folder("g"), "--config", folder("g.yaml"), "--steps", "1",
      ],
    ].enumerated() {
      let run = try await pisces(command + ["--data", folder("m.jsonl"), "--frames", "9"])
      #expect(
        run.status == 0 && run.errorLines.filter { $0.contains("601 tokens") }.count == 1,
        "\(i): \(run.error)")
    }
  }
  @Test func outputsThatAreFolders() async throws {
    try createFolder(folder("v1.0"))
    for name in ["out", "v1.0/clips", "v2.0", "x/../y"] {
      let run = try await pisces([
        "sample", "--model", "embedded:generator", "--prompt", "x", "--steps", "1", "--format",
        "npy", "--output", folder(name), "--quiet",
      ])
      #expect(
        run.status == 0 && run.lines == ["\(folder(name))/00000.npy"], "\(name): \(run.error)")
    }
    let relative = try await ProgramRun(
      ProgramRun.program,
      [
        "sample", "--model", "embedded:generator", "--prompt", "x", "--steps", "1", "--format",
        "npy", "--output", "./o", "--quiet",
      ], folder: folder.path)
    #expect(relative.status == 0 && relative.lines == ["./o/00000.npy"], "\(relative.error)")
    #expect(
      try await pisces([
        "sample", "--model", "embedded:generator", "--prompt", "x", "--steps", "1", "--output",
        folder("a.xyz"), "--quiet",
      ]).status == 73)
    let two = try await pisces([
      "sample", "--model", "embedded:generator", "--prompt", "x", "--prompt", "y", "--steps", "1",
      "--output", folder("a.gif"), "--quiet",
    ])
    #expect(
      two.status == 64 && two.error.contains("2 prompts") && !FileTree.exists(folder("a.gif")),
      "\(two.error)")
  }
  /// No list of prompts in another encoding is taken for prompts.
  @Test func promptsInOtherEncodings() async throws {
    try OutputFile.write([0xff, 0xfe, 0x61, 0, 0x0a, 0], to: folder("p.txt"))
    let run = try await pisces([
      "sample", "--model", "embedded:generator", "--prompts", folder("p.txt"), "--steps", "1",
      "--output", folder("o"),
    ])
    #expect(
      run.status == 65 && run.error.contains("UTF-16") && run.error.contains("iconv"),
      "\(run.error)")
  }
  @Test func aBrokenFFmpegIsNotTheClipsFault() async throws {
    try createFolder(folder("bin"))
    try OutputFile.write("#!/bin/sh\nexit 127\n", to: folder("bin/ffmpeg"))
    #expect(try await ChildProcess.run("/bin/chmod", ["755", folder("bin/ffmpeg")]) == 0)
    try OutputFile.write(
      "{\"video\":\"\(Self.clips)/gradient-turn.mp4\",\"prompt\":\"x\"}\n", to: folder("m.jsonl"))
    for command in [
      score + ["--manifest", folder("m.jsonl")],
      [
        "embed", "--data", folder("m.jsonl"), "--frames", "9", "--reward", "embedded:reward",
        "--output", folder("o.safetensors"),
      ],
    ] {
      let run = try await pisces(command + ["--quiet"], environment: ["PATH": folder("bin")])
      #expect(
        run.status == 69 && run.errorLines.count == 1 && run.error.contains("127")
          && run.output.isEmpty, "\(run.error)\(run.output)")
    }
  }
  /// A manifest from standard input is answered line by line, whatever ends its lines; relative to
  /// the working directory.
  @Test func manifestFromStandardInput() async throws {
    let lines = [
      #"{"video":"gradient-turn.mp4","prompt":"one"}"#,
      #"{"video":"rabbit-look.mp4","caption":"two"}"#,
    ]
    var answers: [[String]] = []
    for (mark, end) in [("", "\n"), ("\u{feff}", "\r\n"), ("", "\r")] {
      let folder = try ScratchFolder()
      try OutputFile.write(mark + lines.joined(separator: end) + end, to: folder("in"))
      let run = try await ProgramRun(
        "/bin/bash",
        [
          "-c", "cd \(Self.clips) && \"$0\" \"$@\" < '\(folder("in"))'", ProgramRun.program,
          "score", "--model", "embedded:reward", "--frames", "9", "--json", "--quiet", "--manifest",
          "-",
        ])
      #expect(run.status == 0 && run.lines.count == 2, "\(run.error)\(run.output)")
      answers.append(run.lines.map { $0.replacing(/"seconds":[^,}]*/, with: "") })
      #expect(run.lines.allSatisfy { $0.contains("\"semantic\"") })
    }
    #expect(answers[0] == answers[1] && answers[0] == answers[2])
    // A pipe lies nowhere either.
    let pipe =
      "cd \(Self.clips) && \"$0\" \"$@\" --manifest <(printf '%s\\n' '\(lines[0])' '\(lines[1])')"
    let piped = try await ProgramRun(
      "/bin/bash",
      [
        "-c", pipe, ProgramRun.program, "score", "--model", "embedded:reward", "--frames", "9",
        "--json", "--quiet",
      ])
    #expect(piped.status == 0 && piped.lines.count == 2, "\(piped.error)\(piped.output)")
    // From a file, relative to it.
    let folder = try ScratchFolder()
    try FileTree.copy("\(Self.clips)/gradient-turn.mp4", to: folder("a.mp4"))
    try OutputFile.write(
      "{\"video\":\"a.mp4\",\"caption\":\"x\"}\n{\"video\":\"a.mp4\"}\n", to: folder("m.jsonl"))
    let run = try await ProgramRun.pisces(
      "score", "--model", "embedded:reward", "--frames", "9", "--json", "--quiet", "--manifest",
      folder("m.jsonl"))
    #expect(
      run.status == 4 && run.lines.count == 2 && run.lines[0].contains("\"video\":\"a.mp4\"")
        && run.lines[1].contains("line 2"), "\(run.output)")
  }
}
