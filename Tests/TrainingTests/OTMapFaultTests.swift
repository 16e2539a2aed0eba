import Testing

@testable import Training

/// A map that has not become one says so at its end.
@Suite struct OTMapFaultTests {
  private func fault(
    energy: (Double, Double)? = nil, neighbours: (Double, Double)? = nil
  ) -> String? {
    var terms: [(name: String, value: Double)] = [("mse", 1)]
    if let energy {
      terms += [("energy_distance_before", energy.0), ("energy_distance_after", energy.1)]
    }
    if let neighbours { terms += [("mknn_before", neighbours.0), ("mknn_after", neighbours.1)] }
    return OTMapTask.fault(terms)
  }

  @Test func mapsThatFail() {
    #expect(fault(energy: (0.8, 0.43), neighbours: (0.58, 0.11))!.contains("does not reach"))
    #expect(fault(energy: (0.026, 0.033))!.contains("0.026 before, 0.033 after"))
    #expect(fault(energy: (0.8, 0.14), neighbours: (0.59, 0.28))!.contains("near what"))
  }
  @Test func mapsThatDoNot() {
    #expect(fault() == nil)
    #expect(fault(energy: (0.8, 0.012), neighbours: (0.55, 0.57)) == nil)
    // Without a gap there is nothing to close.
    #expect(fault(energy: (0.004, 0.005), neighbours: (0.7, 0.68)) == nil)
  }
}
