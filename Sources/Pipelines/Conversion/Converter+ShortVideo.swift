import Diffusion
import Files
import Layers
import Models
import TensorRuntime

/// VideoCrafter2's family: whole generators, networks alone, and T2V-Turbo's students
/// (videocrafter.md 12).
extension Converter {
  /// The tensors of one network in the input.
  private struct Source {
    let part: ShortVideoPart, path: String
    /// Under the program's names.
    var tensors: TensorProvider
    /// `config.json` beside them.
    let config: JSONObject?
  }
  /// One network, ready to be written.
  private struct Part {
    let part: ShortVideoPart
    let tensors: TensorProvider
    let config: JSONObject
    let notes: [String]
  }

  func shortVideo() throws(FileError) -> Report {
    try refuseBytes()
    let (sources, isWhole, dropped) = try shortVideoSources()
    if mergedAdapters != nil && !sources.contains(where: { $0.part == .unet }) {
      throw FileError(
        .badData, "adapters for a network that the input does not have", in: input,
        mend: "give the UNet too, or leave out --merge-lora")
    }
    var parts: [Part] = []
    for source in sources { parts.append(try converted(source, isAlone: sources.count == 1)) }
    let notes = dropped + parts.flatMap(\.notes)
    let directory = isWhole || base != nil
    try write { (folder) throws(FileError) in
      if directory {
        try writeGenerator(parts, to: folder)
      } else {
        try write(parts[0], to: folder)
      }
    }
    return Report(
      kind: directory ? .videocrafter2 : parts[0].part.kind,
      tensors: parts.reduce(0) { $0 + $1.tensors.names.count },
      parameters: parts.reduce(0) { sum, part in
        part.tensors.names.reduce(sum) { $0 + part.tensors.shape($1).count }
      }, notes: notes)
  }
  private var mergedAdapters: String? { adapters }

  // MARK: reading

  /// The networks of the input, and whether they are to be a generator directory.
  private func shortVideoSources() throws(FileError) -> ([Source], isWhole: Bool, notes: [String]) {
    if TextFile.exists("\(input)/unet/config.json") { return (try folderSources(), true, []) }
    let table = try WeightTable(opening: input, stripping: ["vae."])
    let split = table.names.map { (old: $0, place: ShortVideoPart.split($0)) }
    if split.contains(where: { $0.place != nil }) {
      for (name, place) in split
      where place == nil && !ShortVideoPart.isIgnored(name, ShortVideoPart.ignoredNames) {
        throw FileError(
          .badData, "a tensor that VideoCrafter2 does not have", in: "\(input), '\(name)'",
          mend: "give VideoCrafter2's checkpoint (VideoCrafter1 and its image models are others)")
      }
      var sources: [Source] = []
      for part in ShortVideoPart.allCases {
        let names = split.compactMap { $0.place?.part == part ? ($0.place!.name, $0.old) : nil }
        if names.isEmpty { continue }
        sources.append(try source(part, table, Dictionary(uniqueKeysWithValues: names), input))
      }
      let buffers = split.count { $0.place == nil }
      return (
        sources, kind == .videocrafter2 || sources.count > 1,
        buffers > 0 ? ["\(buffers) tensors of the schedule and averages were left out"] : []
      )
    }
    guard let part = ShortVideoPart(kind: kind) ?? ShortVideoPart(names: table.names) else {
      throw FileError(
        .badData, "no network of VideoCrafter2's family", in: input,
        mend: "give its model.ckpt, a UNet of T2V-Turbo, an autoencoder or a text tower")
    }
    let names = Dictionary(uniqueKeysWithValues: table.names.map { ($0, $0) })
    return ([try source(part, table, names, input)], kind == .videocrafter2, [])
  }
  private func folderSources() throws(FileError) -> [Source] {
    var sources: [Source] = []
    for part in ShortVideoPart.allCases {
      let folder = "\(input)/\(part.folder)"
      guard TextFile.exists("\(folder)/config.json") else { continue }
      let table = try WeightTable(opening: folder, stripping: ["vae."])
      sources.append(
        try source(
          part, table, Dictionary(uniqueKeysWithValues: table.names.map { ($0, $0) }), folder))
    }
    return sources
  }
  /// `names`: from the names in the part to those in the file.
  private func source(
    _ part: ShortVideoPart, _ table: WeightTable, _ names: [String: String], _ path: String
  ) throws(FileError) -> Source {
    let wanted = Set(names.values)
    let all = try TensorProvider(table, widening: type, where: { wanted.contains($0) })
    let present = Set(all.names)
    let back = Dictionary(uniqueKeysWithValues: names.map { ($0.value, $0.key) })
    let rows = part.rows(all.names.map { back[$0]! }).map { row in
      (name: row.name, parts: row.parts.compactMap { names[$0] }.filter { present.contains($0) })
    }
    let file = "\(path)/config.json"
    let config = TextFile.exists(file) ? try JSONValue(contentsOf: file).object : nil
    return Source(
      part: part, path: path, tensors: try all.joiningRows(rows, path: path), config: config)
  }

