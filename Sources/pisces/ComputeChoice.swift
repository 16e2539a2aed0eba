/// `--compute`: the type to which operands of products are rounded.
enum ComputeChoice: String, CaseIterable, Sendable {
  case f32, bf16
  /// bf16 where the processor multiplies it no slower than f32 (`Machine.prefer`).
  case auto
}
