import Files
import TensorRuntime
import TestSupport
import Testing

/// `convert`, `info` and `doctor` on VideoCrafter2's family, as a script calls them.
@Suite struct ShortVideoCommandTests {
  private func objects(_ run: ProgramRun) throws -> [JSONValue] {
    try run.lines.map { try JSONValue(parsing: $0, name: "output") }
  }
  private func convert(_ folder: ScratchFolder, _ arguments: String...) async throws -> ProgramRun {
    try await ProgramRun(ProgramRun.program, ["convert"] + arguments + ["--quiet"])
  }

  @Test func fromCheckpointToDoctor() async throws {
    let folder = try ScratchFolder()
    try GoldenCheckpoint.write(to: folder("model.safetensors"))
    try OutputFile.write(GoldenCheckpoint.sizes, to: folder("sizes.json"))
    let run = try await convert(
      folder, "--input", folder("model.safetensors"), "--output", folder("out"), "--config",
      folder("sizes.json"), "--json")
    #expect(run.status == 0, "\(run.error)")
    #expect(try objects(run)[0]["kind"] == "videocrafter2")

    let info = try objects(try await ProgramRun.pisces("info", folder("out"), "--json"))
    #expect(
      info.map { $0["kind"]?.string } == ["videocrafter-unet", "image-vae", "openclip-text"])
    let original = try objects(
      try await ProgramRun.pisces("info", folder("model.safetensors"), "--json"))
    #expect(original[0]["kind"] == "videocrafter2-original")

    let doctor = try await ProgramRun.pisces("doctor", folder("out"), "--json")
    let models = try objects(doctor).filter {
      $0["check"]?.string?.contains(folder("out")) == true
    }
    #expect(models.count == 6 && models.allSatisfy { $0["ok"] == true }, "\(doctor.output)")

    // A surplus tensor, a missing one and NaN are found.
    let file = folder("out/vae/diffusion_pytorch_model.safetensors")
    let stored = try SafetensorsFile(file)
    let tensors = try stored.names.map { (name: $0, tensor: try stored.tensor(named: $0)) }
    try SafetensorsWriter.write(tensors + [("surplus", .ones(Shape(2)))], to: file)
    let surplus = try await ProgramRun.pisces("doctor", folder("out/vae"))
    #expect(surplus.status == 1 && surplus.output.contains("surplus"), "\(surplus.output)")
    try SafetensorsWriter.write(Array(tensors.dropLast()), to: file)
    let missing = try await ProgramRun.pisces("doctor", folder("out"))
    #expect(
      missing.status == 65 && missing.error.contains(tensors.last!.name), "\(missing.error)")
    let broken = tensors.enumerated().map { i, x in
      (name: x.name, tensor: i == 0 ? .full(x.tensor.shape, .nan) : x.tensor)
    }
    try SafetensorsWriter.write(broken, to: file)
    let diverged = try await ProgramRun.pisces("doctor", folder("out/vae"))
    #expect(diverged.status == 65 && diverged.error.contains("not finite"), "\(diverged.error)")
  }
  @Test func wrongFamilies() async throws {
    let folder = try ScratchFolder()
    try GoldenCheckpoint.write(to: folder("model.safetensors"))
    let run = try await convert(
      folder, "--input", folder("model.safetensors"), "--output", folder("out"), "--kind",
      "hunyuan-transformer")
    #expect(run.status == 65 && run.errorLines.count == 1, "\(run.error)")
    let other = try await convert(
      folder, "--input", "embedded:generator/transformer", "--output", folder("out"), "--kind",
      "videocrafter2")
    #expect(other.status == 65 && other.errorLines.count == 1, "\(other.error)")
    let base = try await convert(
      folder, "--input", "embedded:generator/transformer", "--output", folder("out"), "--base",
      "embedded:generator")
    #expect(base.status == 65 && base.errorLines.count == 1, "\(base.error)")
    // The original checkpoint is no model to run.
    let doctor = try await ProgramRun.pisces("doctor", folder("model.safetensors"))
    #expect(doctor.status == 1 && doctor.output.contains("FAIL videocrafter2-original"))
  }
}

/// model.ckpt in miniature, put together from the reference cases of the three networks.
private enum GoldenCheckpoint {
  static let sizes = """
    {"unet": {"num_head_channels": 3, "init_attn_heads": 3, "norm_num_groups": 3},
     "vae": {"norm_num_groups": 2}, "text_encoder": {"heads": 2}}
    """
  static func write(to path: String) throws {
    var all: [(name: String, tensor: Tensor)] = []
    for (golden, prefix) in [
      ("videocrafter.unet-small", "model.diffusion_model."),
      ("videocrafter.vae_encode-small", "first_stage_model."),
      ("videocrafter.vae_decode-small", "first_stage_model."),
      ("openclip.text-two-layers", "cond_stage_model.model."),
    ] {
      let file = try SafetensorsFile(
        "\(repository)/Tests/Golden/\(golden)/tensors.safetensors")
      for name in file.names where name.hasPrefix("weight.") {
        let own = prefix + name.dropFirst("weight.".count)
        if !all.contains(where: { $0.name == own }) {
          all.append((own, try file.tensor(named: name)))
        }
      }
    }
    try SafetensorsWriter.write(all, to: path)
  }
}
