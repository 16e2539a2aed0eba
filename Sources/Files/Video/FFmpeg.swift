internal import Subprocess
internal import SystemPackage

/// FFmpeg as a separate process: no shell, no terminal, only local files. Both of its outputs are
/// read as they arrive.
enum FFmpeg {
  /// FFmpeg's messages: its log lines with their levels, the first and last if there are many.
  struct Log: Sendable {
    private(set) var lines: [String] = []
    private var partial: [UInt8] = []
    private static let longest = 2000, tail = 50

    mutating func append(_ bytes: [UInt8]) {
      let pieces = bytes.split(separator: 0x0a, omittingEmptySubsequences: false)
      for piece in pieces.dropLast() {
        partial += piece
        add()
      }
      partial += pieces.last ?? []
      if partial.count > 1 << 16 { add() }
    }
    private mutating func add() {
      if lines.count == Self.longest { lines.remove(at: Self.longest - Self.tail) }
      lines.append(String(decoding: partial, as: UTF8.self))
      partial = []
    }

    /// Lines `[error] ...` and `[fatal] ...`, without their level and the name of the component.
    var errors: [String] {
      lines.compactMap { line in
        var rest = line[...]
        if let address = rest.firstRange(of: " @ 0x"), rest.first == "[",
          let end = rest[address.upperBound...].firstRange(of: "] ")
        {
          rest = rest[end.upperBound...]
        }
        for level in ["[error] ", "[fatal] ", "[panic] "] where rest.hasPrefix(level) {
          return String(rest.dropFirst(level.count))
        }
        return nil
      }
    }
    /// The demuxer that FFmpeg chose.
    var inputFormat: String? {
      guard let line = lines.first(where: { $0.hasPrefix("[info] Input #0, ") }),
        let end = line.firstRange(of: ", from '")
      else { return nil }
      return String(line["[info] Input #0, ".endIndex..<end.lowerBound])
    }
    /// Frames written, from the closing summary `frame=  600 fps=...`.
    var frameCount: Int? {
      guard let line = lines.last(where: { $0.hasPrefix("[info] frame=") }) else { return nil }
      return Int(line.dropFirst("[info] frame=".count).drop { $0 == " " }.prefix { $0.isNumber })
    }
    /// The number of the stream that was decoded, as in `0:1`.
    private var decodedStream: Substring? {
      lines.first { $0.hasPrefix("[info]   Stream #") && $0.contains(" -> #") }.map {
        $0.dropFirst("[info]   Stream #".count).prefix { $0 != " " }
      }
    }
    /// What the log says of the streams of the input, each line from its number on.
    private var streams: [Substring] {
      let input = lines.prefix {
        !$0.hasPrefix("[info] Stream mapping:") && !$0.hasPrefix("[info] Output #")
      }
      return input.filter { $0.hasPrefix("[info]   Stream #0:") }.map {
        $0.dropFirst("[info]   Stream #".count)
      }
    }
    /// Frames a second of the decoded stream.
    var framesPerSecond: Double? {
      let number = decodedStream
      let line = streams.first { line in
        line.contains(": Video: ")
          && (number.map {
            line.hasPrefix($0) && !(line.dropFirst($0.count).first?.isNumber ?? false)
          } ?? true)
      }
      return line?.split(separator: ", ").lazy.compactMap {
        $0.hasSuffix(" fps") ? Double($0.dropLast(4)) : nil
      }.first
    }
    /// Number of streams of pictures, without covers.
    var videoCount: Int {
      streams.count { $0.contains(": Video: ") && !$0.contains("(attached pic)") }
    }
    /// Whether the program that ran was FFmpeg: each of its lines has a level.
    var isFFmpegs: Bool {
      lines.contains { line in
        ["[info] ", "[error] ", "[warning] ", "[fatal] "].contains { line.contains($0) }
      }
    }
    /// The first words of the program that ran.
    var firstWords: String? { lines.first { !$0.allSatisfy(\.isWhitespace) } }
  }

  /// The end of a run.
  struct Outcome: Sendable {
    let log: Log
    /// The exit status, 128 + number after a signal.
    let status: Int32
    var isSuccess: Bool { status == 0 }
  }

