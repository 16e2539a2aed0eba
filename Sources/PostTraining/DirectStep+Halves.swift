import Layers
import Rewards
import TensorRuntime

/// The halves of a group. Decoder and rewards do not need the teacher: the first half of the ranks
/// computes them, and the second half the passes of teacher and target, each on the rows that it
/// shares. Then they swap what they have, and add it up in one order. Teacher and target take about
/// as long as decoder and rewards.
extension DirectStep {
  /// Which half this process is in, and what it has of its half's rows. nil where all do all.
  var halves: (isSecond: Bool, rows: RowShare)? {
    let needsTeacher = options.consistencyWeight > 0 || options.anchorWeight > 0
    // The rewards' cosine needs the student's backward pass, for which all are needed.
    guard rows.count > 1, needsTeacher, !options.comparesRewards else { return nil }
    return (rows.isInSecondHalf, rows.half)
  }

  /// Gives the other half this one's part: the gradient of the rewards and these, or what the
  /// teacher makes.
  func swap(
    _ dv: inout Tensor, _ matching: inout Matching, _ out: inout Output,
    _ reward: RewardOptions, in work: borrowing Workspace
  ) {
    let (shape, b) = (dv.shape, dv.shape[0])
    let none = Shape(0)
    let hasGradient = options.consistencyWeight > 0 || options.decayWeight > 0
    let teacher = options.anchorWeight > 0 ? shape : none
    let first = [shape, none, Shape(2 * b)]
    let second = [hasGradient ? shape : none, teacher, Shape(2)]
    func padded(_ x: [Double]) -> [Double] { x.isEmpty ? Array(repeating: 0, count: b) : x }
    if halves!.isSecond {
      let mine = [
        matching.gradient ?? work.tensor(none, dv.type),
        teacher == none ? work.tensor(none, dv.type) : matching.teacher!,
        Tensor([matching.consistencyLoss ?? 0, matching.decayLoss ?? 0], Shape(2)),
      ]
      let theirs = rows.swapped(mine, for: first, in: work)
      dv = theirs[0]
      let numbers = theirs[2].doubles
      var scores = RewardModel.Scores()
      if reward.quality { scores.quality = Array(numbers[..<b]) }
      if reward.semantic { scores.semantic = Array(numbers[b...]) }
      note(scores, in: &out)
    } else {
      let numbers = padded(out.scores.quality) + padded(out.scores.semantic)
      let mine = [dv, work.tensor(none, dv.type), Tensor(numbers, Shape(2 * b))]
      let theirs = rows.swapped(mine, for: second, in: work)
      matching.gradient = hasGradient ? theirs[0] : nil
      matching.teacher = teacher == none ? nil : theirs[1]
      let losses = theirs[2].doubles
      matching.consistencyLoss = options.consistencyWeight > 0 ? losses[0] : nil
      matching.decayLoss = options.decayWeight > 0 ? losses[1] : nil
    }
  }
}
