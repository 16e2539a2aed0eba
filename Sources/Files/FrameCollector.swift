/// Takes FFmpeg's stream of PPM pictures apart and keeps the frames that will be needed.
///
/// While the number of frames is unknown every frame is kept, as bytes, up to `budget`; beyond it only the count goes on, and
/// a second pass, which knows the count, keeps just the frames chosen.
struct FrameCollector {
  private enum State {
    case header
    case pixels(missing: Int)
  }
  private var state = State.header
  private var header: [UInt8] = []
  private var frame: [UInt8] = []
  private let path: String
  private let budget: Int
  /// The frames to keep; nil keeps all.
  private let wanted: Set<Int>?

  private(set) var width = 0
  private(set) var height = 0
  /// Frames seen.
  private(set) var count = 0
  /// The frames kept, each `[H, W, 3]`, with their numbers.
  private(set) var frames: [(index: Int, pixels: [UInt8])] = []
  /// Whether frames were let go because they did not fit.
  private(set) var isOverBudget = false

  /// A frame larger than this is refused: 2²⁷ pixels.
  private static let mostPixels = PNGImage.mostPixels

  init(path: String, budget: Int, wanted: Set<Int>? = nil) { (self.path, self.budget, self.wanted) = (path, budget, wanted) }

  /// Whether the stream ended between two pictures.
  var isComplete: Bool { if case .header = state { header.isEmpty } else { false } }
  private var isKept: Bool { wanted.map { $0.contains(count) } ?? !isOverBudget }

  mutating func consume(_ bytes: ArraySlice<UInt8>) throws(FileError) {
    var rest = bytes
    while !rest.isEmpty {
      switch state {
      case .header:
        header.append(rest.removeFirst())
        if let (width, height) = try size() {
          if count > 0 && (width, height) != (self.width, self.height) { throw FileError.bad("the frame size changes from \(self.width) × \(self.height) to \(width) × \(height) at frame \(count)", path, mend: "re-encode the video") }
          (self.width, self.height) = (width, height)
          header = []
          frame = []
          let byteCount = 3 * width * height
          if wanted == nil, !isOverBudget, byteCount * (frames.count + 1) > budget {
            isOverBudget = true
            frames = []
          }
          if isKept { frame.reserveCapacity(byteCount) }
          state = .pixels(missing: byteCount)
        }
      case .pixels(let missing):
        let part = rest.prefix(missing)
        if isKept { frame += part }
        rest = rest.dropFirst(part.count)
        state = .pixels(missing: missing - part.count)
        if missing == part.count {
          if isKept { frames.append((count, frame)) }
          frame = []
          count += 1
          state = .header
        }
      }
    }
  }

  /// Width and height once `P6 W H 255` and the one space after it are there.
  private func size() throws(FileError) -> (Int, Int)? {
    let broken = FileError.bad("FFmpeg sent something that is not a picture", path, mend: "check that the file is a video")
    if header.count > 64 { throw broken }
    guard header.last == 0x0a || header.last == 0x20 else { return nil }
    let words = header.split { $0 == 0x0a || $0 == 0x20 }.map { String(decoding: $0, as: UTF8.self) }
    if words.first != "P6" { throw broken }
    guard words.count == 4 else { return nil }
    guard let width = Int(words[1]), let height = Int(words[2]), words[3] == "255", width > 0, height > 0, width <= 1 << 20, height <= 1 << 20 else { throw broken }
    if width * height > Self.mostPixels { throw FileError.bad("frames of \(width) × \(height) pixels are too large", path, mend: "scale the video down") }
    return (width, height)
  }
}
