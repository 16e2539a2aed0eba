internal import Glibc

/// The control groups of this process, from its own up to the root of what is mounted. Every level
/// may set a limit, and the smallest counts (cgroups(7)).
public struct ControlGroup: Sendable {
  /// Folders of the levels, innermost first; in version 1 for each controller.
  private let unified: [String], processor: [String], memory: [String]

  /// `root` replaces `/` in tests.
  public init(root: String = "") {
    let groups = Self.lines("\(root)/proc/self/cgroup").map {
      $0.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false).map(String.init)
    }
    let mounts = Self.lines("\(root)/proc/self/mountinfo").compactMap { Mount($0) }
    func levels(_ isMounted: (Mount) -> Bool, _ isGroup: ([String]) -> Bool) -> [String] {
      guard let mount = mounts.first(where: isMounted) else { return [] }
      let group = groups.first { $0.count == 3 && isGroup($0) }?[2] ?? "/"
      return mount.levels(of: group).map { root + $0 }
    }
    func controller(_ name: String) -> [String] {
      levels(
        { $0.type == "cgroup" && $0.options.contains(name) },
        { $0[1].split(separator: ",").contains(Substring(name)) })
    }
    unified = levels({ $0.type == "cgroup2" }, { $0[1].isEmpty })
    (processor, memory) = (controller("cpu"), controller("memory"))
  }

  /// The number of whole processors within the smallest quota, at least 1; nil without a quota.
  public var processors: Int? {
    let new = unified.compactMap { folder -> Double? in
      let words = Self.words("\(folder)/cpu.max")
      return words.count == 2 ? Self.ratio(words[0], words[1]) : nil
    }
    let old = processor.compactMap { folder -> Double? in
      guard let quota = Self.words("\(folder)/cpu.cfs_quota_us").first,
        let period = Self.words("\(folder)/cpu.cfs_period_us").first
      else { return nil }
      return Self.ratio(quota, period)
    }
    return (new + old).min().map { max(1, Int($0)) }
  }
  private static func ratio(_ quota: String, _ period: String) -> Double? {
    guard let q = Double(quota), let p = Double(period), q > 0, p > 0, q / p < 1e6 else {
      return nil
    }
    return q / p
  }

  /// Bytes left at the tightest level. Unused pages of files count as taken there, but the system
  /// gives them up, so they count as free here. The files are not of the same moment: more pages
  /// may be unused than were taken, and where there is no limit, the limit is nearly `Int.max`.
  public var availableBytes: Int? {
    func left(_ folder: String, _ limit: String, _ usage: String, _ inactive: String) -> Int? {
      guard let most = Self.words("\(folder)/\(limit)").first.flatMap({ Int($0) }),
        let used = Self.words("\(folder)/\(usage)").first.flatMap({ Int($0) }),
        most >= 0, used >= 0
      else { return nil }
      let unused = Self.value(after: inactive, in: Self.words("\(folder)/memory.stat")) ?? 0
      return most - max(0, used - max(0, unused))
    }
    let new = unified.compactMap { left($0, "memory.max", "memory.current", "inactive_file") }
    let old = memory.compactMap {
      left($0, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    }
    return (new + old).min()
  }

  static func value(after name: String, in words: [String]) -> Int? {
    words.firstIndex(of: name).flatMap { $0 + 1 < words.count ? Int(words[$0 + 1]) : nil }
  }
  static func lines(_ path: String) -> [String] {
    (TextFile.system(path) ?? "").split(separator: "\n").map(String.init)
  }
  static func words(_ path: String) -> [String] {
    (TextFile.system(path) ?? "").split(whereSeparator: \.isWhitespace).map(String.init)
  }

  /// A line of mountinfo: which part of a file system is mounted where.
  private struct Mount {
    let root, place, type: String, options: [String]

    init?(_ line: String) {
      let words = line.split(separator: " ").map(String.init)
      guard words.count > 6, let dash = words.firstIndex(of: "-"), words.count > dash + 3 else {
        return nil
      }
      (root, place, type) = (words[3], words[4].replacing("\\040", with: " "), words[dash + 1])
      options = words[dash + 3].split(separator: ",").map(String.init)
    }
    /// Folders of `group` and all its parents that are mounted, innermost first. A group outside
    /// the mounted part (in another namespace, `/../..`) is known only by the mount itself.
    func levels(of group: String) -> [String] {
      let inside =
        root == "/"
        ? group
        : group == root
          ? "/" : group.hasPrefix(root + "/") ? String(group.dropFirst(root.count)) : "/"
      var parts = inside.split(separator: "/").map(String.init)
      if parts.contains("..") { parts = [] }
      return (0...parts.count).reversed().map {
        ([place] + parts.prefix($0)).joined(separator: "/")
      }
    }
  }
}

/// The memory that a process may still take.
public enum FreeMemory {
  /// In bytes: the smallest of what the system has and what the control groups leave; nil if
  /// neither is known.
  public static func bytes(root: String = "") -> Int? {
    let system = ControlGroup.value(
      after: "MemAvailable:", in: ControlGroup.words("\(root)/proc/meminfo")
    ).map { $0 << 10 }
    return [system, ControlGroup(root: root).availableBytes, addressSpace].compactMap { $0 }.min()
  }
  /// Bytes left by `ulimit -v`; nil without such a limit.
  private static var addressSpace: Int? {
    var limit = rlimit()
    guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit) == 0,
      limit.rlim_cur != rlim_t.max, let most = Int(exactly: limit.rlim_cur)
    else { return nil }
    return max(0, most - ProcessMemory.value("VmSize:", in: ProcessMemory.status))
  }
}
