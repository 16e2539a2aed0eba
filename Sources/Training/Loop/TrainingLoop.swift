import Cluster
import Files
public import TensorRuntime

/// Runs a task to its end, or until a stop is requested.
public struct TrainingLoop {
  public struct Options: Sendable {
    /// Steps between checkpoints, between samples and between progress lines, and how many of the
    /// newest checkpoints are kept. 0 means never; a checkpoint is written at the end in any case.
    public var checkpointEvery = 500, sampleEvery = 0, reportEvery = 25, keep = 2
    public init(
      checkpointEvery: Int = 500, sampleEvery: Int = 0, reportEvery: Int = 25, keep: Int = 2
    ) {
      (self.checkpointEvery, self.sampleEvery, self.reportEvery, self.keep) = (
        checkpointEvery, sampleEvery, reportEvery, keep
      )
    }
  }
  public enum Outcome: Sendable, Equatable {
    case finished
    /// Called when a checkpoint after this many steps has been written.
    case stopped(step: Int)
  }

  /// `directory` is the first rank's; the others write nothing.
  public static func run(
    _ task: inout some TrainingTask, in directory: RunDirectory?, resuming: Bool,
    _ options: Options, work: borrowing Workspace, report: (String) -> Void
  ) async throws -> Outcome {
    let cluster = Cluster.current
    try RunDirectory.checkShared(directory, cluster)
    var step = 0
    var newest = 0  // the step of the newest checkpoint
    if resuming {
      // Only one rank looks for the newest checkpoint: on a shared folder others may see an older
      // one for a while.
      let path = try cluster.broadcast(Array((directory?.latest() ?? "").utf8))
      if path.isEmpty {
        report("the run has no checkpoint yet: it begins again")
      } else {
        var saved = try SavedState(String(decoding: path, as: UTF8.self))
        step = try saved.integer("step")
        try task.restore(&saved, in: work)
        newest = step
        report("resuming after step \(step) of \(task.totalSteps)")
      }
    }
    let planned = step < task.totalSteps ? task.plannedResidentBytes(step, in: work.pool) : nil
    if let planned {
      report("a step will take the process to about \(planned >> 20) MiB of memory")
    }
    let clock = ContinuousClock()
    var progress = Progress(step: step, of: task.totalSteps, every: options.reportEvery)
    func save(_ task: some TrainingTask, after step: Int) throws {
      cluster.activity = "checkpoint after step \(step)"
      try task.state().save(step: step, in: directory, keeping: options.keep, cluster)
      newest = step
    }
    while step < task.totalSteps && !task.isFinished {
      let start = clock.now
      let waited = Waiting.seconds
      cluster.activity = "step \(step + 1)"
      let record: StepRecord
      do { record = try task.step(step, in: work) } catch is StepGivenUp {
        let line = "stopped inside step \(step + 1), which begins again when the run is resumed"
        report(line)
        directory?.log(line)
        if step > newest { try save(task, after: step) }
        return .stopped(step: step)
      }
      let seconds = (clock.now - start) / .seconds(1)
      let ranks = try RankTimes(
        seconds: seconds, waited: Waiting.seconds - waited, stops: StopRequest.isPending, cluster)
      try directory?.record(
        step, record, seconds: seconds, peakBytes: work.pool.statistics.peakBytes, ranks)
      step += 1
      if let line = progress.line(after: step, record) {
        report(line)
        directory?.log(line)
      }
      if options.sampleEvery > 0 && step % options.sampleEvery == 0 {
        let shown = try task.collected(in: work)
        if let directory {
          try show(shown.samples(step: step, in: work), step: step, in: directory)
        }
      }
      if let warning = record.warning {
        report("warning: \(warning)")
        directory?.log("warning: \(warning)")
      }
      let stopping = ranks.stops || task.stopReason != nil
      let ends = step == task.totalSteps || task.isFinished
      if stopping || ends || options.checkpointEvery > 0 && step % options.checkpointEvery == 0 {
        try save(task, after: step)
      }
      if ends || stopping, let planned {
        let line =
          """
          at most \(ProcessMemory.peak >> 20) MiB of memory; a step was planned at \(planned >> 20)
          """
        report(line)
        directory?.log(line)
      }
      if ends && step < task.totalSteps {
        report("ended after step \(step) of \(task.totalSteps): its limit is reached")
      }
      if stopping && !ends, let reason = task.stopReason { report(reason) }
      if stopping && !ends { return .stopped(step: step) }
    }
    return .finished
  }

  /// Writes the rows of clips as one picture.
  private static func show(_ rows: [[Tensor]], step: Int, in directory: RunDirectory) throws {
    guard !rows.isEmpty else { return }
    try ClipSheet.picture(rows, frameStep: 1).write(to: "\(directory.samples)/step-\(step).png")
  }

  /// The lines of progress, with the mean time of a step since the line before.
  private struct Progress {
    let total, every: Int
    private let clock = ContinuousClock()
    private var mark: ContinuousClock.Instant
    private var since: Int

    init(step: Int, of total: Int, every: Int) {
      (self.total, self.every, since, mark) = (total, every, step, clock.now)
    }
    /// The line after step `step`; nil if none is due.
    mutating func line(after step: Int, _ record: StepRecord) -> String? {
      guard step % every == 0 || step == total else { return nil }
      let seconds = (clock.now - mark) / .seconds(1) / Double(step - since)
      (mark, since) = (clock.now, step)
      let terms = record.terms.map { " \($0.name) \(short($0.value))" }.joined()
      return
        """
        step \(step)/\(total) loss \(short(record.loss))\(terms) |g| \(short(record.gradientNorm)) \
        lr \(short(record.learningRate)) \(short(seconds)) s/step
        """
    }
  }

  /// A number with four significant digits.
  static func short(_ x: Double) -> String {
    if x == 0 || !x.isFinite { return "\(x)" }
    var scale = 1.0
    var y = abs(x)
    while y >= 10000 {
      y /= 10
      scale /= 10
    }
    while y < 1000 && scale < 1e12 {
      y *= 10
      scale *= 10
    }
    let text = "\((x * scale).rounded() / scale)"
    return text.hasSuffix(".0") ? String(text.dropLast(2)) : text
  }
}
