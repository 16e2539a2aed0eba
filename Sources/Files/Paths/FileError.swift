/// An error of something outside the program: a file, a disk, a helper program.
///
/// Its description is exactly one line, `WHAT: WHERE: HOW TO MEND`, whatever bytes a hostile file
/// has in its names.
public struct FileError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The kind of failure, which decides the exit status (interfaces.md 1).
  public enum Kind: Sendable, CaseIterable {
    /// The input exists but is not what it should be: corrupt, truncated, of the wrong shape.
    case badData
    /// The input does not exist.
    case missingInput
    /// A helper program (FFmpeg) is not installed.
    case missingProgram
    /// The output cannot be created.
    case cannotCreate
    /// A read or write failed half-way (disk full, input/output error).
    case readWrite
    /// The program that read our output through a pipe has ended. This needs no message.
    case readerGone

    public var exitStatus: Int32 {
      switch self {
      case .badData: 65
      case .missingInput: 66
      case .missingProgram: 69
      case .cannotCreate: 73
      case .readWrite: 74
      // The status that a shell gives to a program ended by SIGPIPE.
      case .readerGone: 141
      }
    }
  }

  public let kind: Kind
  /// What went wrong, with the expected and the found value if there are such.
  public let what: String
  /// The file, and the field or tensor in it.
  public let place: String
  /// What the user can do about it.
  public let remedy: String

  public init(_ kind: Kind, _ what: String, in place: String, mend remedy: String) {
    (self.kind, self.what, self.place, self.remedy) = (
      kind, oneLine(what), oneLine(place), oneLine(remedy)
    )
  }

  public var exitStatus: Int32 { kind.exitStatus }
  public var description: String { "\(what): \(place): \(remedy)" }

  /// Whether the error concerns only the item that it names. The rest of a batch can then continue.
  public var isOfOneItem: Bool { kind == .badData || kind == .missingInput || kind == .readWrite }

  /// The same error for the output that the user asked for, instead of the temporary one that was
  /// written.
  func naming(_ path: String, insteadOf temporary: String) -> FileError {
    FileError(kind, what, in: place.replacing(temporary, with: path), mend: remedy)
  }

  /// An error of the input at `path`, or of its part `field`.
  static func bad(
    _ what: String, _ path: String, _ field: String? = nil,
    mend remedy: String = "check that the file is complete, or make it again"
  )
    -> FileError
  {
    FileError(.badData, what, in: field.map { "\(path), \($0)" } ?? path, mend: remedy)
  }
}

/// `text` with control characters and line breaks written as escapes, and shortened to a readable
/// length.
func oneLine(_ text: String, limit: Int = 1000) -> String {
  var line = ""
  var length = 0
  for scalar in text.unicodeScalars {
    if length >= limit { return line + "…" }
    switch scalar {
    case "\n": line += "\\n"
    case "\r": line += "\\r"
    case "\t": line += "\\t"
    default:
      let isControl =
        scalar.properties.generalCategory == .control
        || scalar.properties.generalCategory == .format
      if isControl || scalar.value == 0x2028 || scalar.value == 0x2029 {
        line += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        line.unicodeScalars.append(scalar)
      }
    }
    length += 1
  }
  return line
}
