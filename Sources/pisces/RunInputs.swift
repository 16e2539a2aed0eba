import ArgumentParser
import Files
import FoundationEssentials

/// The inputs of a training run beside its settings: data and models with their fingerprints, and
/// sizes. A new run records them (`run.json`). A resumed run takes from the record what is not
/// given again, and refuses what differs.
final class RunInputs {
  let run: String, isResumed: Bool
  /// The record of the run that is resumed; nil for a new run, and for a run of a version that kept
  /// no record.
  private let recorded: JSONObject?
  private(set) var record = JSONObject()
  private let command: String

  init(run: String, isResumed: Bool, command: String) throws {
    (self.run, self.isResumed, self.command) = (run, isResumed, command)
    let file = "\(run)/run.json"
    recorded = isResumed && TextFile.exists(file) ? try JSONValue(contentsOf: file).object : nil
    record["command"] = .string(command)
    if let other = recorded?["command"]?.string, other != command {
      throw Failure.Message(
        64, "the run is one of pisces train \(other)", run,
        "resume it with: pisces train \(other) --resume \(run)")
    }
  }
  /// Whether the resumed run has no record, so that everything must be given again.
  var lacksRecord: Bool { isResumed && recorded == nil }

  /// What has changed in the machine or the program that changes last bits from here on; nil if
  /// nothing has.
  var otherBits: String? {
    guard isResumed, let before = try? JSONValue(contentsOf: "\(run)/environment.json"),
      let now = Environment.json.object
    else { return nil }
    let changed = ["version", "isa", "compute_dtype"].compactMap { key -> String? in
      guard let old = before[key]?.string, let new = now[key]?.string, old != new else {
        return nil
      }
      return "\(key) \(old) is now \(new)"
    }
    return changed.isEmpty
      ? nil : changed.joined(separator: ", ") + ": the last bits of results change from here on"
  }

  private func differs(_ option: String, _ given: String, _ made: String) -> Failure.Message {
    Failure.Message(
      64, "--\(option) is \(given), the run was made with \(made)", run,
      "leave --\(option) out, or start a new run with --run")
  }

  /// An optional number. `fallback` is used if neither the command line nor the record has it.
  func number(_ option: String, _ given: Int?, default fallback: Int) throws -> Int {
    let made = recorded?[option]?.integer
    if let given, let made, given != made { throw differs(option, "\(given)", "\(made)") }
    let value = given ?? made ?? fallback
    record[option] = .integer(value)
    return value
  }
  /// One of a few words.
  func choice<Choice: RawRepresentable<String> & Equatable>(
    _ option: String, _ given: Choice?, default fallback: Choice
  ) throws -> Choice {
    let made =
      recorded?[option]?.string.flatMap { Choice(rawValue: $0) }
      ?? (recorded == nil ? nil : fallback)
    if let given, let made, given != made {
      throw differs(option, given.rawValue, made.rawValue)
    }
    let value = given ?? made ?? fallback
    record[option] = .string(value.rawValue)
    return value
  }
  /// Whether an earlier version recorded this flag as given.
  func hadFlag(_ option: String) -> Bool { recorded?[option]?.bool ?? false }
  /// A flag. If it is not given again, its recorded value is used.
  func flag(_ option: String, _ given: Bool) throws -> Bool {
    let made = recorded?[option]?.bool
    if given, made == false { throw differs(option, "given", "none") }
    let value = given || made ?? false
    record[option] = .bool(value)
    return value
  }
  /// A file or folder, identified by its content. If it has moved, its new path must be given. nil
  /// if there is none.
  func path(
    _ option: String, _ given: String?,
    fingerprint: (String) throws -> String = { try Fingerprint.of($0) }
  ) throws -> String? {
    try paths(option, given.map { [$0] } ?? [], fingerprint: fingerprint).first
  }
  func required(_ option: String, _ given: String?) throws -> String {
    if let path = try path(option, given) { return path }
    throw ValidationError("Missing expected argument '--\(option) <\(option)>'")
  }
  /// Files of an option that may be given several times.
  func paths(
    _ option: String, _ given: [String],
    fingerprint: (String) throws -> String = { try Fingerprint.of($0) }
  ) throws -> [String] {
    let made = recorded?[option]?.array ?? []
    let madePaths = made.compactMap { $0["path"]?.string }
    if recorded != nil && given.count != made.count && !given.isEmpty {
      throw differs(
        option, given.joined(separator: " "),
        madePaths.isEmpty ? "none" : madePaths.joined(separator: " "))
    }
    let paths = given.isEmpty ? madePaths : given
    record[option] = .array(
      try paths.enumerated().map { i, path in
        let print: String
        do { print = try fingerprint(path) } catch let error as FileError
          where given.isEmpty && error.kind == .missingInput
        {
          throw FileError(
            .missingInput, "the run's --\(option) is gone", in: path,
            mend: "give --\(option) with its new place")
        }
        if !made.isEmpty, let old = made[i]["fingerprint"]?.string, old != print {
          let what =
            given.isEmpty
            ? "has changed since the run began"
            : "is not what the run was made with (\(madePaths[i]))"
          throw Failure.Message(
            64, "--\(option) \(what): fingerprint \(print), not \(old)", path,
            "give the run's own \(option), or start a new run with --run")
        }
        return ["path": .string(Self.absolute(path)), "fingerprint": .string(print)]
      })
    return paths
  }
  private static func absolute(_ path: String) -> String {
    path.hasPrefix("/") || path.hasPrefix("embedded:")
      ? path : "\(FileManager.default.currentDirectoryPath)/\(path)"
  }
}
