import Files
import FoundationEssentials
import TestSupport
import Testing

/// `Documentation/options.md` is made from what the program declares. After a change:
/// PISCES_WRITE_TABLES=1 tools/test --filter OptionTableTests
@Suite struct OptionTableTests {
  private static let page = "\(repository)/Documentation/options.md"

  @Test func tableIsAsDeclared() async throws {
    let text = try await Self.text()
    if ProcessInfo.processInfo.environment["PISCES_WRITE_TABLES"] == "1" {
      try OutputFile.write(text, to: Self.page)
    }
    #expect(
      text == (try TextFile.read(Self.page)),
      "make it anew: PISCES_WRITE_TABLES=1 tools/test --filter OptionTableTests")
  }

  /// A release build of the parser takes two options of one name and fills both.
  @Test func optionsOfACommandDiffer() async throws {
    let help = try await ProgramRun(ProgramRun.program, ["--experimental-dump-help"])
    func check(_ command: JSONValue, _ path: String) {
      let names = (command["arguments"]?.array ?? []).flatMap {
        ($0["names"]?.array ?? []).compactMap { $0["name"]?.string }
      }
      let twice = Dictionary(grouping: names, by: \.self).filter { $0.value.count > 1 }.keys
      #expect(twice.isEmpty, "\(path): \(twice.sorted())")
      for child in command["subcommands"]?.array ?? []
      where child["commandName"]?.string != "help" {
        check(child, "\(path) \(child["commandName"]?.string ?? "")")
      }
    }
    let tree = try JSONValue(parsing: help.output, name: "help")["command"] ?? .null
    #expect(tree["subcommands"]?.array?.isEmpty == false)
    check(tree, "pisces")
  }

  private static func text() async throws -> String {
    let help = try await ProgramRun(ProgramRun.program, ["--experimental-dump-help"])
    let tree = try JSONValue(parsing: help.output, name: "help")["command"] ?? .null
    var lines = [
      "# Options and keys", "",
      """
      Made from the program's declarations (`OptionTableTests`): the same lines are in `--help`, and
      a value outside its range is refused with exit status 64 and a line that names it. Every
      command also takes `--threads`, `--quiet`, `--help` and `--version`. The keys of run files
      come below the commands; `pisces train keys NAME` prints them, too.
      """,
    ]
    visit(tree, ["pisces"], &lines)
    let demos = ["demo": "demo", "demo-short": "demo --generator short"]
    for owner in ["vae", "encoders", "generator", "ot-map", "post", "demo", "demo-short"] {
      lines += [
        "", "## Keys of `\(demos[owner] ?? "train \(owner)")`", "",
        "| key | default | values | meaning |", "| --- | --- | --- | --- |",
      ]
      for line in try await ProgramRun(ProgramRun.program, ["train", "keys", owner, "--json"]).lines
      {
        let key = try JSONValue(parsing: line, name: "keys")
        let value = key["default"].map { $0.string ?? $0.line } ?? ""
        lines.append(
          row(
            "`\(key["key"]?.string ?? "")`", value.isEmpty ? "" : "`\(value)`",
            key["range"]?.string ?? "", key["meaning"]?.string ?? ""))
      }
    }
    return lines.joined(separator: "\n") + "\n"
  }

  /// A row of a Markdown table; a `|` in a cell would end it.
  private static func row(_ cells: String...) -> String {
    "| \(cells.map { $0.replacing("|", with: "\\|") }.joined(separator: " | ")) |"
  }

  private static func visit(_ command: JSONValue, _ path: [String], _ lines: inout [String]) {
    let children = command["subcommands"]?.array ?? []
    for child in children where child["commandName"]?.string != "help" {
      visit(child, path + [child["commandName"]?.string ?? ""], &lines)
    }
    if !children.isEmpty { return }
    lines += [
      "", "## `\(path.joined(separator: " "))`", "", command["abstract"]?.string ?? "", "",
      "| option | meaning |", "| --- | --- |",
    ]
    for argument in command["arguments"]?.array ?? [] {
      let name = argument["preferredName"]?["name"]?.string
      let value = argument["valueName"]?.string ?? ""
      if ["threads", "quiet", "help", "version"].contains(name) { continue }
      let form =
        name.map {
          argument["kind"]?.string == "flag" ? "--\($0)" : "--\($0) \(value.uppercased())"
        } ?? value.uppercased()
      lines.append(row("`\(form)`", argument["abstract"]?.string ?? ""))
    }
  }
}
