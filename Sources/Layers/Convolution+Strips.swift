public import TensorRuntime

/// A frozen convolution without strides on strips. A strip borrows the rows that the kernel reaches
/// beyond it; what padding makes of them is cut off.
extension Convolution {
  public func forward(
    _ x: ClipStrips, after norm: Workspace.PendingNorm? = nil, adding side: ClipStrips? = nil,
    in work: borrowing Workspace
  ) -> ClipStrips {
    precondition(!readsInput && geometry.stride == SIMD3(1, 1, 1), "\(weight.name) on strips")
    let (halo, factor) = (geometry.side, geometry.upsampling.y)
    let kernel = kernel(in: work)
    let halos = halo == 0 ? nil : x.halos(of: halo, in: work)
    let parts = x.parts.indices.map { i in
      let input = work.joined(halos?[i].above, x.parts[i], halos?[i].below)
      var y = x.inner(
        work.convolution(input, weight: kernel, bias: bias.value, geometry, after: norm), i,
        by: halo * factor, in: work)
      if let side { work.add(side.parts[i], to: &y) }
      return y
    }
    return x.with(parts, factor: factor)
  }
  /// The gradient of the input.
  public func backward(_ dy: ClipStrips, in work: borrowing Workspace) -> ClipStrips {
    let (halo, factor) = (geometry.side, geometry.upsampling.y)
    let kernel = kernel(in: work)
    let halos = halo == 0 ? nil : dy.halos(of: halo * factor, in: work)
    let parts = dy.parts.indices.map { i in
      let d = work.joined(halos?[i].above, dy.parts[i], halos?[i].below)
      let (s, f) = (d.shape, geometry.upsampling)
      let input = Shape(
        s[0], kernel.shape[1], (s[2] - 1) / f.x + 1, s[3] / f.y, s[4] / f.z)
      return dy.inner(
        work.convolutionBackwardInput(d, input: input, weight: kernel, geometry), i, by: halo,
        in: work)
    }
    return dy.with(parts, dividedBy: factor)
  }
}
extension Workspace {
  /// A strip with the rows above and below it, where there are any.
  fileprivate func joined(_ above: Tensor?, _ x: Tensor, _ below: Tensor?) -> Tensor {
    above == nil && below == nil
      ? x : concatenated([above, x, below].compactMap { $0 }, axis: 3)
  }
}
