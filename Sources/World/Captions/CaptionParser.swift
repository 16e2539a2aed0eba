/// Why a text is not a caption of the grammar. Positions count words from 1.
public enum CaptionError: Error, Hashable, Sendable, CustomStringConvertible {
  case unexpected(word: String, position: Int, wanted: String)
  case incomplete(wanted: String)

  public var description: String {
    switch self {
    case .unexpected(let word, let position, let wanted):
      "word \(position), \"\(word)\", is not \(wanted)"
    case .incomplete(let wanted): "the caption ends before \(wanted)"
    }
  }
}

extension CaptionGrammar {
  /// The description in a caption. Upper case, `an`, and a comma or full stop after a word are
  /// accepted.
  public static func parse(_ caption: String) throws(CaptionError) -> SceneDescription {
    var reader = Reader(caption)
    let description = try reader.description()
    try reader.end()
    return description
  }

  private struct Reader {
    let words: [String]
    var position = 0

    init(_ caption: String) {
      words = caption.lowercased().split { $0.isWhitespace || $0 == "," || $0 == "." }.map(
        String.init)
    }

    mutating func description() throws(CaptionError) -> SceneDescription {
      if let count = take(GroupSize.self, \.phrases) {
        let colour = try need(Colour.self, \.phrases, "a colour")
        let shape = try need(ShapeKind.self, \.plurals, "the name of several shapes")
        return SceneDescription(
          Array(repeating: ObjectDescription(colour, shape), count: count.rawValue))
      }
      try article()
      let size = take(SizeClass.self, \.phrases)
      var first = try colouredShape()
      if let relation = size == nil ? take(Relation.self, \.phrases) : nil {
        var objects = [first]
        repeat {
          try article()
          objects.append(try colouredShape())
        } while objects.count < 3 && take("and")
        return SceneDescription(objects, relation: relation)
      }
      first.size = size
      first.motion = try need(
        Motion.self, \.phrases, size == nil ? "a motion or a relation" : "a motion")
      return SceneDescription(first)
    }

    private mutating func colouredShape() throws(CaptionError) -> ObjectDescription {
      ObjectDescription(
        try need(Colour.self, \.phrases, "a colour"), try need(ShapeKind.self, \.phrases, "a shape")
      )
    }
    private mutating func article() throws(CaptionError) {
      if !take("a") && !take("an") { throw failure("\"a\"") }
    }
    private mutating func take(_ word: String) -> Bool {
      guard position < words.count, words[position] == word else { return false }
      position += 1
      return true
    }

    /// The value with the longest phrase that begins here.
    private mutating func take<Value: Worded>(_ kind: Value.Type, _ phrases: (Value) -> [String])
      -> Value?
    {
      var best: (value: Value, count: Int)?
      for value in kind.allCases {
        for phrase in phrases(value) {
          let wanted = phrase.split(separator: " ")
          if wanted.count > best?.count ?? 0, words[position...].starts(with: wanted, by: ==) {
            best = (value, wanted.count)
          }
        }
      }
      position += best?.count ?? 0
      return best?.value
    }
    private mutating func need<Value: Worded>(
      _ kind: Value.Type, _ phrases: (Value) -> [String], _ wanted: String
    ) throws(CaptionError) -> Value {
      guard let value = take(kind, phrases) else { throw failure(wanted) }
      return value
    }
    func end() throws(CaptionError) {
      if position < words.count { throw failure("the end of the caption") }
    }

    private func failure(_ wanted: String) -> CaptionError {
      position < words.count
        ? .unexpected(word: words[position], position: position + 1, wanted: wanted)
        : .incomplete(wanted: wanted)
    }
  }
}
