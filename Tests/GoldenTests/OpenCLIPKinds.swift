import Files
import Models
import TensorRuntime
import TestSupport
import Testing

extension GoldenTests {
  static let openCLIPKinds: [String: Evaluator] = [
    "openclip.bpe": { g in try bytePairs(g) },
    "openclip.text": { g in
      let work = Workspace()
      let encoder = try OpenCLIPTextEncoder(try g.decode(), from: g.source())
      return ["output.text_embeds": encoder(try idRows(g), in: work)]
    },
  ]

  private static func bytePairs(_ g: GoldenCase) throws -> [String: Tensor] {
    let lines = try TextFile.lines("\(g.path)/\(g.string("merges")!)")
    let tokenizer = try BytePairTokenizer(merges: lines)
    #expect(tokenizer.start == g.integer("start") && tokenizer.end == g.integer("end"))
    let strings = try JSONValue(contentsOf: "\(g.path)/case.json")["strings"]
    let texts = strings?["texts"]?.array?.map { $0.string! } ?? []
    for (text, cleaned) in zip(texts, strings?["cleaned"]?.array ?? []) {
      // As bytes: String equality is canonical equivalence.
      #expect(
        Array(BytePairTokenizer.cleaned(text).utf8) == Array(cleaned.string!.utf8), "\(text)")
    }
    let length = g.integer("context_length")
    let ids = texts.flatMap { tokenizer.encode($0, length: length) }
    return ["output.input_ids": Tensor(ids, Shape(texts.count, length))]
  }

  private static func idRows(_ g: GoldenCase) throws -> [[Int32]] {
    let ids = try g.input("input_ids")
    let (n, all) = (ids.shape[1], ids.integers.map { Int32($0) })
    return (0..<ids.shape[0]).map { Array(all[$0 * n..<($0 + 1) * n]) }
  }
}
