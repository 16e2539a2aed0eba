import Evaluation
import Files
import PostTraining
import TensorRuntime
import TestSupport
import Testing
import Training

/// Every key of every run file has its range, and the reader keeps to it.
@Suite struct KeyTests {
  static let all: [any Settings.Type] = [
    AutoencoderSettings.self, EncoderSettings.self, GeneratorSettings.self, OTMapSettings.self,
    PostSettings.self, DemoSettings.self, ShortDemoSettings.self,
  ]

  /// Names of the leaves of an encoded value; lists are leaves.
  private static func leaves(_ value: JSONValue, _ prefix: String = "") -> [String: JSONValue] {
    guard let members = value.object?.members else { return [prefix: value] }
    return members.reduce(into: [:]) { all, member in
      for (key, value) in leaves(
        member.value, prefix.isEmpty ? member.key : "\(prefix).\(member.key)")
      { all[key] = value }
    }
  }

  @Test func everyKeyIsDeclaredAndItsDefaultIsInside() throws {
    func check(_ type: (some Settings).Type) throws {
      let defaults = Self.leaves(try SettingsReader.resolved(type.init()))
      let declared = type.keys
      #expect(Set(declared.map(\.name)).count == declared.count, "\(type)")
      #expect(Set(declared.map(\.name)) == Set(defaults.keys), "\(type)")
      for key in declared {
        #expect(
          key.limits.breach(defaults[key.name] ?? .null) == nil,
          "\(type).\(key.name): \(defaults[key.name] ?? .null)")
        #expect(!key.meaning.isEmpty, "\(type).\(key.name)")
      }
    }
    for type in Self.all { try check(type) }
  }
  @Test func readingIsWritingUpsideDown() throws {
    let folder = try ScratchFolder()
    let file = folder("config.json")
    var s = PostSettings()
    (s.steps, s.learning_rate, s.post.latents, s.lora.targets, s.grpo.clip, s.post.index_range) = (
      7, 1e-3, .`self`, ["proj_mlp"], 0.5, [3, 9]
    )
    try OutputFile.write(try SettingsReader.resolved(s).pretty, to: file)
    let again: PostSettings = try SettingsReader.read(file: file)
    #expect(try SettingsReader.resolved(again) == SettingsReader.resolved(s))
  }
  @Test func overridesTakeTheFormsOfCommandLineAndFile() throws {
    let s: PostSettings = try SettingsReader.read(overrides: [
      "steps=3.0", "learning_rate=1", "post.index_range=[0, 3]", "lora.enabled=false",
      "weights.decay=1e-3",
    ])
    #expect(
      s.steps == 3 && s.learning_rate == 1 && s.post.index_range == [0, 3] && !s.lora.enabled
        && s.weights.decay == 1e-3)
  }
  /// Former names are read, and said; messages name both.
  @Test func formerNames() throws {
    var notes: [String] = []
    let s: PostSettings = try SettingsReader.read(
      overrides: ["products=bf16", "vae.recompute=true", "recompute=true"],
      note: { notes.append($0) })
    #expect(
      s.compute_dtype == .bf16 && s.vae.activation_checkpointing && s.activation_checkpointing)
    #expect(
      notes == [
        "products is called compute_dtype now: the old name is read in this version only",
        "recompute is called activation_checkpointing now: the old name is read in this version only",
        "vae.recompute is called vae.activation_checkpointing now: the old name is read in this "
          + "version only",
      ])
    #expect { try SettingsReader.read(PostSettings.self, overrides: ["products=f8"]) } throws: {
      "\($0)".hasPrefix("compute_dtype (written as products) is f8: --set: give f32 or bf16")
    }
  }
  /// The message names key, value, place, range and the nearest valid value.
  @Test(arguments: [
    ("batch=0", "batch is 0: --set: give a whole number, 1 to 1048576 (nearest: 1)"),
    ("steps=2.5", "steps is 2.5: --set: give a whole number, 1 to 1000000000 (nearest: 3)"),
    ("lora=3", "lora is 3: --set: it has keys of its own: write lora.KEY=VALUE, or a mapping"),
    ("post.latents=slef", "post.latents is slef: --set: give data or self (nearest: self)"),
    ("btach=1", "unknown key btach: --set: did you mean batch?"),
    ("ema.enabled=1", "ema.enabled is 1: --set: give true or false"),
    ("seed=-1", "seed is -1: --set: give a whole number, 0 or more (nearest: 0)"),
    ("beta2=1", "beta2 is 1: --set: give a number, 0 or more, below 1"),
    ("learning_rate=", "learning_rate is empty: --set: give a number, 0 to 1000"),
    ("=3", "an override needs the form key=value: =3: for example steps=100"),
  ])
  func refusals(_ override: String, _ message: String) {
    #expect { try SettingsReader.read(PostSettings.self, overrides: [override]) } throws: {
      "\($0)" == message
    }
  }
  @Test func filesAreNamed() throws {
    let folder = try ScratchFolder()
    let file = folder("run.yaml")
    try OutputFile.write("post:\n  pool: -4\n", to: file)
    #expect { try SettingsReader.read(PostSettings.self, file: file) } throws: {
      "\($0)".hasPrefix("post.pool is -4: \(file): give a whole number")
    }
  }
}
