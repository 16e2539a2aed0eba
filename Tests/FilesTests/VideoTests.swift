import FoundationEssentials
import TensorRuntime
import Testing

@testable import Files

/// The clips beside this file.
func clip(_ name: String) -> String {
  String(#filePath.dropLast("VideoTests.swift".count)) + "Clips/" + name
}

@Suite struct VideoTests {
  let folder = TemporaryFolder()

  /// A frame whose every pixel tells its number.
  func counting(_ frames: Int, height: Int, width: Int) -> Tensor {
    Tensor(
      (0..<frames).flatMap { t in [Float](repeating: Float(t) / 255, count: 3 * height * width) },
      Shape(frames, 3, height, width))
  }

  @Test func framesAreChosenByTheRule() {
    #expect(FrameSelection.indices(count: 8, of: 40) == [0, 5, 10, 15, 20, 25, 30, 35])
    #expect(FrameSelection.indices(count: 8, of: 15) == [0, 1, 2, 3, 4, 5, 6, 7])
    #expect(FrameSelection.indices(count: 3, of: 3) == [0, 1, 2])
    #expect(FrameSelection.indices(count: 4, of: 3) == nil)
  }
  @Test func aClipIsDecoded() async throws {
    let video = try await VideoReader.read(clip("gradient-turn.mp4"), frames: 8)
    #expect(video.pixels.shape == Shape(8, 3, 180, 320) && video.pixels.type == .f32)
    #expect(video.frameIndices == [0, 4, 8, 12, 16, 20, 24, 28])
    #expect(video.decodedCount == 32 && video.framesPerSecond == 16)
    let values = video.pixels.floats
    #expect(values.allSatisfy { $0 >= 0 && $0 <= 1 } && values.max()! > 0.5 && values.min()! < 0.5)
    #expect(video.pixels[row: 0].floats != video.pixels[row: 7].floats)
  }
  @Test func aLongVideoIsCountedFirstAndGivesTheSameFrames() async throws {
    let once = try await VideoReader.read(clip("rabbit-look.mp4"), frames: 4)
    let twice = try await VideoReader.read(
      clip("rabbit-look.mp4"), frames: 4, program: "ffmpeg", budget: 10 * 320 * 180 * 3)
    #expect(twice.frameIndices == [0, 10, 20, 30] && twice.decodedCount == 40)
    #expect(once.pixels.floats == twice.pixels.floats)
    await expectError(.badData, "40 frames in the video, 41") {
      _ = try await VideoReader.read(
        clip("rabbit-look.mp4"), frames: 41, program: "ffmpeg", budget: 10 * 320 * 180 * 3)
    }
  }
  @Test func tooFewFramesNamesBothNumbers() async throws {
    await expectError(.badData, "40 frames in the video, 41 asked for") {
      _ = try await VideoReader.read(clip("rabbit-look.mp4"), frames: 41)
    }
  }
  @Test func oddNamesAreJustNames() async throws {
    let bytes = try MappedFile(clip("gradient-turn.mp4")).region.array
    for name in [
      "-i.mp4", "http:x.mp4", "a b'\"$(touch x);.mp4", "no-extension", "pipe:0", "100%.mp4",
      "é😀.mp4",
    ] {
      let path = try folder.put(bytes, name)
      #expect(try await VideoReader.read(path, frames: 2).decodedCount == 32, "\(name)")
    }
  }
  /// Plain PNG frames need no FFmpeg, and have the bits that it would give; others need it.
  @Test func plainPicturesNeedNoFFmpeg() async throws {
    var random = RandomStream(seed: 1, .test)
    let images = (0..<6).map { _ in
      PNGImage(
        width: 5, height: 4, pixels: (0..<60).map { _ in UInt8(truncatingIfNeeded: random.bits()) })
    }
    for (i, image) in images.enumerated() { try image.write(to: folder("f\(i).png")) }
    func read(_ frames: Int?) async throws -> Video {
      try await VideoReader.read(
        folder("f%d.png"), frames: frames, program: "/nowhere/ffmpeg", budget: 1 << 20)
    }
    let video = try await read(3)
    #expect(video.frameIndices == [0, 2, 4] && video.decodedCount == 6 && video.damage == nil)
    #expect(video.pixels.floats == [0, 2, 4].flatMap { images[$0].tensor.floats })
    #expect(try await read(nil).pixels.shape == Shape(6, 3, 4, 5))
    await expectError(.badData, "6 frames in the video, 7 asked for") { _ = try await read(7) }

    // A chunk of gamma, a chunk nobody knows, another size; a cut file.
    let whole = images[1].encoded()
    func with(_ chunk: String) -> [UInt8] {
      whole[..<33] + [0, 0, 0, 4] + Array(chunk.utf8) + [0, 0, 0, 1, 9, 9, 9, 9] + whole[33...]
    }
    let small = PNGImage(width: 4, height: 4, pixels: Array(repeating: 9, count: 48)).encoded()
    for other in [with("gAMA"), with("qqQq"), small] {
      try OutputFile.write(other, to: folder("f1.png"))
      await expectError(.missingProgram, "nowhere") { _ = try await read(3) }
    }
    try OutputFile.write(Array(whole.dropLast(30)), to: folder("f1.png"))
    await expectError(.badData, "f1.png", "cut short") { _ = try await read(3) }
  }
  @Test func whatIsNoVideoIsSaidSo() async throws {
    let bytes = try MappedFile(clip("rabbit-look.mp4")).region.array
    await expectError(.missingInput, "no such file") {
      _ = try await VideoReader.read(folder("none.mp4"), frames: 2)
    }
    await expectError(.missingInput) {
      _ = try await VideoReader.read("http://localhost/x.mp4", frames: 2)
    }
    await expectError(.badData, "folder") { _ = try await VideoReader.read(folder.path, frames: 2) }
    let text = String(repeating: "The quick brown fox jumps over the lazy dog.\n", count: 2000)
    for (name, content) in [
      ("e.mp4", []), ("t.txt", Array(text.utf8)), ("t.mp4", Array(text.utf8)),
      ("s.txt", Array("hello".utf8)), ("t.ans", Array(text.utf8)),
      ("n.mp4", [UInt8](repeating: 0, count: 5000)),
    ] as [(String, [UInt8])] {
      let path = try folder.put(content, name)
      await expectError(.badData, name) { _ = try await VideoReader.read(path, frames: 2) }
    }
    let list = try folder.put(
      "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n\(clip("rabbit-look.mp4"))\n#EXT-X-ENDLIST\n",
      "x.m3u8")
    await expectError(.badData, "x.m3u8") { _ = try await VideoReader.read(list, frames: 2) }
    for count in [100, 5000, 15000, 28000, bytes.count - 1] {
      let path = try folder.put(Array(bytes.prefix(count)), "cut.mp4")
      await expectError(.badData, "cut.mp4") { _ = try await VideoReader.read(path, frames: 2) }
    }
    await expectError(.missingInput, "pattern") {
      _ = try await VideoReader.read(folder("f-%03d.png"), frames: 2)
    }
    await expectError(.missingInput, "pattern") {
      _ = try await VideoReader.read(folder("f-%03d.mp4"), frames: 2)
    }
  }
  @Test func withoutFFmpegTheErrorSaysHowToGetIt() async throws {
    await expectError(.missingProgram, "apt install ffmpeg") {
      _ = try await VideoReader.read(
        clip("rabbit-look.mp4"), frames: 2, program: "no-such-ffmpeg", budget: 1 << 20)
    }
    await expectError(.missingProgram) {
      try await VideoWriter.write(
        counting(2, height: 4, width: 4), to: folder("a.mp4"), framesPerSecond: 8,
        program: "no-such-ffmpeg")
    }
    #expect(try folder.contents == [])
  }
  @Test func framePatternsAreVideos() async throws {
    for t in 0..<3 {
      try PNGImage(counting(3, height: 4, width: 6)[row: t]).write(to: folder("f-00\(t).png"))
    }
    let video = try await VideoReader.read(folder("f-%03d.png"), frames: 3)
    #expect(video.pixels.floats == counting(3, height: 4, width: 6).floats)
  }
  @Test func writtenVideosComeBack() async throws {
    let x = try await VideoReader.read(clip("gradient-turn.mp4"), frames: 8).pixels
    for (name, tolerance) in [
      ("a.mp4", Float(0.03)), ("a.gif", 0.15), ("a.npy", 0), ("a.safetensors", 0),
    ] {
      try await VideoWriter.write(x, to: folder(name), framesPerSecond: 10)
      let back = try await VideoReader.read(folder(name))
      #expect(back.pixels.shape == x.shape)
      if let rate = back.framesPerSecond { #expect(rate == 10) }
      let error = zip(back.pixels.floats, x.floats).map { abs($0 - $1) }
      #expect(error.reduce(0, +) / Float(error.count) <= tolerance, "\(name)")
    }
    try await VideoWriter.write(x, to: folder("b.mp4"), framesPerSecond: 10)
    #expect(
      try MappedFile(folder("a.mp4")).region.array == MappedFile(folder("b.mp4")).region.array)
    try await VideoWriter.write(counting(3, height: 5, width: 7), to: folder("odd.mp4"))
    #expect(try await VideoReader.read(folder("odd.mp4")).pixels.shape == Shape(3, 3, 6, 8))
    try await VideoWriter.write(counting(3, height: 5, width: 7), to: folder("strip.png"))
    let strip = try PNGImage(contentsOf: folder("strip.png"))
    #expect(
      strip.width == 21 && strip.height == 5 && strip.pixels[0] == 0 && strip.pixels[3 * 14] == 2)
    #expect(
      try folder.contents == [
        "a.gif", "a.mp4", "a.npy", "a.safetensors", "b.mp4", "odd.mp4", "strip.png",
      ])
  }
  @Test func wrongOutputsAreRefused() async throws {
    let x = counting(2, height: 4, width: 4)
    await expectError(.cannotCreate, ".mp4 .gif") {
      try await VideoWriter.write(x, to: folder("a.xyz"))
    }
    await expectError(.cannotCreate, "create the folder") {
      try await VideoWriter.write(x, to: folder("no/a.mp4"))
    }
    #expect(try folder.contents == [])
  }
  @Test func tensorFilesAreChecked() async throws {
    func put(_ t: Tensor) throws -> String {
      try NumpyFile.write(t, to: folder("v.npy"))
      return folder("v.npy")
    }
    #expect(
      try await VideoReader.read(put(counting(5, height: 2, width: 2)), frames: 2).pixels.floats
        == [Float](repeating: 0, count: 12)
        + [Float](repeating: 2.0 / 255, count: 12))
    await expectError(.badData, "[T, 3, H, W]") {
      _ = try await VideoReader.read(put(Tensor.zeros(Shape(2, 4, 2, 2))))
    }
    await expectError(.badData, "[T, 3, H, W]") {
      _ = try await VideoReader.read(put(Tensor.zeros(Shape(2, 3, 2, 2), type: .u8)))
    }
    await expectError(.badData, "[0,1]") {
      _ = try await VideoReader.read(put(Tensor.full(Shape(2, 3, 2, 2), 1.5)))
    }
    await expectError(.badData, "[0,1]") {
      _ = try await VideoReader.read(put(Tensor.full(Shape(2, 3, 2, 2), .nan)))
    }
    await expectError(.badData, "1 frames in the video, 2 asked for") {
      _ = try await VideoReader.read(put(Tensor.zeros(Shape(1, 3, 2, 2))), frames: 2)
    }
    try SafetensorsWriter.write(
      [("other", counting(1, height: 2, width: 2))], to: folder("v.safetensors"))
    await expectError(.badData, "'pixels'") {
      _ = try await VideoReader.read(folder("v.safetensors"))
    }
    #expect(try await VideoReader.read(folder("v.safetensors:other")).decodedCount == 1)
  }
}

