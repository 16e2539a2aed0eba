import Models
public import Pipelines
public import TensorRuntime

extension ClipSource {
  /// Mean latents `[count, C, n, h, w]` of the first `count` clips, times `scale`. At most `most`
  /// clips are encoded at once. There are fewer if a tensor of the encoder's first level would
  /// exceed 128 MiB; a full-size encoder holds about ten such tensors. `progress` is called with
  /// the number of encoded clips, about every 4096 clips. `isShared`: every rank calls this, and
  /// they share the work.
  public func latents(
    _ count: Int, of encoder: LatentEncoder, times scale: Double, atOnce most: Int,
    isShared: Bool = false, in work: borrowing Workspace, progress: (Int) -> Void = { _ in }
  ) throws -> Tensor {
    let cells = canvas.frames * canvas.height * canvas.width * encoder.firstChannels
    let few = max(1, min(most, (1 << 25) / cells))
    let shape = encoder.geometry.latentShape(
      batch: count, frames: canvas.frames, height: canvas.height, width: canvas.width)
    var all = work.tensor(Shape(shape))
    func block(_ i: Int) -> Range<Int> { i * few..<min((i + 1) * few, count) }
    func encoded(_ range: Range<Int>, in work: borrowing Workspace) -> Tensor {
      if range.lowerBound % 4096 < few { progress(range.lowerBound) }
      return work.scaled(encoder(clips(Array(range), in: work), in: work), by: scale)
    }
    let blocks = (count + few - 1) / few
    if !isShared {
      for i in 0..<work.rounds(blocks) {
        work.place(encoded(block(i), in: work), into: &all, axis: 0, at: i * few)
      }
      return all
    }
    try BlockShare.run(blocks, in: work) {
      [(Shape([block($0).count] + shape.dropFirst()), .f32)]
    } body: { i, work in
      [encoded(block(i), in: work)]
    } take: { i, z, work in
      work.place(z[0], into: &all, axis: 0, at: i * few)
    }
    return all
  }
}
