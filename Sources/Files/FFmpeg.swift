internal import Subprocess

/// FFmpeg as a separate process: no shell, no terminal, only local files, both of its outputs drained as they come.
enum FFmpeg {
  /// What FFmpeg said: its log lines with their levels, head and tail if there are many.
  struct Log: Sendable {
    private(set) var lines: [String] = []
    private var partial: [UInt8] = []
    private static let longest = 2000

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
      if lines.count < Self.longest {
        lines.append(String(decoding: partial, as: UTF8.self))
      } else {
        lines[Self.longest - 1] = String(decoding: partial, as: UTF8.self)
      }
      partial = []
    }

    /// Lines `[error] ...` and `[fatal] ...`, without their level and without the name of the component before it.
    var errors: [String] {
      lines.compactMap { line in
        var rest = line[...]
        if let address = rest.firstRange(of: " @ 0x"), rest.first == "[", let end = rest[address.upperBound...].firstRange(of: "] ") {
          rest = rest[end.upperBound...]
        }
        for level in ["[error] ", "[fatal] ", "[panic] "] where rest.hasPrefix(level) { return String(rest.dropFirst(level.count)) }
        return nil
      }
    }
    /// The demuxer FFmpeg chose.
    var inputFormat: String? {
      guard let line = lines.first(where: { $0.hasPrefix("[info] Input #0, ") }), let end = line.firstRange(of: ", from '") else { return nil }
      return String(line["[info] Input #0, ".endIndex..<end.lowerBound])
    }
    /// Frames written, from the closing summary `frame=  600 fps=...`.
    var frameCount: Int? {
      guard let line = lines.last(where: { $0.hasPrefix("[info] frame=") }) else { return nil }
      return Int(line.dropFirst("[info] frame=".count).drop { $0 == " " }.prefix { $0.isNumber })
    }
    /// Frames a second of the first video stream.
    var framesPerSecond: Double? {
      guard let line = lines.first(where: { $0.hasPrefix("[info]   Stream #0:") && $0.contains(": Video: ") }) else { return nil }
      return line.split(separator: ", ").lazy.compactMap { $0.hasSuffix(" fps") ? Double($0.dropLast(4)) : nil }.first
    }
  }

  /// Runs FFmpeg and hands what it writes to its standard output to `consume`, until that returns false.
  ///
  /// Returns its log and whether it ended well. Throws `missingProgram` if there is no FFmpeg, `readWrite` if it cannot be run.
  static func run(_ arguments: [String], program: String, for path: String, consume: (ArraySlice<UInt8>) throws(FileError) -> Bool)
    async throws(FileError) -> (log: Log, isSuccess: Bool)
  {
    let common = ["-nostdin", "-hide_banner", "-nostats", "-loglevel", "repeat+level+info"]
    // A group of its own: Ctrl-C asks this program to finish its step, and must not take the frames away from it.
    var options = PlatformOptions()
    options.processGroupID = 0
    let environment = Environment.inherit.updating(["AV_LOG_FORCE_NOCOLOR": "1", "FFREPORT": nil])
    do {
      let result = try await Subprocess.run(
        .name(program), arguments: Arguments(common + arguments), environment: environment, platformOptions: options, input: .none, output: .sequence,
        error: .sequence
      ) { execution in
        async let log = Self.drain(execution.standardError)
        do {
          for try await buffer in execution.standardOutput {
            let bytes = buffer.withUnsafeBytes { Array($0) }
            if try !consume(bytes[...]) {
              try? execution.send(signal: .kill)
              break
            }
          }
        } catch {
          try? execution.send(signal: .kill)
          _ = await log
          throw error
        }
        return await log
      }
      return (result.closureResult, result.terminationStatus.isSuccess)
    } catch let error as FileError {
      throw error
    } catch let error as SubprocessError where error.code == .executableNotFound {
      throw FileError(
        .missingProgram, "FFmpeg is needed to read and write videos", in: program,
        mend: "install it (Debian: apt install ffmpeg), or use a tensor file (.safetensors, .npy)")
    } catch {
      throw FileError(.readWrite, "FFmpeg could not be run (\(error))", in: path, mend: "check that \(program) works")
    }
  }

  private static func drain(_ sequence: SubprocessOutputSequence) async -> Log {
    var log = Log()
    do {
      for try await buffer in sequence { log.append(buffer.withUnsafeBytes { Array($0) }) }
    } catch {
      // What came before the fault is all there is to report.
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
    let (_, isSuccess) = try await FFmpeg.run(["-version"], program: program, for: program) { (part) throws(FileError) in
      bytes += part
      return true
    }
    guard isSuccess, let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n").first else {
      throw FileError(.missingProgram, "FFmpeg does not run", in: program, mend: "install it again")
    }
    return String(line)
  }
}
