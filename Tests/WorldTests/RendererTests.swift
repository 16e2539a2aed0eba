import Glibc
import TensorRuntime
import Testing
import World

@Suite struct RendererTests {
  /// A white shape on black, so that pixels are coverage.
  private func coverage(
    _ shape: ShapeKind, radius: Double, angle: Double, centre: SIMD2<Double>, side: Int
  ) -> [Float] {
    let object = ShapeObject(
      shape: shape, colour: .white, rgb: .one, centre: centre, radius: (radius, radius),
      angle: angle)
    let description = SceneDescription(ObjectDescription(.white, shape, motion: .still))
    let scene = Scene(objects: [object], background: Background(level: 0), description: description)
    let clip = Renderer(Canvas(height: side, width: side, frames: 5)).render(scene, in: Workspace())
    return Array(clip.floats.prefix(side * side))
  }

  /// Oracle: elementary geometry. Area at unit radius.
  private func exactArea(_ shape: ShapeKind) -> Double {
    switch shape {
    case .circle: .pi
    case .square: 1.76 * 1.76
    case .triangle: 3 * 3.0.squareRoot() * 0.62 * 0.62  // of inradius .62
    case .star: 5 * 1.25 * 0.52 * sin(.pi / 5)  // ten triangles between tip and notch
    case .cross: 2 * 2.24 * 0.76 - 0.76 * 0.76
    case .ring: .pi * (1.05 * 1.05 - 0.51 * 0.51)
    }
  }

  /// Oracle: outlines as polygons (even-odd rule) or circles, not as distances. y down.
  private func contains(_ shape: ShapeKind, _ p: SIMD2<Double>) -> Bool {
    func polygon(_ corners: [SIMD2<Double>]) -> Bool {
      var inside = false
      for (a, b) in zip(corners, corners.dropFirst() + [corners[0]])
      where (a.y > p.y) != (b.y > p.y) {
        if p.x < a.x + (p.y - a.y) / (b.y - a.y) * (b.x - a.x) { inside.toggle() }
      }
      return inside
    }
    func polar(_ radius: Double, _ fromUp: Double) -> SIMD2<Double> {
      radius * SIMD2(sin(fromUp), -cos(fromUp))
    }
    let distance = (p * p).sum().squareRoot()
    switch shape {
    case .circle: return distance < 1
    case .square:
      return polygon([
        SIMD2(-0.88, -0.88), SIMD2(0.88, -0.88), SIMD2(0.88, 0.88), SIMD2(-0.88, 0.88),
      ])
    case .triangle: return polygon((0..<3).map { polar(1.24, Double($0) * 2 * .pi / 3) })
    case .star:
      return polygon((0..<10).map { polar($0 % 2 == 0 ? 1.25 : 0.52, Double($0) * .pi / 5) })
    case .cross: return abs(p.x) < 1.12 && abs(p.y) < 0.38 || abs(p.y) < 1.12 && abs(p.x) < 0.38
    case .ring: return distance > 0.51 && distance < 1.05
    }
  }

  @Test(arguments: ShapeKind.allCases) func areaIsThatOfGeometry(_ shape: ShapeKind) {
    for (radius, side) in [(4.2, 32), (7.5, 32), (7.5, 128)] {
      let scale = Double(side) / 32
      let area =
        coverage(shape, radius: radius, angle: 0.3, centre: SIMD2(0.37, -0.81), side: side).reduce(
          0
        ) { $0 + Double($1) } / (scale * scale)
      let error = area / (radius * radius * exactArea(shape)) - 1
      // Coverage clamp(½ − d) is exact on edges; corners lose or gain of the order of a square
      // pixel (the star has ten).
      #expect(
        abs(error) < 1.6 / (radius * radius * scale * scale),
        "\(shape) of \(radius) at \(side): \(error)")
    }
  }

  @Test(arguments: ShapeKind.allCases) func pixelsAreThoseOfSupersampling(_ shape: ShapeKind) {
    let radius = 6.3
    let centre = SIMD2(1.7, -2.2)
    let side = 32
    let fine = 8
    for angle in [0, 0.2, 0.9] {
      let drawn = coverage(shape, radius: radius, angle: angle, centre: centre, side: side)
      var sum = 0.0
      var worst = 0.0
      for y in 0..<side {
        for x in 0..<side {
          var inside = 0
          for k in 0..<fine * fine {
            let at =
              SIMD2(
                Double(x) + (Double(k % fine) + 0.5) / Double(fine),
                Double(y) + (Double(k / fine) + 0.5) / Double(fine)) - 16 - centre
            let turned =
              SIMD2(at.x * cos(angle) + at.y * sin(angle), at.y * cos(angle) - at.x * sin(angle))
              / radius
            if contains(shape, turned) { inside += 1 }
          }
          let error = abs(Double(drawn[y * side + x]) - Double(inside) / Double(fine * fine))
          sum += error
          worst = max(worst, error)
        }
      }
      // An edge at 45° is off by at most .1 of a pixel; a corner by less than half of one.
      #expect(
        worst < 0.5 && sum < 0.06 * 2 * .pi * radius * 2,
        "\(shape) at \(angle): worst \(worst), sum \(sum)")
    }
  }

  @Test func backgroundIsTheRecipesFormula() {
    let background = Background(
      level: 0.25, amplitudes: SIMD2(0.03, 0.02), frequency: 0.4, direction: 0.7, phase: 1.1)
    let object = ShapeObject(shape: .circle, colour: .red, centre: SIMD2(8, 8), radius: (3, 3))
    let scene = Scene(
      objects: [object], background: background,
      description: SceneDescription(ObjectDescription(.red, .circle, motion: .still)))
    let clip = Renderer(Canvas(height: 32, width: 40, frames: 5)).render(scene, in: Workspace())
      .floats
    for (x, y) in [(0, 0), (5, 9), (13, 2), (1, 31)] {
      let (u, v) = (Double(x) + 0.5, Double(y) + 0.5)
      let wave =
        0.03 * sin(0.4 * (u * cos(0.7) + v * sin(0.7)) + 1.1) + 0.02
        * sin(1.7 * 0.4 * (u * sin(0.7) - v * cos(0.7)))
      for plane in [0, 1, 14] {
        #expect(abs(Double(clip[(plane * 32 + y) * 40 + x]) - 0.25 - wave) < 1e-6)
      }
    }
  }

  @Test func clipsAreInRangeAndTheSameAloneAndInABatch() {
    let sampler = SceneSampler(.harder, seed: 9)
    let work = Workspace()
    let renderer = Renderer()
    let scenes = (0..<40).map { sampler.training($0) }
    let batch = renderer.render(scenes, in: work)
    #expect(batch.shape == Shape(40, 9, 3, 32, 32))
    #expect(batch.floats.allSatisfy { $0 >= 0 && $0 <= 1 })
    for (i, scene) in scenes.enumerated() {
      #expect(renderer.render(scene, in: work).floats == batch[row: i].floats)
    }
  }

  @Test func theFirstObjectLiesOnTop() {
    let objects = [Colour.red, .blue].map {
      ShapeObject(shape: .circle, colour: $0, radius: (5, 5))
    }
    let description = SceneDescription(
      [ObjectDescription(.red, .circle), ObjectDescription(.blue, .circle)], relation: .leftOf)
    let clip = Renderer().render(
      Scene(objects: objects, background: Background(level: 0.2), description: description),
      in: Workspace()
    ).floats
    let middle = 16 * 32 + 16
    #expect(SIMD3(clip[middle], clip[1024 + middle], clip[2048 + middle]) == Colour.red.rgb)
  }
}
