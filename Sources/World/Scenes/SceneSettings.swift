/// The kinds of scenes, and their probabilities.
public struct SceneSettings: Hashable, Sendable {
  /// Shares of pairs with a relation, of groups of two or three equal objects, and of three
  /// objects. The other scenes have single objects.
  public var pairShare: Double, groupShare: Double, tripleShare: Double
  /// Share of pairs and triples whose objects may have equal colours (their shapes then differ).
  public var equalColourShare: Double
  /// Amplitudes of the background's two waves.
  public var texture: SIMD2<Double>

  public init(
    pairShare: Double, groupShare: Double = 0, tripleShare: Double = 0,
    equalColourShare: Double = 0, texture: SIMD2<Double>
  ) {
    precondition(
      pairShare >= 0 && groupShare >= 0 && tripleShare >= 0
        && pairShare + groupShare + tripleShare <= 1, "shares of scenes are at most 1")
    (self.pairShare, self.groupShare, self.tripleShare) = (pairShare, groupShare, tripleShare)
    (self.equalColourShare, self.texture) = (equalColourShare, texture)
  }

  /// The recipe: single objects and, in 35 % of clips, pairs of different colours.
  public static let standard = SceneSettings(pairShare: 0.35, texture: SIMD2(0.03, 0.02))
  /// Two objects in most clips, and backgrounds with waves 1.7 times as high: what a small model of
  /// 9 frames of 32 x 32 can still learn.
  public static let crowded = SceneSettings(pairShare: 0.65, texture: SIMD2(0.05, 0.033))
  /// Also three objects, groups, equal colours, and backgrounds with waves 2.6 times as high.
  public static let harder = SceneSettings(
    pairShare: 0.3, groupShare: 0.12, tripleShare: 0.13, equalColourShare: 0.35,
    texture: SIMD2(0.08, 0.05))

  /// Whether the objects of a scene differ in colour.
  public var coloursDiffer: Bool {
    groupShare == 0 && (equalColourShare == 0 || pairShare + tripleShare == 0)
  }
}
