/// Names of adapters in files of PEFT, diffusers, kohya's scripts (musubi-tuner), ComfyUI and
/// others.
public enum AdapterNames {
  public enum Factor: Sendable, Equatable { case a, b, alpha }

  /// Module M and factor of a key. Known forms: `base_model.model.M.lora_A.weight` (PEFT, also with
  /// the adapter's name after `lora_A`), `transformer.M.lora_A.weight` (diffusers),
  /// `diffusion_model.M.lora_down.weight` and `M.alpha` (ComfyUI), `lora_unet_M.lora_up.weight`
  /// with `_` for every dot of M (kohya). nil for any other key. A module of HunyuanVideo gets its
  /// name in one of the two layouts; any other keeps the name in the file.
  public static func parse(_ key: String) -> (module: String, factor: Factor)? {
    guard let (name, factor) = split(key) else { return nil }
    var module = name
    var isChanging = true
    while isChanging {
      isChanging = false
      for prefix in prefixes where module.hasPrefix(prefix) {
        module = module.dropFirst(prefix.count)
        isChanging = true
      }
    }
    let plain = String(module)
    if let known = TransformerLayouts.module(plain) { return (known, factor) }
    for prefix in flatPrefixes where plain.hasPrefix(prefix) {
      if let known = TransformerLayouts.module(flattened: String(plain.dropFirst(prefix.count))) {
        return (known, factor)
      }
    }
    return (plain, factor)
  }
  private static let prefixes = [
    "base_model.model.", "transformer.", "model.diffusion_model.", "diffusion_model.", "module.",
    "unet.",
  ]
  private static let flatPrefixes = ["lora_unet_", "lora_transformer_", "lycoris_", ""]

  private static func split(_ key: String) -> (module: Substring, factor: Factor)? {
    if key.hasSuffix(".alpha") { return (key.dropLast(".alpha".count), .alpha) }
    let marks: [(String, Factor)] = [
      (".lora_A.", .a), (".lora_B.", .b), (".lora_down.", .a), (".lora_up.", .b),
      (".lora.down.", .a), (".lora.up.", .b), ("_lora.down.", .a), ("_lora.up.", .b),
    ]
    for (mark, factor) in marks {
      if let range = key.firstRange(of: mark), key.hasSuffix("weight") {
        return (key[..<range.lowerBound], factor)
      }
    }
    return nil
  }

  /// Whether a key belongs to an adapter of any method.
  public static func isAdapter(_ key: String) -> Bool {
    split(key).map { $0.factor != .alpha } ?? (method(key) != nil)
  }
  /// The method of a key that is not the plain product of two factors; nil if it is no known
  /// method.
  public static func method(_ key: String) -> String? {
    for (method, marks) in [
      ("DoRA", [".dora_scale", ".lora_magnitude_vector"]), ("LoHa", [".hada_w", ".hada_t"]),
      ("LoKr", [".lokr_w", ".lokr_t"]), ("OFT", [".oft_blocks", ".oft_diag", ".oft_R"]),
      ("BOFT", [".boft_"]), ("VeRA", [".vera_lambda"]), ("IA3", [".ia3_l", ".on_input"]),
      ("LoCon's middle factor", [".lora_mid."]),
      ("LoRA with a bias", [".lora_B.bias", ".lora_up.bias"]),
      ("a full difference", [".diff_b", ".diff"]),
    ]
    where marks.contains(where: {
      $0 == ".diff" || $0 == ".diff_b" || $0 == ".on_input" ? key.hasSuffix($0) : key.contains($0)
    }) {
      return method
    }
    return nil
  }

  /// The value for a module in a pattern table (`rank_pattern`, `alpha_pattern`). A key matches the
  /// whole name or its end.
  public static func value<T>(_ pattern: [String: T], for module: String) -> T? {
    pattern[module]
      ?? pattern.filter { module.hasSuffix("." + $0.key) }.max { $0.key.count < $1.key.count }?
      .value
  }
}
