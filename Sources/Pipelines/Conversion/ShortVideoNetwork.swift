import Files
import Layers
import Models
import TensorRuntime

/// A network of a VideoCrafter2 generator as a checkpoint tells it: its sizes, and names and shapes
/// of everything it reads.
struct ShortVideoNetwork {
  /// `config.json`.
  let config: JSONObject
  let parameters: [(name: String, shape: Shape)]
  /// Tensors that it does not read.
  let ignored: [String]
  /// What the tensors do not tell.
  let supposed: [String]

  /// The network of the tensors `p`. Values of `given`, the later before the earlier, win over
  /// what the shapes tell. Throws `badData` for shapes that no network of this kind has.
  init(
    _ part: ShortVideoPart, _ p: TensorProvider, given: [(json: JSONObject, path: String)],
    path: String
  ) throws(FileError) {
    do {
      switch part {
      case .unet:
        let (inferred, supposed) = try InferredConfig.unet(p, path: path)
        let c = try Self.overlaid(inferred, given, path)
        try self.init(c, part, [try VideoUNet(c, from: .shapes)], supposed: supposed)
      case .autoencoder:
        let (inferred, supposed) = try InferredConfig.imageAutoencoder(p, path: path)
        let c = try Self.overlaid(inferred, given, path)
        try self.init(
          c, part,
          [
            try ImageAutoencoderEncoder(c, from: .shapes),
            try ImageAutoencoderDecoder(c, from: .shapes),
          ], ignored: ["loss.*"], supposed: supposed)
      case .textEncoder:
        let (inferred, supposed) = try InferredConfig.openCLIPText(p, given, path: path)
        let c = try Self.overlaid(inferred, given, path)
        try self.init(
          c, part, [try OpenCLIPTextEncoder(c, from: .shapes)],
          ignored: OpenCLIPTextEncoder.ignoredNames(c), supposed: supposed)
      }
    } catch let error as FileError { throw error } catch {
      throw FileError(.badData, "\(error)", in: path, mend: "check the checkpoint")
    }
  }
  private init(
    _ config: some ModelConfig, _ part: ShortVideoPart, _ networks: [any Layer],
    ignored: [String] = [], supposed: [String]
  ) throws {
    var json = try JSONValue(encoding: config).object ?? JSONObject()
    json["_class_name"] = .string(part.className)
    var list: [(name: String, shape: Shape)] = []
    for network in networks { network.readParameters { list.append(($0.name, $0.value.shape)) } }
    (self.config, parameters, self.ignored, self.supposed) = (json, list, ignored, supposed)
  }

  /// `inferred` with the values that were given. Fields that the network does not know are passed
  /// over.
  private static func overlaid<C: ModelConfig>(
    _ inferred: C, _ given: [(json: JSONObject, path: String)], _ path: String
  ) throws -> C {
    var merged = try JSONValue(encoding: inferred).object ?? JSONObject()
    for (json, _) in given { for (key, value) in json.members { merged[key] = value } }
    let place = given.last?.path ?? path
    let config: C = try JSONValue.object(merged).decoded(name: place)
    if let problem = config.problem {
      throw FileError(
        .badData, problem, in: place, mend: "give a checkpoint of this network, or its config.json")
    }
    return config
  }

  /// Refuses tensors that nothing reads and that are not known to be of no use.
  func refuseUnknown(_ names: [String], path: String) throws(FileError) {
    let own = Set(parameters.map(\.name))
    let unknown = names.filter { !own.contains($0) && !ShortVideoPart.isIgnored($0, ignored) }
    if unknown.isEmpty { return }
    throw FileError(
      .badData, "\(unknown.count) tensors that this network does not have",
      in: "\(path), " + unknown.prefix(3).map { "'\($0)'" }.joined(separator: ", "),
      mend: "give a checkpoint of this network, or its sizes with --config")
  }
}

extension VideoUNet {
  /// The layers that adapters may change, in the order of T2V-Turbo's files, with the shapes of
  /// their weights.
  static func adaptableModules(_ c: VideoUNetConfig) throws -> [(name: String, weight: Shape)] {
    var network = try VideoUNet(c, from: .shapes)
    var list: [(name: String, weight: Shape)] = []
    network.forEachAdaptable { list.append(($0.module, $0.weight.value.shape)) }
    return list
  }
}