  // MARK: one network

  /// The network with its sizes, strictly: every tensor is one that it reads or is known not to.
  private func converted(_ source: Source, isAlone: Bool) throws(FileError) -> Part {
    var given: [(json: JSONObject, path: String)] = []
    if let own = source.config { given.append((own, "\(source.path)/config.json")) }
    if let config {
      guard let all = try JSONValue(contentsOf: config).object else {
        throw FileError(
          .badData, "the configuration is not an object", in: config, mend: "give a config.json")
      }
      // For a whole generator: an object for each folder.
      if let own = all[source.part.folder]?.object ?? (isAlone ? all : nil) {
        given.append((own, config))
      }
    }
    var tensors = source.tensors
    var network = try ShortVideoNetwork(source.part, tensors, given: given, path: source.path)
    var notes = network.supposed.filter { _ in given.isEmpty }.map {
      "supposed, since the tensors do not tell: \($0) (correct config.json, or give --config)"
    }
    var merged: UNetAdapters?
    if source.part == .unet, let adapters {
      let found = try unetAdapters(adapters, network.config, tensors, source.path)
      if let projection = found.projection {
        tensors = tensors.replacing(
          UNetAdapters.projectionName,
          with: Workspace().converted(
            projection, to: tensors.type("input_blocks.0.0.weight")))
        var wide = JSONObject()
        wide["time_cond_proj_dim"] = .integer(projection.shape[1])
        given.append((wide, adapters))
        network = try ShortVideoNetwork(.unet, tensors, given: given, path: source.path)
      }
      notes += found.notes
      merged = found
    }
    try network.refuseUnknown(tensors.names, path: source.path)
    let left = tensors.names.count { name in
      ShortVideoPart.isIgnored(name, network.ignored)
    }
    if left > 0 {
      notes.append("\(left) tensors that the \(source.part.folder) does not read were left out")
    }
    var fitted = try tensors.fitted(to: network.parameters, path: source.path)
    if let merged, let adapters { fitted = try fitted.merging(merged.adapters, path: adapters) }
    return Part(
      part: source.part, tensors: fitted.stored(as: type), config: network.config, notes: notes)
  }
  private func unetAdapters(
    _ path: String, _ config: JSONObject, _ tensors: TensorProvider, _ place: String
  ) throws(FileError) -> UNetAdapters {
    let base: VideoUNetConfig = try JSONValue.object(config).decoded(name: place)
    var own: Tensor?
    if tensors.names.contains(UNetAdapters.projectionName) {
      do { own = try tensors(UNetAdapters.projectionName, in: Workspace()) } catch {
        throw error as? FileError
          ?? FileError(.badData, "\(error)", in: place, mend: "check the checkpoint")
      }
    }
    return try UNetAdapters(path, alpha: alpha, base: base, own: own, given: try givenProjection())
  }
  private func givenProjection() throws(FileError) -> Tensor? {
    guard let guidanceProjection else { return nil }
    return try TensorFile.read(guidanceProjection)
  }

  // MARK: writing

