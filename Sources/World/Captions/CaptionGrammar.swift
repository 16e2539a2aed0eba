public import TensorRuntime

/// Descriptions as captions, and back.
///
///     single  a [size] colour shape motion                     a tiny red disc going to the left
///     pair    a colour shape relation a colour shape           a red circle above a blue star
///     triple  a colour shape relation a colour shape and a …   the relation is to both others
///     group   two|three colour shapes                          two red circles
public enum CaptionGrammar {
  /// A caption with every synonym drawn uniformly.
  public static func caption(_ description: SceneDescription, drawing stream: inout RandomStream)
    -> String
  {
    caption(description) { $0[stream.below($0.count)] }
  }
  /// The caption in the plainest words, always the same.
  public static func plainCaption(_ description: SceneDescription) -> String {
    caption(description) { $0[0] }
  }

  /// Every caption of a description, in the order of the phrases (the last varies fastest).
  public static func allCaptions(_ description: SceneDescription) -> [String] {
    // Counts through all choices like an odometer: each pass takes one choice at each place, and
    // reports how many choices there were.
    var all: [String] = []
    var digits: [Int] = []
    while true {
      var place = 0
      var radices: [Int] = []
      all.append(
        caption(description) { phrases in
          if place == digits.count { digits.append(0) }
          radices.append(phrases.count)
          place += 1
          return phrases[digits[place - 1]]
        })
      guard let next = digits.indices.last(where: { digits[$0] + 1 < radices[$0] }) else {
        return all
      }
      digits[next] += 1
      for i in digits.indices where i > next { digits[i] = 0 }
    }
  }

  private static func caption(_ description: SceneDescription, choose: ([String]) -> String)
    -> String
  {
    let first = description.objects[0]
    var parts: [String] = []
    func append(_ object: ObjectDescription) {
      parts.append("a")
      if let size = object.size { parts.append(choose(size.phrases)) }
      parts.append(choose(object.colour.phrases))
      parts.append(choose(object.shape.phrases))
      if let motion = object.motion { parts.append(choose(motion.phrases)) }
    }
    if description.isGroup {
      let size = GroupSize(rawValue: description.objects.count)!
      parts = [choose(size.phrases), choose(first.colour.phrases), choose(first.shape.plurals)]
    } else {
      append(first)
      if let relation = description.relation { parts.append(choose(relation.phrases)) }
      for (i, object) in description.objects.dropFirst().enumerated() {
        if i > 0 { parts.append("and") }
        append(object)
      }
    }
    return parts.joined(separator: " ")
  }

  // MARK: vocabulary

  static let specialTokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

  /// The lines of `vocab.txt`: five special tokens; the 61 words of single objects and pairs, in
  /// the order of the phrases; and for settings with groups the 12 further words that only groups
  /// need. Every word is one token.
  public static func vocabulary(_ settings: SceneSettings = .standard) -> [String] {
    var phrases = ["a"]
    func add(_ kind: (some Worded).Type) { for word in kind.allCases { phrases += word.phrases } }
    add(SizeClass.self)
    add(Colour.self)
    add(ShapeKind.self)
    add(Motion.self)
    add(Relation.self)
    if settings.groupShare > 0 {
      add(GroupSize.self)
      for shape in ShapeKind.allCases { phrases += shape.plurals }
    }
    var seen = Set<Substring>()
    return specialTokens
      + phrases.flatMap { $0.split(separator: " ") }.filter { seen.insert($0).inserted }.map(
        String.init)
  }
}
