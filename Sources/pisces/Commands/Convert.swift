import ArgumentParser
import Files
import Models
import Pipelines
import TensorRuntime

struct Convert: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Foreign checkpoints to a model directory, changes of layout and type, LoRA.",
    discussion: """
      Kinds (found from the tensors' names unless said): internvideo2 (stage-2 checkpoint to a \
      reward-model directory), hunyuan-transformer (original layout or diffusers', ComfyUI's \
      names too), hunyuan-vae, ot-map (raw or training checkpoint to ot_map.safetensors, added to \
      --output), lora (PEFT, diffusers, kohya's scripts and musubi-tuner, ComfyUI; --layout \
      original writes PEFT, diffusers one file). A reward directory keeps its vocabulary and map. \
      VideoCrafter2: videocrafter2 (model.ckpt or a directory to a generator directory), \
      videocrafter-unet (T2V-Turbo's students too), image-vae and openclip-text (diffusers' and \
      transformers' names too) to the folder of one network, or with --base to a whole directory. \
      T2V-Turbo's unet_lora.pt is merged with --merge-lora, or, with --base, written as PEFT; \
      --layout original writes such a file. Tensors are converted one at a time; eight-bit floats \
      are widened, with the scales that lie beside them.
      Values that shapes do not tell (numbers of heads) are supposed and noted; --config gives them.
      """)
  @OptionGroup var common: CommonOptions
  @Option(in: .path, help: "A checkpoint: .pt, .safetensors, a sharded index, or a folder.")
  var input: String
  @Option(
    in: .path, help: "The directory to write; it must not hold anything yet (ot-map: it may).")
  var output: String
  @Option(in: .choice(ConversionKind.self), help: "Default: as the tensors' names say.") var kind:
    ConversionKind?
  @Option(
    in: .choice(WeightType.self), help: "Type of the weights written; default: theirs.")
  var dtype: WeightType?
  @Option(in: .choice(TransformerLayouts.Layout.self), help: "Layout written; default: diffusers.")
  var layout: TransformerLayouts.Layout?
  @Option(
    in: .path, help: "Adapters to merge into the generator's network (a PEFT directory or a file).")
  var mergeLora: String?
  @Option(
    in: .real(above: 0, to: 1e6),
    help: "The LoRA's alpha, where its file does not say it or says it wrongly.") var alpha: Double?
  @Option(
    in: .path,
    help: "A VideoCrafter2 directory: gives what the input lacks, and the layers of a LoRA.")
  var base: String?
  @Option(
    in: .path,
    help: "time_cond_proj.weight for T2V-Turbo's LoRA, which lacks it: FILE or FILE:NAME.")
  var timeCondProj: String?
  @Option(in: .path, help: "A config.json whose values win over those the shapes tell.") var config:
    String?
  @Option(in: .path, help: "BERT's vocab.txt, copied into a reward-model directory.") var vocab:
    String?
  @Option(in: .choice(["true", "false"]), help: "Whether the OT map's input is normalised.")
  var normalizeText: Bool?
  @Option(in: .text, help: "Cut outputs larger than this many bytes (also 500MB, 5GB).")
  var maxShardSize = "5GB"
  @Flag(help: "JSON on standard output.") var json = false

  func validate() throws {
    _ = try bytes()
  }
  private func bytes() throws -> Int {
    try ByteCount.parse(maxShardSize, option: "max-shard-size")
  }

  func run() async throws {
    try common.start()
    var converter = Converter(input: input, output: output)
    (converter.kind, converter.layout, converter.type) = (kind, layout, dtype?.element)
    (converter.adapters, converter.alpha, converter.config, converter.vocabulary) = (
      mergeLora, alpha, config, vocab
    )
    (converter.base, converter.guidanceProjection) = (base, timeCondProj)
    (converter.normalisesText, converter.largestFile) = (normalizeText, try bytes())
    let report = try converter.run()
    for note in report.notes { common.note(note) }
    if json {
      StandardStreams.result(
        JSONValue.object([
          "output": .string(output), "kind": .string(report.kind.rawValue),
          "tensors": .integer(report.tensors), "parameters": .integer(report.parameters),
          "notes": .array(report.notes.map { .string($0) }),
        ]).line)
    } else {
      StandardStreams.result(
        """
        \(output): \(report.kind.rawValue), \(report.tensors) tensors, \(report.parameters) \
        parameters
        """
      )
    }
  }
}