  private func write(_ part: Part, to folder: String) throws(FileError) {
    try createFolder(folder)
    try part.tensors.write(
      part.part.file, to: folder, metadata: [("format", "pt")], largest: largestFile)
    try OutputFile.write(JSONValue.object(part.config).pretty + "\n", to: "\(folder)/config.json")
  }
  /// A generator directory. What the input lacks is copied from `base`, or from the input if that
  /// is one (videocrafter.md 12.3).
  private func writeGenerator(_ parts: [Part], to folder: String) throws(FileError) {
    let origin = base ?? (TextFile.exists("\(input)/unet/config.json") ? input : nil)
    if let base, !TextFile.exists("\(base)/unet/config.json") {
      throw FileError(
        .badData, "not a VideoCrafter2 directory: it has no unet/config.json", in: base,
        mend: "give one that pisces convert has written from model.ckpt")
    }
    for part in ShortVideoPart.allCases {
      let target = "\(folder)/\(part.folder)"
      if let own = parts.first(where: { $0.part == part }) {
        try write(own, to: target)
      } else if let origin, TextFile.exists("\(origin)/\(part.folder)/config.json") {
        try FileTree.copy("\(origin)/\(part.folder)", to: target)
      } else {
        throw FileError(
          .badData, "the generator's \(part.folder) is missing", in: origin ?? input,
          mend: "give a whole checkpoint, or a directory with it as --base")
      }
    }
    let others = try origin.map { path throws(FileError) in try FileTree.names(in: path) } ?? []
    for name in others
    where !ShortVideoPart.allCases.map(\.folder).contains(name) && name != "model_index.json" {
      // A new text tower may have another vocabulary.
      if name == "tokenizer", input != origin, parts.contains(where: { $0.part == .textEncoder }) {
        continue
      }
      try FileTree.copy("\(origin!)/\(name)", to: "\(folder)/\(name)")
    }
    try writeRest(parts, to: folder)
  }
  /// The tokenizer and the schedule, unless they were copied, and `model_index.json`.
  private func writeRest(_ parts: [Part], to folder: String) throws(FileError) {
    if !TextFile.exists("\(folder)/tokenizer/merges.txt") {
      let text = parts.first { $0.part == .textEncoder }?.config["vocab_size"]?.integer
      try OpenCLIPMerges.write(vocabulary: text ?? .max, to: "\(folder)/tokenizer")
    }
    if !TextFile.exists("\(folder)/scheduler.json") {
      var schedule = DiffusionSchedule.Parameters()
      let vae = parts.first { $0.part == .autoencoder }?.config["scaling_factor"]?.number
      schedule.scalingFactor = vae ?? schedule.scalingFactor
      do {
        try OutputFile.write(
          try JSONValue(encoding: schedule).pretty + "\n", to: "\(folder)/scheduler.json")
      } catch let error as FileError { throw error } catch {
        preconditionFailure("a schedule that is no JSON: \(error)")
      }
    }
    let index: JSONValue = ["generator": "videocrafter2"]
    try OutputFile.write(index.pretty + "\n", to: "\(folder)/model_index.json")
  }

  // MARK: LoRA

  /// Whether the adapters of the input are those of this family's UNet.
  func isShortVideoLora() throws(FileError) -> Bool {
    if try TurboAdapterFile.isOne(input) { return true }
    return try AdapterFile.contents(input, alpha: alpha ?? 1).adapters.contains {
      UNetAdapters.isModule($0.module)
    }
  }
  /// To our PEFT directory; with the original layout to T2V-Turbo's list.
  func shortVideoLora() throws(FileError) -> Report {
    guard let base else {
      throw FileError(
        .badData, "adapters of VideoCrafter2's UNet, whose layers the file does not tell",
        in: input, mend: "give the generator's directory with --base")
    }
    let folder = TextFile.exists("\(base)/unet/config.json") ? "\(base)/unet" : base
    let table = try WeightTable(opening: folder)
    guard ShortVideoPart(names: table.names) == .unet else {
      throw FileError(
        .badData, "not a UNet of VideoCrafter2's family", in: folder,
        mend: "give the generator's directory with --base")
    }
    let names = Dictionary(uniqueKeysWithValues: table.names.map { ($0, $0) })
    let own = try source(.unet, table, names, folder)
    let given = own.config.map { [(json: $0, path: "\(folder)/config.json")] } ?? []
    let network = try ShortVideoNetwork(.unet, own.tensors, given: given, path: folder)
    let found = try unetAdapters(input, network.config, own.tensors, folder)
    let work = Workspace()
    let isList = layout == .original
    let adapters = isList ? found.withoutProjection(in: work) : found.adapters
    let whole = isList ? nil : found.projection.map { work.converted($0, to: type ?? $0.type) }
    var notes = found.notes
    if isList && found.projection != nil {
      notes.append(
        """
        \(UNetAdapters.projectionName) is written as an adapter of a layer of zeros: set it to \
        zero where the list is read
        """)
    }
    try write { (folder) throws(FileError) in
      if isList {
        try TurboAdapterFile.write(
          adapters, modules: found.modules, to: "\(folder)/unet_lora.pt", type: type ?? .f32)
      } else {
        try AdapterFile.writePEFT(
          adapters, whole: whole.map { [(UNetAdapters.projectionName, $0)] } ?? [], to: folder,
          type: type)
      }
    }
    return Report(
      kind: .lora, tensors: isList ? 2 * found.modules.count : 2 * adapters.count,
      parameters: adapters.reduce(whole?.count ?? 0) { $0 + $1.a.count + $1.b.count }, notes: notes)
  }
}
