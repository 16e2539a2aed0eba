/// The pairs of a command line and of a manifest, in order. Where no one waits for an answer to each
/// line (standard input and pipes), it looks one pair ahead and knows which videos will return.
public struct PairQueue {
  public struct Pair: Sendable {
    /// The path as written, and the folder that it is relative to.
    public let video: String, folder: String
    public let prompt: String
    /// The path of the file.
    public var path: String { PairReader.path(video, in: folder) }
  }
  public enum Item: Sendable {
    case pair(Pair)
    /// A line that is no pair: why.
    case broken(String)
  }
  private var given: ArraySlice<Pair>
  private var reader: PairReader?
  private let looksAhead: Bool
  private var ahead: Item?
  /// How often each video will still be asked for; nil if that is not known.
  private var uses: [String: Int]?

  /// Throws `missingInput`, `badData` or `readWrite` if the manifest cannot be read at all.
  public init(_ pairs: [(String, String)], manifest: String?) throws(FileError) {
    given = pairs.map { Pair(video: $0.0, folder: ".", prompt: $0.1) }[...]
    reader = try manifest.map { (path) throws(FileError) in try PairReader(path) }
    looksAhead = manifest.map { $0 != "-" && PathKind($0) == .file } ?? true
    guard looksAhead else { return }
    var uses: [String: Int] = [:]
    for pair in given { uses[pair.path, default: 0] += 1 }
    var lines = try manifest.map { (path) throws(FileError) in try PairReader(path) }
    while let item = try Self.item(&lines) {
      if case .pair(let pair) = item { uses[pair.path, default: 0] += 1 }
    }
    self.uses = uses
    ahead = try read()
  }

  public mutating func next() throws(FileError) -> Item? {
    if !looksAhead { return try read() }
    let item = ahead
    ahead = try read()
    if case .pair(let pair) = item { uses?[pair.path, default: 1] -= 1 }
    return item
  }
  /// The pair after the one that `next` returned last, if it is known.
  public var upcoming: Pair? { if case .pair(let pair) = ahead { pair } else { nil } }
  /// Whether the video of a pair that was returned will be asked for again; nil if that is not known.
  public func returns(_ pair: Pair) -> Bool? { uses.map { $0[pair.path, default: 0] > 0 } }

  private mutating func read() throws(FileError) -> Item? {
    if let pair = given.popFirst() { return .pair(pair) }
    return try Self.item(&reader)
  }
  private static func item(_ reader: inout PairReader?) throws(FileError) -> Item? {
    if reader == nil { return nil }
    do throws(FileError) {
      return try reader!.next().map {
        .pair(Pair(video: $0.video, folder: reader!.folder, prompt: $0.prompt))
      }
    } catch {
      if error.kind == .badData && !reader!.isOver { return .broken(error.description) }
      throw error
    }
  }
}