@Suite struct DatasetTests {
  let folder = TemporaryFolder()
  let bytes = try! MappedFile(clip("gradient-turn.mp4")).region.array

  @Test func aFolderOfClips() async throws {
    let data = try Dataset(clip(""))
    #expect(
      data.samples.map { splitPath($0.name).name } == ["gradient-turn.mp4", "rabbit-look.mp4"])
    #expect(
      data.problems.isEmpty
        && data.samples.allSatisfy { !$0.caption.isEmpty && !$0.caption.hasSuffix("\n") })
    #expect(try await data.samples[1].video(frames: 4).decodedCount == 40)
    _ = try folder.put(bytes, "b.mp4")
    expectError(.missingInput, "b.txt", "b.mp4") { _ = try Dataset(folder.path) }
    _ = try folder.put(bytes, "a.mp4")
    _ = try folder.put(" A caption. \n", "a.txt")
    let some = try Dataset(folder.path)
    #expect(some.samples.map(\.caption) == ["A caption."] && some.problems.count == 1)
  }
  @Test func aManifest() async throws {
    _ = try folder.put(bytes, "a.mp4")
    let path = try folder.put(
      "{\"video\": \"a.mp4\", \"prompt\": \"x\"}\n\nnot json\n{\"video\": 3}\n{\"video\":\"/none.mp4\",\"prompt\":\"y\"}\n",
      "m.jsonl")
    let data = try Dataset(path)
    #expect(data.samples.map(\.caption) == ["x", "y"] && data.problems.count == 2)
    #expect(
      data.problems[0].description.contains("line 3")
        && data.problems[1].description.contains("line 4"))
    #expect(try await data.samples[0].video(frames: 2).decodedCount == 32)
    await expectError(.missingInput, "/none.mp4") { _ = try await data.samples[1].video(frames: 2) }
  }
  @Test func shards() async throws {
    for shard in 0..<2 {
      var tar = TarText()
      tar.add("s\(shard)a.mp4", bytes)
      tar.add("s\(shard)a.txt", Array("caption \(shard)".utf8))
      tar.add("s\(shard)b.mp4", [1, 2, 3])
      tar.add("s\(shard)b.json", Array("{\"caption\": \"broken\"}".utf8))
      tar.add("s\(shard)c.txt", Array("alone".utf8))
      _ = try folder.put(tar.finished, "s-0\(shard).tar")
    }
    let data = try Dataset(folder("s-{00..02}.tar"))
    #expect(data.samples.map(\.caption) == ["caption 0", "broken", "caption 1", "broken"])
    #expect(data.problems.map(\.kind) == [.badData, .badData, .missingInput])
    let video = try await data.samples[2].video(frames: 4)
    #expect(
      video.pixels.floats
        == (try await VideoReader.read(clip("gradient-turn.mp4"), frames: 4).pixels.floats))
    await expectError(.badData, "s0b.mp4") { _ = try await data.samples[1].video(frames: 4) }
    #expect(try Dataset(folder.path).samples.count == 4)
    expectError(.missingInput, "none.tar") { _ = try Dataset(folder("none.tar")) }
  }
  @Test func precomputedLatents() throws {
    for name in ["latent", "prompt_embed", "prompt_attention_mask"] {
      try createFolder(folder(name))
    }
    let latent = Tensor((0..<2 * 3 * 2 * 2).map { Float($0) }, Shape(1, 2, 3, 2, 2))
    try SafetensorsWriter.write([("latent", latent)], to: folder("latent/0.safetensors"))
    // A bare tensor, as the recipe's .pt files hold it: row 0 pooled, rows 1 and 2 words.
    let bare = PickleText().tensor(count: 6, shape: [3, 2], strides: [2, 1]).archive([
      floats([9, 0, 1, 2, 3, 4])
    ])
    _ = try folder.put(bare, "prompt_embed/0.pt")
    let mask = PickleText().tensor("BoolStorage", count: 2, shape: [2], strides: [1]).archive([
      [1, 0]
    ])
    _ = try folder.put(mask, "prompt_attention_mask/0.pt")
    _ = try folder.put(
      #"[{"latent_path":"0.safetensors","prompt_embed_path":"0.pt","prompt_attention_mask":"0.pt","caption":"c","length":3},{"latent_path":"1.pt","prompt_embed_path":"0.pt","prompt_attention_mask":"0.pt","caption":"d"}]"#,
      "videos2caption.json")
    let data = try Dataset(folder.path)
    #expect(data.samples.count == 1 && data.problems.count == 1 && data.samples[0].isPrecomputed)
    let sample = try data.samples[0].latents()
    #expect(sample.latent.shape == Shape(2, 3, 2, 2) && sample.latent.floats == latent.floats)
    #expect(
      sample.promptEmbeddings.floats == [1, 2, 3, 4] && sample.pooled?.floats == [9, 0]
        && sample.mask == [true, false] && sample.caption == "c")
  }
  @Test func whatIsNoDataset() throws {
    expectError(.missingInput) { _ = try Dataset(folder("none")) }
    expectError(.badData, "no samples") { _ = try Dataset(folder.path) }
    expectError(.badData, "not a dataset") { _ = try Dataset(try folder.put("x", "x.bin")) }
    expectError(.badData) { _ = try Dataset(try folder.put("{}", "x.json")) }
    expectError(.badData) { _ = try Dataset(try folder.put("x\n", "x.jsonl")) }
  }
  @Test func oneTensorOfAFile() throws {
    let a = Tensor([1] as [Float], Shape(1))
    let b = Tensor([2] as [Float], Shape(1))
    try SafetensorsWriter.write([("a", a), ("b", b)], to: folder("t.safetensors"))
    #expect(try TensorFile.read(folder("t.safetensors:b")).floats == [2])
    expectError(.badData, "2 tensors", "'a', 'b'") {
      _ = try TensorFile.read(folder("t.safetensors"))
    }
    expectError(.badData, "'c'") { _ = try TensorFile.read(folder("t.safetensors:c")) }
    try NumpyFile.write(a, to: folder("x:y.npy"))
    #expect(try TensorFile.read(folder("x:y.npy")).floats == [1])
    expectError(.missingInput) { _ = try TensorFile.read(folder("none.npy:a")) }
    try TorchWriter.write([("only", b)], to: folder("t.pt"))
    #expect(try TensorFile.read(folder("t.pt")).floats == [2])
  }
}
