import Files
public import TensorRuntime

/// A card for each prompt: its clips as loops, and what was judged right or wrong about them.
public struct ClipCard: Sendable {
  /// The judgement of one dimension, before and after, each in [0, 1].
  public struct Mark: Sendable {
    let name: String, before, after: Double
    public init(_ name: String, before: Double, after: Double) {
      (self.name, self.before, self.after) = (name, before, after)
    }

    var html: String {
      func sign(_ x: Double) -> String { x >= 1 ? "✓" : x <= 0 ? "✗" : "½" }
      let changed = before != after
      let kind = after > before ? "good" : after < before ? "bad" : "same"
      return
        """
        <span class="\(kind)">\(HTML.escape(name)) \
        \(changed ? "\(sign(before)) → \(sign(after))" : sign(after))</span>
        """
    }
  }
  let prompt: String, clips: [(caption: String, clip: Tensor)], marks: [Mark]
  /// Clips `[T, 3, H, W]` in [0, 1], each with a label.
  public init(prompt: String, clips: [(caption: String, clip: Tensor)], marks: [Mark]) {
    (self.prompt, self.clips, self.marks) = (prompt, clips, marks)
  }

  var html: String {
    let loops = clips.map { caption, clip in
      let frames = clip.shape[0]
      let picture = HTML.base64(ClipSheet.strip(clip).encoded())
      let style =
        "width:\(frames * 112)px;animation-timing-function:steps(\(max(frames, 2)),jump-none)"
      return
        """
        <figure><div class="loop"><img alt="\(HTML.escape("\(prompt), \(caption)"))" \
        style="\(style)" \
        src="data:image/png;base64,\(picture)"></div><figcaption>\(HTML.escape(caption))</figcaption></figure>
        """
    }
    return
      """
      <div class="card"><p><b>\(HTML.escape(prompt))</b></p><div \
      class="clips">\(loops.joined())</div><div \
      class="marks">\(marks.map(\.html).joined(separator: " &nbsp; "))</div></div>
      """
  }
}

extension HTML {
  public mutating func cards(_ cards: [ClipCard]) {
    body += "<div class=\"cards\">\(cards.map(\.html).joined(separator: "\n"))</div>\n"
  }
}
