import Files
import Models
import TensorRuntime
import TestSupport

#if canImport(Glibc)
  import Glibc
#endif

/// Collects the iteration counts of token plans, layer by layer.
final class PlanRecorder {
  var iterations: [[Int]] = []
  func tensor(heads: Int) -> Tensor {
    let all = iterations.flatMap { $0 }
    return Tensor(all.map { Int32($0) }, Shape(all.count / heads, heads))
  }
}
extension Tiling {
  init?(_ json: JSONValue?) throws {
    guard let json, let style = json["style"]?.string else { return nil }
    func n(_ key: String) -> Int { json[key]?.integer ?? 0 }
    if style == "original" {
      self = .original(size: n("sample_min_size"), frames: n("sample_min_tsize"))
    } else {
      self = .diffusers(
        spatial: json["spatial"]?.bool ?? true,
        extent: SIMD3(n("sample_min_num_frames"), n("sample_min_height"), n("sample_min_width")),
        stride: SIMD3(
          n("sample_stride_num_frames"), n("sample_stride_height"), n("sample_stride_width")))
    }
  }
}
