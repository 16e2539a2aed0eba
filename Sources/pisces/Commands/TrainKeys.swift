import ArgumentParser
import Evaluation
import Files
import PostTraining
import Training

struct TrainKeys: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "keys", abstract: "The keys of a run file: default, type and range, meaning.",
    discussion:
      """
      What --config reads and --set overrides, of `train vae`, `encoders`, `generator`, `ot-map`, \
      `post`, or of `demo` and `demo --generator short` (demo-short).
      """
  )
  enum Owner: String, CaseIterable, Sendable {
    case vae, encoders, generator
    case otMap = "ot-map"
    case post, demo
    case shortDemo = "demo-short"

    var settings: any Settings.Type {
      switch self {
      case .vae: AutoencoderSettings.self
      case .encoders: EncoderSettings.self
      case .generator: GeneratorSettings.self
      case .otMap: OTMapSettings.self
      case .post: PostSettings.self
      case .demo: DemoSettings.self
      case .shortDemo: ShortDemoSettings.self
      }
    }
  }
  @Argument(in: .choice(Owner.self), help: "Whose.") var owner: Owner
  @Flag(help: "JSON Lines on standard output.") var json = false

  func run() async throws {
    for key in owner.settings.keys {
      let value = try Self.value(key.name, owner.settings)
      if json {
        let line: JSONObject = [
          "key": .string(key.name), "default": value, "range": .string("\(key.limits)"),
          "meaning": .string(key.meaning),
        ]
        StandardStreams.result(JSONValue.object(line).line)
      } else {
        StandardStreams.result(
          "\(key.name): \(value.string ?? value.line)\n    \(key.meaning) (\(key.limits))")
      }
    }
  }
  /// The default value of a key.
  private static func value(_ key: String, _ type: any Settings.Type) throws -> JSONValue {
    func resolved(_ settings: some Settings) throws -> JSONValue {
      try SettingsReader.resolved(settings)
    }
    return key.split(separator: ".").reduce(try resolved(type.init())) { $0[String($1)] ?? .null }
  }
}
