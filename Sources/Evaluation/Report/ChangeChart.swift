/// Changes as SVG text: one row for each measure, with points on one axis up to 1.
public struct ChangeChart: Sendable {
  public struct Row: Sendable {
    let name: String, before, after: Double, control: Double?, note: String
    /// `note` stands at the right end, for example the difference with its interval.
    public init(_ name: String, before: Double, after: Double, control: Double?, note: String) {
      (self.name, self.before, self.after, self.control, self.note) = (
        name, before, after, control, note
      )
    }
  }
  let rows: [Row]
  public init(_ rows: [Row]) { self.rows = rows }

  // Lengths in units of the picture.
  private static let width = 460.0, margin = 10.0, rowHeight = 48.0
  private var bottom: Double { Self.rowHeight * Double(rows.count) }
  /// The left end of the axis: at least half a tenth below the smallest value, in tenths.
  private var floor: Double {
    let least = rows.flatMap { [$0.before, $0.after, $0.control ?? 1] }.min() ?? 0
    return min(max((least * 10 - 0.5).rounded(.down) / 10, 0), 0.9)
  }
  private func x(_ value: Double) -> Double {
    Self.margin + (Self.width - 2 * Self.margin) * (min(max(value, floor), 1) - floor) / (1 - floor)
  }
  private func at(_ v: Double) -> String { "\((v * 10).rounded() / 10)" }
  private func text(
    _ x: Double, _ y: Double, _ words: String, size: Int = 13, anchor: String = "start"
  ) -> String {
    """
    <text x="\(at(x))" y="\(at(y))" font-size="\(size)" \
    text-anchor="\(anchor)">\(HTML.escape(words))</text>
    """
  }

  public func svg() -> String {
    let legend =
      rows.contains { $0.control != nil } ? "○ before   ◇ control   ● after" : "○ before   ● after"
    return
      """
      <svg viewBox="0 0 \(at(Self.width)) \(at(bottom + 44))" style="width:100%;max-width:560px" \
      role="img" aria-label="what changed">
      """
        + axis + rows.enumerated().map { svg($1, top: Self.rowHeight * Double($0) + 14) }.joined()
        + text(0, bottom + 38, legend, size: 12) + "</svg>"
  }
  /// Five vertical lines with their values.
  private var axis: String {
    (0...4).map { tick in
      let v = floor + (1 - floor) * Double(tick) / 4
      return
        """
        <line x1="\(at(x(v)))" x2="\(at(x(v)))" y1="20" y2="\(at(bottom))" stroke="#ddd"/>
        """
          + text(
            x(v), bottom + 14, "\((v * 1000).rounded() / 1000)", size: 11,
            anchor: tick == 0 ? "start" : tick == 4 ? "end" : "middle")
    }.joined()
  }
  private func svg(_ r: Row, top: Double) -> String {
    let y = top + 18
    var out = text(0, top, r.name) + text(Self.width, top, r.note, anchor: "end")
    out +=
      """
      <line x1="\(at(x(r.before)))" x2="\(at(x(r.after)))" y1="\(at(y))" y2="\(at(y))" \
      stroke="#06c" stroke-width="3"/>
      """
    out +=
      """
      <circle cx="\(at(x(r.before)))" cy="\(at(y))" r="6" fill="#fff" stroke="#444" \
      stroke-width="2"/>
      """
    if let c = r.control {
      out +=
        """
        <path d="M\(at(x(c))) \(at(y - 7)) l6 7 -6 7 -6 -7z" fill="none" stroke="#a60" \
        stroke-width="2"/>
        """
    }
    return out + "<circle cx=\"\(at(x(r.after)))\" cy=\"\(at(y))\" r=\"6\" fill=\"#06c\"/>"
  }
}
