/// The pairs of a command line and of a manifest, in order. Unless someone may wait for an answer to
/// each line (standard input and pipes), it looks one pair ahead and knows which videos will return.
public struct PairQueue {
  public struct Pair: Sendable {
    /// The path as written, and the folder that it is relative to.
    public let video: String, folder: String
    public let prompt: String
    public init(video: String, folder: String = ".", prompt: String) {
      (self.video, self.folder, self.prompt) = (video, folder, prompt)
    }
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
  /// What `next` will return or throw, where it is known already.
  private var ahead: Result<Item?, FileError>?
  /// How often each video will still be asked for; nil if that is not known.
  private var uses: [String: Int]?

  /// Throws `missingInput`, `badData` or `readWrite` if the manifest cannot be read at all.
  public init(_ pairs: [(String, String)], manifest: String?) throws(FileError) {
    given = pairs.map { Pair(video: $0.0, prompt: $0.1) }[...]
    func open() throws(FileError) -> PairReader? {
      try manifest.map { (path) throws(FileError) in try PairReader(path) }
    }
    reader = try open()
    guard manifest.map({ $0 != "-" && PathKind($0) == .file }) ?? true else { return }
    var uses: [String: Int] = [:]
    for pair in given { uses[pair.path, default: 0] += 1 }
    var lines = try open()
    // An error ends the count; it is thrown when its line is reached.
    while let item = try? Self.item(&lines) {
      if case .pair(let pair) = item { uses[pair.path, default: 0] += 1 }
    }
    self.uses = uses
    ahead = read()
  }

  /// The next pair or broken line; nil at the end. Throws what keeps the manifest from being read
  /// further, after everything before it was returned.
  public mutating func next() throws(FileError) -> Item? {
    let item = try (ahead ?? read()).get()
    if ahead != nil { ahead = item == nil ? .success(nil) : read() }
    if case .pair(let pair) = item { uses?[pair.path, default: 1] -= 1 }
    return item
  }
  /// The pair after the one that `next` returned last, if it is known.
  public var upcoming: Pair? {
    if case .success(.pair(let pair)) = ahead { pair } else { nil }
  }
  /// Whether the video of a pair that was returned will be asked for again; nil if that is not
  /// known.
  public func returns(_ pair: Pair) -> Bool? {
    uses.map { $0[pair.path, default: 0] > 0 }
  }

  private mutating func read() -> Result<Item?, FileError> {
    if let pair = given.popFirst() { return .success(.pair(pair)) }
    do throws(FileError) { return .success(try Self.item(&reader)) } catch {
      return .failure(error)
    }
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
