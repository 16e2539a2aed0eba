import Files
import FoundationEssentials
import Pipelines

/// Where `score` writes its records: standard output, or a file that a later run goes on with.
struct ScoreOutput {
  let isJSON: Bool
  private let file: JSONLinesWriter?
  /// Records that the file had already, and how many of them say that a pair failed.
  let kept: Int, keptFailures: Int
  private var lines: [JSONValue]

  init(_ path: String?, resuming: Bool, isJSON: Bool) throws {
    self.isJSON = isJSON || path != nil
    guard let path else {
      (file, kept, keptFailures, lines) = (nil, 0, 0, [])
      return
    }
    let exists = TextFile.exists(path)
    if exists && !resuming {
      throw FileError(
        .cannotCreate, "the file is there already", in: path,
        mend: "go on with it by --resume, or choose another one")
    }
    var lines: [JSONValue] = []
    if exists {
      // A line that a killed run has left without its end is written again.
      let text = try TextFile.read(path).utf8
      let whole = text.lastIndex(of: 0x0a).map { text[...$0] } ?? text[..<text.startIndex]
      if whole.count < text.count { try OutputFile.write(String(whole) ?? "", to: path) }
      for line in whole.split(separator: 0x0a) {
        lines.append(try JSONValue(parsing: Array(line), name: path))
      }
    }
    (kept, keptFailures) = (lines.count, lines.count { $0["error"] != nil })
    self.lines = lines
    file = try JSONLinesWriter(path)
  }
  /// Refuses a record of the file that is of another pair than item `number` of this run; nil: the
  /// run has no such item.
  func check(_ number: Int, _ item: PairQueue.Item?) throws {
    guard number < kept else { return }
    let line = lines[number]
    let pair = if case .pair(let pair)? = item { pair } else { nil as PairQueue.Pair? }
    if item == nil || line["video"]?.string != pair?.video
      || line["prompt"]?.string != pair?.prompt
    {
      throw FileError(
        .badData, "record \(number + 1) is of another pair than the run's", in: file!.path,
        mend: "resume with the videos and prompts of the run that began it")
    }
  }
  func write(_ line: String) throws {
    if let file { try file.append(line: line) } else { StandardStreams.result(line) }
  }
}
