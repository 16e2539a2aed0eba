import FoundationEssentials
import Testing

@testable import Files

@Suite struct JSONTests {
  let folder = TemporaryFolder()

  @Test func linesKeepOrderAndPrecision() throws {
    let value: JSONValue = [
      "z": 1, "a": 0.1, "nan": .number(.nan), "inf": .number(-.infinity), "t": "a\"\\\n\u{1}é😀",
      "l": [true, nil, 1e300, .number(.leastNonzeroMagnitude)],
    ]
    #expect(
      value.line
        == #"{"z":1,"a":0.1,"nan":null,"inf":null,"t":"a\"\\\n\u0001é😀","l":[true,null,1e+300,5e-324]}"#
    )
    let back = try JSONValue(parsing: value.line, name: "t")
    #expect(back.line == value.line)
    #expect(try JSONValue(parsing: value.pretty, name: "t") == back)
    #expect(JSONValue(Float(0.1)).number == Double(Float(0.1)))
  }
  @Test func parsesWhatTheStandardAllows() throws {
    let v = try JSONValue(
      parsing: " {\"a\": [1, -0, 2.5e3, 18446744073709551615], \"b\\u00e9\\ud83d\\ude00\": null}\n",
      name: "t")
    #expect(v["a"]?.array?.map(\.number) == [1, 0, 2500, 18_446_744_073_709_551_616])
    #expect(v.object?.keys == ["a", "bé😀"])
  }
  @Test(arguments: [
    "", "{", "{\"a\":1,}", "[1,]", "[1 2]", "{\"a\" 1}", "{a:1}", "01", "1.", ".5", "+1", "1e",
    "NaN", "Infinity", "nul", "\"a", "\"\\x\"",
    "\"\\ud800\"", "\"\\ud800\\u0041\"", "\"\n\"",
    "1 2", "{\"a\":1,\"a\":2}", "1e999", "[1]x", "\"\\u12\"",
  ])
  func refuses(_ text: String) {
    expectError(.badData, "t, byte") { _ = try JSONValue(parsing: text, name: "t") }
  }
  @Test func refusesDeepNestingAndBadUTF8() {
    expectError(.badData, "deeper") {
      _ = try JSONValue(parsing: String(repeating: "[", count: 100_000), name: "t")
    }
    expectError(.badData, "UTF-8") { _ = try JSONValue(parsing: [0x22, 0xff, 0x22], name: "t") }
  }
  @Test func codesAsAnyCodable() throws {
    let value: JSONValue = ["a": [1, 2.5, "x", nil, true], "b": ["c": 3]]
    let data = try JSONEncoder().encode(value)
    #expect(try JSONDecoder().decode(JSONValue.self, from: data) == value)
    struct Config: Decodable { let a: Int }
    #expect(
      try JSONValue(parsing: "{\"a\": 3}", name: "t").decoded(as: Config.self, name: "t").a == 3)
    expectError(.badData, "'a'") {
      _ = try JSONValue(parsing: "{\"a\": \"x\"}", name: "t").decoded(as: Config.self, name: "t")
    }
    expectError(.badData, "no field 'a'") {
      _ = try JSONValue(parsing: "{}", name: "t").decoded(as: Config.self, name: "t")
    }
  }
  @Test func linesAreAppendedAndRead() throws {
    let path = try folder.put("{\"step\":1}\n{\"st", "m.jsonl")
    let writer = try JSONLinesWriter(path)
    try writer.append(["step": 2])
    #expect(try MappedFile(path).region.string == "{\"step\":1}\n{\"st\n{\"step\":2}\n")
    expectError(.badData, "line 2") { _ = try JSONLines.read(path) }
    let fresh = try JSONLinesWriter(folder("n.jsonl"))
    try fresh.append(["a": 1])
    try fresh.append(["a": 2])
    #expect(try JSONLines.read(folder("n.jsonl")).map(\.line) == [1, 2])
    expectError(.cannotCreate) { _ = try JSONLinesWriter(folder("no/m.jsonl")) }
  }
}
