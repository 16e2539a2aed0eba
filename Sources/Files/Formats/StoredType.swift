public import TensorRuntime

/// The element types of files. Some have no tensor type and are widened when they are read: see
/// `loaded`.
public enum StoredType: String, Sendable, CaseIterable {
  case bool, u8, i8, i16, u16, i32, u32, i64, u64, f16, bf16, f32, f64

  /// Bytes of one element.
  public var byteCount: Int {
    switch self {
    case .bool, .u8, .i8: 1
    case .i16, .u16, .f16, .bf16: 2
    case .i32, .u32, .f32: 4
    case .i64, .u64, .f64: 8
    }
  }

  /// The tensor type after reading: bool becomes u8 (0 or 1), narrow integers become i32, u32 and
  /// u64 become i64.
  public var loaded: ElementType {
    switch self {
    case .bool, .u8: .u8
    case .i8, .i16, .u16, .i32: .i32
    case .u32, .i64, .u64: .i64
    case .f16: .f16
    case .bf16: .bf16
    case .f32: .f32
    case .f64: .f64
    }
  }
  /// Whether reading changes the elements, so that the file's memory cannot be used as it is.
  var isWidened: Bool { loaded.byteCount != byteCount || self == .u64 }

  public init(_ type: ElementType) {
    switch type {
    case .f32: self = .f32
    case .f64: self = .f64
    case .bf16: self = .bf16
    case .f16: self = .f16
    case .i32: self = .i32
    case .i64: self = .i64
    case .u8: self = .u8
    case .i8: self = .i8
    }
  }

  /// Bytes of a tensor of these extents; nil if an extent is negative or the product does not fit.
  func byteCount(of extents: [Int]) -> Int? { Self.product(of: extents, times: byteCount) }

  /// `unit` times the extents. Even if one extent is zero, the product of the others must fit,
  /// because arithmetic on shapes multiplies them one by one.
  static func product(of extents: [Int], times unit: Int) -> Int? {
    var product = unit
    for extent in extents where extent != 0 {
      let (p, overflow) = product.multipliedReportingOverflow(by: extent)
      if overflow || extent < 0 || p > 1 << 60 { return nil }
      product = p
    }
    return extents.contains(0) ? 0 : product
  }
}
