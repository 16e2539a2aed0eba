import TestSupport
import Testing

@testable import Files

/// Pairs come in order, with what is known of those that follow; an error comes in its place.
@Suite struct PairQueueTests {
  let folder = TemporaryFolder()

  private func read(_ queue: inout PairQueue) throws -> [String] {
    var found: [String] = []
    while let item = try queue.next() {
      switch item {
      case .broken: found.append("broken")
      case .pair(let pair):
        let next = queue.upcoming.map { " then \($0.path.split(separator: "/").last!)" } ?? ""
        let again = queue.returns(pair).map { $0 ? " again" : " last" } ?? ""
        found.append("\(pair.video) \(pair.prompt)\(next)\(again)")
      }
    }
    return found
  }
  private func line(_ video: String, _ prompt: String) -> String {
    "{\"video\":\"\(video)\",\"prompt\":\"\(prompt)\"}\n"
  }

  @Test func lookingAhead() throws {
    let text = line("a", "1") + "nonsense\n" + line("b", "2") + "\n" + line("a", "3")
    let path = try folder.put(Array(text.utf8), "m.jsonl")
    var queue = try PairQueue([("x", "0")], manifest: path)
    #expect(
      try read(&queue)
        == ["x 0 then a last", "a 1 again", "broken", "b 2 then a last", "a 3 last"])
    #expect(try queue.next() == nil)
    var given = try PairQueue([("x", "0"), ("x", "1")], manifest: nil)
    #expect(try read(&given) == ["x 0 then x again", "x 1 last"])
    var none = try PairQueue([], manifest: nil)
    #expect(try read(&none) == [])
  }

  /// What ends a manifest early does not take away the pairs in front of it.
  @Test func errorsComeInTheirPlace() throws {
    let bytes = Array(line("a", "1").utf8) + [0xff, 0x0a] + Array(line("b", "2").utf8)
    var queue = try PairQueue([], manifest: try folder.put(bytes, "m.jsonl"))
    #expect(try read(&queue) == ["a 1 last", "broken", "b 2 last"])
    let cut = Array((line("a", "1") + "nonsense").utf8)
    var early = try PairQueue([], manifest: try folder.put(cut, "cut.jsonl"))
    #expect(try early.next() != nil)
    #expect(early.upcoming == nil)
    expectError(.badData, "cut.jsonl, line 2") { _ = try early.next() }
    expectError(.missingInput, "none.jsonl") {
      _ = try PairQueue([], manifest: folder("none.jsonl"))
    }
  }
}
