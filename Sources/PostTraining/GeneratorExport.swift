import Layers
import Models
import Pipelines
import TensorRuntime

/// What both objectives export: adapters in PEFT's layout under `lora/`, and a whole generator
/// directory with the adapters merged.
enum GeneratorExport {
  static func write(
    _ student: some VideoDenoiser, _ settings: PostSettings, to folder: String,
    _ components: (String) throws -> Void
  ) throws {
    let work = Workspace()
    var merged = student
    if settings.lora.enabled {
      try LoraFolder.write(
        student, rank: settings.lora.rank, alpha: settings.lora.alpha,
        targets: settings.lora.targets, step: settings.steps, to: "\(folder)/lora")
      merged.mergeAdapters(in: work)
    }
    try GeneratorFolder.write(merged, to: folder)
    try components(folder)
  }
}
