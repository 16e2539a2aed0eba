internal import CKernels

/// The type of a tensor's elements. Arithmetic is in `f32` (the product) or `f64` (the reference).
/// `bf16`, `f16` and `i8` are storage types, widened before use; `i8` are matrices with a scale for
/// each row (`Tensor.init(quantized:scales:)`). Integers hold token ids and masks.
public enum ElementType: UInt8, Sendable, CaseIterable {
  case f32, f64, bf16, f16, i8, i32, i64, u8

  /// Bytes of one element.
  public var byteCount: Int {
    switch self {
    case .f32, .i32: 4
    case .f64, .i64: 8
    case .bf16, .f16: 2
    case .u8, .i8: 1
    }
  }

  /// Whether the kernels compute in this type.
  public var isCompute: Bool { self == .f32 || self == .f64 }
  public var isFloating: Bool { self == .f32 || self == .f64 || self == .bf16 || self == .f16 }
  /// Whether only weights are stored so.
  public var isStorage: Bool { self == .bf16 || self == .f16 || self == .i8 }

  /// The kernels' name of a floating type.
  var pk: pk_type {
    switch self {
    case .f32: PK_F32
    case .f64: PK_F64
    case .bf16: PK_BF16
    case .f16: PK_F16
    case .i8: PK_I8
    default: preconditionFailure("\(self) is not a floating type")
    }
  }
}
