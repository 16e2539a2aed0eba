public import Files

/// A self-contained page: headings, paragraphs, tables, charts, pictures inside the file.
public struct HTML: Sendable {
  private var body = ""
  let title: String
  public init(_ title: String) { self.title = title }

  public mutating func heading(_ text: String) { body += "<h2>\(Self.escape(text))</h2>\n" }
  public mutating func paragraph(_ text: String) { body += "<p>\(Self.escape(text))</p>\n" }
  public mutating func preformatted(_ text: String) { body += "<pre>\(Self.escape(text))</pre>\n" }
  public mutating func list(_ items: [String]) { body += "<ol>" + items.map { "<li>\(Self.escape($0))</li>" }.joined() + "</ol>\n" }
  public mutating func table(_ header: [String], _ rows: [[String]]) {
    body += "<table><tr>" + header.map { "<th>\(Self.escape($0))</th>" }.joined() + "</tr>\n"
    for row in rows { body += "<tr>" + row.map { "<td>\(Self.escape($0))</td>" }.joined() + "</tr>\n" }
    body += "</table>\n"
  }
  public mutating func charts(_ curves: [Curve]) { body += "<div>" + curves.map { $0.svg() }.joined(separator: "\n") + "</div>\n" }
  public mutating func picture(_ image: PNGImage, _ caption: String) {
    body += "<figure><img alt=\"\(Self.escape(caption))\" src=\"data:image/png;base64,\(Self.base64(image.encoded()))\"><figcaption>\(Self.escape(caption))</figcaption></figure>\n"
  }
  public func write(to path: String) throws(FileError) {
    let style = "body{font:15px/1.45 sans-serif;margin:2em auto;max-width:70em;padding:0 1em}table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.25em .6em;text-align:right}td:first-child,th:first-child{text-align:left}img{max-width:100%;image-rendering:pixelated}figcaption{color:#555}"
    try OutputFile.write("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>\(Self.escape(title))</title><style>\(style)</style></head><body><h1>\(Self.escape(title))</h1>\n\(body)</body></html>\n", to: path)
  }

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
  private static func base64(_ bytes: [UInt8]) -> String {
    let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    var out: [UInt8] = []
    out.reserveCapacity(bytes.count * 4 / 3 + 4)
    for i in stride(from: 0, to: bytes.count, by: 3) {
      let n = min(3, bytes.count - i), v = UInt32(bytes[i]) << 16 | (n > 1 ? UInt32(bytes[i + 1]) << 8 : 0) | (n > 2 ? UInt32(bytes[i + 2]) : 0)
      for k in 0..<4 { out.append(k <= n ? letters[Int(v >> (18 - 6 * UInt32(k)) & 63)] : UInt8(ascii: "=")) }
    }
    return String(decoding: out, as: UTF8.self)
  }
}
