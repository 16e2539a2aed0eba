import Layers
import TensorRuntime

/// A network that maps images `[N, C, H, W]` to such a grid, each image by itself. Images go
/// through it in groups, so that memory is that of a few, however many there are.
protocol ImageNetwork: Layer {
  associatedtype PassSaved: Sendable
  /// Pixels per element of the input, along H and along W.
  var inputRatio: Int { get }
  /// Pixels of a group, unless one image has more.
  var pixelsAtOnce: Int { get }
  /// x and y are `[N, C, 1, H, W]`. With `keeping` false nothing large is kept, and no backward can
  /// follow.
  func pass(_ x: Tensor, keeping: Bool, in work: borrowing Workspace) -> (
    y: Tensor, saved: PassSaved
  )
  mutating func passBackward(
    _ dy: Tensor, _ s: PassSaved, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor?
}

/// What the groups keep for backward.
public struct ImageSaved<PassSaved: Sendable>: Sendable {
  let groups: [Group]
  /// Images of a group; the last may have fewer.
  let size: Int
  enum Group: Sendable {
    case pass(PassSaved)
    /// A group that is run again in backward, with its input.
    case input(Tensor)
  }
}

extension ImageNetwork {
  /// Images of a group of `x`.
  private func groupSize(_ x: Shape) -> Int {
    max(1, pixelsAtOnce / (x[2] * x[3] * inputRatio * inputRatio))
  }
  /// Images `range` as clips of one frame.
  private func frames(_ x: Tensor, _ range: Range<Int>) -> Tensor {
    let s = x.shape
    return x.slice(range).reshaped(Shape(range.count, s[1], 1, s[2], s[3]))
  }
  private func images(_ x: Tensor) -> Tensor {
    let s = x.shape
    return x.reshaped(Shape(s[0], s[1], s[3], s[4]))
  }

  func grouped(_ x: Tensor, checkpointing: Bool, in work: borrowing Workspace) -> (
    y: Tensor, saved: ImageSaved<PassSaved>
  ) {
    precondition(x.shape.rank == 4, "images \(x.shape)")
    let size = groupSize(x.shape)
    var parts: [Tensor] = []
    var saved: [ImageSaved<PassSaved>.Group] = []
    for start in stride(from: 0, to: x.shape[0], by: size) {
      let part = frames(x, start..<min(start + size, x.shape[0]))
      let (y, s) = pass(part, keeping: !checkpointing, in: work)
      parts.append(images(y))
      saved.append(checkpointing ? .input(part) : .pass(s))
    }
    let y = parts.count == 1 ? parts[0] : work.concatenated(parts, axis: 0)
    return (y, ImageSaved(groups: saved, size: size))
  }
  mutating func groupedBackward(
    _ dy: Tensor, _ s: ImageSaved<PassSaved>, wantsInput: Bool, in work: borrowing Workspace
  ) -> Tensor? {
    var parts: [Tensor] = []
    for (i, group) in s.groups.enumerated() {
      let part = frames(dy, i * s.size..<min((i + 1) * s.size, dy.shape[0]))
      let dx: Tensor?
      switch group {
      case .pass(let saved):
        dx = passBackward(part, saved, wantsInput: wantsInput, in: work)
      case .input(let x):
        let again = pass(x, keeping: true, in: work).saved
        dx = passBackward(part, again, wantsInput: wantsInput, in: work)
      }
      if let dx { parts.append(images(dx)) }
    }
    if !wantsInput { return nil }
    return parts.count == 1 ? parts[0] : work.concatenated(parts, axis: 0)
  }
}
