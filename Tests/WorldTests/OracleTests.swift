import TensorRuntime
import Testing
import World

@Suite struct OracleTests {
  @Test(arguments: ["standard", "harder"]) func reads(_ name: String) {
    let settings: SceneSettings = name == "standard" ? .standard : .harder
    let sampler = SceneSampler(settings, seed: 7), renderer = Renderer(), oracle = Oracle(settings), work = Workspace()
    let clock = ContinuousClock()
    let n = 1500
    var t0 = clock.now
    let scenes = (0..<n).map { sampler.heldOut($0) }
    print(name, "sample", (clock.now - t0) / n)
    t0 = clock.now
    let clips = scenes.map { renderer.render($0, in: work) }
    print(name, "render", (clock.now - t0) / n)
    t0 = clock.now
    let readings = clips.map { oracle.read($0) }
    print(name, "read", (clock.now - t0) / n)
    let judgements = zip(scenes, readings).map { Judgement($1, against: $0.description) }
    let board = Scoreboard(judgements)
    for m in Measure.allCases { print(name, m, board[m] ?? .nan) }
    let shuffled = Scoreboard((0..<n).map { Judgement(readings[$0], against: scenes[($0 + 1) % n].description) })
    print(name, "shuffled", shuffled[.semantic]!, shuffled[.allRight]!)
    var shown = 0
    for (i, j) in judgements.enumerated() where !j.isAllRight && shown < 12 {
      shown += 1
      print(i, CaptionGrammar.plainCaption(scenes[i].description), "| count", readings[i].count, readings[i].objects.map { "\($0.colour) \($0.shape) \($0.motion) r\($0.radius) fit \($0.fit) A\($0.area) @\($0.centre)" })
    }
    t0 = clock.now
    let c = PairedComparison(before: judgements, after: judgements, seed: 1)
    print("bootstrap", clock.now - t0, c[.semantic]!)
  }
}
