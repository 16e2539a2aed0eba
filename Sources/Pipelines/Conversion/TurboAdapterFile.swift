import Files
import Models
import TensorRuntime

/// T2V-Turbo's `unet_lora.pt`: a list `[up_0, down_0, up_1, down_1, ...]` without names, one pair
/// for each adaptable layer of the student in its order (videocrafter.md 10). up is B, down is A.
enum TurboAdapterFile {
  static func isOne(_ path: String) throws(FileError) -> Bool {
    TorchCheckpoint.isOne(path) ? try TorchCheckpoint(path).listCount != nil : false
  }

  /// The shape of one factor A of the pair `place`, where the file has it.
  static func downShape(_ path: String, pair place: Int) throws(FileError) -> Shape? {
    let list = try TorchCheckpoint(path).listTensors()
    return 2 * place + 1 < list.count ? list[2 * place + 1].shape : nil
  }

  /// The adapters of `modules`, which are those of the network in the order of the file. The scale
  /// is 1, or `alpha` over the largest rank of the file. Throws `badData` at the first pair that
  /// does not fit its layer: the file is another network's.
  static func read(
    _ path: String, alpha: Double?, modules: [(name: String, weight: Shape)]
  ) throws(FileError) -> [AdapterWeights] {
    let list = try TorchCheckpoint(path).listTensors()
    func misfit(_ what: String, _ place: String) -> FileError {
      FileError(
        .badData, what, in: "\(path), \(place)",
        mend: "give a LoRA of T2V-Turbo for VideoCrafter2, and the network it was trained on")
    }
    var adapters: [AdapterWeights] = []
    for (i, module) in modules.enumerated() {
      guard 2 * i + 1 < list.count else {
        throw misfit(
          "a list of \(list.count) tensors for \(modules.count) layers, of which this is the next",
          "'\(module.name)'")
      }
      let (up, down) = (list[2 * i], list[2 * i + 1])
      let adapter =
        down.shape.rank > 0
        ? AdapterWeights(module: module.name, a: down, b: up, scale: 1) : nil
      guard let adapter, up.type.isFloating, down.type.isFloating, adapter.fits(module.weight)
      else {
        throw misfit(
          "factors of shapes \(up.shape), \(down.shape) for a weight of \(module.weight)",
          "tensors \(2 * i) and \(2 * i + 1), '\(module.name)'")
      }
      adapters.append(adapter)
    }
    if list.count > 2 * modules.count {
      throw misfit(
        "\(list.count) tensors for the \(modules.count) layers of this network",
        "tensor \(2 * modules.count)")
    }
    guard let alpha else { return adapters }
    let rank = adapters.map(\.rank).max() ?? 1
    return adapters.map { adapter in
      var scaled = adapter
      scaled.scale = alpha / Double(rank)
      return scaled
    }
  }

  /// Writes the list. B contains the scale. Layers without an adapter get factors of zeros.
  static func write(
    _ adapters: [AdapterWeights], modules: [(name: String, weight: Shape)], to path: String,
    type: ElementType
  ) throws(FileError) {
    let work = Workspace()
    let byName = Dictionary(uniqueKeysWithValues: adapters.map { ($0.module, $0) })
    let rank = adapters.map(\.rank).max() ?? 1
    var list: [Tensor] = []
    for (name, weight) in modules {
      if let adapter = byName[name]?.normalised(in: work) {
        list += [work.converted(adapter.b, to: type), work.converted(adapter.a, to: type)]
      } else {
        let own = VideoUNet.adapterRank(rank, of: weight)
        let kernel = weight.dims.dropFirst(2)
        list += [
          .zeros(Shape([weight[0], own] + kernel.map { _ in 1 }), type: type),
          .zeros(Shape([own, weight[1]] + kernel), type: type),
        ]
      }
    }
    try TorchWriter.write(list: list, to: path)
  }
}
