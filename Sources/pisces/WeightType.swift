import TensorRuntime

/// The types in which weights are stored.
enum WeightType: String, CaseIterable, Sendable {
  case f32, bf16, f16
  /// Signed bytes with a scale for each row of a matrix; reward models alone.
  case int8
  var element: ElementType {
    switch self {
    case .f32: .f32
    case .bf16: .bf16
    case .f16: .f16
    case .int8: .i8
    }
  }
}
