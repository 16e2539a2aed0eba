public import TensorRuntime

/// Frames of a video.
public struct Video: Sendable {
  /// `[T, 3, H, W]`, f32, in [0,1].
  public let pixels: Tensor
  /// The indices of these frames among the decoded ones.
  public let frameIndices: [Int]
  /// The number of frames of the video.
  public let decodedCount: Int
  /// nil if it is not known (a tensor file).
  public let framesPerSecond: Double?
  /// The decoder's message about damage that it skipped; nil for a sound video.
  public var damage: String?
  /// The damage as an error, for callers that refuse damaged videos.
  public func damageError(_ path: String) -> FileError? {
    damage.map {
      FileError.bad(
        "the video is damaged (\($0))", path,
        mend: "check that the file is complete, or leave out --strict")
    }
  }
}

/// The frames that represent a video (interfaces.md 3).
public enum FrameSelection {
  /// `count` of `decoded` frames: with step = decoded / count (integer division) the frames 0,
  /// step, 2·step, ... nil if there are too few.
  public static func indices(count: Int, of decoded: Int) -> [Int]? {
    precondition(count > 0, "\(count) frames")
    if decoded < count { return nil }
    let step = decoded / count
    return (0..<count).map { $0 * step }
  }
}

/// Reads a video: anything that FFmpeg reads (mp4, webm, gif, a frame pattern such as
/// `frame-%04d.png`), or a tensor file with `pixels` `[T, 3, H, W]` in [0,1] (`FILE:NAME` for
/// another name). FFmpeg runs once, as a separate process, over pipes.
public enum VideoReader {
  /// Bytes of decoded frames that are kept, on the assumption that the video is short. The frames
  /// of a longer one are counted first, and then it is decoded again.
  static let budget = 256 << 20
  /// Largest number of bytes of the requested frames. Their tensor takes four times as much.
  static let largest = 4 << 30

  /// Decodes the video and selects `frames` of its frames by `FrameSelection`, or all if nil.
  ///
  /// Throws `missingInput` (no such file), `missingProgram` (no FFmpeg), `badData` (no video in it,
  /// damaged, cut short, fewer frames than asked for, too large) or `readWrite`.
  public static func read(_ path: String, frames: Int? = nil) async throws(FileError) -> Video {
    try await read(path, frames: frames, program: "ffmpeg", budget: budget)
  }

  static func read(_ path: String, frames: Int?, program: String, budget: Int)
    async throws(FileError) -> Video
  {
    switch splitExtension(path).suffix {
    case "npy": return try tensorVideo(try NumpyFile.read(path), frames: frames, path: path)
    case "safetensors":
      return try tensorVideo(
        try SafetensorsFile(path).tensor(named: "pixels"), frames: frames, path: path)
    default: break
    }
    if PathKind(path) == .nothing && path.contains(".safetensors:") {
      return try tensorVideo(try TensorFile.read(path), frames: frames, path: path)
    }
    if path.utf8.contains(0) {
      throw FileError(.missingInput, "no such file", in: path, mend: "check the path")
    }
    if FramePattern.isOne(path) {
      let pattern = try FramePattern(path)
      for file in pattern.files { _ = try check(try MappedFile(file).region, name: file) }
      if let video = try pictures(pattern, frames: frames, path: path) { return video }
      let input = [
        "-f", "image2", "-start_number", "\(pattern.first)", "-i", "file:" + pattern.path,
      ]
      return try await decode(input, frames: frames, name: path, program: program, budget: budget)
    }
    let damage = try check(try MappedFile(path).region, name: path)
    return try await decode(
      ["-i", "file:" + path], frames: frames, name: path, program: program, budget: budget,
      damage: damage)
  }

