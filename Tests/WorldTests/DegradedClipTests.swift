import TensorRuntime
import Testing
import World

/// Oracle: clips made worse in a known way are read as worse, in the dimension that was hurt.
@Suite struct DegradedClipTests {
  static let count = 60
  private let shape = Shape(9, 3, 32, 32)

  private func scenes(_ keep: (Scene) -> Bool = { _ in true }) -> [Scene] {
    let sampler = SceneSampler(seed: 31)
    return (0..<400).lazy.map { sampler.training($0) }.filter(keep).prefix(Self.count).map { $0 }
  }
  private func board(_ scenes: [Scene], _ degrade: (inout [Float], Int) -> Void = { _, _ in })
    -> Scoreboard
  {
    let renderer = Renderer()
    let oracle = Oracle()
    let work = Workspace()
    return Scoreboard(
      scenes.enumerated().map { i, scene in
        var pixels = renderer.render(scene, in: work).floats
        degrade(&pixels, i)
        return Judgement(oracle.read(Tensor(pixels, shape)), against: scene.description)
      })
  }
  private func expectWorse(
    _ worse: Scoreboard, than truth: Scoreboard, in dimension: Quality.Dimension, by drop: Double,
    quality: Double
  ) {
    let (a, b) = (truth[.qualityDimension(dimension)]!, worse[.qualityDimension(dimension)]!)
    #expect(a - b > drop, "\(dimension): \(a) to \(b)")
    #expect(truth[.quality]! > 0.95)
    #expect(
      truth[.quality]! - worse[.quality]! > quality,
      "quality: \(truth[.quality]!) to \(worse[.quality]!)")
  }

  /// An object half way to another shape is no longer the shape it is called; with a share of 0 it
  /// is, bit by bit.
  @Test func malformed() {
    let scenes = scenes { $0.objects.count == 1 }
    let renderer = Renderer()
    let oracle = Oracle()
    let work = Workspace()
    func blended(_ share: Double) -> [Scene] {
      scenes.map { scene in
        var scene = scene
        let shape = scene.objects[0].shape
        scene.objects[0].blend = .init(
          ShapeKind.allCases.first { $0 != shape && $0 != .ring }!, share: share)
        return scene
      }
    }
    func board(_ list: [Scene]) -> Scoreboard {
      Scoreboard(
        list.map { Judgement(oracle.read(renderer.render($0, in: work)), against: $0.description) })
    }
    #expect(
      renderer.render(blended(0), in: work).floats == renderer.render(scenes, in: work).floats)
    let truth = board(scenes)
    let half = board(blended(0.5))
    let other = board(blended(1))
    #expect(truth[.qualityDimension(.image)]! - half[.qualityDimension(.image)]! > 0.05)
    #expect(half[.dimension(.shape)]! < 0.9 && other[.dimension(.shape)]! < 0.1)
  }
  @Test func noise() {
    let scenes = scenes()
    let noisy = board(scenes) { pixels, i in
      var stream = RandomStream(seed: 32, .test, sample: i)
      for k in pixels.indices { pixels[k] += Float(0.1 * stream.normal()) }
    }
    expectWorse(noisy, than: board(scenes), in: .flicker, by: 0.5, quality: 0.1)
  }
  @Test func blur() {
    let scenes = scenes()
    let blurred = board(scenes) { pixels, _ in
      for _ in 0..<3 {
        let sharp = pixels
        for plane in 0..<27 {
          for y in 0..<32 {
            for x in 0..<32 {
              var sum: Float = 0
              for ny in y - 1...y + 1 {
                for nx in x - 1...x + 1 {
                  sum += sharp[plane * 1024 + min(max(ny, 0), 31) * 32 + min(max(nx, 0), 31)]
                }
              }
              pixels[plane * 1024 + y * 32 + x] = sum / 9
            }
          }
        }
      }
    }
    expectWorse(blurred, than: board(scenes), in: .image, by: 0.15, quality: 0.03)
  }
  @Test func flicker() {
    let scenes = scenes()
    let flickering = board(scenes) { pixels, _ in
      for k in pixels.indices { pixels[k] += k / 3072 % 2 == 0 ? 0.04 : -0.04 }
    }
    expectWorse(flickering, than: board(scenes), in: .flicker, by: 0.9, quality: 0.1)
  }
  @Test func swappedFrames() {
    let scenes = scenes {
      $0.objects.count == 1 && $0.objects[0].motion != .still && $0.objects[0].motion != .turning
    }
    let swapped = board(scenes) { pixels, _ in
      let ordered = pixels
      for (t, from) in [4, 0, 7, 2, 8, 1, 5, 3, 6].enumerated() {
        pixels.replaceSubrange(
          t * 3072..<(t + 1) * 3072, with: ordered[from * 3072..<(from + 1) * 3072])
      }
    }
    expectWorse(swapped, than: board(scenes), in: .smoothness, by: 0.5, quality: 0.1)
  }
  /// The second half shows another object.
  private func changed(_ scenes: [Scene], _ change: (inout ShapeObject) -> Void) -> Scoreboard {
    let renderer = Renderer()
    let work = Workspace()
    return board(scenes) { pixels, i in
      var scene = scenes[i]
      change(&scene.objects[0])
      pixels.replaceSubrange(
        4 * 3072..<9 * 3072, with: renderer.render(scene, in: work).floats[(4 * 3072)...])
    }
  }
  @Test func anotherColour() {
    let scenes = scenes { $0.objects.count == 1 }
    let changed = changed(scenes) {
      $0.rgb = Colour.allCases[(Int($0.colour.rawValue) + 3) % 8].rgb
    }
    expectWorse(changed, than: board(scenes), in: .consistency, by: 0.3, quality: 0.04)
    #expect(changed[.dimension(.count)]! < 0.1)
  }
  @Test func anotherShape() {
    let scenes = scenes { $0.objects.count == 1 }
    let changed = changed(scenes) {
      $0.shape = ShapeKind.allCases[(Int($0.shape.rawValue) + 3) % 6]
    }
    expectWorse(changed, than: board(scenes), in: .consistency, by: 0.15, quality: 0.03)
  }
  @Test func vanishing() {
    let scenes = scenes { $0.objects.count == 1 }
    let changed = changed(scenes) { $0.radius = (0.01, 0.01) }
    expectWorse(changed, than: board(scenes), in: .consistency, by: 0.4, quality: 0.05)
  }

  @Test(arguments: [SceneSettings.standard, .harder]) func anyInputGivesAFiniteReading(
    _ settings: SceneSettings
  ) {
    let oracle = Oracle(settings)
    let one = SceneDescription(ObjectDescription(.red, .circle, size: .small, motion: .left))
    var stream = RandomStream(seed: 33, .test)
    var clips = [0, 1, 0.5, -3, 7, .infinity, -.infinity, .nan].map {
      Tensor(Array(repeating: Float($0), count: shape.count), shape)
    }
    clips.append(Tensor((0..<shape.count).map { _ in Float(stream.uniform()) }, shape))
    clips.append(Tensor((0..<shape.count).map { _ in Float(2 * stream.normal()) }, shape))
    clips.append(
      Tensor((0..<shape.count).map { Float($0 % 7 == 0 ? .nan : stream.uniform()) }, shape))
    for colour in Colour.allCases {
      clips.append(Tensor((0..<shape.count).map { colour.rgb[$0 / 1024 % 3] }, shape))
    }
    clips.append(Tensor([0.1, 0.2, 0.3], Shape(1, 3, 1, 1)))
    clips.append(
      Tensor((0..<3 * 16 * 24).map { _ in Float(stream.uniform()) }, Shape(1, 3, 16, 24)))
    for clip in clips {
      let reading = oracle.read(clip)
      let judgement = Judgement(reading, against: one)
      #expect(judgement.semantic.isFinite && (0...1).contains(judgement.semantic))
      #expect(Quality.Dimension.allCases.allSatisfy { (0...1).contains(reading.quality[$0]) })
      #expect(
        reading.objects.allSatisfy { $0.fit.isFinite && $0.radius.isFinite && $0.centre.x.isFinite }
      )
    }
    #expect(oracle.read(clips[2]).objects.isEmpty && oracle.read(clips[2]).quality.mean < 0.5)
  }
}
