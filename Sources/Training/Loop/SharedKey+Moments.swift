public import Files
import Layers

extension SharedKey {
  /// `moments` of every kind of training that uses AdamW.
  public static let moments = SharedKey(
    .choice(AdamW.Moments.self), "Storage of AdamW's moments; bf16 rounds stochastically.")
}
