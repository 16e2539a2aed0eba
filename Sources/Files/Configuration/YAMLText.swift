internal import CYAML

/// YAML, read through libyaml's events, as far as run files need it: mappings, sequences, scalars.
/// Plain scalars follow the core schema (null, true/false, numbers); quoted ones are text. Anchors
/// and aliases are refused.
enum YAMLText {
  static func parse(_ text: String, name: String) throws -> JSONValue {
    var parser = unsafe yaml_parser_t()
    guard unsafe yaml_parser_initialize(&parser) != 0 else {
      throw ConfigurationError("out of memory", name, "try again")
    }
    defer { unsafe yaml_parser_delete(&parser) }
    var text = text
    return try text.withUTF8 { bytes in
      unsafe yaml_parser_set_input_string(&parser, bytes.baseAddress, bytes.count)
      var reader = Reader(name: name)
      while true {
        var event = unsafe yaml_event_t()
        guard unsafe yaml_parser_parse(&parser, &event) != 0 else {
          let problem = unsafe parser.problem.map { unsafe String(cString: $0) } ?? "not valid YAML"
          throw ConfigurationError(
            "not valid YAML: \(problem)", unsafe "\(name), line \(parser.problem_mark.line + 1)",
            "correct the line")
        }
        defer { unsafe yaml_event_delete(&event) }
        if unsafe event.type == YAML_STREAM_END_EVENT { return reader.value ?? .object([:]) }
        try unsafe reader.take(event)
      }
    }
  }

  /// Builds the value from the stream of events.
  private struct Reader {
    let name: String
    var value: JSONValue?
    /// Open collections, innermost last. A mapping stores the key whose value comes next.
    private var open: [Level] = []
    private enum Level {
      case mapping(JSONObject, key: String?)
      case sequence([JSONValue])
    }
    init(name: String) { self.name = name }

    mutating func take(_ event: yaml_event_t) throws {
      let line = unsafe event.start_mark.line + 1
      switch unsafe event.type {
      case YAML_MAPPING_START_EVENT:
        try unsafe push(.mapping([:], key: nil), anchor: event.data.mapping_start.anchor, line)
      case YAML_SEQUENCE_START_EVENT:
        try unsafe push(.sequence([]), anchor: event.data.sequence_start.anchor, line)
      case YAML_MAPPING_END_EVENT, YAML_SEQUENCE_END_EVENT:
        switch open.removeLast() {
        case .mapping(let o, _): try put(.object(o), line)
        case .sequence(let a): try put(.array(a), line)
        }
      case YAML_SCALAR_EVENT:
        let s = unsafe event.data.scalar
        let text = unsafe String(
          decoding: UnsafeBufferPointer(start: s.value, count: s.length), as: UTF8.self)
        if unsafe s.anchor != nil { throw anchors(line) }
        if case .mapping(let o, nil)? = open.last {
          if o[text] != nil {
            throw ConfigurationError(
              "the key \(text) appears twice", "\(name), line \(line)", "keep one of them")
          }
          open[open.count - 1] = .mapping(o, key: text)
        } else {
          try unsafe put(s.style == YAML_PLAIN_SCALAR_STYLE ? plain(text) : .string(text), line)
        }
      case YAML_ALIAS_EVENT: throw anchors(line)
      default: break
      }
    }
    private func anchors(_ line: Int) -> ConfigurationError {
      ConfigurationError(
        "anchors and aliases are not supported", "\(name), line \(line)", "write the value out")
    }

    private mutating func push(
      _ level: Level, anchor: UnsafeMutablePointer<yaml_char_t>?, _ line: Int
    ) throws {
      if unsafe anchor != nil { throw anchors(line) }
      if open.count > 100 {
        throw ConfigurationError("nested too deeply", "\(name), line \(line)", "flatten it")
      }
      if case .mapping(_, nil)? = open.last {
        throw ConfigurationError(
          "a key is not a word", "\(name), line \(line)", "write keys as plain words")
      }
      open.append(level)
    }
    private mutating func put(_ v: JSONValue, _ line: Int) throws {
      switch open.last {
      case .mapping(var o, .some(let key)):
        o[key] = v
        open[open.count - 1] = .mapping(o, key: nil)
      case .sequence(let a): open[open.count - 1] = .sequence(a + [v])
      case nil: value = v
      case .mapping:
        throw ConfigurationError(
          "a key is not a word", "\(name), line \(line)", "write keys as plain words")
      }
    }
    private func plain(_ text: String) -> JSONValue {
      switch text {
      case "", "~", "null", "Null", "NULL": return .null
      case "true", "True", "TRUE": return .bool(true)
      case "false", "False", "FALSE": return .bool(false)
      default: break
      }
      if let i = Int(text) { return .integer(i) }
      if let c = text.first, c.isNumber || c == "-" || c == "+" || c == ".", let d = Double(text),
        d.isFinite
      {
        return .number(d)
      }
      return .string(text)
    }
  }
}
