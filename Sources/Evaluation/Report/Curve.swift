/// A line chart as SVG text.
public struct Curve: Sendable {
  public let title: String, values: [Double]
  public init(_ title: String, _ values: [Double]) { (self.title, self.values) = (title, values) }

  /// `width` x `height` pixels; thin line = values, thick line = their running mean over a
  /// twentieth of the length.
  public func svg(width: Int = 420, height: Int = 150) -> String {
    let finite = values.filter(\.isFinite)
    guard let low = finite.min(), let high = finite.max(), values.count > 1 else { return "" }
    let span = high > low ? high - low : 1
    let margin = 34.0
    let w = Double(width) - margin - 8
    let h = Double(height) - 40
    func x(_ i: Int) -> Double { margin + w * Double(i) / Double(values.count - 1) }
    func y(_ v: Double) -> Double { 24 + h * (1 - (v - low) / span) }
    func path(_ points: [Double]) -> String {
      points.enumerated().filter { $1.isFinite }.map {
        "\($0 == 0 ? "M" : "L")\(round1(x($0))) \(round1(y($1)))"
      }.joined(separator: " ")
    }
    let window = max(1, values.count / 20)
    let smooth = values.indices.map { i in
      let part = values[max(0, i - window)...min(values.count - 1, i + window)].filter(\.isFinite)
      return part.isEmpty ? .nan : part.reduce(0, +) / Double(part.count)
    }
    return """
      <svg width="\(width)" height="\(height)" role="img" aria-label="\(HTML.escape(title))"><text \
      x="\(margin)" y="14" font-size="12">\(HTML.escape(title))</text>
      <text x="2" y="30" font-size="9">\(short(high))</text><text x="2" y="\(24 + h)" \
      font-size="9">\(short(low))</text>
      <path d="\(path(values))" fill="none" stroke="#9bb" stroke-width="0.7"/><path \
      d="\(path(smooth))" fill="none" stroke="#046" stroke-width="1.8"/>
      <text x="\(margin)" y="\(height - 4)" font-size="9">1</text><text x="\(Double(width) - 30)" \
      y="\(height - 4)" font-size="9">\(values.count)</text></svg>
      """
  }
  private func round1(_ v: Double) -> Double { (v * 10).rounded() / 10 }
  private func short(_ v: Double) -> String { "\((v * 1000).rounded() / 1000)" }
}
