import ArgumentParser
import Conversion
import Files
import Models
import TensorRuntime

struct Convert: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Foreign checkpoints to a model directory, changes of layout and type, LoRA.",
    discussion: """
      Kinds (found from the tensors' names unless said): internvideo2 (stage-2 checkpoint to a reward-model directory), hunyuan-transformer (original
      layout or diffusers', ComfyUI's names too), hunyuan-vae, ot-map (raw or training checkpoint to ot_map.safetensors, added to --output), lora
      (PEFT, diffusers, kohya's scripts and musubi-tuner, ComfyUI; --layout original writes PEFT, diffusers one file). A reward directory
      keeps its vocabulary and map. Tensors are converted one at a time; eight-bit floats are widened, with the scales that lie beside them.
      Values that shapes do not tell (numbers of heads) are supposed and noted; --config gives them.
      """)
  @OptionGroup var common: CommonOptions
  @Option(help: "A checkpoint: .pt, .safetensors, a sharded index, or a folder.") var input: String
  @Option(help: "The directory to write; it must not hold anything yet (ot-map: it may).") var output: String
  @Option(help: "\(ConversionKind.allCases.map(\.rawValue).joined(separator: ", ")).") var kind: String?
  @Option(help: "Type of the weights written: f32, bf16 or f16; default: theirs.") var dtype: String?
  @Option(help: "Layout written: original or diffusers (default).") var layout: String?
  @Option(help: "Adapters to merge into the transformer (a PEFT directory or a file).") var mergeLora: String?
  @Option(help: "The LoRA's alpha, where its file does not say it or says it wrongly; above 0.") var alpha: Double?
  @Option(help: "A config.json whose values win over those the shapes tell.") var config: String?
  @Option(help: "BERT's vocab.txt, copied into a reward-model directory.") var vocab: String?
  @Option(help: "Whether the OT map's input is normalised: true or false.") var normalizeText: Bool?
  @Option(help: "Cut outputs larger than this many bytes (also 500MB, 5GB).") var maxShardSize = "5GB"
  @Flag(help: "JSON on standard output.") var json = false

  func validate() throws {
    _ = try choice(ConversionKind.self, kind, "--kind")
    _ = try choice(TransformerLayouts.Layout.self, layout, "--layout")
    if let dtype, !["f32", "bf16", "f16"].contains(dtype) { throw ValidationError("--dtype takes f32, bf16 or f16, not \(dtype)") }
    if let alpha, !(alpha > 0 && alpha.isFinite) { throw ValidationError("--alpha takes a number above 0, not \(alpha)") }
    _ = try bytes()
  }
  private func choice<T: RawRepresentable & CaseIterable>(_: T.Type, _ text: String?, _ option: String) throws -> T? where T.RawValue == String {
    guard let text else { return nil }
    guard let value = T(rawValue: text) else { throw ValidationError("\(option) takes \(T.allCases.map(\.rawValue).joined(separator: ", ")), not \(text)") }
    return value
  }
  private func bytes() throws -> Int {
    let units = [("GB", 1_000_000_000), ("MB", 1_000_000), ("KB", 1000), ("", 1)]
    let (suffix, unit) = units.first { maxShardSize.uppercased().hasSuffix($0.0) }!
    guard let n = Int(maxShardSize.dropLast(suffix.count)), n > 0, n <= 1 << 40 else { throw ValidationError("--max-shard-size takes bytes, or a number with KB, MB or GB, not \(maxShardSize)") }
    return n * unit
  }

  func run() async throws {
    try common.start()
    var converter = Converter(input: input, output: output)
    converter.kind = try choice(ConversionKind.self, kind, "--kind")
    converter.layout = try choice(TransformerLayouts.Layout.self, layout, "--layout")
    converter.type = dtype.map { $0 == "f32" ? .f32 : $0 == "bf16" ? .bf16 : .f16 }
    (converter.adapters, converter.alpha, converter.config, converter.vocabulary) = (mergeLora, alpha, config, vocab)
    (converter.normalisesText, converter.largestFile) = (normalizeText, try bytes())
    let report = try converter.run()
    for note in report.notes { common.note(note) }
    if json {
      StandardStreams.result(JSONValue.object([
        "output": .string(output), "kind": .string(report.kind.rawValue), "tensors": .integer(report.tensors), "parameters": .integer(report.parameters),
        "notes": .array(report.notes.map { .string($0) }),
      ]).line)
    } else {
      StandardStreams.result("\(output): \(report.kind.rawValue), \(report.tensors) tensors, \(report.parameters) parameters")
    }
  }
}
