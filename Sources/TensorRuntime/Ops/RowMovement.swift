/// Movement of whole rows (runs of the leading axis), for tensors of any type.
extension Workspace {
  /// The parts joined along the leading axis. All have one type and the same other extents.
  public func joinedRows(_ parts: [Tensor]) -> Tensor {
    precondition(!parts.isEmpty, "nothing to join")
    var shape = parts[0].shape
    for part in parts.dropFirst() {
      precondition(
        part.type == parts[0].type && part.shape.dims.dropFirst() == shape.dims.dropFirst(),
        "\(part.shape) behind \(shape)")
      shape[0] += part.shape[0]
    }
    let y = tensor(shape, parts[0].type)
    var at = 0
    for part in parts {
      unsafe (y.base + at).copyMemory(from: part.base, byteCount: part.byteCount)
      at += part.byteCount
    }
    return y
  }
  /// The second half of the rows, followed by the first half.
  public func swappedHalves(_ x: Tensor) -> Tensor {
    precondition(x.shape.rank > 0 && x.shape[0] % 2 == 0, "\(x.shape) has no halves")
    let half = x.shape[0] / 2
    return joinedRows([x.slice(half..<2 * half), x.slice(0..<half)])
  }
}