  /// Decodes bytes inside another file (a member of a tar shard) without extracting them.
  static func read(
    _ entry: TarReader.Entry, of archive: String, named title: String? = nil, frames: Int?
  ) async throws(FileError) -> Video {
    let name = "\(title ?? archive), \(entry.name)"
    if splitExtension(entry.name).suffix == "npy" {
      return try tensorVideo(
        try NumpyFile.read(entry.bytes, name: name), frames: frames, path: name)
    }
    let damage = try check(entry.bytes, name: name)
    let url =
      "subfile,,start,\(entry.range.lowerBound),end,\(entry.range.upperBound),,:file:\(archive)"
    return try await decode(
      ["-i", url], frames: frames, name: name, program: "ffmpeg", budget: budget, damage: damage)
  }

  /// Refuses files that are not a whole video. Returns what else is wrong with the container.
  private static func check(_ bytes: ByteRegion, name: String) throws(FileError) -> String? {
    if bytes.count == 0 {
      throw FileError.bad("the file is empty", name, mend: "check that the file is complete")
    }
    if let nature = FileNature(bytes), nature == .pointer || nature == .page {
      throw nature.error(name)
    }
    try refuseText(bytes, name: name)
    switch ContainerCheck.fault(bytes) {
    case .cut(let part):
      throw FileError.bad(
        "the video is damaged or cut short: the file ends before \(part)", name,
        mend: "check that the file is complete")
    case .damaged(let what): return what
    case nil: return nil
    }
  }
  /// FFmpeg would show a text as pictures, or follow a playlist to other files.
  private static func refuseText(_ bytes: ByteRegion, name: String) throws(FileError) {
    let head = bytes.region(at: 0, count: min(bytes.count, 4096))?.array ?? []
    let isPrintable = head.allSatisfy { $0 >= 0x20 || (0x09...0x0d).contains($0) || $0 == 0x1b }
    // The text may be cut inside a character of up to four bytes.
    let isText =
      isPrintable
      && (0..<min(4, head.count)).contains {
        String(validating: head.dropLast($0), as: UTF8.self) != nil
      }
    if isText { throw FileError.bad("a text file, not a video", name, mend: "give a video file") }
  }

  /// The frames of a pattern, read without FFmpeg: with the same bits. nil if that is not certain
  /// (pictures of several sizes, other formats than plain PNG, damage).
  private static func pictures(_ pattern: FramePattern, frames: Int?, path: String)
    throws(FileError) -> Video?
  {
    for file in pattern.files where !PNGImage.isPlain(try MappedFile(file).region) { return nil }
    let indices = try select(frames, of: pattern.files.count, path: path)
    var pixels: Tensor?
    var kept = 0
    for (i, file) in pattern.files.enumerated() {
      guard let image = try? PNGImage(contentsOf: file) else { return nil }
      if pixels == nil {
        if 3 * image.width * image.height > largest / indices.count { return nil }
        pixels = Workspace().tensor(Shape(indices.count, 3, image.height, image.width))
      }
      let shape = pixels!.shape
      guard (shape[2], shape[3]) == (image.height, image.width) else { return nil }
      guard kept < indices.count, indices[kept] == i else { continue }
      let count = image.width * image.height
      pixels!.withMutableSpan(of: Float.self) { span in
        PixelPlanes.fill(&span, at: kept * 3 * count, from: image.pixels, count: count)
      }
      kept += 1
    }
    // 25 is what FFmpeg takes a sequence of pictures for.
    return Video(
      pixels: pixels!, frameIndices: indices, decodedCount: pattern.files.count,
      framesPerSecond: 25)
  }

  // MARK: FFmpeg

  /// What is to be decoded: FFmpeg's options, a name for messages, and the index of the stream of
  /// pictures.
  private struct Input {
    let options: [String], name: String, program: String
    var stream = 0
  }

