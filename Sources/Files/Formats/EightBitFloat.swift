public import TensorRuntime

/// Eight-bit floating-point numbers in checkpoints: E4M3 (without infinities, largest value 448)
/// and E5M2.
public enum EightBitFloat: Sendable {
  case e4m3, e5m2

  /// nil for any other type, including the variants without a negative zero.
  public init?(typeName: String) {
    switch typeName {
    case "F8_E4M3", "float8_e4m3fn": self = .e4m3
    case "F8_E5M2", "float8_e5m2": self = .e5m2
    default: return nil
    }
  }
  /// What the user can do where such numbers cannot be used.
  static let remedy = "widen it: pisces convert --dtype bf16"

  /// The values of all 256 codes. Each is exact in bf16 and f16.
  public var values: [Float] {
    (0..<256).map { code in
      let mantissaBits = self == .e4m3 ? 3 : 2
      let bias = self == .e4m3 ? 7 : 15
      let exponent = (code >> mantissaBits) & (self == .e4m3 ? 15 : 31)
      let mantissa = code & ((1 << mantissaBits) - 1)
      let sign: Float = code & 0x80 == 0 ? 1 : -1
      switch self {
      case .e4m3 where exponent == 15 && mantissa == 7: return .nan
      case .e5m2 where exponent == 31: return mantissa == 0 ? sign * .infinity : .nan
      default: break
      }
      let significand = Float(exponent == 0 ? mantissa : mantissa + (1 << mantissaBits))
      return sign * significand
        * Float(sign: .plus, exponent: max(exponent, 1) - bias - mantissaBits, significand: 1)
    }
  }
  /// Widened to f32.
  public func widened(_ bytes: [UInt8], _ shape: Shape) -> Tensor {
    let values = values
    return Tensor(bytes.map { values[Int($0)] }, shape)
  }
}

extension Tensor {
  /// The negative of every element, which PyTorch stores as a bit of the tensor.
  var negated: Tensor {
    var bytes = unsafe withBytes { unsafe Array($0) }
    let size = type.byteCount
    for start in stride(from: 0, to: bytes.count, by: size) {
      if type.isFloating {
        bytes[start + size - 1] ^= 0x80
      } else {
        var carry = true
        for i in start..<start + size {
          let (sum, overflow) = (~bytes[i]).addingReportingOverflow(carry ? 1 : 0)
          (bytes[i], carry) = (sum, overflow)
        }
      }
    }
    return MappedFile(bytes: bytes, name: "negative").region.tensor(shape, StoredType(type))!
  }
}
