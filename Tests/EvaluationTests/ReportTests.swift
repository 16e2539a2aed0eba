import Files
import FoundationEssentials
import TestSupport
import Testing

@testable import Evaluation

/// What pages and charts show is what was measured.
@Suite struct ReportTests {
  /// RFC 4648, section 10.
  @Test(arguments: [
    ("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg=="),
    ("fooba", "Zm9vYmE="), ("foobar", "Zm9vYmFy"),
  ])
  func base64(_ text: String, _ code: String) { #expect(HTML.base64(Array(text.utf8)) == code) }
  @Test func base64OfEveryByte() {
    let bytes = (0..<256).map { UInt8($0) }
    #expect(Data(base64Encoded: HTML.base64(bytes)).map { Array($0) } == bytes)
  }
  @Test func whatIsMarkupIsEscaped() {
    #expect(HTML.escape("a<b> & \"c\"é") == "a&lt;b&gt; &amp; &quot;c&quot;é")
    var page = HTML("t")
    page.heading("<h>")
    page.table(["<a>"], [["<b>", "2"]])
    page.list(["<c>"])
    #expect(
      page.body == """
        <h2>&lt;h&gt;</h2>
        <div class="wide"><table><tr><th>&lt;a&gt;</th></tr>
        <tr><td>&lt;b&gt;</td><td>2</td></tr>
        </table></div>
        <ol><li>&lt;c&gt;</li></ol>

        """)
  }

  /// Points of 1, 3, 2 in a frame from (34, 24) to (412, 134): the largest on top.
  @Test func curve() {
    let svg = Curve("a<b", [1, 3, 2]).svg(width: 420, height: 150)
    #expect(svg.contains(#"d="M34.0 134.0 L223.0 24.0 L412.0 79.0""#), "\(svg)")
    // The running mean over a neighbour on each side: 2, 2, 2.5.
    #expect(svg.contains(#"d="M34.0 79.0 L223.0 79.0 L412.0 51.5""#))
    #expect(svg.contains(">a&lt;b</text>") && svg.contains(">3.0</text>"))
    // Gaps are left out; one value is no curve.
    let gap = Curve("c", [1, .nan, 3]).svg(width: 420, height: 150)
    #expect(gap.contains(#"d="M34.0 134.0 L412.0 24.0""#))
    #expect(Curve("d", [1]).svg().isEmpty && Curve("e", [.nan, .nan]).svg().isEmpty)
  }

  /// From .4, below the least value, to 1 over 440 units: .5, .75 and .6 lie at 83.3, 266.7, 156.7.
  @Test func changes() {
    let chart = ChangeChart([
      .init("semantic", before: 0.5, after: 0.75, control: 0.6, note: "+.25 & more"),
      .init("quality", before: 1.2, after: 0.9, control: nil, note: ""),
    ]).svg()
    let circles = chart.matches(of: #/<circle cx="([\d.]+)" cy="([\d.]+)" r="6" fill="(#\w+)"/#).map
    {
      "\($0.1) \($0.2) \($0.3)"
    }
    // Before is hollow, after is full; values above 1 stop at the edge.
    #expect(
      circles == ["83.3 32.0 #fff", "266.7 32.0 #06c", "450.0 80.0 #fff", "376.7 80.0 #06c"])
    #expect(chart.matches(of: #/<path d="M([\d.]+) /#).map { String($0.1) } == ["156.7"])
    #expect(chart.contains("+.25 &amp; more") && chart.contains("◇ control"))
    #expect(
      !ChangeChart([.init("a", before: 1, after: 1, control: nil, note: "")]).svg().contains("◇"))
  }

  @Test(arguments: [
    (0.0, 1.0, "good", "✗ → ✓"), (1, 0, "bad", "✓ → ✗"), (1, 1, "same", "✓"),
    (0.5, 1, "good", "½ → ✓"), (0.5, 0.5, "same", "½"),
  ])
  func marks(_ before: Double, _ after: Double, _ kind: String, _ text: String) {
    let mark = ClipCard.Mark("count", before: before, after: after)
    #expect(mark.html == "<span class=\"\(kind)\">count \(text)</span>")
  }

  @Test func runReport() throws {
    let folder = try ScratchFolder()
    for (name, text) in [
      (
        "metrics.jsonl",
        #"{"step":1,"loss":4,"lr":0.5}"# + "\n" + #"{"step":2,"loss":2.5,"lr":0.25}"# + "\n"
      ),
      ("config.json", "{\"a\": \"<b>\"}"), ("environment.json", "{\"cpu\": 1}"),
      ("log.txt", "step 1\nwarning: reward & drift\n"),
    ] { try OutputFile.write(text, to: folder(name)) }
    try RunReport.write(run: folder.path)
    let page = try TextFile.read(folder("report.html"))
    #expect(page.contains("<p>2 steps."))
    #expect(page.contains("<tr><td>loss</td><td>4.0</td><td>2.5</td></tr>"))
    #expect(page.contains("<tr><td>lr</td><td>0.5</td><td>0.25</td></tr>"))
    #expect(!page.contains("<td>step</td>"))
    #expect(page.contains("<p>warning: reward &amp; drift</p>") && !page.contains("<p>step 1"))
    #expect(page.contains("&lt;b&gt;") && page.contains("&quot;cpu&quot;: 1"))
    // Two curves: loss falls from top to bottom.
    #expect(page.matches(of: #/d="M34\.0 24\.0 L412\.0 134\.0"/#).count == 2)
  }
}