  private static func decode(
    _ options: [String], frames: Int?, name: String, program: String, budget: Int,
    damage container: String? = nil
  ) async throws(FileError) -> Video {
    var input = Input(options: options, name: name, program: program)
    var (collector, log) = try await decode(input, budget: frames == nil ? largest : budget)
    // A single picture before other streams is a cover without a mark.
    let streams = log.videoCount
    while collector.frames.count == 1 && !collector.isOverBudget && input.stream + 1 < streams {
      input.stream += 1
      let other = try await decode(input, budget: frames == nil ? largest : budget)
      if other.0.isOverBudget || other.0.frames.count > 1 { (collector, log) = other }
    }
    var indices: [Int]
    var decoded = collector.frames.count
    var damage = log.damage
    if collector.isOverBudget {
      func tooLarge(_ count: String) -> FileError {
        FileError.bad(
          """
          \(count) frames of \(collector.width) × \(collector.height) pixels are more than \
          \(largest >> 30) GiB
          """,
          name,
          mend: "ask for fewer frames (--frames) or scale the video down")
      }
      guard let frames else { throw tooLarge("all") }
      (decoded, damage) = try await count(input)
      indices = try select(frames, of: decoded, path: name)
      if 3 * collector.width * collector.height > largest / frames { throw tooLarge("\(frames)") }
      let step = decoded / frames
      let filter = ["-vf", "select='not(mod(n,\(step)))*lt(n,\(step * frames))'"]
      (collector, log) = try await decode(input, filter, budget: largest)
      if collector.frames.count != frames {
        throw FileError.bad("the video changed while it was read", name, mend: "try again")
      }
    } else {
      indices = try select(frames, of: decoded, path: name)
    }
    let kept =
      collector.frames.count == indices.count
      ? collector.frames : indices.map { collector.frames[$0] }
    let count = collector.width * collector.height
    var pixels = Workspace().tensor(Shape(indices.count, 3, collector.height, collector.width))
    pixels.withMutableSpan(of: Float.self) { span in
      for (t, frame) in kept.enumerated() {
        PixelPlanes.fill(&span, at: t * 3 * count, from: frame, count: count)
      }
    }
    return Video(
      pixels: pixels, frameIndices: indices, decodedCount: decoded,
      framesPerSecond: log.framesPerSecond, damage: container ?? damage)
  }

  /// One run of FFmpeg that sends the frames. Throws unless they arrived completely, or no longer
  /// fit.
  private static func decode(_ input: Input, _ filter: [String] = [], budget: Int)
    async throws(FileError) -> (FrameCollector, FFmpeg.Log)
  {
    var collector = FrameCollector(path: input.name, budget: budget)
    let outcome = try await run(
      input, filter + ["-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1"]
    ) { bytes throws(FileError) in
      try collector.consume(bytes)
    }
    if collector.isOverBudget { return (collector, outcome.log) }
    try check(
      outcome.log,
      isSuccess: outcome.isSuccess && !collector.frames.isEmpty && collector.isComplete, input)
    return (collector, outcome.log)
  }
  /// One run of FFmpeg that only counts the frames that it decodes, and returns its messages of
  /// damage.
  private static func count(_ input: Input) async throws(FileError) -> (
    frames: Int, damage: String?
  ) {
    let outcome = try await run(input, ["-f", "null", "-"]) { _ throws(FileError) in true }
    let frames = outcome.log.frameCount
    try check(outcome.log, isSuccess: outcome.isSuccess && frames != nil, input)
    return (frames ?? 0, outcome.log.damage)
  }

  /// Decodes a stream of moving pictures, every frame once, whatever its time stamp.
  private static func run(
    _ input: Input, _ output: [String], consume: (ArraySlice<UInt8>) throws(FileError) -> Bool
  ) async throws(FileError) -> FFmpeg.Outcome {
    let (program, name) = (input.program, input.name)
    let start =
      ["-protocol_whitelist", "file,subfile,pipe", "-an", "-sn", "-dn"] + input.options + [
        "-map", "0:V:\(input.stream)",
      ]
    let outcome = try await FFmpeg.run(
      start + ["-fps_mode", "passthrough"] + output, program: program, for: name, consume: consume)
    // Before FFmpeg 5.1 the option had another name. FFmpeg refuses it before it sends anything.
    if outcome.isSuccess
      || !outcome.log.lines.contains(where: { $0.contains("Unrecognized option 'fps_mode'") })
    {
      return outcome
    }
    return try await FFmpeg.run(
      start + ["-vsync", "passthrough"] + output, program: program, for: name, consume: consume)
  }

