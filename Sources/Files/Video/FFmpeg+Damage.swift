/// FFmpeg's messages about a damaged video, of which it shows as much as it can.
extension FFmpeg.Log {
  /// The first error message of the demuxer or of the decoder of the pictures; nil if there is
  /// none. A decoder that conceals what it cannot read reports it at any level ("concealing",
  /// "corrupt decoded frame"). Everything else that is wrong is an error.
  var damage: String? {
    let others = otherCodecs
    let mayStartAnywhere =
      inputFormat.map { format in
        Self.headless.contains { format.split(separator: ",").contains($0) }
      } ?? false
    var isStarted = false
    for line in lines {
      if line.hasPrefix("[info] Output #") { isStarted = true }
      let (component, level, text) = Self.parts(line)
      if component.map({ others.contains($0) }) ?? false { continue }
      let isError = ["error", "fatal", "panic"].contains(level)
      // A line without a component may contain the file's name or title.
      let signs = component == nil ? (level == "warning" ? Self.frameSigns : []) : Self.signs
      if !isError && !signs.contains(where: { text.contains($0) })
        || Self.harmless.contains(where: { text.hasPrefix($0) })
      {
        continue
      }
      if mayStartAnywhere && !isStarted && Self.atTheStart.contains(where: { text.contains($0) }) {
        continue
      }
      return String(text)
    }
    return nil
  }

  /// Codecs of sound, subtitles and data, which FFmpeg examines when it opens a file.
  private var otherCodecs: Set<Substring> {
    var codecs: Set<Substring> = []
    for line in lines where line.hasPrefix("[info]   Stream #0:") {
      for kind in [": Audio: ", ": Subtitle: ", ": Data: ", ": Attachment: "] {
        if let range = line.firstRange(of: kind) {
          codecs.insert(line[range.upperBound...].prefix { $0 != " " && $0 != "," })
        }
      }
    }
    return codecs
  }
  /// `[h264 @ 0x55d0] [error] text`, or without a component.
  private static func parts(_ line: String) -> (
    component: Substring?, level: Substring, text: Substring
  ) {
    var rest = line[...]
    var component: Substring?
    if rest.first == "[", let address = rest.firstRange(of: " @ 0x"),
      let end = rest[address.upperBound...].firstRange(of: "] ")
    {
      component = rest[..<address.lowerBound].dropFirst()
      rest = rest[end.upperBound...]
    }
    guard rest.first == "[", let end = rest.firstRange(of: "] ") else {
      return (component, "", rest)
    }
    return (component, rest[..<end.lowerBound].dropFirst(), rest[end.upperBound...])
  }

  private static let signs = ["concealing", "orrupt", "damaged"]
  private static let frameSigns = [
    ": corrupt decoded frame in stream", ": corrupt input packet in stream",
  ]
  /// A message about sound files: a reference is returned that an edit list or an open group of
  /// pictures left before the start.
  private static let harmless = ["mmco: unref short failure", "co located POCs unavailable"]
  /// Formats without a header, which may begin between two key frames. What comes before the first
  /// key frame cannot be decoded and is not shown.
  private static let headless: Set<Substring> = [
    "mpegts", "mpeg", "mpegvideo", "h264", "hevc", "m4v", "dts",
  ]
  private static let atTheStart = [
    "non-existing PPS", "non-existing SPS", "decode_slice_header error", "no frame!",
    "PPS id out of range", "SPS id out of range", "Could not find ref with POC",
    "Invalid frame dimensions 0x0", "number of reference frames", "Error parsing NAL unit",
    "VPS 0 does not exist", "SPS 0 does not exist",
  ]
}
