import Layers
import TensorRuntime

/// What a network keeps of a pass for backward: everything; the input of each of its parts, from
/// which backward makes the rest again (Chen et al. 2016, arXiv:1604.06174); or nothing.
public enum Keeping: Sendable {
  case all, inputs, nothing
  /// What a pass keeps whose backward follows, with activation checkpointing or without.
  public init(checkpointing: Bool) { self = checkpointing ? .inputs : .all }
}

/// What is kept of one part.
enum Kept<All: SavedTensors, Input: SavedTensors>: Sendable {
  case all(All)
  case input(Input)
  case nothing

  /// Everything that backward reads, which `again` makes from the input.
  func all(in work: borrowing Workspace, _ again: (Input) -> All) -> All {
    switch self {
    case .all(let all): return all
    case .input(let x): return again(work.widened(x))
    case .nothing: preconditionFailure("this pass kept nothing for backward")
    }
  }
}
extension Keeping {
  /// One part: its result, and what is kept of it. `forward` makes both, `plain` the result alone.
  func run<Input, Output, All>(
    _ x: Input, in work: borrowing Workspace, forward: (Input) -> (y: Output, saved: All),
    plain: (Input) -> Output
  ) -> (y: Output, kept: Kept<All, Input>) {
    switch self {
    case .all:
      var (y, saved) = forward(x)
      work.narrow(&saved)
      return (y, .all(saved))
    case .inputs:
      var input = x
      work.narrow(&input)
      return (plain(x), .input(input))
    case .nothing: return (plain(x), .nothing)
    }
  }
  func run<Input, Output, All>(
    _ x: Input, in work: borrowing Workspace, forward: (Input) -> (y: Output, saved: All)
  ) -> (y: Output, kept: Kept<All, Input>) {
    run(x, in: work, forward: forward) { forward($0).y }
  }
}
