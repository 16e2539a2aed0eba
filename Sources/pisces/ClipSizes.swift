import Files
import Models

// What a model's configuration requires of the clips it is given (status 64).

extension ClipGeometry {
  /// `patch`: by what latent frames, rows and columns of a generator must be divisible.
  func check(frames: Int, height: Int, width: Int, patch: SIMD3<Int> = SIMD3(1, 1, 1)) throws {
    let t = temporalCompressionRatio
    let s = spatialCompressionRatio
    func fail(_ value: String, _ place: String, _ rule: String, nearest: Int) -> ConfigurationError
    {
      ConfigurationError(
        "\(value) do not suit the model", place, "give \(rule) (nearest: \(nearest))")
    }
    if (frames - 1) % t != 0 || ((frames - 1) / t + 1) % patch.x != 0 {
      // 1 + t (k p - 1) frames give k p latent frames.
      let k = max(1, ((frames - 1) / t + 1) / patch.x)
      let rule =
        patch.x == 1 ? "1 + a multiple of \(t)" : "1 + \(t) x (a multiple of \(patch.x) - 1)"
      throw fail("\(frames) frames", "--frames", rule, nearest: 1 + t * (k * patch.x - 1))
    }
    for (name, extent, step) in [("height", height, s * patch.y), ("width", width, s * patch.z)]
    where extent % step != 0 {
      throw fail(
        "\(extent) pixels of \(name)", "--\(name) or --size", "a multiple of \(step)",
        nearest: max(step, extent / step * step))
    }
  }
}

extension VideoEncoderConfig {
  func check(frames: Int, named name: String = "--frames") throws {
    if frames % tubeletSize != 0 {
      throw ConfigurationError(
        "\(frames) frames do not suit the model", name,
        """
        give a multiple of tubelet_size \(tubeletSize) (nearest: \
        \(max(tubeletSize, frames / tubeletSize * tubeletSize)))
        """
      )
    }
  }
}
