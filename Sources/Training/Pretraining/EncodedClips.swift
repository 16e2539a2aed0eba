public import Models
import Pipelines
public import TensorRuntime

extension ClipSource {
  /// Mean latents `[count, C, n, h, w]` of the first `count` clips, times `scale`. At most `most`
  /// clips are encoded at once. There are fewer if a tensor of the encoder's first level would
  /// exceed 128 MiB; a full-size encoder holds about ten such tensors. `progress` is called with
  /// the number of encoded clips, about every 4096 clips.
  public func latents(
    _ count: Int, of encoder: AutoencoderEncoder, times scale: Double, atOnce most: Int,
    in work: borrowing Workspace, progress: (Int) -> Void = { _ in }
  ) -> Tensor {
    let cells = canvas.frames * canvas.height * canvas.width * encoder.config.blockOutChannels[0]
    let few = max(1, min(most, (1 << 25) / cells))
    let shape = encoder.config.latentShape(
      batch: count, frames: canvas.frames, height: canvas.height, width: canvas.width)
    var all = work.tensor(Shape(shape))
    for start in stride(
      from: 0, to: min(count, work.rounds((count + few - 1) / few) * few), by: few)
    {
      if start % 4096 < few { progress(start) }
      let x = PixelRange.centered(clips(Array(start..<min(start + few, count)), in: work), in: work)
      let z = work.scaled(LatentPosterior(encoder.forward(x, in: work).y, in: work).mean, by: scale)
      work.place(z, into: &all, axis: 0, at: start)
    }
    return all
  }
}
