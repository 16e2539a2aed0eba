@testable import Files
import Testing

/// Limits of control groups on trees of files that look as the kernel's do (cgroups(7), proc(5)).
@Suite struct ControlGroupTests {
  private let folder = TemporaryFolder()
  private func write(_ files: [String: String]) throws -> String {
    for (path, text) in files {
      let full = "\(folder.path)/\(path)"
      try createFolder(full.split(separator: "/").dropLast().reduce("") { "\($0)/\($1)" })
      try OutputFile.write(text + "\n", to: full)
    }
    return folder.path
  }
  private static let v2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
  private static let v1 = """
    31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup cgroup rw,cpu,cpuacct
    32 30 0:28 / /sys/fs/cgroup/memory rw shared:10 master:2 - cgroup cgroup rw,memory
    """

  /// The kernel pads kilobytes to eight places, so that no space is left from 10 GB on.
  @Test func sizesOfAProcess() throws {
    let root = try write(["status": "Name:\tpisces\nVmHWM:\t   12345 kB\nVmRSS:\t22963012 kB"])
    #expect(ProcessMemory.value("VmHWM:", in: "\(root)/status") == 12345 << 10)
    #expect(ProcessMemory.value("VmRSS:", in: "\(root)/status") == 22_963_012 << 10)
    #expect(ProcessMemory.value("VmSize:", in: "\(root)/status") == 0)
  }

  /// Every level up to the root counts, and the smallest of them.
  @Test(arguments: [
    (["100000 100000", "400000 100000", "max 100000"], 1),
    (["max 100000", "250000 100000", "300000 100000"], 2),
    (["50000 100000", "max 100000", "max"], 1),
  ])
  func nestedQuotas(_ levels: [String], _ expected: Int) throws {
    let root = try write([
      "proc/self/cgroup": "0::/slurm/job/step", "proc/self/mountinfo": Self.v2,
      "sys/fs/cgroup/slurm/job/step/cpu.max": levels[0],
      "sys/fs/cgroup/slurm/job/cpu.max": levels[1],
      "sys/fs/cgroup/slurm/cpu.max": levels[2],
    ])
    #expect(ControlGroup(root: root).processors == expected)
  }
  @Test func noQuota() throws {
    let root = try write([
      "proc/self/cgroup": "0::/a", "proc/self/mountinfo": Self.v2,
      "sys/fs/cgroup/a/cpu.max": "max 100000", "sys/fs/cgroup/cpu.max": "max 100000",
    ])
    #expect(ControlGroup(root: root).processors == nil)
    #expect(ControlGroup(root: "\(folder.path)/nothing").processors == nil)
  }
  @Test func versionOne() throws {
    let root = try write([
      "proc/self/cgroup": "5:cpu,cpuacct:/user/job\n4:memory:/user/job\n0::/other",
      "proc/self/mountinfo": Self.v1, "sys/fs/cgroup/cpu,cpuacct/user/job/cpu.cfs_quota_us": "-1",
      "sys/fs/cgroup/cpu,cpuacct/user/job/cpu.cfs_period_us": "100000",
      "sys/fs/cgroup/cpu,cpuacct/user/cpu.cfs_quota_us": "350000",
      "sys/fs/cgroup/cpu,cpuacct/user/cpu.cfs_period_us": "100000",
      "sys/fs/cgroup/memory/user/job/memory.limit_in_bytes": "9000",
      "sys/fs/cgroup/memory/user/job/memory.usage_in_bytes": "4000",
      "sys/fs/cgroup/memory/user/job/memory.stat": "cache 1\ntotal_inactive_file 1000",
    ])
    #expect(
      ControlGroup(root: root).processors == 3 && ControlGroup(root: root).availableBytes == 6000)
  }
  /// Without a limit the limit is the largest number of whole pages. Files that are read while the
  /// numbers are may make unused pages more than all.
  @Test(arguments: [("400", 600), ("4000", 0), ("-1", 1000), ("9223372036854775807", 0)])
  func numbersOfDifferentMoments(_ unused: String, _ taken: Int) throws {
    let root = try write([
      "proc/self/cgroup": "4:memory:/user/job", "proc/self/mountinfo": Self.v1,
      "proc/meminfo": "MemAvailable: 50 kB",
      "sys/fs/cgroup/memory/user/job/memory.limit_in_bytes": "9223372036854771712",
      "sys/fs/cgroup/memory/user/job/memory.usage_in_bytes": "1000",
      "sys/fs/cgroup/memory/user/job/memory.stat": "total_inactive_file \(unused)",
    ])
    #expect(ControlGroup(root: root).availableBytes == 9_223_372_036_854_771_712 - taken)
    #expect(FreeMemory.bytes(root: root) == 50 << 10)
  }
  /// In a container the mount shows a part of the tree only: paths are told from the host's root,
  /// or lead out of it.
  @Test func partOfTheTree() throws {
    let mount = "30 23 0:26 /docker/x /sys/fs/cgroup rw - cgroup2 cgroup2 rw"
    let root = try write([
      "proc/self/cgroup": "0::/docker/x/inner", "proc/self/mountinfo": mount,
      "sys/fs/cgroup/inner/cpu.max": "200000 100000", "sys/fs/cgroup/cpu.max": "max 100000",
    ])
    #expect(ControlGroup(root: root).processors == 2)
    let outside = try write([
      "proc/self/cgroup": "0::/../../job", "sys/fs/cgroup/cpu.max": "300000 100000",
    ])
    #expect(ControlGroup(root: outside).processors == 3)
  }
  @Test func memoryOfEveryLevel() throws {
    let root = try write([
      "proc/self/cgroup": "0::/a/b", "proc/self/mountinfo": Self.v2,
      "proc/meminfo": "MemTotal: 100 kB\nMemAvailable:       50 kB",
      "sys/fs/cgroup/a/b/memory.max": "max",
      "sys/fs/cgroup/a/memory.max": "30000", "sys/fs/cgroup/a/memory.current": "20000",
      "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 500",
    ])
    #expect(
      ControlGroup(root: root).availableBytes == 10500 && FreeMemory.bytes(root: root) == 10500)
    let roomy = try write(["sys/fs/cgroup/a/memory.max": "max"])
    #expect(FreeMemory.bytes(root: roomy) == 50 << 10)
  }
}
