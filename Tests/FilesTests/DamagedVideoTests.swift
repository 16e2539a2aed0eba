import FoundationEssentials
import TensorRuntime
import Testing

@testable import Files

/// Videos in many codecs and containers: sound ones are never called damaged, cut ones are refused,
/// damaged ones are marked.
@Suite(.serialized) struct DamagedVideoTests {
  let folder = TemporaryFolder()

  private func ffmpeg(_ arguments: [String]) async throws -> Bool {
    try await ChildProcess.run(
      "/usr/bin/env", ["ffmpeg", "-nostdin", "-loglevel", "error", "-y"] + arguments) == 0
  }
  private static let source = ["-f", "lavfi", "-i", "testsrc2=s=128x96:r=25:d=1.6"]
  /// Name, the options that make it, and whether every FFmpeg can.
  static let kinds: [(name: String, options: [String], isCommon: Bool)] = [
    ("mpeg4.mp4", ["-c:v", "mpeg4", "-bf", "2"], true),
    ("mpeg4.avi", ["-c:v", "mpeg4", "-bf", "2"], true), ("mjpeg.avi", ["-c:v", "mjpeg"], true),
    ("mjpeg.mov", ["-c:v", "mjpeg"], true),
    ("pictures.mjpeg", ["-c:v", "mjpeg"], true), ("a.gif", [], true),
    ("a.apng", ["-plays", "0"], true), ("ffv1.mkv", ["-c:v", "ffv1"], true),
    ("ffv1.avi", ["-c:v", "ffv1"], true),
    ("m2.ts", ["-c:v", "mpeg2video", "-bf", "2"], true), ("m1.flv", ["-c:v", "flv"], true),
    ("a.wmv", ["-c:v", "wmv2"], true), ("a.y4m", ["-pix_fmt", "yuv420p"], true),
    ("png.mov", ["-c:v", "png"], true),
    ("fragments.mp4", ["-c:v", "mpeg4", "-movflags", "frag_keyframe+empty_moov"], true),
    ("uneven.avi", ["-vf", "select='not(mod(n,3))'", "-vsync", "0", "-c:v", "mpeg4"], true),
    (
      "uneven.mkv",
      ["-vf", "select='not(mod(n,3))+not(mod(n,7))'", "-vsync", "0", "-c:v", "mpeg4"], true
    ), ("h264.mp4", ["-c:v", "libx264", "-bf", "3", "-g", "20"], false),
    ("h264.mkv", ["-c:v", "libx264", "-g", "20"], false),
    ("h264.ts", ["-c:v", "libx264", "-g", "20"], false), ("h264.flv", ["-c:v", "libx264"], false),
    ("open.mp4", ["-c:v", "libx264", "-x264-params", "open-gop=1:keyint=12:bframes=3"], false),
    ("refresh.mp4", ["-c:v", "libx264", "-x264-params", "intra-refresh=1:keyint=12"], false),
    (
      "hevc.mp4", ["-c:v", "libx265", "-x265-params", "open-gop=1:keyint=12:log-level=none"], false
    ), ("vp8.webm", ["-c:v", "libvpx", "-auto-alt-ref", "1", "-lag-in-frames", "16"], false),
    ("vp9.webm", ["-c:v", "libvpx-vp9"], false),
    ("av1.mkv", ["-c:v", "libaom-av1", "-cpu-used", "8", "-t", "0.4"], false),
    ("xvid.avi", ["-c:v", "libxvid", "-bf", "2"], false),
    ("theora.ogv", ["-c:v", "libtheora"], false),
  ]

  @Test(arguments: kinds.map(\.name)) func soundAndCut(_ name: String) async throws {
    let kind = Self.kinds.first { $0.name == name }!
    guard try await ffmpeg(Self.source + kind.options + [folder(name)]) else {
      #expect(!kind.isCommon, "FFmpeg cannot make \(name)")
      return
    }
    let sound = try await VideoReader.read(folder(name))
    #expect(sound.damage == nil && sound.decodedCount >= 8, "\(sound.damage ?? "")")
    let bytes = try MappedFile(folder(name)).region.array
    for share in [0.35, 0.6, 0.81, 0.97] {
      // Odd, so that no packet of a transport stream ends here.
      let count = Int(Double(bytes.count) * share) | 1
      let path = try folder.put(Array(bytes.prefix(count)), "cut-" + name)
      await expectError(.badData, "cut-" + name) { _ = try await VideoReader.read(path) }
    }
  }

  /// Parts of a stream that was cut out of a longer one without decoding it.
  @Test func whatStartsBetweenKeyFramesIsSound() async throws {
    guard
      try await ffmpeg(
        Self.source + ["-c:v", "mpeg2video", "-bf", "2", "-g", "12", folder("a.ts")])
    else { return }
    let bytes = try MappedFile(folder("a.ts")).region.array
    let middle = try folder.put(Array(bytes.dropFirst(bytes.count / 188 / 3 * 188)), "middle.ts")
    #expect(try await VideoReader.read(middle).damage == nil)
    // An edit list hides what comes before the first frame.
    if try await ffmpeg([
      "-ss", "0.5", "-i", clip("rabbit-look.mp4"), "-c", "copy", folder("edit.mp4"),
    ]) {
      #expect(try await VideoReader.read(folder("edit.mp4")).damage == nil)
    }
  }

