/// A numbered pattern of frames, `frame-%04d.png`. As in FFmpeg, `%d`, `%Nd` and `%0Nd` stand for
/// the number and `%%` for a percent sign. Only the last part of the path is a pattern.
struct FramePattern {
  /// The path in FFmpeg's form, and the first number.
  let path: String
  let first: Int
  /// The frames, in order.
  let files: [String]

  /// Whether `path` does not exist as a file and has a percent sign in its last part.
  static func isOne(_ path: String) -> Bool {
    splitPath(path).name.contains("%") && PathKind(path) == .nothing
  }

  /// Finds the frames. Throws `missingInput` if there are none, or one is missing between others,
  /// and `badData` if the path is not a pattern.
  init(_ path: String) throws(FileError) {
    let (folder, name) = splitPath(path)
    guard let (before, width, after) = Self.parts(name) else {
      throw FileError.bad(
        "not a pattern of frames", path,
        mend: "write one %d or %04d for the frame's number, and %% for a percent sign")
    }
    var numbers: [Int: String] = [:]
    for file in PathKind(folder) == .folder ? try listFolder(folder) : [] {
      guard file.hasPrefix(before), file.hasSuffix(after),
        file.utf8.count > before.utf8.count + after.utf8.count
      else { continue }
      let digits = file.dropFirst(before.count).dropLast(after.count)
      // Padded to the width, but no further.
      guard let number = Int(digits), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
        Self.padded(number, width) == digits
      else { continue }
      numbers[number] = file
    }
    let found = numbers.keys.sorted()
    guard let first = found.first, let last = found.last else {
      throw FileError(
        .missingInput, "no file fits the pattern", in: path,
        mend: "check the pattern and its folder")
    }
    if last - first + 1 != found.count {
      let gap = zip(found, found.dropFirst()).first { $0 + 1 != $1 }!
      let lost =
        gap.0 + 2 == gap.1 ? "frame \(gap.0 + 1) is" : "frames \(gap.0 + 1) to \(gap.1 - 1) are"
      throw FileError(
        .missingInput, "\(lost) missing between \(first) and \(last)", in: path,
        mend: "supply what is missing, or number the frames without a gap")
    }
    self.first = first
    files = found.map { joinPath(folder, numbers[$0]!) }
    self.path = name == path ? name : joinPath(folder.replacing("%", with: "%%"), name)
  }

  private static func parts(_ name: String) -> (before: String, width: Int, after: String)? {
    var before = ""
    var after = ""
    var width: Int?
    var rest = name[...]
    while let c = rest.popFirst() {
      var text = String(c)
      if c == "%" {
        let digits = rest.prefix { $0.isASCII && $0.isNumber }
        rest = rest.dropFirst(digits.count)
        switch rest.popFirst() {
        case "%" where digits.isEmpty: break
        case "d" where width == nil && digits.count < 4:
          width = Int(digits) ?? 0
          text = ""
        default: return nil
        }
      }
      if width == nil { before += text } else { after += text }
    }
    return width.map { (before, $0, after) }
  }
  private static func padded(_ number: Int, _ width: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, width - digits.count)) + digits
  }
}
