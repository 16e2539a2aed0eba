import Files
import TensorRuntime
import TestSupport
import Testing

/// Scores do not depend on what is kept in memory, on the order of pairs, or on who waits for them;
/// and on how weights are stored and rounded only as far as is promised.
@Suite struct ScoreOptionTests {
  private let folder: ScratchFolder
  private static let model = "\(repository)/CSupport/Embedded/models/reward"
  private static let names = ["quality", "semantic", "vanilla_quality", "vanilla_semantic"]

  init() throws {
    folder = try ScratchFolder()
    for i in 0..<3 {
      let clip = Workspace().affineClamp(
        randomTensor(Shape(9, 3, 32, 32), seed: UInt64(i), type: .f32), alpha: 0.3, beta: 0.5,
        to: 0...1)
      try SafetensorsWriter.write([("pixels", clip)], to: folder("\(i).safetensors"))
    }
  }

  private func score(_ arguments: [String], input: String = "/dev/null") async throws -> [[Double]]
  {
    let run = try await ProgramRun(
      "/bin/sh",
      ["-c", "exec \"$@\" < \"$0\"", input, ProgramRun.program, "score", "--frames", "9"]
        + ["--json", "--quiet"] + arguments)
    #expect(run.status == 0, "\(run.error)")
    return try run.lines.map { line in
      let record = try JSONValue(parsing: line, name: "output")
      return Self.names.map { record[$0]?.number ?? .nan }
    }
  }

  /// Videos that come again, in a row and later; a manifest in a file and line by line.
  @Test func memoryAndOrderChangeNothing() async throws {
    let captions = ["a red circle", "a large blue star moving left", "a cross"]
    let order = [(0, 0), (0, 1), (1, 0), (0, 2), (2, 1), (1, 1), (1, 2), (2, 0)]
    let lines = order.map { i, j in
      JSONValue.object(["video": .string("\(i).safetensors"), "prompt": .string(captions[j])]).line
    }
    try OutputFile.write(lines.joined(separator: "\n") + "\n", to: folder("pairs.jsonl"))
    let manifest = ["--model", Self.model, "--manifest", folder("pairs.jsonl")]
    let kept = try await score(manifest)
    #expect(kept.count == order.count)
    #expect(try await score(manifest + ["--memory", "1"]) == kept)
    #expect(try await score(manifest + ["--threads", "1", "--memory", "1Ki"]) == kept)
    for (k, (i, j)) in order.enumerated() where k % 3 == 0 {
      let alone = try await score([
        "--model", Self.model, "--video", folder("\(i).safetensors"), "--prompt", captions[j],
      ])
      #expect(alone == [kept[k]])
    }
    let whole = order.map { i, j in
      JSONValue.object([
        "video": .string(folder("\(i).safetensors")), "caption": .string(captions[j]),
      ]).line
    }
    try OutputFile.write(whole.joined(separator: "\n") + "\n", to: folder("input.jsonl"))
    #expect(
      try await score(["--model", Self.model, "--manifest", "-"], input: folder("input.jsonl"))
        == kept)
  }

  /// A quantized copy is smaller and scores nearly the same; it can be read and converted further.
  @Test func quantizedModels() async throws {
    func convert(_ input: String, _ output: String, _ type: String) async throws -> ProgramRun {
      try await ProgramRun(
        ProgramRun.program,
        ["convert", "--input", input, "--output", folder(output), "--dtype", type, "--quiet"])
    }
    #expect(try await convert(Self.model, "int8", "int8").status == 0)
    #expect(try await convert(folder("int8"), "wide", "bf16").status == 0)
    #expect(try await convert(folder("int8"), "again", "int8").status == 0)
    let size = { (path: String) in try MappedFile("\(path)/model.safetensors").count }
    #expect(try size(folder("int8")) < size(Self.model) * 7 / 10)
    #expect(
      try FolderContents.bytes(folder("again/model.safetensors"))
        == FolderContents.bytes(folder("int8/model.safetensors")))
    let pair = ["--video", folder("0.safetensors"), "--prompt", "a large blue star moving left"]
    let exact = try await score(["--model", Self.model] + pair)
    let bytes = try await score(["--model", folder("int8")] + pair)
    let wide = try await score(["--model", folder("wide")] + pair)
    for (x, y) in zip(exact[0], bytes[0]) { #expect(abs(x - y) < 0.03 && x != y) }
    for (x, y) in zip(wide[0], bytes[0]) { #expect(abs(x - y) < 0.01) }
    let refused = try await convert(
      "\(repository)/CSupport/Embedded/models/generator/transformer", "no", "int8")
    #expect(refused.status == 65 && refused.error.contains("int8 is for reward models"))
  }

  /// Operands in bf16 move scores by no more than the record says, and the record says it.
  @Test func roundedOperands() async throws {
    let arguments = [
      "score", "--model", Self.model, "--frames", "9", "--json", "--quiet", "--video",
      folder("0.safetensors"), "--prompt", "a large blue star moving left", "--compute",
    ]
    var records: [JSONValue] = []
    for type in ["f32", "bf16", "auto"] {
      let run = try await ProgramRun(ProgramRun.program, arguments + [type])
      #expect(run.status == 0, "\(run.error)")
      records.append(try JSONValue(parsing: run.lines[0], name: "output"))
    }
    let used = records.map { $0["compute_dtype"]?.string }
    #expect(used[0] == "f32" && records[0]["compute_error"] == nil)
    #expect(records.allSatisfy { $0["scoring_bytes"]!.integer! > 1 << 20 })
    #expect(used[1] == (Machine.hasBF16 ? "bf16" : "f32"))
    for record in records where record["compute_dtype"]?.string == "bf16" {
      let error = try #require(record["compute_error"]?.number)
      for name in Self.names {
        #expect(abs(record[name]!.number! - records[0][name]!.number!) <= error)
      }
    }
  }

  @Test(arguments: ["0", "-1", "3T", "3GG", "1.5G", "G", "i", "3000000G"])
  func sizesThatAreNone(text: String) async throws {
    let run = try await ProgramRun.pisces(
      "score", "--model", Self.model, "--video", "x", "--prompt", "y", "--memory", text)
    #expect(run.status == 64 && run.error.contains("--memory"))
  }
}
