internal import Glibc
public import TensorRuntime

/// Writes a video: mp4 or GIF through FFmpeg, a PNG strip, or a tensor file. It appears under its
/// name as a whole or not at all.
public enum VideoWriter {
  /// The kinds of output, by the file's extension.
  public enum Format: String, Sendable, CaseIterable {
    case mp4, gif, png, npy, safetensors

    /// Throws `cannotCreate` for any other extension.
    public init(path: String) throws(FileError) {
      guard let format = Format(rawValue: splitExtension(path).suffix) else {
        throw FileError(
          .cannotCreate, "no known video format", in: path,
          mend: "use one of .mp4 .gif .png .npy .safetensors")
      }
      self = format
    }
  }

  /// Whether an output names a folder rather than a file: an existing folder, a name that ends in a
  /// slash, or a name whose last part does not end in a file extension (`out`, `./out`, `v1.0`,
  /// `..`).
  public static func isFolder(_ path: String) -> Bool {
    if PathKind(path) == .folder || path.hasSuffix("/") { return true }
    let suffix = splitExtension(path).suffix
    return !suffix.contains { $0.isASCII && $0.isLetter } || suffix.count > 11
  }

  /// Writes `pixels`, `[T, 3, H, W]`, f32 in [0,1] (other values are clamped). An mp4 of odd width
  /// or height repeats its last column or row, because its colours come in blocks of two by two. A
  /// PNG has the frames side by side.
  ///
  /// Throws `cannotCreate`, `readWrite` or `missingProgram`.
  public static func write(_ pixels: Tensor, to path: String, framesPerSecond: Double = 8)
    async throws(FileError)
  {
    try await write(pixels, to: path, framesPerSecond: framesPerSecond, program: "ffmpeg")
  }

  static func write(_ pixels: Tensor, to path: String, framesPerSecond: Double, program: String)
    async throws(FileError)
  {
    precondition(
      pixels.shape.rank == 4 && pixels.shape[1] == 3 && pixels.count > 0 && pixels.type == .f32,
      "a video is [T, 3, H, W] f32, not \(pixels.shape) \(pixels.type)")
    precondition(
      framesPerSecond > 0 && framesPerSecond.isFinite, "\(framesPerSecond) frames a second")
    switch try Format(path: path) {
    case .npy: try NumpyFile.write(pixels, to: path)
    case .safetensors: try SafetensorsWriter.write([("pixels", pixels)], to: path)
    case .png: try strip(pixels).write(to: path)
    case .gif:
      try await encode(
        pixels, to: path, framesPerSecond, program,
        [["-filter_complex", "[0:v]split[a][b];[a]palettegen[p];[b][p]paletteuse", "-f", "gif"]])
    case .mp4:
      // One thread, so that the same frames give the same bytes on every machine.
      let common = ["-pix_fmt", "yuv420p", "-movflags", "+faststart", "-threads", "1", "-f", "mp4"]
      try await encode(
        pixels, to: path, framesPerSecond, program,
        [
          ["-c:v", "libx264", "-preset", "medium", "-crf", "18"] + common,
          ["-c:v", "mpeg4", "-q:v", "2"] + common,
        ])
    }
  }

  /// The frames side by side.
  public static func strip(_ pixels: Tensor) -> PNGImage {
    let (frames, height, width) = (pixels.shape[0], pixels.shape[2], pixels.shape[3])
    var strip = [UInt8](repeating: 0, count: 3 * frames * height * width)
    for t in 0..<frames {
      let frame = PNGImage(pixels[row: t]).pixels
      for y in 0..<height {
        strip.replaceSubrange(
          (y * frames + t) * 3 * width..<(y * frames + t + 1) * 3 * width,
          with: frame[y * 3 * width..<(y + 1) * 3 * width])
      }
    }
    return PNGImage(width: frames * width, height: height, pixels: strip)
  }

  /// Gives the frames to FFmpeg in a raw file beside the output, and tries the encoders in turn
  /// until FFmpeg knows one.
  private static func encode(
    _ pixels: Tensor, to path: String, _ framesPerSecond: Double, _ program: String,
    _ choices: [[String]]
  )
    async throws(FileError)
  {
    let target = try Destination(path)
    if target.isSpecial {
      throw FileError(
        .cannotCreate, "a video needs a regular file", in: path, mend: "choose another name")
    }
    let raw = joinPath(target.folder, temporaryName(for: target.name))
    let (output, descriptor) = try target.createTemporary()
    defer {
      unsafe unlink(raw)
      close(descriptor)
    }
    let isMP4 = splitExtension(path).suffix == "mp4"
    func frame(_ t: Int) -> PNGImage {
      isMP4 ? PNGImage(pixels[row: t]).evenSized : PNGImage(pixels[row: t])
    }
    let size = frame(0)
    do throws(FileError) {
      try OutputFile.write(to: raw) { file throws(FileError) in
        for t in 0..<pixels.shape[0] { try file.append(frame(t).pixels) }
      }
      let input = [
        "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "\(size.width)x\(size.height)", "-framerate",
        "\(framesPerSecond)", "-i", "file:" + raw,
      ]
      var problem = "no encoder"
      var isDone = false
      for choice in choices where !isDone {
        let arguments =
          ["-protocol_whitelist", "file"] + input + choice + [
            "-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1", "-y",
            "file:" + output,
          ]
        let outcome = try await FFmpeg.run(arguments, program: program, for: path) {
          _ throws(FileError) in true
        }
        let log = outcome.log
        isDone = outcome.isSuccess
        problem = log.errors.last?.replacing("file:" + output, with: path) ?? "it stopped early"
        let isEncoderMissing = log.errors.contains {
          $0.contains("Unknown encoder") || $0.contains("Encoder not found")
        }
        if !isDone && !isEncoderMissing { break }
      }
      if !isDone {
        throw FileError(
          .readWrite, "FFmpeg could not write the video (\(problem))", in: path,
          mend: "check the disk, and that FFmpeg has an H.264 or MPEG-4 encoder")
      }
      if fsync(descriptor) != 0 { throw OutputFile.writeError(path, errno) }
    } catch {
      unsafe unlink(output)
      throw error.naming(path, insteadOf: raw)
    }
    try target.replace(with: output)
  }
}

extension PNGImage {
  /// With the last column and row repeated if their number is odd.
  fileprivate var evenSized: PNGImage {
    if width % 2 == 0 && height % 2 == 0 { return self }
    var out: [UInt8] = []
    for y in 0..<height + height % 2 {
      let row = pixels[min(y, height - 1) * 3 * width..<(min(y, height - 1) + 1) * 3 * width]
      out += row
      if width % 2 == 1 { out += row.suffix(3) }
    }
    return PNGImage(width: width + width % 2, height: height + height % 2, pixels: out)
  }
}
