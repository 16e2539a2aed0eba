/// 64 bits that identify the contents of files, model folders and datasets, so that a run
/// recognises other inputs. FNV-1a over texts and the CRC-32 of bytes. Not secure against
/// adversaries.
public struct Fingerprint: Sendable {
  private var hash: UInt64 = 0xcbf2_9ce4_8422_2325
  public init() {}

  private mutating func fold(_ bytes: some Sequence<UInt8>) {
    for b in bytes { hash = (hash ^ UInt64(b)) &* 0x100_0000_01b3 }
  }
  /// A text and its end mark.
  public mutating func add(_ text: String) {
    fold(text.utf8)
    fold(CollectionOfOne(0))
  }
  mutating func add(_ region: ByteRegion) {
    fold(littleEndian(UInt64(region.count)))
    unsafe fold(littleEndian(Checksum.crc32(region.file.bytes(region.range))))
  }
  /// Sixteen hexadecimal digits.
  public var text: String {
    let digits = String(hash, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  /// Fingerprint of a file's bytes; of a folder by the names and bytes of all files in it that are
  /// not hidden.
  public static func of(_ path: String) throws(FileError) -> String {
    var print = Fingerprint()
    try print.addTree(path, as: "")
    return print.text
  }
  private mutating func addTree(_ path: String, as name: String) throws(FileError) {
    if PathKind(path) == .folder {
      for child in try listFolder(path) {
        try addTree(joinPath(path, child), as: "\(name)/\(child)")
      }
    } else {
      add(name)
      add(try MappedFile(path).region)
    }
  }
}

extension Dataset {
  /// Fingerprint of every sample's caption and bytes, in order. It does not depend on the place of
  /// the files or on how the samples are stored.
  public func fingerprint() throws(FileError) -> String {
    var print = Fingerprint()
    for sample in samples {
      print.add(sample.caption)
      for region in try sample.regions { print.add(region) }
    }
    return print.text
  }
}
extension Sample {
  /// The bytes of the sample.
  fileprivate var regions: [ByteRegion] {
    get throws(FileError) {
      switch content {
      case .video(let path):
        if PathKind(path) == .file { return [try MappedFile(path).region] }
        var frames: [ByteRegion] = []
        if FramePattern.isOne(path) {
          for file in try FramePattern(path).files { frames.append(try MappedFile(file).region) }
        }
        // FILE:NAME, a tensor in a file.
        let file = path.lastIndex(of: ":").map { String(path[..<$0]) }
        if let file, frames.isEmpty, PathKind(file) == .file {
          frames.append(try MappedFile(file).region)
        }
        return frames
      case .shard(let entry, _): return [entry.bytes]
      case .packedShard(let index, let path):
        return [try PackedShards.open(path).entries[index].bytes]
      case .latents(let latent, let prompt, let mask):
        return [
          try MappedFile(latent).region, try MappedFile(prompt).region, try MappedFile(mask).region,
        ]
      }
    }
  }
}
