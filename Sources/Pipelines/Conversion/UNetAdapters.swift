import Files
import Layers
import Models
import TensorRuntime

/// Adapters of VideoCrafter2's UNet, from T2V-Turbo's list or from a LoRA file with names
/// (videocrafter.md 10).
struct UNetAdapters {
  /// The name of the student's projection of the guidance scale, which the teacher lacks (D-46).
  static let projectionName = "time_cond_proj.weight"
  private static let projectionModule = "time_cond_proj"

  var adapters: [AdapterWeights]
  /// That projection in full; nil for a network that stays a teacher.
  let projection: Tensor?
  /// The adaptable layers of the network that results, in the order of T2V-Turbo's files.
  let modules: [(name: String, weight: Shape)]
  let notes: [String]

  /// Whether a layer of this name is the UNet's.
  static func isModule(_ name: String) -> Bool {
    [
      "input_blocks.", "middle_block.", "output_blocks.", "init_attn.", "time_embed.",
      "fps_embedding.", "time_cond_proj", "motion_cond_proj", "combine_proj", "out.2",
    ].contains { name.hasPrefix($0) }
  }

  /// Adapters for the network of `base`. Its projection is `given` by the user, or the file's, or
  /// `own`, that of the network; zero if none of them is there and the adapters need one. Throws
  /// `badData` for adapters of another network.
  init(
    _ path: String, alpha: Double?, base: VideoUNetConfig, own: Tensor?, given: Tensor?
  ) throws(FileError) {
    let isList = try TurboAdapterFile.isOne(path)
    let contents = isList ? nil : try AdapterFile.contents(path, alpha: alpha)
    let stored = contents?.whole.first { $0.name == Self.projectionName }?.tensor
    var notes: [String] = []
    var known = given ?? stored ?? own
    if known == nil {
      // The list always has a pair for the projection, behind the four layers of both embeddings.
      let a =
        isList
        ? try TurboAdapterFile.downShape(path, pair: 4)
        : contents!.adapters.first { $0.module == Self.projectionModule }?.a.shape
      if isList || a != nil {
        let width = a.flatMap { $0.rank == 2 ? $0[1] : nil } ?? 256
        known = .zeros(Shape(base.modelChannels, width))
        notes.append(
          """
          \(path) does not hold \(Self.projectionName): zero is taken, though T2V-Turbo started it \
          at random; give it with --time-cond-proj if you have it
          """)
      }
    }
    if let known,
      known.shape.rank != 2 || known.shape[0] != base.modelChannels
        || known.shape[1] < 2 || !known.type.isFloating
    {
      throw FileError(
        .badData, "shape \(known.shape) where [\(base.modelChannels), width] was expected",
        in: "\(given == nil ? path : "--time-cond-proj"), '\(Self.projectionName)'",
        mend: "give the projection of this network")
    }
    var config = base
    config.timeCondProjDim = known?.shape[1]
    if let problem = config.problem {
      throw FileError(.badData, problem, in: path, mend: "give the projection of this network")
    }
    do { modules = try VideoUNet.adaptableModules(config) } catch {
      throw FileError(.badData, "\(error)", in: path, mend: "check the network's config.json")
    }
    if let contents {
      adapters = contents.adapters
    } else {
      adapters = try TurboAdapterFile.read(path, alpha: alpha, modules: modules)
    }
    (projection, self.notes) = (known, notes)
    try refuseMisfits(path)
  }
  private func refuseMisfits(_ path: String) throws(FileError) {
    let weights = Dictionary(uniqueKeysWithValues: modules.map { ($0.name, $0.weight) })
    for adapter in adapters {
      guard let weight = weights[adapter.module] else {
        throw FileError(
          .badData, "an adapter for a layer this model does not have",
          in: "\(path), '\(adapter.module)'", mend: "give the model the adapter was trained on")
      }
      if !adapter.fits(weight) {
        throw FileError(
          .badData,
          "an adapter of shapes \(adapter.b.shape), \(adapter.a.shape) for a weight of \(weight)",
          in: "\(path), '\(adapter.module)'", mend: "give the model the adapter was trained on")
      }
    }
  }

  /// The same change for a reader that has no projection: that of the projection is an adapter of
  /// zero, B the whole projection and A the identity.
  func withoutProjection(in work: borrowing Workspace) -> [AdapterWeights] {
    guard let projection else { return adapters }
    let width = projection.shape[1]
    let whole =
      adapters.first { $0.module == Self.projectionModule }?.merged(into: projection, in: work)
      ?? work.widened(projection)
    let identity = Tensor(
      (0..<width * width).map { Float($0 % (width + 1) == 0 ? 1 : 0) }, Shape(width, width))
    return adapters.filter { $0.module != Self.projectionModule }
      + [AdapterWeights(module: Self.projectionModule, a: identity, b: whole, scale: 1)]
  }
}
