import ArgumentParser
import Files
import World

/// The scenes of the built-in world.
struct WorldOption: ParsableArguments {
  enum Kind: String, CaseIterable {
    case standard, crowded, harder
    var scenes: SceneSettings {
      switch self {
      case .standard: .standard
      case .crowded: .crowded
      case .harder: .harder
      }
    }
  }
  @Option(
    in: .choice(Kind.self),
    help:
      """
      Scenes of the built-in world: one or two objects (default), mostly two on wavier grounds, or \
      up to three, also of equal colours.
      """
  )
  var world: String?
  @Flag(help: "The same as --world harder.") var harder = false

  func validate() throws {
    if harder, let world, world != "harder" {
      throw ValidationError("--harder and --world \(world) exclude each other")
    }
  }
  private var given: String? { harder ? "harder" : world }
  var kind: Kind { given.flatMap(Kind.init) ?? .standard }
  /// As given or as recorded. Runs of earlier versions recorded a flag.
  func settled(_ inputs: RunInputs) throws -> Kind {
    Kind(
      rawValue: try inputs.choice(
        "world", given, default: inputs.hadFlag("harder") ? "harder" : "standard")) ?? .standard
  }
}
