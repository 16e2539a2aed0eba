internal import CPNG
public import TensorRuntime

/// An RGB picture with 8 bits for each channel, and PNG files of it.
public struct PNGImage: Sendable, Equatable {
  public let width: Int
  public let height: Int
  /// `[H, W, 3]`, rows from the top.
  public let pixels: [UInt8]

  /// Larger pictures are refused: 2²⁷ pixels are 400 MB.
  static let mostPixels = 1 << 27

  public init(width: Int, height: Int, pixels: [UInt8]) {
    precondition(
      width > 0 && height > 0 && pixels.count == width * height * 3,
      "\(pixels.count) bytes for \(width) × \(height) pixels")
    (self.width, self.height, self.pixels) = (width, height, pixels)
  }

  /// From values in [0,1]. Values outside are clamped, and NaN becomes 0. `image` is `[3, H, W]`,
  /// f32.
  public init(_ image: Tensor) {
    precondition(
      image.shape.rank == 3 && image.shape[0] == 3 && image.type == .f32,
      "a picture is [3, H, W] f32, not \(image.shape) \(image.type)")
    let count = image.shape[1] * image.shape[2]
    let bytes = image.withSpan(of: Float.self) { x in
      unsafe [UInt8](unsafeUninitializedCapacity: 3 * count) { out, filled in
        for i in 0..<count {
          for c in 0..<3 { unsafe out[3 * i + c] = Self.byte(x[c * count + i]) }
        }
        filled = 3 * count
      }
    }
    self.init(width: image.shape[2], height: image.shape[1], pixels: bytes)
  }
  /// The integer in 0...255 nearest to 255·x; the inverse of `tensor` for values that came from
  /// bytes.
  static func byte(_ x: Float) -> UInt8 { UInt8(min(max(x.isNaN ? 0 : x, 0), 1) * 255 + 0.5) }

  /// `[3, H, W]`, f32, byte / 255.
  public var tensor: Tensor {
    var planes = Tensor.zeros(Shape(3, height, width))
    planes.withMutableSpan(of: Float.self) {
      PixelPlanes.fill(&$0, at: 0, from: pixels, count: width * height)
    }
    return planes
  }

  /// Reads a PNG file of any kind as 8-bit RGB. Transparent pixels are shown on black. Throws
  /// `missingInput`, `badData` or `readWrite`.
  public init(contentsOf path: String) throws(FileError) {
    try self.init(parsing: try MappedFile(path).region.array, name: path)
  }

  public init(parsing bytes: [UInt8], name: String) throws(FileError) {
    var image = unsafe png_image()
    unsafe image.version = png_uint_32(PNG_IMAGE_VERSION)
    defer { unsafe png_image_free(&image) }
    // libpng keeps the address between the two calls, so both are made in this scope.
    var result: [UInt8] = []
    var problem: String?
    unsafe bytes.withUnsafeBytes { source in
      guard let base = source.baseAddress,
        unsafe png_image_begin_read_from_memory(&image, base, source.count) != 0
      else {
        problem =
          bytes.isEmpty ? "the file is empty" : unsafe "not a PNG file (\(Self.message(image)))"
        return
      }
      let pixels = unsafe Int(image.width).multipliedReportingOverflow(by: Int(image.height))
      // Deflate packs at most 1032:1, and a pixel takes at least one bit. A larger size in the
      // header is false.
      guard !pixels.overflow, pixels.partialValue <= Self.mostPixels,
        pixels.partialValue / 8 <= 1032 * source.count
      else {
        problem = unsafe "\(image.width) × \(image.height) pixels in \(source.count) bytes"
        return
      }
      unsafe image.format = png_uint_32(PNG_FORMAT_FLAG_COLOR)
      var background = png_color(red: 0, green: 0, blue: 0)
      result = [UInt8](repeating: 0, count: 3 * pixels.partialValue)
      if unsafe png_image_finish_read(&image, &background, &result, 0, nil) == 0 {
        problem = unsafe "damaged or cut short (\(Self.message(image)))"
      }
    }
    if let problem { throw FileError.bad(problem, name) }
    (width, height, pixels) = unsafe (Int(image.width), Int(image.height), result)
  }

  /// Whether every decoder gives the same 8-bit RGB: opaque, at most eight bits a channel, and no
  /// chunk that asks for a conversion of colours. Only the chunks in front of the picture are
  /// looked at.
  static func isPlain(_ file: ByteRegion) -> Bool {
    guard file.starts(with: [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
      let depth = file.byte(at: 24), let colour = file.byte(at: 25)
    else { return false }
    guard colour == 2 ? depth == 8 : colour == 3 && depth <= 8 || colour == 0 && depth == 8 else {
      return false
    }
    var at = 8
    while let head = file.region(at: at, count: 8)?.array {
      let length = head[..<4].reduce(0) { $0 << 8 | Int($1) }
      switch String(decoding: head[4...], as: UTF8.self) {
      case "IDAT": return true
      case "IHDR", "PLTE", "sRGB", "pHYs", "tEXt", "zTXt", "iTXt", "tIME", "bKGD", "hIST": break
      default: return false
      }
      at += length + 12
    }
    return false
  }

  /// The bytes of a PNG file.
  public func encoded() -> [UInt8] {
    var image = unsafe png_image()
    unsafe image.version = png_uint_32(PNG_IMAGE_VERSION)
    unsafe (image.width, image.height, image.format) = (
      png_uint_32(width), png_uint_32(height), png_uint_32(PNG_FORMAT_FLAG_COLOR)
    )
    defer { unsafe png_image_free(&image) }
    // PNG_IMAGE_PNG_SIZE_MAX of png.h: the rows with their filter bytes, the overhead of deflate,
    // and the chunks around them.
    let raw = height * (3 * width + 1)
    var size = raw + (raw + 7) >> 3 + (raw + 63) >> 6 + 11 + 12 * (raw >> 13 + 1) + 1024
    var out = [UInt8](repeating: 0, count: size)
    let isWritten = unsafe png_image_write_to_memory(&image, &out, &size, 0, pixels, 0, nil) != 0
    precondition(
      isWritten, unsafe "libpng refused \(width) × \(height) pixels: \(Self.message(image))")
    return Array(out.prefix(size))
  }
  /// Throws `cannotCreate` or `readWrite`.
  public func write(to path: String) throws(FileError) { try OutputFile.write(encoded(), to: path) }

  private static func message(_ image: png_image) -> String {
    unsafe withUnsafeBytes(of: image.message) {
      unsafe String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
  }
}

/// Converts interleaved bytes to planes of f32.
enum PixelPlanes {
  private static let values: [Float] = (0...255).map { Float($0) / 255 }

  /// Writes `[3, count]` at element `start`, from `count` pixels of 3 bytes.
  static func fill(
    _ planes: inout MutableSpan<Float>, at start: Int, from pixels: [UInt8], count: Int
  ) {
    let values = values.span
    let pixels = pixels.span
    for c in 0..<3 {
      let base = start + c * count
      for i in 0..<count { planes[base + i] = values[Int(pixels[3 * i + c])] }
    }
  }
}
