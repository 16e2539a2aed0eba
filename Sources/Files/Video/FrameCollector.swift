/// Splits FFmpeg's stream of PPM pictures and keeps the frames as bytes, while they fit in
/// `budget`.
struct FrameCollector {
  private enum State {
    case header
    case pixels(missing: Int)
  }
  private var state = State.header
  private var header: [UInt8] = []
  private var frame: [UInt8] = []
  private let path: String
  /// Bytes.
  private let budget: Int

  private(set) var width = 0
  private(set) var height = 0
  /// The frames, each `[H, W, 3]`.
  private(set) var frames: [[UInt8]] = []
  /// Whether the next frame did not fit. The rest of the stream is then not needed.
  private(set) var isOverBudget = false

  /// Larger frames are refused: 2²⁷ pixels.
  private static let mostPixels = PNGImage.mostPixels

  init(path: String, budget: Int) { (self.path, self.budget) = (path, budget) }

  /// Whether the stream ended between two pictures.
  var isComplete: Bool { if case .header = state { header.isEmpty } else { false } }

  /// Takes the next bytes. Returns false once the frames no longer fit.
  mutating func consume(_ bytes: ArraySlice<UInt8>) throws(FileError) -> Bool {
    var rest = bytes
    while !rest.isEmpty {
      switch state {
      case .header:
        header.append(rest.removeFirst())
        if let (width, height) = try size() {
          if !frames.isEmpty && (width, height) != (self.width, self.height) {
            throw FileError.bad(
              """
              the frame size changes from \(self.width) × \(self.height) to \(width) × \(height) \
              at frame \(frames.count)
              """,
              path,
              mend: "re-encode the video")
          }
          (self.width, self.height) = (width, height)
          let byteCount = 3 * width * height
          if byteCount * (frames.count + 1) > budget {
            isOverBudget = true
            return false
          }
          header = []
          frame = []
          frame.reserveCapacity(byteCount)
          state = .pixels(missing: byteCount)
        }
      case .pixels(let missing):
        let part = rest.prefix(missing)
        frame += part
        rest = rest.dropFirst(part.count)
        state = .pixels(missing: missing - part.count)
        if missing == part.count {
          frames.append(frame)
          frame = []
          state = .header
        }
      }
    }
    return true
  }

  /// Width and height, once `P6 W H 255` and one space after it have arrived.
  private func size() throws(FileError) -> (Int, Int)? {
    let broken = FileError.bad(
      "FFmpeg sent something that is not a picture", path, mend: "check that the file is a video")
    if header.count > 64 { throw broken }
    guard header.last == 0x0a || header.last == 0x20 else { return nil }
    let words = header.split { $0 == 0x0a || $0 == 0x20 }.map {
      String(decoding: $0, as: UTF8.self)
    }
    if words.first != "P6" { throw broken }
    guard words.count == 4 else { return nil }
    guard let width = Int(words[1]), let height = Int(words[2]), words[3] == "255", width > 0,
      height > 0, width <= 1 << 20, height <= 1 << 20
    else {
      throw broken
    }
    if width * height > Self.mostPixels {
      throw FileError.bad(
        "frames of \(width) × \(height) pixels are too large", path, mend: "scale the video down")
    }
    return (width, height)
  }
}
