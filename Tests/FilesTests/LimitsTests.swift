import Files
import Testing

/// Ranges of keys and options: what they take, what they say, and the nearest value they offer.
@Suite struct LimitsTests {
  private func nearest(_ limits: Limits, _ value: JSONValue) -> String? {
    limits.breach(value)?.nearest
  }

  @Test func wholeNumbers() throws {
    let limits = Limits.whole(1...10)
    for i in [1, 5, 10] { #expect(limits.breach(.integer(i)) == nil) }
    for (value, near) in [
      (JSONValue.integer(0), "1"), (.integer(.min), "1"), (.integer(.max), "10"),
      (.number(1e308), "10"), (.number(-1e308), "1"), (.number(2.6), "3"),
    ] {
      #expect(nearest(limits, value) == near)
    }
    for value in [JSONValue.number(.nan), .string("word"), .bool(true), .null, .array([])] {
      #expect(limits.breach(value) != nil && nearest(limits, value) == nil)
    }
    #expect(try limits.whole("7") == 7)
    #expect(try limits.whole("7.0") == 7)
    for text in ["", " 7", "7x", "0", "nan", "1e308", "99999999999999999999"] {
      #expect(throws: Limits.Breach.self) { try limits.whole(text) }
    }
    #expect(
      "\(limits)" == "whole number, 1 to 10" && "\(Limits.whole(0...))" == "whole number, 0 or more"
    )
    #expect("\(Limits.whole(0...9, zero: "never"))" == "whole number, 0 to 9; 0: never")
  }
  @Test func realNumbers() throws {
    let closed = Limits.real(0...1)
    let above = Limits.real(above: 0, to: 1)
    let below = Limits.real(0..<1)
    for x in [0.0, 0.5, 1] { #expect(closed.breach(.number(x)) == nil) }
    #expect(closed.breach(.integer(1)) == nil)
    #expect(
      nearest(closed, .number(-1)) == "0" && nearest(closed, .number(.infinity)) == "1"
        && closed.breach(.number(.nan)) != nil)
    #expect(
      above.breach(.number(0)) != nil && nearest(above, .number(0)) == nil
        && nearest(above, .number(2)) == "1" && above.breach(.number(1e-300)) == nil)
    #expect(
      below.breach(.number(1)) != nil && nearest(below, .number(1)) == nil
        && nearest(below, .number(-1)) == "0" && below.breach(.number(0.999)) == nil)
    #expect(Limits.real(0...1, takesInfinity: true).breach(.number(.infinity)) == nil)
    #expect(Limits.real(0...1, takesInfinity: true).breach(.number(-.infinity)) != nil)
    #expect(try Limits.real(0...1, takesInfinity: true).real("inf") == .infinity)
    #expect("\(above)" == "number, above 0, up to 1" && "\(below)" == "number, 0 or more, below 1")
  }
  @Test func words() throws {
    let limits = Limits.choice(["direct", "grpo"])
    #expect(
      limits.breach(.string("grpo")) == nil && nearest(limits, .string("gpro")) == "grpo"
        && nearest(limits, .string("")) == nil)
    #expect("\(limits.breach(.string("gpro"))!)" == "give direct or grpo (nearest: grpo)")
    #expect(Limits.path.breach(.string("")) != nil && Limits.text.breach(.string("")) == nil)
  }
  @Test func lists() {
    let limits = Limits.list(of: .whole(0...9), count: 2...2)
    #expect(
      limits.breach(.array([1, 2])) == nil && limits.breach(.array([1])) != nil
        && limits.breach(.array([1, 10])) != nil && limits.breach(.integer(1)) != nil)
  }
}
