internal import Synchronization
public import TensorRuntime

/// One captioned sample, not yet decoded.
public struct Sample: Sendable {
  /// A name for messages: the file, the line or the key in a shard.
  public let name: String
  /// The caption, without surrounding white space.
  public let caption: String
  let content: Content

  enum Content: Sendable {
    case video(path: String)
    case shard(TarReader.Entry, path: String)
    /// An entry of a compressed shard, by number.
    case packedShard(Int, path: String)
    case latents(latent: String, promptEmbedding: String, mask: String)
  }

  /// Whether the sample holds latents and prompt embeddings rather than a video.
  public var isPrecomputed: Bool { if case .latents = content { true } else { false } }
  /// The video's file, if the video is a file of its own.
  public var videoPath: String? { if case .video(let path) = content { path } else { nil } }

  /// Decodes the frames (see `VideoReader`). Throws `badData` if the sample has latents instead,
  /// otherwise as `VideoReader`.
  public func video(frames: Int?) async throws(FileError) -> Video {
    switch content {
    case .video(let path): return try await VideoReader.read(path, frames: frames)
    case .shard(let entry, let path):
      return try await VideoReader.read(entry, of: path, frames: frames)
    case .packedShard(let index, let path):
      let shard = try PackedShards.open(path)
      guard shard.entries.indices.contains(index) else {
        throw FileError.bad("the shard changed while it was read", path, mend: "try again")
      }
      return try await VideoReader.read(
        shard.entries[index], of: shard.location, named: path, frames: frames)
    case .latents:
      throw FileError.bad(
        "the sample holds latents, not a video", name, mend: "use a dataset of videos")
    }
  }

  /// Loads the latents and the prompt. Throws `badData` if the sample has a video instead, or if
  /// the files have another shape.
  public func latents() throws(FileError) -> LatentSample {
    guard case .latents(let latentPath, let promptPath, let maskPath) = content else {
      throw FileError.bad(
        "the sample holds a video, not latents", name, mend: "compute latents first: pisces embed")
    }
    let work = Workspace()
    func floats(_ path: String, _ tensorName: String) throws(FileError) -> Tensor {
      let t = try TensorFile.read(path, preferring: tensorName)
      guard t.type.isFloating else { throw FileError.bad("expected floats, found \(t.type)", path) }
      return work.converted(t, to: .f32)
    }
    var latent = try floats(latentPath, "latent")
    if latent.shape.rank == 5 && latent.shape[0] == 1 { latent = latent[row: 0] }
    guard latent.shape.rank == 4 else {
      throw FileError.bad("latents are [C, T, h, w], found \(latent.shape)", latentPath)
    }
    let prompt = try floats(promptPath, "prompt_embeds")
    guard prompt.shape.rank == 2, prompt.shape[0] > 0 else {
      throw FileError.bad("prompt embeddings are [L, D], found \(prompt.shape)", promptPath)
    }
    let maskTensor = try TensorFile.read(maskPath, preferring: "prompt_attention_mask")
    let mask =
      (maskTensor.type.isFloating
        ? maskTensor.doubles.map { $0 != 0 } : maskTensor.integers.map { $0 != 0 })
    // The published files have the pooled vector in row 0, padded with zeros to the width of the
    // others (checkpoints.md 7).
    let hasPooledRow = mask.count == prompt.shape[0] - 1
    guard hasPooledRow || mask.count == prompt.shape[0] else {
      throw FileError.bad(
        "a mask of \(mask.count) for \(prompt.shape[0]) rows of prompt embeddings", maskPath)
    }
    return LatentSample(
      latent: latent, promptEmbeddings: hasPooledRow ? prompt.slice(1..<prompt.shape[0]) : prompt,
      mask: mask,
      pooled: hasPooledRow ? prompt[row: 0] : nil, caption: caption)
  }
}

/// Precomputed latents and prompt of one sample.
public struct LatentSample: Sendable {
  /// `[C, T, h, w]`, f32, not scaled.
  public let latent: Tensor
  /// `[L, D]`, f32.
  public let promptEmbeddings: Tensor
  /// Which of the L rows are valid.
  public let mask: [Bool]
  /// `[D]`, f32: the pooled vector, padded with zeros as in the file (CLIP-L uses the first 768
  /// values). nil if the file has none.
  public let pooled: Tensor?
  public let caption: String
}

