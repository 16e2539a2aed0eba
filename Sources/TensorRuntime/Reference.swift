internal import CKernels

/// Plain implementations in double of the operations of `Workspace`: `pk_reference.h`. They are the
/// oracle of the kernel tests and of `pisces doctor`, and nothing else calls them. They take
/// tensors of any floating type and return f64.
public enum Reference {
  // MARK: ComputeType

  /// alpha op(A) op(B), for matrices.
  public static func matmul(
    _ a: Tensor, _ b: Tensor, transposeA ta: Bool = false, transposeB tb: Bool = false,
    alpha: Double = 1
  ) -> Tensor {
    let (m, k) = ta ? (a.shape[1], a.shape[0]) : (a.shape[0], a.shape[1])
    let n = b.shape[tb ? 0 : 1]
    var s = pk_gemm_shape(
      m: m, n: n, k: k, rsa: ta ? 1 : k, csa: ta ? m : 1, rsb: tb ? 1 : n, csb: tb ? k : 1,
      rsc: n, csc: 1, alpha: alpha, beta: 0)
    var c = [Double](repeating: 0, count: m * n)
    unsafe pk_reference_gemm(&s, a.doubles, b.doubles, &c)
    return Tensor(c, Shape(m, n))
  }
  /// x Wᵀ + b, x `[rows, in]`, W `[out, in]`.
  public static func linear(_ x: Tensor, weight: Tensor, bias: Tensor?) -> Tensor {
    var y = matmul(x, weight, transposeB: true).doubles
    let b = bias?.doubles ?? Array(repeating: 0, count: weight.shape[0])
    for i in y.indices { y[i] += b[i % b.count] }
    return Tensor(y, Shape(x.shape[0], weight.shape[0]))
  }
  /// A[g] B[g] for every g of a batch; A is `[G, K, M]` with `transposeA`.
  public static func batchedMatmul(_ a: Tensor, _ b: Tensor, transposeA: Bool = false) -> Tensor {
    let parts = (0..<a.shape[0]).map { g in
      matmul(
        a.slice(g..<g + 1).reshaped(Shape(a.shape[1], a.shape[2])),
        b.slice(g..<g + 1).reshaped(Shape(b.shape[1], b.shape[2])), transposeA: transposeA)
    }
    return Tensor(
      parts.flatMap(\.doubles), Shape(a.shape[0], a.shape[transposeA ? 2 : 1], b.shape[2]))
  }

  // MARK: Element by element

  public static func activation(_ f: Activation, _ x: Tensor) -> Tensor {
    Tensor(x.doubles.map { pk_reference_activation(f.pk, $0) }, x.shape)
  }
  public static func activationBackward(_ f: Activation, _ dy: Tensor, x: Tensor) -> Tensor {
    Tensor(
      zip(dy.doubles, x.doubles).map { $0 * pk_reference_activation_slope(f.pk, $1) }, x.shape)
  }

  // MARK: Attention

  public static func attention(
    q: Tensor, k: Tensor, v: Tensor, heads: Int, scale: Double, visible: Workspace.Visibility
  ) -> (o: Tensor, lse: Tensor) {
    var o = [Double](repeating: 0, count: q.count)
    var lse = [Double](repeating: 0, count: q.shape[0] * heads * q.shape[1])
    unsafe withShape(q, k, heads, scale, visible) {
      unsafe pk_reference_attention_forward($0, q.doubles, k.doubles, v.doubles, &o, &lse)
    }
    return (Tensor(o, q.shape), Tensor(lse, Shape(q.shape[0], heads, q.shape[1])))
  }
  public static func attentionBackward(
    _ dout: Tensor, q: Tensor, k: Tensor, v: Tensor, heads: Int, scale: Double,
    visible: Workspace.Visibility
  ) -> (dq: Tensor, dk: Tensor, dv: Tensor) {
    var dq = [Double](repeating: 0, count: q.count)
    var dk = [Double](repeating: 0, count: k.count)
    var dv = [Double](repeating: 0, count: v.count)
    unsafe withShape(q, k, heads, scale, visible) {
      unsafe pk_reference_attention_backward(
        $0, q.doubles, k.doubles, v.doubles, dout.doubles, &dq, &dk, &dv)
    }
    return (Tensor(dq, q.shape), Tensor(dk, k.shape), Tensor(dv, v.shape))
  }
  private static func withShape(
    _ q: Tensor, _ k: Tensor, _ heads: Int, _ scale: Double, _ visible: Workspace.Visibility,
    _ body: (UnsafePointer<pk_attention_shape>) -> Void
  ) {
    let (width, queries, keys) = (q.shape[2], q.shape[1], k.shape[1])
    unsafe visible.keyCounts.withUnsafeBufferPointer { counts in
      var s = unsafe pk_attention_shape(
        batch: q.shape[0], heads: heads, queries: queries, keys: keys, head_dim: width / heads,
        ldq: width, ldk: width, ldv: width, ldo: width, bq: queries * width, bk: keys * width,
        bv: keys * width, bo: queries * width, scale: scale, causal_block: visible.causalBlock,
        query_block: visible.queryBlock,
        key_counts: visible.keyCounts.isEmpty ? nil : counts.baseAddress)
      unsafe body(&s)
    }
  }

