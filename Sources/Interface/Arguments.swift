internal import CInterface
internal import Models
internal import Pipelines
internal import Rewards
internal import TensorRuntime

/// Arguments of the header's functions, checked.
extension Handle {
  static func of(_ reward: OpaquePointer?) throws -> Handle {
    guard let reward = unsafe reward else { throw missing("reward") }
    return unsafe Unmanaged<Handle>.fromOpaque(UnsafeRawPointer(reward)).takeUnretainedValue()
  }
  static func missing(_ name: String) -> Refusal {
    Refusal(.badArgument, "\(name) is NULL", "give a pointer")
  }

  static func text(_ pointer: UnsafePointer<CChar>?, _ name: String) throws -> String {
    guard let pointer = unsafe pointer else { throw missing(name) }
    guard let text = unsafe String(validatingCString: pointer) else {
      throw Refusal(.badArgument, "\(name) is not UTF-8", "encode it as UTF-8")
    }
    return text
  }
  static func texts(
    _ pointers: UnsafePointer<UnsafePointer<CChar>?>?, _ count: Int, _ name: String
  ) throws -> [String] {
    guard count >= 1 && count <= 1 << 20 else {
      throw Refusal(.badArgument, "\(count) \(name)", "give 1 to \(1 << 20)")
    }
    guard let pointers = unsafe pointers else { throw missing(name) }
    return try (0..<count).map { try unsafe text(pointers[$0], "\(name)[\($0)]") }
  }

  /// Clips `[clips, T, 3, H, W]` over the caller's memory.
  func clips(_ frames: UnsafePointer<pisces_frames>?) throws -> Tensor {
    guard let frames = unsafe frames?.pointee else { throw Self.missing("frames") }
    guard let pixels = unsafe frames.pixels else { throw Self.missing("frames->pixels") }
    let extents = unsafe [frames.clips, frames.t, 3, frames.h, frames.w]
    var count = 1
    for extent in extents {
      let (product, overflow) = count.multipliedReportingOverflow(by: extent)
      if extent < 1 || overflow || product > 1 << 40 {
        let text = extents.map { "\($0)" }.joined(separator: ", ")
        throw Refusal(
          .badArgument, "frames of shape [\(text)]", "give [clips, T, 3, H, W], all at least 1")
      }
      count = product
    }
    let c = folder.config.visionEncoder
    let t = extents[1]
    if t % c.tubeletSize != 0 {
      throw Refusal(
        .badArgument, "\(t) frames, tubelet_size is \(c.tubeletSize)",
        "give a multiple of \(c.tubeletSize)")
    }
    if c.times(t) == 1 && withTransport.model.video.imagePositions == nil {
      throw Refusal(
        .badArgument, "one time position, for which this model has no position table",
        "give at least \(2 * c.tubeletSize) frames")
    }
    let x = unsafe Tensor(
      borrowing: UnsafeRawBufferPointer(start: pixels, count: 4 * count), shape: Shape(extents),
      type: .f32, owner: self)
    // Somewhat outside is what a generator in training gives; 255 is another unit.
    try x.withSpan(of: Float.self) { values in
      for i in values.indices where !(values[i] >= -1 && values[i] <= 2) {
        throw Refusal(
          .badData, "element \(i) of the frames is \(values[i])", "give numbers in [0, 1]")
      }
    }
    return x
  }
  /// The one clip of `frames`.
  func clip(_ frames: UnsafePointer<pisces_frames>?) throws -> Tensor {
    if let count = unsafe frames?.pointee.clips, count != 1 {
      throw Refusal(.badArgument, "\(count) clips", "give one clip, with any number of captions")
    }
    return try unsafe clips(frames)
  }
}

/// Copies a tensor of f32 to the caller.
func copy(_ x: Tensor, to out: UnsafeMutablePointer<Float>) {
  x.withSpan(of: Float.self) { values in
    for i in values.indices { unsafe out[i] = values[i] }
  }
}
