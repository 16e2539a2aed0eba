import TensorRuntime

/// Weights as a caller gives them, and as a problem is solved with.
struct TransportWeights {
  /// Of the problem solved: balanced sides divided by their sums.
  var source, target: [Double]
  /// Of the weights as given.
  let sums: (Double, Double)

  /// Weights `[count]` that are finite, not negative and not all zero; absent ones are uniform with
  /// sum 1.
  static func read(_ name: String, _ w: Tensor?, _ count: Int) throws(TransportError) -> (
    values: [Double], sum: Double
  ) {
    let values: [Double]
    if let w {
      guard w.shape.dims == [count] else {
        throw .weightShape(name: name, found: w.shape.dims, expected: [count])
      }
      values = w.doubles
    } else {
      values = Array(repeating: 1 / Double(count), count: count)
    }
    return (values, try sum(name, values))
  }
  static func sum(_ name: String, _ values: [Double]) throws(TransportError) -> Double {
    try TransportError.from { () throws(Workspace.TransportFault) in
      try Workspace.sum(ofWeights: values, named: name)
    }
  }

  init(
    _ source: (values: [Double], sum: Double), _ target: (values: [Double], sum: Double),
    rule: MarginalRule, settings: inout Workspace.SinkhornSettings
  ) throws(TransportError) {
    sums = (source.sum, target.sum)
    do throws(Workspace.TransportFault) {
      (self.source, self.target) = try Workspace.posed(
        rule, source: source.values, target: target.values, sums: sums, in: &settings)
    } catch { throw .fault(error) }
  }
}
