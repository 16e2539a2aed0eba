public import TensorRuntime

/// The gradients of a layer's parameters for each of several strips of rows, which are leaves of a
/// step's sum (`TreeSum`). The layer holds one strip's at a time: its own for the first strip, to
/// which the others are added in the end.
public struct StripGradients {
  private let strips: Int
  /// The gradients of each strip while the layer does not hold them; none before they are lent.
  private var kept: [[Tensor]]

  /// Takes the layer's gradients away, if there are several strips.
  public init(_ strips: Int, of layer: inout some Layer, in work: borrowing Workspace) {
    self.strips = strips
    kept = Array(repeating: [], count: strips)
    take(0, from: &layer, in: work)
  }
  /// Gives the layer the gradients of strip `strip`; zeros at first, but for the first strip.
  public mutating func lend(
    _ strip: Int, to layer: inout some Layer, in work: borrowing Workspace
  ) {
    if strips == 1 { return }
    if kept[strip].isEmpty { kept[strip] = Self.zeros(of: layer, in: work) }
    Self.give(&kept[strip], to: &layer)
  }
  /// Takes back what was lent.
  public mutating func take(
    _ strip: Int, from layer: inout some Layer, in work: borrowing Workspace
  ) {
    if strips == 1 { return }
    layer.forEachParameter { p in
      guard let gradient = p.gradient else { return }
      kept[strip].append(gradient)
      p.gradient = work.tensor(Shape(0), gradient.type)
    }
  }
  /// Gives the layer the sum of all strips, each of which has been lent.
  public consuming func finish(_ layer: inout some Layer, in work: borrowing Workspace) {
    if strips == 1 { return }
    var tree = TreeSum()
    for strip in 0..<strips {
      tree.push(leaf: strip, kept[strip], in: work)
      kept[strip] = []
    }
    var sum = tree.finish(in: work)
    Self.give(&sum, to: &layer)
  }

  private static func zeros(of layer: some Layer, in work: borrowing Workspace) -> [Tensor] {
    layer.trainableParameters().map { p in
      var x = work.tensor(p.value.shape, p.gradient!.type)
      work.fill(&x, with: 0)
      return x
    }
  }
  private static func give(_ list: inout [Tensor], to layer: inout some Layer) {
    var i = 0
    layer.forEachParameter { p in
      guard p.isTrainable else { return }
      p.gradient = list[i]
      i += 1
    }
    list = []
  }
}

extension Layer {
  /// Runs `body` for each strip, which adds to gradients of its own, and gives the layer their sum.
  public mutating func forEachStrip<Result>(
    _ strips: Int, in work: borrowing Workspace, _ body: (inout Self, Int) -> Result
  ) -> [Result] {
    var gradients = StripGradients(strips, of: &self, in: work)
    var results: [Result] = []
    for strip in 0..<strips {
      gradients.lend(strip, to: &self, in: work)
      results.append(body(&self, strip))
      gradients.take(strip, from: &self, in: work)
    }
    gradients.finish(&self, in: work)
    return results
  }
}
