/// The kind of a file, found from its first bytes, when it is not what was expected. The error then
/// names it.
enum FileNature: String {
  case pointer = "a Git LFS pointer, not the file it stands for"
  case page = "a web page, not a file that was downloaded"
  case legacyTorch = "a PyTorch file from before version 1.6"
  case tarTorch = "a tar archive, the oldest PyTorch format"
  case zip = "a PyTorch file or another zip"
  case pickle = "a Python pickle that torch.save did not write"
  case gguf = "a GGUF file"
  case hierarchical = "an HDF5 file"
  case numpy = "a .npy array"
  case gzip = "a gzip-compressed file"
  case zstd = "a zstd-compressed file"

  /// nil if the first bytes fit none of these.
  init?(_ bytes: ByteRegion) {
    self.init(bytes.region(at: 0, count: min(bytes.count, 600))?.array ?? [])
  }
  init?(_ head: [UInt8]) {
    if let pointer = Self.pointer(head) {
      self = pointer
      return
    }
    let magics: [(FileNature, [UInt8])] = [
      (.legacyTorch, Self.legacyMagic), (.zip, [0x50, 0x4b, 0x03, 0x04]),
      (.gguf, Array("GGUF".utf8)), (.hierarchical, [0x89] + Array("HDF\r\n".utf8)),
      (.numpy, [0x93] + Array("NUMPY".utf8)), (.gzip, [0x1f, 0x8b]),
      (.zstd, [0x28, 0xb5, 0x2f, 0xfd]),
    ]
    // In other protocols the number comes after the header of the frame.
    let isLegacy =
      head.first == 0x80
      && (0..<min(24, head.count)).contains {
        head.dropFirst($0).starts(with: Self.legacyMagic.dropFirst(2))
      }
    if isLegacy {
      self = .legacyTorch
    } else if let found = magics.first(where: { head.starts(with: $0.1) }) {
      self = found.0
    } else if head.count >= 262 && head[257..<262].elementsEqual("ustar".utf8) {
      self = .tarTorch
    } else if head.count > 2 && head[0] == 0x80 && (2...5).contains(head[1]) {
      self = .pickle
    } else if Self.isPage(head) {
      self = .page
    } else {
      return nil
    }
  }
  static func pointer(_ head: [UInt8]) -> FileNature? {
    head.starts(with: Array("version https://git-lfs.github.com/spec/".utf8)) ? .pointer : nil
  }
  /// The beginning of a pickled 0x1950a86a20f9469cfc6c.
  private static let legacyMagic: [UInt8] = [
    0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19,
  ]
  private static func isPage(_ head: [UInt8]) -> Bool {
    let text = String(decoding: head.prefix(64), as: UTF8.self).lowercased().drop {
      $0.isWhitespace
    }
    return text.hasPrefix("<!doctype html") || text.hasPrefix("<html")
  }

  /// What the user can do about it.
  var remedy: String {
    switch self {
    case .pointer: "fetch it: git lfs pull"
    case .page: "download it again; the address may ask for a login"
    case .legacyTorch, .tarTorch: "load it in a newer PyTorch and torch.save it again"
    case .zip: "give it to a command that reads PyTorch files"
    case .pickle: "save the weights with torch.save or as safetensors"
    case .gguf, .hierarchical: "give the model as safetensors or as a PyTorch file"
    case .numpy: "give a .npy file where an array is asked for, and safetensors for a model"
    case .gzip: "decompress it first: gunzip"
    case .zstd: "decompress it first: unzstd"
    }
  }
  func error(_ path: String) -> FileError { FileError.bad(rawValue, path, mend: remedy) }
}