  private static func check(_ log: FFmpeg.Log, isSuccess: Bool, _ input: Input) throws(FileError) {
    let name = input.name
    let url = input.options.last ?? ""
    // Formats that turn any text into pictures, or open other files, are not videos.
    if let format = log.inputFormat,
      let refused = format.split(separator: ",").first(where: {
        refusedFormats.contains(String($0))
      })
    {
      throw FileError.bad(
        "not a video (FFmpeg takes it for \(refused))", name, mend: "give a video file")
    }
    let errors = log.errors
    let isPacketCut = log.lines.contains {
      $0.hasPrefix("[mov,mp4") && $0.contains("Packet corrupt")
    }
    let cut =
      errors.first { e in truncationSigns.contains { e.contains($0) } }
      ?? (isPacketCut ? "packet corrupt" : nil)
    if let cut {
      throw FileError.bad(
        "the video is damaged or cut short (\(cut))", name, mend: "check that the file is complete")
    }
    if !isSuccess {
      let said =
        errors.last.map {
          $0.contains("matches no streams") ? "no video stream" : $0.replacing("\(url): ", with: "")
        } ?? "no frames"
      throw FileError.bad(
        "cannot decode it as a video (\(said))", name,
        mend: "check that the file is a complete video")
    }
  }
  private static let refusedFormats: Set<String> = [
    "tty", "bin", "xbin", "adf", "idf", "hls", "dash", "concat", "ffmetadata", "imf", "sdp", "rtsp",
  ]
  /// The messages of FFmpeg's demuxers for a file that ends too early (mov, matroska).
  private static let truncationSigns = ["partial file", "ended prematurely", "moov atom not found"]

  private static func select(_ frames: Int?, of decoded: Int, path: String) throws(FileError)
    -> [Int]
  {
    guard let frames else { return Array(0..<decoded) }
    guard let indices = FrameSelection.indices(count: frames, of: decoded) else {
      throw FileError.bad(
        "\(decoded) frames in the video, \(frames) asked for", path,
        mend: "ask for at most \(decoded) frames (--frames) or give a longer video")
    }
    return indices
  }

  // MARK: tensor files

  private static func tensorVideo(_ tensor: Tensor, frames: Int?, path: String) throws(FileError)
    -> Video
  {
    guard tensor.shape.rank == 4, tensor.shape[1] == 3, tensor.type.isFloating, tensor.count > 0
    else {
      throw FileError.bad(
        "a video is [T, 3, H, W] of floats, found \(tensor.shape) of \(tensor.type)", path,
        "pixels", mend: "store it so, with values in [0,1]")
    }
    let indices = try select(frames, of: tensor.shape[0], path: path)
    let all = Workspace().converted(tensor, to: .f32)
    let isInRange = all.withSpan(of: Float.self) { span in
      for i in span.indices where !(span[i] >= 0 && span[i] <= 1) { return false }
      return true
    }
    if !isInRange {
      throw FileError.bad("values outside [0,1]", path, "pixels", mend: "scale them to [0,1]")
    }
    let size = tensor.shape.count / tensor.shape[0]
    var pixels = Workspace().tensor(Shape(indices.count, 3, tensor.shape[2], tensor.shape[3]))
    pixels.withMutableSpan(of: Float.self) { out in
      all.withSpan(of: Float.self) { x in
        for (t, index) in indices.enumerated() {
          for i in 0..<size { out[t * size + i] = x[index * size + i] }
        }
      }
    }
    return Video(
      pixels: pixels, frameIndices: indices, decodedCount: tensor.shape[0], framesPerSecond: nil)
  }
}
