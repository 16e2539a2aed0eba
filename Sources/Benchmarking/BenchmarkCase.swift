public import Files
public import TensorRuntime

/// One prepared case: its inputs exist, but nothing has been timed.
public struct BenchmarkCase {
  /// Operations of one run, as the plain algorithm counts them; nil if a count has no meaning.
  public struct Work: Sendable {
    public var flops, bytes, exponentials: Double?
    public init(flops: Double? = nil, bytes: Double? = nil, exponentials: Double? = nil) {
      (self.flops, self.bytes, self.exponentials) = (flops, bytes, exponentials)
    }
  }
  public let bench: String
  /// The fields that identify the case, in the order in which they are shown.
  public let sizes: JSONObject
  public let work: Work
  /// Whether the result agrees with the reference.
  public let verify: () async throws -> Bool
  public let run: () async throws -> Void
  /// Mean seconds and peak tensor bytes of the parts of a run, for those that have parts.
  public let phases: (() -> [(name: String, seconds: Double, peakBytes: Int)])?
  /// Resident bytes expected at the peak, known before the first run.
  public let predict: (() -> Int?)?
  /// Whether operations are counted while they are done (`OperationCount`) instead of given by
  /// `work`.
  public let countsOperations: Bool

  public init(
    _ bench: String, _ sizes: [(String, JSONValue)], _ work: Work,
    verify: @escaping () async throws -> Bool, run: @escaping () async throws -> Void,
    phases: (() -> [(name: String, seconds: Double, peakBytes: Int)])? = nil,
    predict: (() -> Int?)? = nil, countsOperations: Bool = false
  ) {
    var object = JSONObject()
    for (key, value) in sizes { object[key] = value }
    (self.bench, self.sizes, self.work, self.verify, self.run, self.phases, self.predict) = (
      bench, object, work, verify, run, phases, predict
    )
    self.countsOperations = countsOperations
  }
}

/// The type weights are stored in.
public enum StorageType: String, Sendable, CaseIterable {
  case f32, bf16
  public var element: ElementType { self == .f32 ? .f32 : .bf16 }
  /// The type in the output of a case.
  var fields: [(String, JSONValue)] {
    [("dtype", .string(rawValue))]
      + (self == .f32 && Machine.computeType == .f32
        ? [] : [("compute_dtype", .string(Machine.computeType.rawValue))])
  }
}

/// The measured values (interfaces.md 9).
public struct BenchmarkResult: Sendable {
  public let bench: String, sizes: JSONObject
  public let threads: Int, isa: String
  /// Seconds of the repeats, sorted.
  public let seconds: [Double]
  public let gflops, gbytesPerSecond, gexpPerSecond: Double?
  public let limit: String?, shareOfLimit: Double?
  /// nil if the check was left out.
  public let isVerified: Bool?, isDebugBuild, isNoisy: Bool
  /// Largest resident size of this process so far.
  public let peakResidentBytes: Int
  /// The expected size, known before the first run; nil if the benchmark does not plan its memory.
  public let predictedResidentBytes: Int?
  public let phases: [(name: String, seconds: Double, peakBytes: Int)]

  public var median: Double { seconds[seconds.count / 2] }
  /// Median distance from the median, in seconds.
  public var spread: Double { seconds.map { abs($0 - median) }.sorted()[seconds.count / 2] }

  public var json: JSONValue {
    var o = JSONObject()
    o["bench"] = .string(bench)
    o["case"] = .object(sizes)
    o["threads"] = .integer(threads)
    o["isa"] = .string(isa)
    o["median_seconds"] = .number(median)
    o["min_seconds"] = .number(seconds.first!)
    o["max_seconds"] = .number(seconds.last!)
    o["spread_seconds"] = .number(spread)
    o["repeats"] = .integer(seconds.count)
    o["seconds"] = .array(seconds.map { .number($0) })
    o["gflops"] = JSONValue(gflops)
    o["gbytes_per_second"] = JSONValue(gbytesPerSecond)
    o["gexp_per_second"] = JSONValue(gexpPerSecond)
    o["limit"] = limit.map { .string($0) } ?? .null
    o["share_of_limit"] = JSONValue(shareOfLimit)
    o["verified"] = isVerified.map { .bool($0) } ?? .null
    o["debug_build"] = .bool(isDebugBuild)
    o["noisy"] = .bool(isNoisy)
    if isVerified == nil { o["peak_resident_bytes"] = .integer(peakResidentBytes) }
    if isVerified == nil, let predictedResidentBytes {
      o["predicted_resident_bytes"] = .integer(predictedResidentBytes)
    }
    if !phases.isEmpty {
      o["phases"] = .array(
        phases.map {
          [
            "phase": .string($0.name), "seconds": .number($0.seconds),
            "peak_tensor_bytes": .integer($0.peakBytes),
          ]
        })
    }
    return .object(o)
  }
}

