public import Files
import Models
public import TensorRuntime

/// Clips of a dataset in one size: N frames, shorter side resized (bicubic, antialiased), centre
/// crop.
public struct ClipLoader: Sendable {
  public let frames, size: Int
  public init(frames: Int, size: Int) { (self.frames, self.size) = (frames, size) }

  /// `[T, 3, size, size]` in [0, 1] from pixels of any size.
  public func fit(_ pixels: Tensor, in work: borrowing Workspace) -> Tensor {
    PixelPreprocessing.canvas(pixels, size: size, in: work)
  }

  /// Every readable clip with its caption. A broken sample is reported and skipped; with `strict`
  /// it is an error.
  public func load(
    _ dataset: Dataset, strict: Bool, in work: borrowing Workspace, report: (String) -> Void
  ) async throws -> (clips: [Tensor], captions: [String]) {
    var clips: [Tensor] = []
    var captions: [String] = []
    var skipped = 0
    for problem in dataset.problems {
      if strict { throw problem }
      report("skipped: \(problem)")
      skipped += 1
    }
    for sample in dataset.samples {
      do throws(FileError) {
        let video = try await sample.video(frames: frames)
        if let error = video.damageError(sample.name) {
          if strict { throw error }
          report(
            """
            \(sample.name): the video is damaged (\(video.damage ?? "")): used as far as it could \
            be decoded
            """
          )
        }
        clips.append(fit(video.pixels, in: work))
        captions.append(sample.caption)
      } catch {
        // An error that does not come from the sample ends the run.
        if strict || !error.isOfOneItem { throw error }
        report("skipped: \(error)")
        skipped += 1
      }
    }
    if clips.isEmpty {
      throw FileError(
        .badData, "no clip could be read", in: dataset.path,
        mend: "see the messages above, or give another folder")
    }
    report("\(clips.count) clips from \(dataset.path)\(skipped > 0 ? ", \(skipped) skipped" : "")")
    return (clips, captions)
  }
}
