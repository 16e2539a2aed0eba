import Files
import Models
import Testing

@Suite struct EmbeddedTokenizerTests {
  /// The merges inside the program make CLIP's vocabulary.
  @Test func embeddedMergesAreCLIPs() throws {
    let tokenizer = try BytePairTokenizer(
      merges: try TextFile.lines("embedded:openclip/merges.txt"))
    #expect(tokenizer.start == 49406 && tokenizer.end == 49407)
    #expect(tokenizer.encode("") == [49406, 49407] + Array(repeating: 0, count: 75))
    // Published by OpenAI with CLIP: "a photo of a cat".
    #expect(
      tokenizer.encode("a photo of a cat", length: 8)
        == [49406, 320, 1125, 539, 320, 2368, 49407, 0])
  }
}
