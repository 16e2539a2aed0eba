/// Ranges that several keys and options share. Upper bounds are larger than any useful value, and
/// small enough that nothing computed from them overflows.
extension Limits {
  /// Identifies a stream of random numbers.
  public static let seed = whole(0...)
  /// A share of a whole.
  public static let share = real(0...1)
  /// Optimiser steps of a run.
  public static let steps = whole(1...1_000_000_000)
  /// Steps between two events; 0 everywhere means never (a checkpoint is written at the end in any
  /// case).
  public static let every = whole(0...1_000_000_000, zero: "never")
  /// Seconds that a step may still take once a stop is requested.
  public static let grace = real(0...1e6)
  /// Samples of a step, or micro-steps of a step.
  public static let batch = whole(1...1 << 20)
  public static let learningRate = real(0...1000)
  public static let warmup = whole(0...1_000_000_000, zero: "none")
  public static let weightDecay = real(0...1000, zero: "off")
  /// Decay of a running moment.
  public static let beta = real(0..<1)
  /// Largest norm of a gradient before it is scaled down.
  public static let gradientNorm = real(0...1e30, zero: "not limited")
  /// Weight of a term of a loss.
  public static let weight = real(0...1e6, zero: "off")
  /// Shift s of a noise schedule, s u / (1 + (s - 1) u).
  public static let shift = real(above: 0, to: 1e6)
  /// Scale of classifier-free guidance.
  public static let guidance = real(0...1000)
  /// Guidance given to the network as a number, 1000 times the scale.
  public static let embeddedGuidance = real(0...1e6)
  /// Frames of a clip.
  public static let frames = whole(1...4096)
  /// Height or width in pixels.
  public static let pixels = whole(1...16384)
}
