import Files
import TensorRuntime
import TestSupport
import Testing

/// The program as a user meets it: exit statuses and one-line errors (interfaces.md 1).
@Suite struct UsageTests {
  @Test func versionAndHelp() async throws {
    let version = try await ProgramRun.pisces("--version")
    #expect(version.status == 0 && version.lines.count == 1)
    let help = try await ProgramRun.pisces("--help")
    #expect(help.status == 0 && help.output.contains("Exit status"))
  }
  @Test(arguments: [
    ["nonsense"], ["train", "vae", "--no-such-flag"], ["info", "--threads", "0"],
    ["train", "vae", "--run", "a", "--resume", "b"],
  ])
  func wrongUsageIs64(_ arguments: [String]) async throws {
    let run = try await ProgramRun(ProgramRun.program, arguments)
    #expect(run.status == 64, "\(run.error)")
    #expect(run.output.isEmpty)
    #expect(
      run.errorLines.last?.hasPrefix("pisces: error: ") == true && run.errorLines.count <= 2,
      "\(run.error)")
  }
  /// Variables of OpenMP as GNU's nproc reads them: digits behind blanks, of a list the first;
  /// anything else is ignored, and nothing of it stops the program (LLVM's runtime does, where it
  /// reads an empty one).
  @Test(arguments: [
    ("", nil), (" ", nil), ("-3", nil), ("99999999999999999999", nil), ("2147483648", nil),
    ("abc", nil), ("1x", nil), ("0", nil), ("+1", nil), ("1;2", nil), (" 1", 1), ("1 ", 1),
    ("1 , 2", 1),
    ("1,", 1), ("1,x", 1), ("01", 1), ("\t1", 1), (",1", nil), ("1.0", nil),
  ])
  func threadVariables(_ text: String, _ expected: Int?) async throws {
    for name in ["OMP_NUM_THREADS", "OMP_THREAD_LIMIT"]
    where name == "OMP_NUM_THREADS" || !text.contains(",") {
      let run = try await ProgramRun.pisces("info", "--json", environment: [name: text])
      #expect(run.status == 0 && run.errorLines.count == 1, "\(name)='\(text)': \(run.error)")
      let line = try JSONValue(parsing: run.output, name: "info")
      let others = try await ProgramRun.pisces("info", "--json", environment: [name: nil])
      let free = try JSONValue(parsing: others.output, name: "info")["threads"]?.integer
      #expect(line["threads"]?.integer == (expected ?? free), "\(name)='\(text)'")
    }
  }
  /// What the machine has no memory for is refused with one line before anything is taken (status
  /// 1).
  @Test(arguments: [
    [
      "sample", "--model", "embedded:generator", "--prompt", "x", "--output", "/tmp/none.gif",
      "--height", "16384", "--width", "16384", "--frames", "4093",
    ],
    [
      "evaluate", "--model", "embedded:generator", "--height", "8192", "--width", "16384",
      "--frames", "1025",
    ],
    [
      "train", "vae", "--run", "/tmp/none", "--set",
      "model.block_out_channels=[65536, 65536, 65536, 65536]",
    ],
    [
      "train", "ot-map", "--reward", "embedded:reward", "--run", "/tmp/none", "--set",
      "pairs=100000000", "--set", "batch=1000000",
    ],
    [
      "train", "post", "--model", "embedded:generator", "--reward", "embedded:reward", "--run",
      "/tmp/none", "--set", "batch=1000000",
    ],
    [
      "train", "post", "--model", "embedded:generator", "--reward", "embedded:reward", "--run",
      "/tmp/none", "--objective", "grpo", "--set", "grpo.generations=65536", "--set",
      "grpo.chunk=65536",
    ],
    [
      "train", "post", "--model", "embedded:generator", "--reward", "embedded:reward", "--run",
      "/tmp/none", "--objective", "grpo", "--set", "grpo.generations=65536", "--set",
      "grpo.prompts=65536",
    ],
    ["train", "encoders", "--run", "/tmp/none", "--set", "batch=1000000"],
  ])
  func moreThanTheMemory(_ arguments: [String]) async throws {
    let scratch = try ScratchFolder()
    let none = scratch("none")
    let own = arguments.map { $0.hasPrefix("/tmp/none") ? none + $0.dropFirst(9) : $0 }
    let run = try await ProgramRun(ProgramRun.program, own + ["--quiet"])
    #expect(
      run.status == 1 && run.errorLines.count == 1 && run.error.contains("of memory are needed"),
      "\(run.status) \(run.error)")
    #expect(!FileTree.exists(none) && !FileTree.exists("\(none).gif"))
  }
  /// A limit on the address space (`ulimit -v`) counts, too.
  @Test func lessAddressSpaceThanMemory() async throws {
    let sample =
      """
      sample --model embedded:generator --prompt x --output /tmp/none.gif --height 2048 --width \
      2048 --frames 9 --quiet
      """
    let run = try await ProgramRun(
      "/bin/sh", ["-c", "ulimit -v 3000000; exec \"$0\" \(sample)", ProgramRun.program])
    #expect(
      run.status == 1 && run.errorLines.count == 1 && run.error.contains("of memory"),
      "\(run.status) \(run.error)")
  }
  /// Samples that are not finite are an error, never a clip.
  @Test func samplesThatAreNotFinite() async throws {
    let models = try await TinyModels()
    let broken = models.folder("broken")
    let weights = "\(broken)/transformer/diffusion_pytorch_model.safetensors"
    try FileTree.copy(models.generator, to: broken)
    // A bias near the largest f32 makes latents that overflow.
    let file = try SafetensorsFile(weights)
    let tensors = try file.names.map { name -> (name: String, tensor: Tensor) in
      let t = try file.tensor(named: name)
      return (
        name,
        name == "proj_out.bias"
          ? Tensor(Array(repeating: Float(3e38), count: t.count), t.shape) : Workspace().copy(t)
      )
    }
    try SafetensorsWriter.write(tensors, to: weights)
    let size = ["--height", "16", "--width", "16", "--frames", "9", "--steps", "4", "--quiet"]
    for command in [
      ["sample", "--model", broken, "--prompt", "x", "--output", models.folder("x.npy")],
      ["evaluate", "--model", broken, "--prompts", "2"],
    ] {
      let run = try await ProgramRun(ProgramRun.program, command + size)
      #expect(
        run.status == 3 && run.errorLines.count == 1 && run.error.contains("not finite"),
        "\(run.status) \(run.error)")
    }
    #expect(!FileTree.exists(models.folder("x.npy")))
  }
  @Test func unknownInstructionSetIs64() async throws {
    let run = try await ProgramRun.pisces("info", environment: ["PISCES_ISA": "mmx"])
    #expect(run.status == 64 && run.error.contains("PISCES_ISA"), "\(run.error)")
  }
}