  @Test func damageIsMarked() async throws {
    for name in ["gradient-turn.mp4", "rabbit-look.mp4"] {
      #expect(try await VideoReader.read(clip(name)).damage == nil)
      var bytes = try MappedFile(clip(name)).region.array
      let start = bytes.count * 2 / 5
      for i in start..<start + 1500 { bytes[i] = 0 }
      let video = try await VideoReader.read(try folder.put(bytes, "zero-" + name), frames: 4)
      #expect(video.damage != nil && video.pixels.shape[0] == 4)
      #expect(video.damageError("x.mp4")?.description.contains("damaged") == true)
      // Also when the frames are counted first.
      let long = try await VideoReader.read(
        folder("zero-" + name), frames: 2, program: "ffmpeg", budget: 3 * 320 * 180 * 3)
      #expect(long.damage != nil)
    }
    guard try await ffmpeg(Self.source + ["-c:v", "mpeg4", folder("a.avi")]),
      try await ffmpeg(Self.source + ["-c:v", "mpeg2video", folder("a.ts")])
    else { return }
    for name in ["a.avi", "a.ts"] {
      var bytes = try MappedFile(folder(name)).region.array
      for i in bytes.count / 2..<bytes.count / 2 + 4096 { bytes[i] = 0 }
      #expect(
        try await VideoReader.read(try folder.put(bytes, "zero-" + name)).damage != nil, "\(name)")
    }
  }
  /// A name or a title is no sign of damage.
  @Test func wordsAreNoDamage() async throws {
    let path = folder("corrupt decoded frame in stream damaged.mp4")
    guard
      try await ffmpeg(
        Self.source + [
          "-c:v", "mpeg4", "-metadata", "title=concealing corrupt [error] damaged", path,
        ])
    else { return }
    #expect(try await VideoReader.read(path).damage == nil)
  }

  /// The film is the first stream of moving pictures, marked as a cover or not.
  @Test func aPictureBeforeTheFilm() async throws {
    #expect(
      try await ffmpeg([
        "-f", "lavfi", "-i", "color=c=red:s=64x48:r=25:d=0.04", "-frames:v", "1",
        folder("cover.jpg"),
      ]))
    for (name, disposition) in [
      ("marked.mp4", "attached_pic"), ("plain.mp4", "0"), ("plain.mkv", "0"),
    ] {
      let arguments = [
        "-i", folder("cover.jpg"), "-i", clip("gradient-turn.mp4"), "-map", "0:v", "-map", "1:v",
        "-c", "copy", "-disposition:v:0", disposition, folder(name),
      ]
      #expect(try await ffmpeg(arguments))
      let video = try await VideoReader.read(folder(name), frames: 8)
      #expect(
        video.pixels.shape == Shape(8, 3, 180, 320) && video.decodedCount == 32
          && video.framesPerSecond == 16, "\(name)")
    }
    #expect(try await VideoReader.read(folder("cover.jpg"), frames: 1).decodedCount == 1)
  }

  @Test func gapsInAPattern() async throws {
    let picture = PNGImage(width: 4, height: 4, pixels: [UInt8](repeating: 7, count: 48))
    for t in [7, 8, 9, 10, 11] { try picture.write(to: folder("f-\(t < 10 ? "00" : "0")\(t).png")) }
    try createFolder(folder("100%d"))
    for t in 1...3 { try picture.write(to: folder("100%d/%\(t).png")) }
    // The first number may be any, names that do not fit are left alone.
    try picture.write(to: folder("f-12.png"))
    #expect(try await VideoReader.read(folder("f-%03d.png")).decodedCount == 5)
    #expect(try await VideoReader.read(folder("100%d/%%%d.png")).decodedCount == 3)
    try picture.write(to: folder("f-013.png"))
    await expectError(.missingInput, "frame 12 is missing", "7 and 13") {
      _ = try await VideoReader.read(folder("f-%03d.png"), frames: 2)
    }
    try picture.write(to: folder("f-017.png"))
    try picture.write(to: folder("f-012.png"))
    await expectError(.missingInput, "frames 14 to 16 are missing") {
      _ = try await VideoReader.read(folder("f-%03d.png"), frames: 2)
    }
    await expectError(.badData, "pattern") {
      _ = try await VideoReader.read(folder("f-%s.png"), frames: 2)
    }
    await expectError(.missingInput, "pattern") {
      _ = try await VideoReader.read(folder("none/f-%d.png"), frames: 2)
    }
    // A frame that was cut.
    let bytes = try MappedFile(folder("f-008.png")).region.array
    _ = try folder.put(Array(bytes.dropLast(20)), "g-1.png")
    await expectError(.badData, "g-1.png") {
      _ = try await VideoReader.read(folder("g-%d.png"), frames: 1)
    }
  }

  /// What runs under FFmpeg's name and is not it, or cannot: never the video's fault.
  @Test func aBrokenFFmpeg() async throws {
    let loader =
      "error while loading shared libraries: libavcodec.so.59: cannot open shared object file"
    for (name, script, words) in [
      ("library", "#!/bin/sh\necho 'ffmpeg: \(loader)' >&2\nexit 127\n", loader),
      ("silent", "#!/bin/sh\nexit 1\n", "said nothing"),
      ("nothing", "#!/bin/sh\nexit 0\n", "said nothing"),
      ("garbage", "#!/bin/sh\necho this is no picture\n", "does not work"),
      ("interpreter", "#!/no/such/shell\n", ""), ("format", "\u{7f}ELF nonsense", ""),
      ("signal", "#!/bin/sh\nkill -SEGV $$\n", "139"),
      ("permission", "", ""),
    ] {
      let path = try folder.put(script, name)
      if name != "permission" {
        #expect(try await ChildProcess.run("/bin/chmod", ["755", path]) == 0)
      }
      await expectError(.missingProgram, words, name) {
        _ = try await VideoReader.read(
          clip("rabbit-look.mp4"), frames: 2, program: path, budget: 1 << 20)
      }
      await expectError(.missingProgram, words, name) {
        try await VideoWriter.write(
          Tensor.zeros(Shape(2, 3, 4, 4)), to: folder("out.mp4"), framesPerSecond: 8, program: path)
      }
      await expectError(.missingProgram, name) { _ = try await VideoProgram.version(path) }
    }
    #expect(try folder.contents.allSatisfy { !$0.hasPrefix("out") && !$0.hasPrefix(".out") })
  }

  @Test func namesOfOutputs() {
    for folder in [
      "out", "./out", "v1.0/clips", "../x", "..", ".", "runs/v1.0", "clips/", "/a.b/c",
      "step-000100", ".hidden",
    ] { #expect(VideoWriter.isFolder(folder), "\(folder)") }
    for file in ["a.mp4", "./a.gif", "v1.0/a.png", "a.xyz", "../a.b/c.npy", "A.MP4"] {
      #expect(!VideoWriter.isFolder(file), "\(file)")
    }
  }
}

