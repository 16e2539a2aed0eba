public import Files

/// How the trained parameters are stored that a step reads (`TrainableModel`).
public enum ParameterStorage: String, Codable, Sendable, CaseIterable { case f32, bf16 }

extension SharedKey {
  /// `parameters` of every kind of training that uses AdamW.
  public static let parameters = SharedKey(
    .choice(ParameterStorage.self),
    """
    Storage of the trained parameters; bf16 rounds them from f32 masters, which ranks share out.
    """)
}
