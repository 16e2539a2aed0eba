internal import FoundationEssentials

/// What the launcher of this process says in the environment: how many processes it has started,
/// and with what.
struct Launcher: Equatable {
  let name: String
  let size: Int
  /// The number of this process, as the launcher counts.
  let rank: Int
  /// How to leave every rank all the processors of its host.
  let unbinding: String

  /// Whether Open MPI's library is the likelier one. srun says by what it offers: PMIx, or PMI.
  let isOfOpenMPI: Bool

  /// nil if nothing says that there is more than one process.
  init?(_ environment: [String: String] = ProcessInfo.processInfo.environment) {
    isOfOpenMPI =
      environment["OMPI_COMM_WORLD_SIZE"] != nil || environment["PMIX_RANK"] != nil
      || environment["PMI_SIZE"] == nil
    func number(_ name: String) -> Int? { environment[name].flatMap { Int($0) } }
    rank = number("OMPI_COMM_WORLD_RANK") ?? number("SLURM_PROCID") ?? number("PMI_RANK") ?? 0
    if let n = number("OMPI_COMM_WORLD_SIZE"), n > 1 {
      (name, size, unbinding) = ("mpirun of Open MPI", n, "mpirun --bind-to none")
    } else if let n = number("SLURM_STEP_NUM_TASKS") ?? number("SLURM_NTASKS"), n > 1,
      environment["SLURM_STEP_ID"] != nil, environment["SLURM_PROCID"] != nil
    {
      (name, size, unbinding) = ("srun", n, "srun --cpus-per-task=N --cpu-bind=cores")
    } else if let n = number("PMI_SIZE") ?? number("MPI_LOCALNRANKS"), n > 1 {
      (name, size, unbinding) = ("mpiexec of MPICH", n, "mpiexec -bind-to none")
    } else {
      return nil
    }
  }
}