  // MARK: Convolution

  public static func convolution(
    _ x: Tensor, weight: Tensor, bias: Tensor?, _ g: ConvolutionGeometry
  ) -> Tensor {
    var s = shape(x.shape, weight.shape, g)
    let result = Workspace.outputShape(x.shape, out: weight.shape[0], g)
    let b = bias?.doubles ?? Array(repeating: 0, count: weight.shape[0])
    var y = [Double](repeating: 0, count: result.count)
    unsafe pk_reference_conv3d_forward(&s, x.doubles, weight.doubles, b, &y)
    return Tensor(y, result)
  }
  public static func convolutionBackward(
    _ dy: Tensor, x: Tensor, weight: Tensor, _ g: ConvolutionGeometry
  ) -> (dx: Tensor, dWeight: Tensor, dBias: Tensor) {
    var s = shape(x.shape, weight.shape, g)
    var dx = [Double](repeating: 0, count: x.count)
    var dWeight = [Double](repeating: 0, count: weight.count)
    var dBias = [Double](repeating: 0, count: weight.shape[0])
    unsafe pk_reference_conv3d_backward(
      &s, dy.doubles, x.doubles, weight.doubles, &dx, &dWeight, &dBias)
    return (Tensor(dx, x.shape), Tensor(dWeight, weight.shape), Tensor(dBias, Shape(dBias.count)))
  }
  private static func shape(_ x: Shape, _ weight: Shape, _ g: ConvolutionGeometry)
    -> pk_conv3d_shape
  {
    pk_conv3d_shape(
      batch: x[0], in: x[1], out: weight[0], t: x[2], h: x[3], w: x[4], kt: g.kernel.x,
      kh: g.kernel.y, kw: g.kernel.z, st: g.stride.x, sh: g.stride.y, sw: g.stride.z,
      front: g.front, back: g.back, side: g.side, ft: g.upsampling.x, fh: g.upsampling.y,
      fw: g.upsampling.z, zeros: g.padding == .zeros ? 1 : 0)
  }

  // MARK: Norms

  /// Rows of x `[..., C]`; row r has factor scale[group] + plus and shift[group], both `[groups,
  /// C]`, group = r / (rows / groups).
  public static func layerNorm(
    _ x: Tensor, scale: Tensor, shift: Tensor, plus: Double = 0, epsilon: Double
  ) -> Tensor {
    var s = rows(x, scale, plus, epsilon)
    var y = [Double](repeating: 0, count: x.count)
    unsafe pk_reference_layernorm_forward(&s, x.doubles, scale.doubles, shift.doubles, &y)
    return Tensor(y, x.shape)
  }
  public static func layerNormBackward(
    _ dy: Tensor, x: Tensor, scale: Tensor, plus: Double = 0, epsilon: Double
  ) -> (dx: Tensor, dScale: Tensor, dShift: Tensor) {
    var s = rows(x, scale, plus, epsilon)
    var dx = [Double](repeating: 0, count: x.count)
    var dScale = [Double](repeating: 0, count: scale.count)
    var dShift = dScale
    unsafe pk_reference_layernorm_backward(
      &s, dy.doubles, x.doubles, scale.doubles, &dx, &dScale, &dShift)
    return (Tensor(dx, x.shape), Tensor(dScale, scale.shape), Tensor(dShift, scale.shape))
  }
  public static func rmsNorm(_ x: Tensor, scale: Tensor, epsilon: Double) -> Tensor {
    var s = rows(x, scale, 0, epsilon)
    var y = [Double](repeating: 0, count: x.count)
    unsafe pk_reference_rmsnorm_forward(&s, x.doubles, scale.doubles, &y)
    return Tensor(y, x.shape)
  }
  public static func rmsNormBackward(_ dy: Tensor, x: Tensor, scale: Tensor, epsilon: Double)
    -> (dx: Tensor, dScale: Tensor)
  {
    var s = rows(x, scale, 0, epsilon)
    var dx = [Double](repeating: 0, count: x.count)
    var dScale = [Double](repeating: 0, count: scale.count)
    unsafe pk_reference_rmsnorm_backward(&s, dy.doubles, x.doubles, scale.doubles, &dx, &dScale)
    return (Tensor(dx, x.shape), Tensor(dScale, scale.shape))
  }
  private static func rows(_ x: Tensor, _ scale: Tensor, _ plus: Double, _ epsilon: Double)
    -> pk_reference_rows
  {
    let columns = scale.shape.last
    let groups = scale.count / columns
    let count = x.count / columns
    return pk_reference_rows(
      rows: count, columns: columns, rows_per_group: count / groups, ld: columns, eps: epsilon,
      plus: plus)
  }
  public static func groupNorm(
    _ x: Tensor, groups: Int, scale: Tensor, shift: Tensor, epsilon: Double, silu: Bool
  ) -> Tensor {
    var s = groupShape(x, groups, epsilon, silu)
    var y = [Double](repeating: 0, count: x.count)
    unsafe pk_reference_groupnorm_forward(&s, x.doubles, scale.doubles, shift.doubles, &y)
    return Tensor(y, x.shape)
  }
  public static func groupNormBackward(
    _ dy: Tensor, x: Tensor, groups: Int, scale: Tensor, shift: Tensor, epsilon: Double, silu: Bool
  ) -> (dx: Tensor, dScale: Tensor, dShift: Tensor) {
    var s = groupShape(x, groups, epsilon, silu)
    var dx = [Double](repeating: 0, count: x.count)
    var dScale = [Double](repeating: 0, count: scale.count)
    var dShift = dScale
    unsafe pk_reference_groupnorm_backward(
      &s, dy.doubles, x.doubles, scale.doubles, shift.doubles, &dx, &dScale, &dShift)
    return (Tensor(dx, x.shape), Tensor(dScale, scale.shape), Tensor(dShift, scale.shape))
  }
  private static func groupShape(_ x: Tensor, _ groups: Int, _ epsilon: Double, _ silu: Bool)
    -> pk_groupnorm_shape
  {
    pk_groupnorm_shape(
      batch: x.shape[0], channels: x.shape[1], groups: groups, frames: 1,
      spatial: x.count / (x.shape[0] * x.shape[1]), eps: epsilon, silu: silu ? 1 : 0)
  }

