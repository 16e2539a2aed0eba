import Files
import FoundationEssentials
import TensorRuntime

/// Where and with what a run happened, for `environment.json` and bug reports.
enum Environment {
  static var json: JSONValue {
    var o = JSONObject()
    o["version"] = .string(Version.text)
    o["command"] = .array(CommandLine.arguments.map { .string($0) })
    o["threads"] = .integer(Machine.threads)
    o["isa"] = .string(Machine.current.rawValue)
    o["isa_detected"] = .string(Machine.detected.rawValue)
    o["blis"] = .string(Machine.blisVersion)
    o["blis_kernels"] = .string(Machine.blisKernels)
    o["cpu"] = .string(cpuModel)
    return .object(o)
  }
  static var cpuModel: String {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
    return line?.split(separator: ":").last.map { String($0.drop { $0 == " " }) } ?? "unknown"
  }
}
