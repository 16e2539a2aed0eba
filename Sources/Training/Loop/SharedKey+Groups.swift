public import Files

extension SharedKey {
  /// `cluster.group`, `cluster.strips` and `cluster.sums`.
  public static let group = SharedKey(
    .whole(1...1024),
    """
    Ranks that share the rows of a sample, a power of two; less where it does not divide the \
    number of ranks.
    """)
  public static let strips = SharedKey(
    .whole(1...1024),
    """
    Strips into which the rows of a sample are cut for a group, a power of two and at least \
    cluster.group. Last bits depend on it, but not on cluster.group.
    """)
  public static let sums = SharedKey(
    .choice(GradientSums.self),
    """
    When ranks give each other gradients: late, once a step; early, after every part, which takes \
    less memory and more traffic, and gives the same bits.
    """)
}
