internal import Glibc
public import TensorRuntime

/// Draws scenes as clips `[T,3,H,W]`, f32 in [0,1], antialiased. The same scene gives the same
/// bits.
///
/// Coverage α = clamp(½ − d, 0, 1), d the signed distance in pixels at the pixel's centre (world.md
/// 1.1);
/// out = background (1 − α) + colour α, the object named first on top.
public struct Renderer: Sendable {
  public let canvas: Canvas

  public init(_ canvas: Canvas = Canvas()) { self.canvas = canvas }

  /// One clip, `[T,3,H,W]`.
  public func render(_ scene: Scene, in work: borrowing Workspace) -> Tensor {
    render([scene], in: work).reshaped(Shape(canvas.frames, 3, canvas.height, canvas.width))
  }

  /// A batch of clips, `[B,T,3,H,W]`.
  public func render(_ scenes: [Scene], in work: borrowing Workspace) -> Tensor {
    var clips = work.tensor(Shape(scenes.count, canvas.frames, 3, canvas.height, canvas.width))
    if work.isPlanned { return clips }
    clips.withMutableSpan(of: Float.self) { pixels in
      for (b, scene) in scenes.enumerated() {
        draw(scene.background, into: &pixels, at: b * clipCount)
        for object in scene.objects.reversed() { draw(object, into: &pixels, at: b * clipCount) }
      }
    }
    return clips
  }

  private var planeCount: Int { canvas.height * canvas.width }
  private var frameCount: Int { 3 * planeCount }
  private var clipCount: Int { canvas.frames * frameCount }

  private func draw(_ background: Background, into pixels: inout MutableSpan<Float>, at start: Int)
  {
    // sin(ax + by + φ) = sin(ax + φ) cos(by) + cos(ax + φ) sin(by): one sine and cosine for each
    // row and column instead of each pixel.
    let (c, s) = (cos(background.direction), sin(background.direction))
    let f = background.frequency
    func waves(_ count: Int, _ first: Double, _ phase: Double, _ second: Double) -> [SIMD4<Float>] {
      (0..<count).map { i in
        let at = (Double(i) + 0.5) / canvas.scale
        let (u, v) = (first * at + phase, second * at)
        return SIMD4(Float(sin(u)), Float(cos(u)), Float(sin(v)), Float(cos(v)))
      }
    }
    let columns = waves(canvas.width, f * c, background.phase, 1.7 * f * s)
    let rows = waves(canvas.height, f * s, 0, -1.7 * f * c)
    let level = Float(background.level)
    let one = Float(background.amplitudes.x)
    let two = Float(background.amplitudes.y)
    var i = start
    for row in rows {
      let mixed = SIMD4(one * row.y, one * row.x, two * row.w, two * row.z)
      for column in columns {
        let m = mixed * column
        pixels[i] = level + ((m.x + m.y) + (m.z + m.w))
        i += 1
      }
    }
    for plane in 1..<3 * canvas.frames {
      let to = start + plane * planeCount
      for i in 0..<planeCount { pixels[to + i] = pixels[start + i] }
    }
  }

  private func draw(_ object: ShapeObject, into pixels: inout MutableSpan<Float>, at start: Int) {
    var coverage = CoverageMask()
    var drawn: ShapeObject.Pose?
    for t in 0..<canvas.frames {
      let pose = object.pose(at: Double(t) / Double(canvas.frames - 1))
      if pose != drawn {
        let middle = SIMD2(Double(canvas.width), Double(canvas.height)) / 2
        coverage.draw(
          object.shape, centre: middle + pose.centre * canvas.scale,
          radius: pose.radius * canvas.scale, angle: pose.angle, blend: object.blend,
          height: canvas.height, width: canvas.width)
        drawn = pose
      }
      for channel in 0..<3 {
        let colour = object.rgb[channel]
        let base = start + t * frameCount + channel * planeCount
        var k = 0
        for y in coverage.rows {
          for i in base + y * canvas.width + coverage.columns.lowerBound..<base + y * canvas.width
            + coverage.columns.upperBound
          {
            let alpha = coverage.values[k]
            pixels[i] = pixels[i] * (1 - alpha) + colour * alpha
            k += 1
          }
        }
      }
    }
  }
}
