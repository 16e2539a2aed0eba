import ArgumentParser
import Files
import Pipelines
import TensorRuntime
import Training
import World

/// Training clips: the built-in world, or a dataset of the user.
struct ClipOptions: ParsableArguments {
  @Option(
    in: .path, help: "Dataset: folder, JSON Lines or tar shards; default: the built-in world.")
  var data: String?
  @Option(in: .frames, help: "Frames of a clip; default: 9.") var frames: Int?
  @Option(in: .pixels, help: "Side of a clip in pixels; default: 32.") var size: Int?
  @OptionGroup var world: WorldOption
  @Flag(help: "A broken sample is an error instead of being skipped.") var strict = false

  /// The clips of a run, as given or as recorded.
  func settled(_ inputs: RunInputs) throws -> SettledClips {
    let data = try inputs.path("data", data) { try Dataset($0).fingerprint() }
    return SettledClips(
      data: data, frames: try inputs.number("frames", frames, default: 9),
      size: try inputs.number("size", size, default: 32), world: try world.settled(inputs),
      strict: try inputs.flag("strict", strict))
  }
}

/// The clips a run trains on.
struct SettledClips {
  let data: String?, frames, size: Int, world: WorldOption.Kind, strict: Bool

  var scenes: SceneSettings { world.scenes }
  func source(seed: Int, _ common: CommonOptions, in work: borrowing Workspace) async throws
    -> ClipSource
  {
    guard let data else {
      if frames < 5 || size < 16 {
        throw ValidationError("the world needs --frames of at least 5 and --size of at least 16")
      }
      return .world(
        SceneSampler(scenes, seed: UInt64(seed)),
        Renderer(Canvas(height: size, width: size, frames: frames)))
    }
    let (clips, captions) = try await ClipLoader(frames: frames, size: size).load(
      try Dataset(data), strict: strict, in: work
    ) { common.note($0) }
    return .clips(clips, captions: captions)
  }
}