  /// Runs FFmpeg and gives its standard output to `consume`, until that returns false.
  ///
  /// Returns its log and how it ended. Throws `missingProgram` if FFmpeg is missing or does not
  /// work, `readWrite` if it cannot be run.
  static func run(
    _ arguments: [String], program: String, for path: String,
    consume: (ArraySlice<UInt8>) throws(FileError) -> Bool
  )
    async throws(FileError) -> Outcome
  {
    let common = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "repeat+level+info"]
    // A process group of its own. Ctrl-C asks this program to finish its step, and must not end
    // FFmpeg before that.
    var options = PlatformOptions()
    options.processGroupID = 0
    let environment = Environment.inherit.updating(["AV_LOG_FORCE_NOCOLOR": "1", "FFREPORT": nil])
    do {
      let result = try await Subprocess.run(
        program.contains("/") ? .path(FilePath(program)) : .name(program),
        arguments: Arguments(common + arguments), environment: environment,
        platformOptions: options, input: .none, output: .sequence,
        error: .sequence
      ) { execution in
        async let log = Self.drain(execution.standardError)
        var problem: FileError?
        do {
          for try await buffer in execution.standardOutput {
            let bytes = unsafe buffer.withUnsafeBytes { unsafe Array($0) }
            if try !consume(bytes[...]) {
              try? execution.send(signal: .kill)
              break
            }
          }
        } catch {
          try? execution.send(signal: .kill)
          guard let error = error as? FileError else {
            _ = await log
            throw error
          }
          problem = error
        }
        return (await log, problem)
      }
      let (log, problem) = result.closureResult
      let status: Int32 =
        switch result.terminationStatus {
        case .exited(let code): Int32(code)
        case .signaled(let number): 128 + Int32(number)
        }
      try check(log, status, program, isVersion: arguments == ["-version"])
      if let problem { throw problem }
      return Outcome(log: log, status: status)
    } catch let error as FileError {
      throw error
    } catch let error as SubprocessError
      where error.code == .executableNotFound || error.code == .spawnFailed
    {
      let isMissing = error.code == .executableNotFound
      throw FileError(
        .missingProgram,
        isMissing ? "FFmpeg is needed to read and write videos" : "FFmpeg does not run (\(error))",
        in: program,
        mend: isMissing
          ? "install it (Debian: apt install ffmpeg), or use a tensor file (.safetensors, .npy)"
          : brokenMend)
    } catch {
      throw FileError(
        .readWrite, "FFmpeg could not be run (\(error))", in: path,
        mend: "check that \(program) works")
    }
  }
  private static let brokenMend = "install FFmpeg again, or put one that works before it in PATH"

  /// Refuses a program called FFmpeg that is not FFmpeg, or is broken. 126 and 127 are the statuses
  /// of shells and loaders. FFmpeg itself always writes something.
  private static func check(_ log: Log, _ status: Int32, _ program: String, isVersion: Bool)
    throws(FileError)
  {
    if isVersion ? status == 0 : status != 126 && status != 127 && log.isFFmpegs { return }
    let words = log.firstWords.map { ": \($0)" } ?? ", and it said nothing"
    throw FileError(
      .missingProgram, "FFmpeg does not work (exit status \(status)\(words))", in: program,
      mend: brokenMend)
  }

  private static func drain(_ sequence: SubprocessOutputSequence) async -> Log {
    var log = Log()
    do {
      for try await buffer in sequence {
        unsafe log.append(buffer.withUnsafeBytes { unsafe Array($0) })
      }
    } catch {
      // What was decoded before the fault is all there is.
    }
    log.append([0x0a])
    return log
  }
}

/// The program that reads and writes videos.
public enum VideoProgram {
  /// The first line of `ffmpeg -version`. Throws `missingProgram` if there is none.
  public static func version(_ program: String = "ffmpeg") async throws(FileError) -> String {
    var bytes: [UInt8] = []
    _ = try await FFmpeg.run(["-version"], program: program, for: program) {
      (part) throws(FileError) in
      bytes += part
      return true
    }
    guard let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first,
      line.hasPrefix("ffmpeg ")
    else {
      throw FileError(.missingProgram, "FFmpeg does not run", in: program, mend: "install it again")
    }
    return String(line)
  }
}
