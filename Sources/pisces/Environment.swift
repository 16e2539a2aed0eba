import Cluster
import Files
import FoundationEssentials
import TensorRuntime

/// The machine and program of a run, for `environment.json` and bug reports.
enum Environment {
  static var json: JSONValue {
    var o = JSONObject()
    o["version"] = .string(Version.text)
    o["commit"] = Machine.commit.map { .string($0) } ?? .null
    o["command"] = .array(CommandLine.arguments.map { .string($0) })
    o["threads"] = .integer(Machine.threads)
    o["isa"] = .string(Machine.current.rawValue)
    o["compute_dtype"] = .string(Machine.computeType.rawValue)
    o["isa_detected"] = .string(Machine.detected.rawValue)
    o["cpu"] = .string(cpuModel)
    if Cluster.current.size > 1 {
      o["mpi"] = .string(Cluster.current.library)
      o["hosts"] = .array(Cluster.current.hosts.map { .string($0) })
    }
    return .object(o)
  }
  /// What a measurement says of its origin, behind its own fields.
  static var origin: [(String, JSONValue)] {
    [
      ("version", .string(Version.text)), ("commit", Machine.commit.map { .string($0) } ?? .null),
      ("cpu", .string(cpuModel)), ("date", .string(Date.now.ISO8601Format())),
    ]
  }
  static var cpuModel: String { field("model name") ?? "unknown" }
  /// The processor features that matter to the kernels, of those that the system reports.
  static var cpuFeatures: [String] {
    let known = [
      "sse4_2", "avx", "f16c", "fma", "avx2", "avx_vnni", "avx512f", "avx512bw", "avx512dq",
      "avx512vl", "avx512_bf16", "avx512_vnni", "avx512_fp16", "amx_bf16", "amx_int8",
    ]
    let present = Set((field("flags") ?? "").split(separator: " ").map(String.init))
    return known.filter { present.contains($0) }
  }
  private static func field(_ name: String) -> String? {
    let line = (TextFile.system("/proc/cpuinfo") ?? "").split(separator: "\n").first {
      $0.hasPrefix(name)
    }
    return line?.split(separator: ":", maxSplits: 1).last.map { String($0.drop { $0 == " " }) }
  }
  /// Whether the build is not optimised. Such a build is for debugging, and its times mean nothing.
  static var isDebugBuild: Bool {
    #if DEBUG
      true
    #else
      false
    #endif
  }
}
