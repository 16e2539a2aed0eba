/// The pairs of a command line and of a manifest, in order. Unless someone may wait for an answer
/// to each line (standard input and pipes), it looks one pair ahead and knows which videos will
/// return.
///
/// Of a share it returns only the items of its owner. Items of the same video in a row belong
/// together, so that its features are computed once.
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
  /// Part `index` of `count`; runs of items of the same video are dealt out in turn.
  public struct Share: Sendable {
    public let index, count: Int
    public init(_ index: Int, of count: Int) { (self.index, self.count) = (index, count) }
  }
  private let share: Share, returnsAll: Bool
  /// Items read so far, runs among them, and the video of the last one.
  private var items = 0, runs = 0, video: String?
  /// Items of all owners that have been read; all there are, once `next` has returned nil.
  public var itemCount: Int { items }
  /// Position among all items, from 0, of what `next` returned last, and its owner.
  public private(set) var number = -1, owner = 0
  private var aheadNumber = -1, aheadOwner = 0
  private var given: ArraySlice<Pair>
  private var reader: PairReader?
  /// What `next` will return or throw, where it is known already.
  private var ahead: Result<Item?, FileError>?
  /// How often each video will still be asked for; nil if that is not known.
  private var uses: [String: Int]?

  /// Throws `missingInput`, `badData` or `readWrite` if the manifest cannot be read at all.
  /// `everything`: items of other owners are returned, too.
  public init(
    _ pairs: [(String, String)], manifest: String?, share: Share = Share(0, of: 1),
    everything: Bool = false
  ) throws(FileError) {
    (self.share, returnsAll) = (share, everything)
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
    (number, owner) = (aheadNumber, aheadOwner)
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
    while true {
      let item: Item?
      if let pair = given.popFirst() {
        item = .pair(pair)
      } else {
        do throws(FileError) { item = try Self.item(&reader) } catch { return .failure(error) }
      }
      guard let item else { return .success(nil) }
      let path = if case .pair(let pair) = item { pair.path } else { nil as String? }
      if path == nil || path != video { runs += 1 }
      (video, aheadNumber, aheadOwner) = (path, items, (runs - 1) % share.count)
      items += 1
      if returnsAll || aheadOwner == share.index { return .success(item) }
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
