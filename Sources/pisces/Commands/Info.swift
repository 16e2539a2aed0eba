import ArgumentParser
import TensorRuntime

struct Info: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "CPU features, kernels chosen, libraries; with a path: a summary of that checkpoint.")
  @OptionGroup var common: CommonOptions
  func run() async throws { try common.start() }
}