  // MARK: Rows

  public static func softmax(_ x: Tensor, scale: Double = 1) -> Tensor {
    var y = [Double](repeating: 0, count: x.count)
    unsafe pk_reference_softmax_forward(x.count / x.shape.last, x.shape.last, scale, x.doubles, &y)
    return Tensor(y, x.shape)
  }
  public static func softmaxBackward(_ dy: Tensor, y: Tensor) -> Tensor {
    var ds = [Double](repeating: 0, count: y.count)
    unsafe pk_reference_softmax_backward(
      y.count / y.shape.last, y.shape.last, dy.doubles, y.doubles, &ds)
    return Tensor(ds, y.shape)
  }
  /// x `[B, N, heads * dim]` with its first tokens rotated by cosines and sines `[tokens, dim /
  /// 2]`.
  public static func rotated(
    _ x: Tensor, heads: Int, cosines: Tensor, sines: Tensor, inverse: Bool = false
  ) -> Tensor {
    var y = x.doubles
    unsafe pk_reference_rope(
      x.shape[0] * x.shape[1], x.shape[1], cosines.shape[0], heads, x.shape[2] / heads,
      cosines.doubles, sines.doubles, inverse ? -1 : 1, &y)
    return Tensor(y, x.shape)
  }

  // MARK: Training

  public enum Loss: Int32, Sendable {
    case weightedL1L2 = 0, huber, squared
  }
  /// The mean over all elements, and its gradient.
  public static func loss(_ kind: Loss, _ x: Tensor, target: Tensor, c: Double = 0) -> (
    loss: Double, dx: Tensor
  ) {
    var dx = [Double](repeating: 0, count: x.count)
    let sum = unsafe pk_reference_loss(kind.rawValue, x.count, c, x.doubles, target.doubles, &dx)
    let n = Double(x.count)
    return (sum / n, Tensor(dx.map { $0 / n }, x.shape))
  }
  /// The parameters and both moments after one step.
  public static func adam(
    _ u: AdamUpdate, gradient: Tensor, value: Tensor, first: Tensor, second: Tensor
  ) -> [Tensor] {
    var (p, m, v) = (value.doubles, first.doubles, second.doubles)
    var o = pk_adamw(
      lr: u.learningRate, beta1: u.beta1, beta2: u.beta2, eps: u.epsilon,
      weight_decay: u.weightDecay, l2: u.l2, c1: u.correction1, c2: u.correction2,
      grad_scale: u.gradientScale, ema: 0, bf16_moments: 0, salt: 0, first: 0)
    unsafe pk_reference_adamw(p.count, &o, gradient.doubles, &p, &m, &v)
    return [p, m, v].map { Tensor($0, value.shape) }
  }
}
