import Cluster
import Files
import Layers
import TensorRuntime

/// How a model's trainable parameters are shared out over the ranks of a run: each owns whole
/// grains, one behind the other.
struct Shards: Sendable {
  let cluster: Cluster
  let grains: Grains
  /// The elements of each parameter that this rank owns.
  let owned: [Range<Int>]
  /// Of gradients, and of the values that are updated.
  let type: ElementType

  init(of model: some Layer, _ cluster: Cluster) {
    let parameters = model.trainableParameters()
    self.cluster = cluster
    grains = Grains(of: parameters.map(\.value.count))
    let type = parameters.first?.gradient?.type ?? .f32
    precondition(
      cluster.size == 1 || parameters.allSatisfy { $0.gradient?.type == type },
      "parameters of several types are not shared out")
    self.type = type
    var owned = parameters.map { _ in 0..<0 }
    let mine = grains.elements(grains.share(cluster.rank, of: cluster.size))
    for (i, range) in grains.pieces(mine) { owned[i] = range }
    self.owned = owned
  }
  var areOne: Bool { cluster.size == 1 }

  /// The elements of rank `rank`, of all parameters one behind the other.
  func elements(of rank: Int) -> Range<Int> {
    grains.elements(grains.share(rank, of: cluster.size))
  }
  /// The largest number of elements that a rank owns.
  private var largest: Int { (0..<cluster.size).map { elements(of: $0).count }.max()! }
  /// Elements in a message: 16 MiB of f32.
  static let bucket = 1 << 22
  /// Where messages begin, as distances from the first element of each shard.
  var starts: StrideTo<Int> { stride(from: 0, to: largest, by: Self.bucket) }
  /// The elements of rank `rank` in the message that begins at `start`; none behind its last.
  func part(_ start: Int, of rank: Int) -> Range<Int> {
    Self.part(start, of: elements(of: rank))
  }
  static func part(_ start: Int, of all: Range<Int>) -> Range<Int> {
    min(
      all.lowerBound + start, all.upperBound)..<min(
        all.lowerBound + start + bucket, all.upperBound)
  }

  /// This rank's elements of each parameter's gradient: from `gradient`, which holds them one
  /// behind the other, or without it from the parameters.
  func pieces(of gradient: Tensor?, _ model: some Layer) -> [Tensor] {
    guard let gradient else {
      return zip(model.trainableParameters(), owned).map { $0.gradient!.flat($1) }
    }
    var start = 0
    return owned.map {
      start += $0.count
      return gradient.flat(start - $0.count..<start)
    }
  }
  /// Copies of this rank's elements of each parameter, in the type of gradients.
  func values(of model: some Layer, in work: borrowing Workspace) -> [Tensor] {
    zip(model.trainableParameters(), owned).map { work.copy($0.value.flat($1), as: type) }
  }
  /// Numbers of all grains, of which every rank gives its own.
  func gather(_ mine: [Double], in work: borrowing Workspace) throws -> [Double] {
    if work.isPlanned { return Array(repeating: 0, count: grains.count) }
    let counts = (0..<cluster.size).map { grains.share($0, of: cluster.size).count }
    return try cluster.gather(mine, counts: counts).flatMap { $0 }
  }

  /// Elements `range` of `list`, one tensor a parameter, packed one behind the other.
  func packed(_ list: [Tensor], _ range: Range<Int>, in work: borrowing Workspace) -> Tensor {
    var x = work.tensor(Shape(range.count), list.first?.type ?? type)
    var at = 0
    for (i, piece) in grains.pieces(range) {
      work.paste(list[i].flat(piece), into: &x, at: at)
      at += piece.count
    }
    return x
  }

  /// Puts elements `range` of all parameters, packed one behind the other, into `list`.
  private func unpack(
    _ values: Tensor, _ range: Range<Int>, into list: inout [Tensor], in work: borrowing Workspace
  ) {
    var at = 0
    for (i, piece) in grains.pieces(range) {
      work.paste(values.flat(at..<at + piece.count), into: &list[i], at: piece.lowerBound)
      at += piece.count
    }
  }
  /// Gives the first rank all elements of tensors like the parameters of `model`, of which each
  /// rank has its own. Elsewhere the result is `mine`.
  func collect(
    _ mine: [Tensor], like model: some Layer, in work: borrowing Workspace
  ) throws -> [Tensor] {
    let type = mine.first?.type ?? type
    if !cluster.isFirst {
      let shard = work.concatenated(mine.map { $0.reshaped(Shape($0.count)) }, axis: 0)
      var transfer = Transfer(cluster)
      for start in starts {
        transfer.send(shard.flat(Self.part(start, of: 0..<shard.count)), to: 0)
      }
      _ = try transfer.wait()
      return mine
    }
    var all = model.trainableParameters().map { work.tensor($0.value.shape, type) }
    for (i, range) in owned.enumerated() where !range.isEmpty {
      work.paste(mine[i], into: &all[i], at: range.lowerBound)
    }
    for peer in cluster.others {
      for start in starts {
        let part = part(start, of: peer)
        var transfer = Transfer(cluster)
        transfer.receive(Shape(part.count), type, from: peer, in: work)
        var received = try transfer.wait()
        unpack(received.next()!, part, into: &all, in: work)
      }
    }
    return all
  }

  /// Gives every rank the values that their owners have updated, in the type of `mine`.
  func distribute<Model: Layer>(
    _ mine: [Tensor], to model: inout Model, in work: borrowing Workspace
  ) throws {
    let type = mine.first?.type ?? type
    var all = model.trainableParameters().map(\.value)
    model.forEachParameter { p in if p.isTrainable { p.value = work.tensor(Shape(0), type) } }
    for (i, range) in owned.enumerated() where !range.isEmpty {
      work.paste(mine[i], into: &all[i], at: range.lowerBound)
    }
    for start in areOne ? [] : Array(starts) {
      let bucket = packed(all, part(start, of: cluster.rank), in: work)
      var transfer = Transfer(cluster)
      for peer in cluster.others {
        transfer.receive(Shape(part(start, of: peer).count), type, from: peer, in: work)
      }
      for peer in cluster.others { transfer.send(bucket, to: peer, .step, in: work) }
      for (peer, values) in zip(cluster.others, try transfer.wait()) {
        unpack(values, part(start, of: peer), into: &all, in: work)
      }
    }
    var i = 0
    model.forEachParameter { p in
      guard p.isTrainable else { return }
      p.value = all[i]
      all[i] = p.value.flat(0..<0)
      i += 1
    }
  }
}