/// A list of captioned samples in a fixed order, and the errors of those that were left out
/// (interfaces.md 6).
public struct Dataset: Sendable {
  public let path: String
  public let samples: [Sample]
  /// Errors, one for each sample that cannot be used, to be counted and named in the log.
  public let problems: [FileError]

  /// Opens, by what `path` is:
  /// - a folder of clips, each with a caption file of the same stem (`a.mp4`, `a.txt`, or
  ///   `IMG.MP4`, `IMG.TXT`), sorted by name; or one that holds `videos2caption.json`; or one of
  ///   tar shards;
  /// - `.jsonl`: objects `{"video": PATH, "prompt": TEXT}`, paths relative to the file, in the
  ///   order of the lines;
  /// - `.tar`, `.tar.gz`, `.tgz`, with brace ranges `{00000..00009}.tar`, in the order of the
  ///   shards;
  /// - `.json`: the list of precomputed latents `videos2caption.json`.
  ///
  /// Nothing is decoded yet. Throws `missingInput`, `badData` or `readWrite` if the whole cannot be
  /// used. An empty dataset is `badData`, with the first problem.
  public init(_ path: String) throws(FileError) {
    var builder = Builder()
    if PathKind(path) == .folder {
      let files = try listFolder(path)
      let shards = files.filter { Self.isShard($0) }
      if files.contains("videos2caption.json") {
        try builder.addLatents(joinPath(path, "videos2caption.json"))
      } else if !shards.isEmpty {
        for shard in shards { builder.addShard(joinPath(path, shard)) }
      } else {
        builder.addClips(files, in: path)
      }
    } else {
      switch Self.isShard(path) ? "tar" : splitExtension(path).suffix {
      case "jsonl", "ndjson": try builder.addLines(path)
      case "json": try builder.addLatents(path)
      case "tar":
        let shards = PathKind(path) == .nothing ? try expandBraces(path) : [path]
        if shards.count == 1 { _ = try MappedFile(shards[0]) }
        for shard in shards { builder.addShard(shard) }
      default:
        if PathKind(path) == .nothing {
          throw FileError(.missingInput, "no such dataset", in: path, mend: "check the path")
        }
        throw FileError.bad(
          "not a dataset", path,
          mend:
            """
            give a folder of clips and captions, a .jsonl manifest, .tar shards, or \
            videos2caption.json
            """
        )
      }
    }
    if builder.samples.isEmpty {
      if let first = builder.problems.first { throw first }
      throw FileError.bad(
        "no samples", path,
        mend: "a folder needs clips with captions of the same name: a.mp4, a.txt")
    }
    (self.path, samples, problems) = (path, builder.samples, builder.problems)
  }

  /// Whether a name is that of a tar shard, compressed or not.
  static func isShard(_ name: String) -> Bool {
    let (stem, suffix) = splitExtension(name)
    return suffix == "tar" || suffix == "tgz"
      || suffix == "gz" && splitExtension(stem).suffix == "tar"
  }
  /// Extensions of clips.
  static let videoSuffixes: Set<String> = [
    "mp4", "webm", "mkv", "mov", "avi", "gif", "m4v", "mpg", "mpeg", "npy", "safetensors",
  ]
}

private struct Builder {
  var samples: [Sample] = []
  var problems: [FileError] = []

  mutating func collect(_ body: () throws(FileError) -> Sample) {
    do throws(FileError) {
      samples.append(try body())
    } catch {
      problems.append(error)
    }
  }

  /// A caption from bytes: the text without surrounding white space.
  static func caption(_ bytes: ByteRegion, _ name: String) throws(FileError) -> String {
    guard bytes.count <= 1 << 20 else {
      throw FileError.bad(
        "a caption of \(bytes.count) bytes", name, mend: "write the caption as plain text")
    }
    return try caption(try TextFile.text(bytes.array, name), name)
  }
  static func caption(_ text: String, _ name: String) throws(FileError) -> String {
    let isSpace: (Character) -> Bool = { $0.isWhitespace }
    let head = text.drop(while: isSpace)
    let end = head.lastIndex { !$0.isWhitespace }.map { head.index(after: $0) } ?? head.startIndex
    if head.startIndex == end {
      throw FileError.bad("the caption is empty", name, mend: "write the caption as plain text")
    }
    return String(head[..<end])
  }

