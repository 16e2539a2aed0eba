/// How a generator makes data from noise, as its directory says. Commands and tasks take from it
/// what differs between the families of generators.
public enum GenerativeProcess: Sendable, Equatable {
  /// Rectified flow, with the shift of its sampler's levels (HunyuanVideo).
  case flow(shift: Double)
  /// Denoising diffusion (VideoCrafter2).
  case diffusion(DiffusionSchedule.Parameters)
}
