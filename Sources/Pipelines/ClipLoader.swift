public import Files
import Models
public import TensorRuntime

/// Clips of a dataset brought to one canvas: N frames, shorter side resized (bicubic, antialiased), centre crop.
public struct ClipLoader: Sendable {
  public let frames, size: Int
  public init(frames: Int, size: Int) { (self.frames, self.size) = (frames, size) }

  /// `[T, 3, size, size]` in [0, 1] from pixels of any size.
  public func fit(_ pixels: Tensor, in work: borrowing Workspace) -> Tensor {
    let (t, h, w) = (pixels.shape[0], pixels.shape[2], pixels.shape[3]), s = Double(size) / Double(min(h, w))
    let rh = s == 1 ? h : Int((Double(h) * s).rounded(.toNearestOrEven)), rw = s == 1 ? w : Int((Double(w) * s).rounded(.toNearestOrEven))
    var y = pixels.reshaped(Shape(t * 3, h, w))
    if (rh, rw) != (h, w) { y = BicubicResampling.resize(y, height: rh, width: rw, in: work) }
    let top = (rh - size) / 2, left = (rw - size) / 2
    y = work.narrowed(work.narrowed(y, axis: 1, top..<top + size), axis: 2, left..<left + size)
    return work.affineClamp(y, alpha: 1, beta: 0, to: 0...1).reshaped(Shape(t, 3, size, size))
  }

  /// Every readable clip with its caption. A broken sample is reported and skipped, or thrown when `strict`.
  public func load(_ dataset: Dataset, strict: Bool, in work: borrowing Workspace, report: (String) -> Void) async throws -> (clips: [Tensor], captions: [String]) {
    var clips: [Tensor] = [], captions: [String] = [], skipped = 0
    for problem in dataset.problems {
      if strict { throw problem }
      report("skipped: \(problem)")
      skipped += 1
    }
    for sample in dataset.samples {
      do {
        clips.append(fit(try await sample.video(frames: frames).pixels, in: work))
        captions.append(sample.caption)
      } catch {
        if strict { throw error }
        report("skipped: \(error)")
        skipped += 1
      }
    }
    if clips.isEmpty { throw FileError(.badData, "no clip could be read", in: dataset.path, mend: "see the messages above, or give another folder") }
    report("\(clips.count) clips from \(dataset.path)\(skipped > 0 ? ", \(skipped) skipped" : "")")
    return (clips, captions)
  }
}
