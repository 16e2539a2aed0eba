public import Files

/// A self-contained page: headings, paragraphs, tables, charts, and pictures inside the file.
public struct HTML: Sendable {
  var body = ""
  let title: String
  public init(_ title: String) { self.title = title }

  public mutating func heading(_ text: String) { body += "<h2>\(Self.escape(text))</h2>\n" }
  public mutating func paragraph(_ text: String) { body += "<p>\(Self.escape(text))</p>\n" }
  public mutating func preformatted(_ text: String) { body += "<pre>\(Self.escape(text))</pre>\n" }
  public mutating func list(_ items: [String]) {
    body += "<ol>" + items.map { "<li>\(Self.escape($0))</li>" }.joined() + "</ol>\n"
  }
  public mutating func table(_ header: [String], _ rows: [[String]]) {
    body +=
      "<div class=\"wide\"><table><tr>" + header.map { "<th>\(Self.escape($0))</th>" }.joined()
      + "</tr>\n"
    for row in rows {
      body += "<tr>" + row.map { "<td>\(Self.escape($0))</td>" }.joined() + "</tr>\n"
    }
    body += "</table></div>\n"
  }
  /// A drawing as SVG text.
  public mutating func drawing(_ svg: String) { body += "<div class=\"wide\">\(svg)</div>\n" }
  /// What follows is hidden until the reader opens it. In print it is shown.
  public mutating func beginDetails(_ summary: String) {
    body += "<details><summary>\(Self.escape(summary))</summary>\n"
  }
  public mutating func endDetails() { body += "</details>\n" }
  public mutating func charts(_ curves: [Curve]) {
    body += "<div>" + curves.map { $0.svg() }.joined(separator: "\n") + "</div>\n"
  }
  public mutating func picture(_ image: PNGImage, _ caption: String) {
    body +=
      """
      <figure><img alt="\(Self.escape(caption))"
        src="data:image/png;base64,\(Self.base64(image.encoded()))">
      <figcaption>\(Self.escape(caption))</figcaption></figure>

      """
  }
  public func write(to path: String) throws(FileError) {
    let head =
      """
      <meta charset="utf-8"><meta name="viewport" \
      content="width=device-width"><title>\(Self.escape(title))</title><style>\(Self.style)</style>
      """
    try OutputFile.write(
      """
      <!doctype html><html lang="en"><head>\(head)</head>
      <body><h1>\(Self.escape(title))</h1>
      \(body)</body></html>

      """, to: path)
  }
  /// Loops are strips of frames that a box shows one at a time. In print, and for readers who
  /// prefer no motion, the strip itself is shown.
  private static let style = """
    body{font:15px/1.45 sans-serif;margin:2em auto;max-width:70em;padding:0 1em}
    table{border-collapse:collapse;margin:1em 0}
    td,th{border:1px solid #ccc;padding:.25em .6em;text-align:right}
    td:first-child,th:first-child{text-align:left}
    img{max-width:100%;image-rendering:pixelated}
    figcaption{color:#555}
    .wide{overflow-x:auto}
    summary{cursor:pointer;font-weight:bold;margin:1em 0}
    .cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:12px}
    .card{border:1px solid #ccc;border-radius:6px;padding:8px;break-inside:avoid}
    .card p{margin:0 0 6px}
    .clips{display:flex;gap:10px;flex-wrap:wrap}
    .clips figure{margin:0}
    .loop{width:112px;height:112px;overflow:hidden}
    .loop img{height:112px;max-width:none;display:block;animation:play 1.4s infinite}
    @keyframes play{to{transform:translateX(calc(-100% + 112px))}}
    .good{color:#070;font-weight:bold}
    .bad{color:#a00;font-weight:bold}
    .same{color:#777}
    .marks{font-size:13px;margin-top:6px}
    h2{break-after:avoid}
    svg,table{break-inside:avoid}
    @media print{
    .loop{width:auto;height:auto}
    .loop img{width:100%!important;height:auto;animation:none}
    .cards{grid-template-columns:1fr 1fr}
    details::details-content{content-visibility:visible}
    }
    @media (prefers-reduced-motion){
    .loop{width:auto;height:auto}
    .loop img{width:100%!important;height:auto;animation:none}
    }
    """

  static func escape(_ s: String) -> String {
    var out = ""
    for c in s.unicodeScalars {
      switch c {
      case "&": out += "&amp;"
      case "<": out += "&lt;"
      case ">": out += "&gt;"
      case "\"": out += "&quot;"
      default: out.unicodeScalars.append(c)
      }
    }
    return out
  }
  static func base64(_ bytes: [UInt8]) -> String {
    let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count * 4 / 3 + 4)
    for i in stride(from: 0, to: bytes.count, by: 3) {
      let n = min(3, bytes.count - i)
      let v =
        UInt32(bytes[i]) << 16 | (n > 1 ? UInt32(bytes[i + 1]) << 8 : 0)
        | (n > 2 ? UInt32(bytes[i + 2]) : 0)
      for k in 0..<4 {
        out.append(k <= n ? letters[Int(v >> (18 - 6 * UInt32(k)) & 63)] : UInt8(ascii: "="))
      }
    }
    return String(decoding: out, as: UTF8.self)
  }
}
