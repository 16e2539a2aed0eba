import TensorRuntime

/// Runs the phases of a demo, with the time and the tensor memory of each.
struct PhaseClock {
  struct Phase { let name: String, seconds: Double, bytes: Int }
  let pool = BufferPool()
  private(set) var phases: [Phase] = []
  /// Called with the name of a phase that begins.
  let note: (String) -> Void
  init(note: @escaping (String) -> Void) { self.note = note }

  mutating func callAsFunction<T>(
    _ name: String, _ body: (borrowing Workspace) throws -> T
  ) throws -> T {
    note(name)
    pool.resetPeak()
    let clock = ContinuousClock()
    let start = clock.now
    let work = Workspace(pool: pool)
    let value = try body(work)
    phases.append(
      .init(
        name: name, seconds: (clock.now - start) / .seconds(1), bytes: pool.statistics.peakBytes))
    return value
  }
}
