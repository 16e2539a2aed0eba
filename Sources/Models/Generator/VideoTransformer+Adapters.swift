public import Layers
import TensorRuntime

/// Low-rank adapters on the attention and projection layers of the blocks (algorithm.md 8).
extension VideoTransformer: AdaptableNetwork {
  /// diffusers' names.
  public static let defaultTargets = [
    "attn.to_q", "attn.to_k", "attn.to_v", "attn.to_out.0", "attn.add_q_proj", "attn.add_k_proj",
    "attn.add_v_proj", "attn.to_add_out", "proj_mlp", "proj_out",
  ]
  /// Every linear layer of the double- and single-stream blocks.
  public mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows
  {
    for i in double.indices {
      try double[i].image.forEachAdaptable(body)
      try double[i].text.forEachAdaptable(body)
    }
    for i in single.indices {
      try single[i].projection.forEachAdaptable(body)
      try single[i].up.asAdaptable(body)
      try single[i].out.asAdaptable(body)
    }
  }
}
extension StreamProjection {
  mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows {
    try query.asAdaptable(body)
    try key.asAdaptable(body)
    try value.asAdaptable(body)
  }
}
extension DoubleStreamBlock.Stream {
  mutating func forEachAdaptable(_ body: (inout any AdaptableLayer) throws -> Void) rethrows {
    try projection.forEachAdaptable(body)
    try out.asAdaptable(body)
    try feedForward.up.asAdaptable(body)
    try feedForward.down.asAdaptable(body)
  }
}
