import ArgumentParser
import Cluster
import Files
import FoundationEssentials
import TensorRuntime

/// Options of every command, and what they set up before any work.
struct CommonOptions: ParsableArguments {
  @Option(
    in: .whole(1...4096),
    help:
      """
      Threads; default: the smallest of affinity mask, cgroup quota, SLURM_CPUS_PER_TASK, \
      OMP_NUM_THREADS.
      """
  ) var threads: Int?
  @Flag(help: "No progress on standard error.") var quiet = false

  /// Sets threads and instruction set, and prints them unless `--quiet`. `isPart`: each of several
  /// processes has a part of its own.
  func start(isPart: Bool = false) throws {
    if let name = ProcessInfo.processInfo.environment["PISCES_ISA"], !name.isEmpty {
      guard let isa = Machine.InstructionSet(rawValue: name.lowercased()) else {
        throw Failure.Message(
          64, "unknown instruction set \(name)", "PISCES_ISA", "use scalar, avx2 or avx512")
      }
      Machine.limit(to: isa)
    }
    MemoryBudget.install()
    let budget = ThreadBudget(requested: threads)
    Machine.threads = budget.count
    note(
      """
      \(budget.count) thread\(budget.count == 1 ? "" : "s") (from \(budget.origin)), \
      \(Machine.current.rawValue) kernels
      """
    )
    if !isPart, let copies = Cluster.idleCopies {
      note(
        """
        warning: a launcher has started \(copies) processes of a command that works in one: each \
        of them does all of it
        """)
    }
  }
  /// The same for a command whose work several ranks share: joins the others first.
  func startRanks() throws {
    try Cluster.start()
    try start()
    try ClusterStart.agree(self)
  }
  /// Sets the type if it is faster on this processor. Prints a line if it is not.
  func use(_ type: Machine.ComputeType) {
    let (taken, rate) = ClusterStart.common(Machine.prefer(type))
    if taken != type {
      note(
        "products are f32: this processor "
          + (rate.map { "multiplies bf16 at \(Double(Int(100 * $0)) / 100) of the rate of f32" }
            ?? "does not multiply bf16"))
    }
  }
  /// Sets the type of operands of products. `bf16` is taken even where it is slow.
  func use(_ choice: ComputeChoice) {
    switch choice {
    case .f32: Machine.computeType = .f32
    case .auto: use(Machine.ComputeType.bf16)
    case .bf16:
      Machine.computeType = .bf16
      if Machine.computeType != .bf16 {
        note("products are f32: this processor does not multiply bf16")
      }
    }
  }
  /// Reports each caption that is longer than the model reads, once.
  func noteCut(_ captions: [String], _ truncation: (String) -> String?) {
    for caption in captions {
      if let cut = truncation(caption) {
        note("\(cut): it begins \(JSONValue.string(String(caption.prefix(60))).line)")
      }
    }
  }
  /// Of several ranks only the first speaks.
  func note(_ line: String) {
    if !quiet && Cluster.current.isFirst { StandardStreams.error("pisces: \(line)") }
  }
}
