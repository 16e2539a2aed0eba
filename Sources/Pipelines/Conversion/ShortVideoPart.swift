import Files
import Layers
import Models
import TensorRuntime

/// A network of a VideoCrafter2 generator (videocrafter.md 12).
enum ShortVideoPart: CaseIterable {
  case unet, autoencoder, textEncoder

  /// Its folder in a generator directory.
  var folder: String {
    switch self {
    case .unet: VideoUNet.component.folder
    case .autoencoder: "vae"
    case .textEncoder: "text_encoder"
    }
  }
  /// The file of its weights, without `.safetensors`.
  var file: String { self == .textEncoder ? "model" : "diffusion_pytorch_model" }
  /// The class in its `config.json`.
  var className: String {
    switch self {
    case .unet: VideoUNet.component.kind
    case .autoencoder: "AutoencoderKL"
    case .textEncoder: "OpenCLIPTextEncoder"
    }
  }
  var kind: ConversionKind {
    switch self {
    case .unet: .videocrafterUNet
    case .autoencoder: .imageVAE
    case .textEncoder: .openCLIPText
    }
  }
  init?(kind: ConversionKind?) {
    guard let part = Self.allCases.first(where: { $0.kind == kind }) else { return nil }
    self = part
  }
  /// The network whose tensors have these names; nil if it is none of the three.
  init?(names: [String]) {
    let present = Set(names)
    if present.contains("input_blocks.0.0.weight") {
      self = .unet
    } else if present.contains("decoder.conv_in.weight") {
      self = .autoencoder
    } else if present.contains("transformer.resblocks.0.attn.in_proj_weight")
      || OpenCLIPTextNames.areTransformers(names)
    {
      self = .textEncoder
    } else {
      return nil
    }
  }

  /// What a whole checkpoint puts before the names; `model.` is gone where every name had it.
  private var prefixes: [String] {
    switch self {
    case .unet: ["model.diffusion_model.", "diffusion_model."]
    case .autoencoder: ["first_stage_model."]
    case .textEncoder: ["cond_stage_model.model."]
    }
  }
  /// The part to which a tensor of a whole checkpoint belongs, and its name there.
  static func split(_ name: String) -> (part: ShortVideoPart, name: String)? {
    for part in allCases {
      if let prefix = part.prefixes.first(where: { name.hasPrefix($0) }) {
        return (part, String(name.dropFirst(prefix.count)))
      }
    }
    return nil
  }
  /// Tensors of a whole checkpoint that nothing reads: the schedule, and averages.
  static let ignoredNames = [
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod",
    "sqrt_one_minus_alphas_cumprod", "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod",
    "sqrt_recipm1_alphas_cumprod", "posterior_variance", "posterior_log_variance_clipped",
    "posterior_mean_coef1", "posterior_mean_coef2", "scale_arr", "model_ema.*",
  ]
  /// A pattern is a name, or a beginning followed by `*`.
  static func isIgnored(_ name: String, _ patterns: [String]) -> Bool {
    patterns.contains { $0.hasSuffix("*") ? name.hasPrefix($0.dropLast()) : name == $0 }
  }

  /// Of which tensors the program's parameters consist, in the order of `names`: one alone, or its
  /// parts from the first row on. A name that no rule knows stays.
  func rows(_ names: [String]) -> [(name: String, parts: [String])] {
    let rename = renaming(names)
    var order: [String] = []
    var parts: [String: [(part: Int, source: String)]] = [:]
    for name in names {
      let (target, part) = rename(name) ?? (name, 0)
      if parts[target] == nil { order.append(target) }
      parts[target, default: []].append((part, name))
    }
    return order.map { target in
      (target, parts[target]!.sorted { $0.part < $1.part }.map(\.source))
    }
  }
  /// The program's name of a tensor, and which part of its rows it is; nil if it keeps its name.
  private func renaming(_ names: [String]) -> (String) -> (name: String, part: Int)? {
    switch self {
    case .autoencoder where ImageAutoencoderNames.areDiffusers(names):
      let blocks = "encoder.down_blocks."
      let levels = Set(
        names.filter { $0.hasPrefix(blocks) }.map {
          $0.dropFirst(blocks.count).prefix { $0 != "." }
        })
      return { name in
        ImageAutoencoderNames.original(ofDiffusers: name, levels: levels.count).map { ($0, 0) }
      }
    case .textEncoder where OpenCLIPTextNames.areTransformers(names):
      return { OpenCLIPTextNames.original(ofTransformers: $0) }
    default: return { _ in nil }
    }
  }
}
