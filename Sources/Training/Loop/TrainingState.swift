import Cluster
public import Files
public import TensorRuntime

/// The complete state of a training run: tensors by name, and a few numbers. Every rank names all
/// of the tensors and holds the pieces that it writes.
public struct TrainingState: Sendable {
  private typealias Piece = (name: String, start: Int, values: Tensor)
  private(set) var entries: [(name: String, type: ElementType, shape: Shape)] = []
  private var pieces: [Piece] = []
  public var numbers = JSONObject()
  public init() {}

  /// A tensor that every rank has; the first one writes it.
  public mutating func add(_ name: String, _ x: Tensor) {
    add(name, x, Cluster.current.isFirst ? 0..<x.count : 0..<0, of: x.shape)
  }
  /// A tensor of `shape`, of which this rank writes the elements `owned`: `x` holds them, or all.
  mutating func add(_ name: String, _ x: Tensor, _ owned: Range<Int>, of shape: Shape) {
    entries.append((name, x.type, shape))
    if owned.isEmpty { return }
    let values = x.count == owned.count ? x : x.flat(owned)
    pieces.append((name, owned.lowerBound, values))
  }

  /// Writes the checkpoint of `step`, all ranks together: the first one makes the file, each writes
  /// its pieces into it, and the first gives the folder its name. `directory` is the first rank's.
  /// If one of them cannot, all throw, and there is no checkpoint of that name.
  func save(step: Int, in directory: RunDirectory?, keeping: Int, _ cluster: Cluster) throws {
    var failure: (any Error)?
    if let directory {
      var isShared = false
      do {
        try directory.writeCheckpoint(step: step, keeping: keeping) { folder throws(FileError) in
          let file = SharedTensorFile("\(folder)/state.safetensors", entries)
          try file.create()
          isShared = true
          do {
            _ = try cluster.broadcast(Array(file.path.utf8))
            try write(file, cluster)
          } catch {
            failure = error
            throw FileError(.readWrite, "a rank failed", in: file.path, mend: "see its message")
          }
          var numbers = numbers
          numbers["step"] = .integer(step)
          try OutputFile.write(JSONValue.object(numbers).pretty + "\n", to: "\(folder)/state.json")
        }
      } catch { failure = failure ?? error }
      if !isShared { _ = try cluster.broadcast([]) }
    } else {
      let path = String(decoding: try cluster.broadcast([]), as: UTF8.self)
      if !path.isEmpty {
        do { try write(SharedTensorFile(path, entries), cluster) } catch { failure = error }
      }
    }
    if let lost = failure as? ClusterError { throw lost }
    let told = try cluster.broadcast(Array((failure.map { "\($0)" } ?? "").utf8))
    if let failure { throw failure }
    if !told.isEmpty { throw Self.failed("rank 0", String(decoding: told, as: UTF8.self)) }
  }
  /// This rank's pieces. Throws if any rank cannot write its own.
  private func write(_ file: SharedTensorFile, _ cluster: Cluster) throws {
    var own: FileError?
    do { try file.write(pieces) } catch { own = error }
    let told = try cluster.gather(bytes: Array((own?.description ?? "").utf8))
    if let own { throw own }
    if let rank = told.firstIndex(where: { !$0.isEmpty }) {
      throw Self.failed("rank \(rank)", String(decoding: told[rank], as: UTF8.self))
    }
  }
  private static func failed(_ who: String, _ text: String) -> FileError {
    FileError(
      .readWrite, "\(who) could not write its part of the checkpoint (\(text))", in: "the run",
      mend: "resume from the checkpoint before")
  }
}