/// Verifies a case, runs it once to warm up, and times it.
public struct BenchmarkRunner: Sendable {
  /// Number of timed repeats; nil chooses 3 to 50, for about two seconds.
  public var repeats: Int?
  /// Leaves out the check, which takes more memory than the case itself.
  public var skipsCheck = false
  /// If set, time is taken in turns instead. After `ready` is called, `begin` waits for each turn
  /// and returns whether to take it. A turn is repeats for at least 0.1 s, and `end` is called with
  /// their median.
  public var turns:
    (ready: @Sendable () -> Void, begin: @Sendable () -> Bool, end: @Sendable (Double) -> Void)?
  public let rates: MachineRates
  let load: Double, isDebugBuild: Bool

  /// Measures the rates of the machine now.
  public init(repeats: Int?, isDebugBuild: Bool) {
    // The load before our own work: the first number of /proc/loadavg, the number of running
    // threads averaged over a minute.
    let text = TextFile.system("/proc/loadavg")?.split(separator: " ").first
    (self.repeats, load, self.isDebugBuild) = (
      repeats, text.flatMap { Double($0) } ?? 0, isDebugBuild
    )
    rates = MachineRates.measure()
  }

  public func run(_ benchmark: BenchmarkCase) async throws -> BenchmarkResult {
    let isVerified = skipsCheck ? nil : try await benchmark.verify()
    let clock = ContinuousClock()
    func once() async throws -> Double {
      let start = clock.now
      try await benchmark.run()
      return (clock.now - start) / .seconds(1)
    }
    let predicted = benchmark.predict?() ?? nil
    let warm = try await once()
    let count = repeats ?? min(50, max(3, Int(2 / max(warm, 1e-9))))
    var seconds: [Double] = []
    let operations = OperationCount.total
    if let turns {
      turns.ready()
      while turns.begin() {
        var some = [try await once()]
        while some.reduce(0, +) < 0.1 { some.append(try await once()) }
        some.sort()
        turns.end(some[some.count / 2])
        seconds.append(some[some.count / 2])
      }
      if seconds.isEmpty { seconds = [warm] }
    } else {
      for _ in 0..<count { seconds.append(try await once()) }
    }
    seconds.sort()
    let median = seconds[seconds.count / 2]
    var w = benchmark.work
    if benchmark.countsOperations && turns == nil {
      w.flops = Double(OperationCount.total - operations) / Double(seconds.count)
    }
    // The slowest of the three limits decides.
    let limits = [
      ("flops", w.flops.map { $0 / rates.flops }), ("bandwidth", w.bytes.map { $0 / rates.bytes }),
      ("exp", w.exponentials.map { $0 / rates.exponentials }),
    ]
    let binding = limits.compactMap { name, t in t.map { (name, $0) } }.max { $0.1 < $1.1 }
    let isNoisy =
      seconds.last! > 1.25 * median
      || load + Double(Machine.threads) > Double(Machine.affinity) + 0.7
    return BenchmarkResult(
      bench: benchmark.bench, sizes: benchmark.sizes, threads: Machine.threads,
      isa: Machine.current.rawValue, seconds: seconds,
      gflops: w.flops.map { $0 / median / 1e9 }, gbytesPerSecond: w.bytes.map { $0 / median / 1e9 },
      gexpPerSecond: w.exponentials.map { $0 / median / 1e9 }, limit: binding?.0,
      shareOfLimit: binding.map { $0.1 / median },
      isVerified: isVerified, isDebugBuild: isDebugBuild, isNoisy: isNoisy,
      peakResidentBytes: ProcessMemory.peak, predictedResidentBytes: predicted,
      phases: benchmark.phases?() ?? [])
  }
}
