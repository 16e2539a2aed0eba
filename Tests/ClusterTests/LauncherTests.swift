import TensorRuntime
import Testing

@testable import Cluster

@Suite struct LauncherTests {
  @Test func launchersAreTold() {
    #expect(Launcher([:]) == nil)
    #expect(Launcher(["OMPI_COMM_WORLD_SIZE": "1"]) == nil)
    // Inside a job but not inside a step, and a step of one task.
    #expect(Launcher(["SLURM_NTASKS": "4", "SLURM_JOB_ID": "7"]) == nil)
    let step = ["SLURM_STEP_ID": "0", "SLURM_PROCID": "0"]
    #expect(Launcher(step.merging(["SLURM_STEP_NUM_TASKS": "1"]) { $1 }) == nil)

    let open = Launcher(["OMPI_COMM_WORLD_SIZE": "3", "PMIX_RANK": "1"])
    #expect(open?.size == 3 && open?.rank == 0 && open?.isOfOpenMPI == true)
    let mpich = Launcher(["PMI_SIZE": "2", "PMI_RANK": "1", "OMPI_ALLOW_RUN_AS_ROOT": "1"])
    #expect(mpich?.size == 2 && mpich?.rank == 1 && mpich?.isOfOpenMPI == false)
    let slurm = Launcher(step.merging(["SLURM_STEP_NUM_TASKS": "4", "PMIX_RANK": "0"]) { $1 })
    #expect(slurm?.size == 4 && slurm?.isOfOpenMPI == true)
    let pmi2 = Launcher(step.merging(["SLURM_STEP_NUM_TASKS": "4", "PMI_SIZE": "4"]) { $1 })
    #expect(pmi2?.size == 4 && pmi2?.isOfOpenMPI == false)
  }
  /// One process is a cluster whose calls return at once.
  @Test func oneProcess() throws {
    let one = Cluster.current
    #expect(one.rank == 0 && one.size == 1 && one.isFirst && one.localSize == 1)
    #expect(try one.gather([7, 8] as [UInt64]) == [[7, 8]])
    #expect(try one.gather(bytes: [1, 2]) == [[1, 2]])
    #expect(try one.gather([0.5], counts: [1]) == [[0.5]])
    #expect(try one.broadcast([3]) == [3])
    try one.barrier()
    one.end()
  }
}
