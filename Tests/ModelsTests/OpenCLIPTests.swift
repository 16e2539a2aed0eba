import Layers
import Models
import TensorRuntime
import TestSupport
import Testing

/// What the golden cases of OpenCLIP leave out.
@Suite struct OpenCLIPTests {
  /// "th" is merge 1, "th</w>" cannot be made; "the</w>" is merge 2.
  private let merges = ["a n", "t h", "th e</w>", "an d</w>"]

  @Test func mergesFollowTheirRank() throws {
    let tokenizer = try BytePairTokenizer(merges: merges)
    // 512 + r for a merge, then start and end.
    #expect(tokenizer.start == 516 && tokenizer.end == 517)
    #expect(tokenizer.encode("THE  and", length: 6) == [516, 514, 515, 517, 0, 0])
    // a: byte 97 is the 65th printable one; 256 more at the end of a piece.
    #expect(tokenizer.encode("a", length: 3) == [516, 256 + 64, 517])
    #expect(tokenizer.encode("the the the", length: 4) == [516, 514, 514, 517])
    #expect(try BytePairTokenizer(merges: ["#version: 0.2"] + merges).start == 516)
  }
  @Test func faultsOfMergesAreNamed() {
    typealias Fault = BytePairTokenizer.MergeError
    #expect(throws: Fault.badLine(2)) { try BytePairTokenizer(merges: ["a b", "abc d"]) }
    #expect(throws: Fault.badLine(1)) { try BytePairTokenizer(merges: ["ab"]) }
    #expect(throws: Fault.badLine(3)) {
      try BytePairTokenizer(merges: ["#version: 0.2", "a b", "a b c"])
    }
    #expect(throws: Fault.repeated(4)) {
      try BytePairTokenizer(merges: ["a b", "b c", "a bc", "ab c"])
    }
  }
  @Test func truncationIsNamed() throws {
    let tokenizer = try BytePairTokenizer(merges: merges)
    #expect(tokenizer.truncation(of: "the the", length: 4) == nil)
    #expect(
      tokenizer.truncation(of: "the the the", length: 4)
        == "the prompt has 5 tokens, the model reads the first 4")
  }
  @Test(arguments: [
    // A semicolon may be missing where HTML allows it; the longest name counts.
    ("&ampx &notit; &notin; &hellipx", "&x ¬it; ∉ &hellipx"),
    // Names in capitals, unless HTML reads a part of them.
    ("P&EACUTE;REZ STRA&SZLIG;E &GTDOT;", "pérez strasse >dot;"),
    // Not after a `<`, until the second step.
    ("<b> &EACUTE;", "<b> &eacute;"), ("&#x1F600;&#128;&#0;&#xFFFE;&#xD800;", "😀€\u{FFFD}\u{FFFD}"),
    ("&amp;amp;amp;", "&"), ("\u{1B}[1;31mred\u{1B}[0m", "red"),
    ("ΟΔΥΣΣΕΥΣ. ΑΣ' Σ İ", "οδυσσευς. ας' σ i\u{307}"),
    ("\u{85}\u{92}s ﬅ ｶﾞ\u{3000}e\u{301}", "…'s ſt \u{30AC} é"),
  ]) func textIsCleaned(_ text: String, _ cleaned: String) {
    #expect(Array(BytePairTokenizer.cleaned(text).unicodeScalars) == Array(cleaned.unicodeScalars))
  }

  private var small: OpenCLIPTextConfig {
    var c = OpenCLIPTextConfig()
    (c.width, c.heads, c.layers, c.vocabSize, c.contextLength) = (8, 2, 3, 518, 6)
    return c
  }
  /// A row depends on the ids up to its own alone, and rows of a batch on themselves.
  @Test func statesSeeWhatIsBeforeThem() throws {
    let work = Workspace()
    let encoder = try OpenCLIPTextEncoder(small, from: .random(seed: 1))
    #expect(encoder.blocks.count == 2)
    let one = encoder([[1, 2, 3, 4, 5, 6]], in: work).floats
    let two = encoder([[7, 8, 9, 7, 8, 9], [1, 2, 3, 9, 9, 9]], in: work).floats
    #expect(Array(two[48..<72]) == Array(one[..<24]))
    #expect(zip(two[72...], one[24...]).allSatisfy { $0 != $1 })
  }
  /// Weights in the types that they are stored in are read as their values.
  @Test(arguments: [ElementType.bf16, .f16]) func storedWeightsAreRead(_ type: ElementType) throws {
    let work = Workspace()
    let stored = ParameterSource { name, shape, initial, _ in
      let work = Workspace()
      return work.converted(
        try ParameterSource.random(seed: 3)(name, shape, initial).value, to: type)
    }
    let narrow = try OpenCLIPTextEncoder(small, from: stored)
    var wide = narrow
    wide.forEachParameter { $0.value = work.widened($0.value) }
    let rows: [[Int32]] = [[5, 6, 7, 8, 9, 10]]
    let states = narrow(rows, in: work)
    #expect(states.type == .f32 && states.floats == wide(rows, in: work).floats)
    #expect(
      states.floats
        != (try OpenCLIPTextEncoder(small, from: .random(seed: 3)))(rows, in: work).floats)
  }
  @Test func promptsBecomeStates() throws {
    let work = Workspace()
    let tokenizer = try BytePairTokenizer(merges: merges)
    let encoder = try OpenCLIPTextEncoder(small, from: .random(seed: 2))
    let prompts = try OpenCLIPPromptEncoder(encoder: encoder, tokenizer: tokenizer)
    let prompt = prompts(["the", ""], in: work)
    #expect(prompt.states.shape == Shape(2, 6, 8) && prompt.counts == [6, 6])
    let expected = encoder([[516, 514, 517, 0, 0, 0], [516, 517, 0, 0, 0, 0]], in: work)
    #expect(prompt.states.floats == expected.floats)
    #expect(prompts.truncation(of: "the the the the the") != nil)

    var c = small
    c.vocabSize = 517
    let narrow = try OpenCLIPTextEncoder(c, from: .random(seed: 2))
    let fault = #expect(throws: OpenCLIPPromptEncoder.VocabularyMismatch.self) {
      try OpenCLIPPromptEncoder(encoder: narrow, tokenizer: tokenizer)
    }
    #expect(fault?.ids == 518 && fault?.rows == 517)
  }
  @Test func faultsOfSizesAreNamed() {
    func problem(_ change: (inout OpenCLIPTextConfig) -> Void) -> String? {
      var c = OpenCLIPTextConfig()
      change(&c)
      return c.problem
    }
    #expect(problem { _ in } == nil)
    #expect(problem { $0.heads = 15 } == "heads: 15 does not divide width 1024")
    #expect(problem { $0.layers = 1 } == "layers: the last but one of 1 is none")
    #expect(problem { ($0.layers, $0.layer) = (1, .last) } == nil)
    #expect(problem { $0.vocabSize = 0 } == "vocab_size: 0 is out of range")
  }
}