  mutating func addClips(_ files: [String], in folder: String) {
    // By stem. The letters of the extension may be of either case; the usual ones are tried first.
    var captions: [String: String] = [:]
    for file in files where splitExtension(file).suffix == "txt" {
      let stem = splitExtension(file).stem
      if captions[stem] == nil || file == stem + ".txt" { captions[stem] = file }
    }
    for file in files where Dataset.videoSuffixes.contains(splitExtension(file).suffix) {
      let stem = splitExtension(file).stem
      collect { () throws(FileError) in
        guard let caption = captions[stem] else {
          throw FileError(
            .missingInput, "no caption \(stem).txt for the clip", in: joinPath(folder, file),
            mend: "write its caption beside it")
        }
        let captionPath = joinPath(folder, caption)
        let text = try Builder.caption(try MappedFile(captionPath).region, captionPath)
        return Sample(
          name: joinPath(folder, file), caption: text, content: .video(path: joinPath(folder, file))
        )
      }
    }
  }

  mutating func addLines(_ path: String) throws(FileError) {
    var pairs = try PairReader(path)
    while true {
      do throws(FileError) {
        guard let (video, prompt) = try pairs.next() else { return }
        let caption = try Builder.caption(prompt, pairs.line)
        samples.append(
          Sample(
            name: pairs.line, caption: caption,
            content: .video(path: PairReader.path(video, in: pairs.folder))))
      } catch {
        if pairs.isOver { throw error }
        problems.append(error)
      }
    }
  }

  mutating func addShard(_ path: String) {
    do throws(FileError) {
      let shard = try TarReader(path)
      for group in shard.groups {
        let name = "\(path), \(group.key)"
        collect { () throws(FileError) in
          guard
            let video = group.files.first(where: {
              Dataset.videoSuffixes.contains($0.suffix) && $0.suffix != "safetensors"
            })?.entry
          else {
            throw FileError.bad("no video in the sample", name, mend: "store it as key.mp4")
          }
          let caption: String
          if let text = group["txt"] {
            caption = try Builder.caption(text.bytes, name)
          } else if let json = group["json"] {
            let value = try JSONValue(parsing: try TextFile.text(json.contents, name), name: name)
            guard let text = (value["prompt"] ?? value["caption"] ?? value["text"])?.string else {
              throw FileError.bad(
                "no caption in the sample's json", name, mend: "store it as key.txt")
            }
            caption = try Builder.caption(text, name)
          } else {
            throw FileError.bad("no caption in the sample", name, mend: "store it as key.txt")
          }
          return Sample(
            name: name, caption: caption,
            content: shard.isInflated
              ? .packedShard(video.index, path: path) : .shard(video, path: path))
        }
      }
    } catch {
      problems.append(error)
    }
  }

  mutating func addLatents(_ path: String) throws(FileError) {
    let folder = splitPath(path).folder
    guard let list = try JSONValue(contentsOf: path).array else {
      throw FileError.bad(
        "not a list of samples", path, mend: "give videos2caption.json as the recipe writes it")
    }
    for (i, item) in list.enumerated() {
      let name = "\(path), item \(i)"
      collect { () throws(FileError) in
        func file(_ key: String, _ kind: String) throws(FileError) -> String {
          guard let file = item[key]?.string, !file.isEmpty else {
            throw FileError.bad(
              "no text '\(key)'", name, mend: "give videos2caption.json as the recipe writes it")
          }
          let path = joinPath(joinPath(folder, kind), file)
          guard PathKind(path) == .file else {
            throw FileError(
              .missingInput, "no such file", in: path,
              mend: "check the folder '\(kind)' beside \(name)")
          }
          return path
        }
        return Sample(
          name: name, caption: item["caption"]?.string ?? "",
          content: .latents(
            latent: try file("latent_path", "latent"),
            promptEmbedding: try file("prompt_embed_path", "prompt_embed"),
            mask: try file("prompt_attention_mask", "prompt_attention_mask")))
      }
    }
  }
}

/// The compressed shard that was opened last, kept inflated on the disk. Samples come in the order
/// of the shards, so one is enough.
enum PackedShards {
  private static let last = Mutex<TarReader?>(nil)

  static func open(_ path: String) throws(FileError) -> TarReader {
    if let shard = last.withLock({ $0 }), shard.path == path { return shard }
    last.withLock { $0 = nil }
    let shard = try TarReader(path)
    last.withLock { $0 = shard }
    return shard
  }
}
