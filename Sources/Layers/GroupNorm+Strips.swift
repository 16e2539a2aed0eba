public import TensorRuntime

/// A frozen group norm of a clip in strips: its sums go over all of them, in their order.
extension GroupNorm {
  public struct StripsSaved: SavedTensors {
    var x: ClipStrips
    let statistics: Workspace.RowStatistics
    public mutating func forEachTensor(_ body: (inout Tensor) -> Void) {
      x.forEachTensor(body)
    }
  }
  private func saved(_ x: ClipStrips, in work: borrowing Workspace) -> StripsSaved {
    precondition(!scale.isTrainable && !shift.isTrainable && !eachFrame, "\(scale.name) on strips")
    let all = x.share.gathered(
      x.parts.map {
        work.groupStatistics($0, groups: groups, epsilon: epsilon).joined(in: work)
      }, in: work)
    let statistics = Workspace.RowStatistics(
      merging: all, cells: (0..<x.share.strips).map { x.rows($0) }, epsilon: epsilon, in: work)
    return StripsSaved(x: x, statistics: statistics)
  }
  public func forward(_ x: ClipStrips, in work: borrowing Workspace) -> (
    y: ClipStrips, saved: StripsSaved
  ) {
    let saved = saved(x, in: work)
    let y = x.parts.map {
      work.groupNorm(
        $0, saved.statistics, groups: groups, scale: scale.value, shift: shift.value, silu: silu)
    }
    return (x.with(y), saved)
  }
  /// The norm in a form that a convolution applies as it reads x.
  public func pending(_ x: ClipStrips, in work: borrowing Workspace) -> (
    norm: Workspace.PendingNorm, saved: StripsSaved
  ) {
    let saved = saved(x, in: work)
    let norm = work.pendingNorm(
      x.parts[0], saved.statistics, groups: groups, scale: scale.value, shift: shift.value,
      silu: silu)
    return (norm, saved)
  }
  /// dx plus `side`, the gradient of the path around the norm.
  public func backward(
    _ dy: consuming ClipStrips, _ saved: StripsSaved, adding side: ClipStrips? = nil,
    in work: borrowing Workspace
  ) -> ClipStrips {
    var d = dy
    let x = saved.x
    var sums: [Tensor] = []
    for i in x.parts.indices {
      let (g, s) = work.groupNormBackwardSums(
        d.take(i, in: work), x: x.parts[i], groups: groups, scale: scale.value,
        shift: shift.value, silu: silu, statistics: saved.statistics)
      d.put(g, i)
      sums.append(s)
    }
    let pieces = x.share.gathered(sums, in: work)
    var all = work.zeros(pieces[0].shape, .f64)
    for piece in pieces { work.add(piece, to: &all) }
    let shape = x.parts[0].shape
    for i in x.parts.indices {
      var g = d.take(i, in: work)
      work.groupNormBackwardFinish(
        &g, x: x.parts[i], groups: groups, scale: scale.value, statistics: saved.statistics,
        sums: all, cells: shape[2] * x.height * shape[4], adding: side?.parts[i])
      d.put(g, i)
    }
    return d
  }
}
