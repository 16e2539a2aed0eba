import ArgumentParser
import Files
import World

/// The scenes of the built-in world.
struct WorldOption: ParsableArguments {
  enum Kind: String, CaseIterable, Sendable {
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
  var world: Kind?
  @Flag(help: "The same as --world harder.") var harder = false

  func validate() throws {
    if harder, let world, world != .harder {
      throw ValidationError("--harder and --world \(world.rawValue) exclude each other")
    }
  }
  private var given: Kind? { harder ? .harder : world }
  var kind: Kind { given ?? .standard }
  /// As given or as recorded. Runs of earlier versions recorded a flag.
  func settled(_ inputs: RunInputs) throws -> Kind {
    try inputs.choice("world", given, default: inputs.hadFlag("harder") ? .harder : .standard)
  }
}
