import Diffusion
import Testing

/// Levels and phases against the formulas and numbers of algorithm.md 7.2, 7.3, 7.8 and 14.2.
@Suite struct NoiseScheduleTests {
  /// shift u / (1 + (shift - 1) u).
  private func level(_ u: Double, _ shift: Double) -> Double { shift * u / (1 + (shift - 1) * u) }

  @Test func publishedLevels() {
    let schedule = NoiseSchedule()
    for (i, value) in [
      (0, 0.2575758), (1, 0.4146342), (2, 0.5204082), (3, 0.5964912), (4, 0.6538462),
      (47, 0.997555), (48, 0.9988009), (49, 1),
    ] {
      #expect(abs(schedule.sigmas[i] - value) < 1e-6, "\(i)")
    }
    #expect(abs(schedule.previous[0] - 0.0167323) < 1e-7)
    #expect(schedule.cleanLevel == schedule.previous[0])
    #expect(NoiseSchedule(end: .zero).cleanLevel == 0)
  }

  @Test(arguments: [(17.0, 1000, 50), (1, 1000, 50), (3, 60, 12), (7, 8, 8)])
  func levelsAreEveryFewEntriesOfTheTable(_ shift: Double, _ table: Int, _ steps: Int) {
    let schedule = NoiseSchedule(shift: shift, trainingSteps: table, steps: steps)
    let stride = table / steps
    #expect(schedule.count == steps && schedule.sigmas.count == steps)
    for i in 0..<steps {
      // Entries are stored in f32.
      let t = Double(stride * (i + 1)) / Double(table)
      let before = i == 0 ? 1 / Double(table) : Double(stride * i) / Double(table)
      #expect(abs(schedule.sigmas[i] - level(t, shift)) < 1e-7)
      #expect(abs(schedule.previous[i] - level(before, shift)) < 1e-7)
    }
  }

  /// Phases start at floor(p n / P); a level belongs to the last that starts at or below it.
  @Test func phasesOfFiftyLevels() {
    let schedule = NoiseSchedule()
    // P = 4: starts 0, 12, 25, 37.
    for (index, start) in [
      (0, 0), (11, 0), (12, 12), (24, 12), (25, 25), (36, 25), (37, 37), (49, 37),
    ] {
      #expect(schedule.phaseEnd(index, phases: 4) == start)
      #expect(schedule.endLevel(index, phases: 4) == schedule.previous[start])
    }
    for index in 0..<50 {
      #expect(schedule.phaseEnd(index, phases: 1) == 0)
      #expect(schedule.phaseEnd(index, phases: 50) == index)
    }
  }

  @Test func phaseSchedules() throws {
    let schedule = try #require(PhaseSchedule("4000-1,8000-2"))
    for (step, phases) in [(1, 1), (4000, 1), (4001, 2), (8000, 2), (90000, 2)] {
      #expect(schedule.phases(step: step) == phases, "step \(step)")
    }
    #expect(schedule == PhaseSchedule("4000-1,8000-2") && schedule != PhaseSchedule("4000-1"))
    for text in ["", "4000", "4000-0", "0-1", "4000-1-2", "a-1"] {
      #expect(PhaseSchedule(text) == nil, "'\(text)'")
    }
  }

  @Test func samplerLevels() {
    let fifty = NoiseSchedule.samplerLevels(steps: 50, shift: 17)
    let sixteen = NoiseSchedule.samplerLevels(steps: 16, shift: 17)
    #expect(fifty.count == 51 && sixteen.count == 17)
    for (levels, values) in [
      (fifty, [(0, 1), (1, 0.998801), (2, 0.997555), (48, 0.4146341), (49, 0.2575758), (50, 0)]),
      (sixteen, [(0, 1), (1, 0.9960938), (2, 0.9916667), (14, 0.7083333), (15, 0.53125), (16, 0)]),
    ] as [([Double], [(Int, Double)])] {
      for (k, value) in values { #expect(abs(levels[k] - value) < 1e-6) }
    }
  }
  /// Four of fifty: entries 0, 12, 25, 37 of the descending table, then 0.
  @Test func pcmLevels() {
    let found = NoiseSchedule().pcmLevels(steps: 4)
    let expected = [1, 0.76, 0.5, 0.26].map { level($0, 17) } + [0]
    #expect(found.count == 5 && zip(found, expected).allSatisfy { abs($0 - $1) < 1e-6 })
  }
}