@Suite struct CompressedShardTests {
  let folder = TemporaryFolder()

  @Test func capitalsAndCompressedShards() async throws {
    let bytes = try MappedFile(clip("gradient-turn.mp4")).region.array
    _ = try folder.put(bytes, "IMG_1.MP4")
    _ = try folder.put("one", "IMG_1.TXT")
    _ = try folder.put(bytes, "b.mp4")
    _ = try folder.put("two", "b.Txt")
    _ = try folder.put("three", "b.txt")
    #expect(try Dataset(folder.path).samples.map(\.caption) == ["one", "three"])
    var tar = TarText()
    tar.add("s.mp4", bytes)
    tar.add("s.txt", Array("in a shard".utf8))
    try createFolder(folder("shards"))
    _ = try folder.put(tar.finished, "shards/a.tar")
    for (from, to) in [("a.tar", "b.tar.gz"), ("a.tar", "c.TGZ")] {
      #expect(
        try await ChildProcess.run(
          "/bin/sh", ["-c", "gzip -c '\(folder("shards/" + from))' > '\(folder("shards/" + to))'"])
          == 0)
    }
    let whole = try await VideoReader.read(clip("gradient-turn.mp4"), frames: 4).pixels.floats
    for name in ["b.tar.gz", "c.TGZ"] {
      let data = try Dataset(folder("shards/" + name))
      #expect(data.samples.map(\.caption) == ["in a shard"])
      #expect(try await data.samples[0].video(frames: 4).pixels.floats == whole)
    }
    let all = try Dataset(folder("shards"))
    #expect(all.samples.count == 3)
    for sample in all.samples { #expect(try await sample.video(frames: 4).pixels.floats == whole) }
    let packed = try MappedFile(folder("shards/b.tar.gz")).region.array
    let cut = try folder.put(Array(packed.prefix(packed.count / 2)), "cut.tar.gz")
    expectError(.badData, "cut.tar.gz", "damaged or cut short") { _ = try Dataset(cut) }
    var flipped = packed
    flipped[packed.count - 6] ^= 1
    expectError(.badData, "damaged") { _ = try Dataset(try folder.put(flipped, "flip.tgz")) }
    expectError(.badData, "zstd") {
      _ = try Dataset(
        try folder.put([0x28, 0xb5, 0x2f, 0xfd] + [UInt8](repeating: 1, count: 600), "z.tar"))
    }
  }
}
