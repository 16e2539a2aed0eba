import Files
import TensorRuntime

/// The passes that a case runs.
public enum BenchmarkPass: String, Sendable, CaseIterable {
  case forward, both
  /// Backward to the inputs with frozen parameters.
  case latents
  /// Forward, backward and optimiser.
  case step
}

/// Softmax attention of one sample. With bf16, keys and values are stored in bf16.
public struct AttentionBenchmark: Sendable {
  public var heads = 16, tokens = 2049, dimension = 88, storage = StorageType.f32,
    pass = BenchmarkPass.forward
  public init(
    heads: Int = 16, tokens: Int = 2049, dimension: Int = 88, storage: StorageType = .f32,
    pass: BenchmarkPass = .forward
  ) {
    (self.heads, self.tokens, self.dimension, self.storage, self.pass) = (
      heads, tokens, dimension, storage, pass
    )
  }

  private struct Input { let q, k, v, dout: Tensor }
  private var scale: Double { 1 / Double(dimension).squareRoot() }

  public func prepare() -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let shape = Shape(1, tokens, heads * dimension)
    let x = Input(
      q: BenchmarkReference.normal(shape, 1, work),
      k: work.converted(BenchmarkReference.normal(shape, 2, work), to: storage.element),
      v: work.converted(BenchmarkReference.normal(shape, 3, work), to: storage.element),
      dout: BenchmarkReference.normal(shape, 4, work))
    let n = Double(tokens)
    let pairs = Double(heads) * n * n
    let isBoth = pass == .both
    let w = BenchmarkCase.Work(
      // Two products forward and five more backward. The exponentials are computed again in
      // backward.
      flops: 2 * pairs * Double(dimension) * (isBoth ? 7 : 2),
      bytes: Double(4 * x.q.count + 2 * x.k.byteCount) * (isBoth ? 3 : 1),
      exponentials: pairs * (isBoth ? 2 : 1))
    return BenchmarkCase(
      "attention",
      [
        ("heads", .integer(heads)), ("tokens", .integer(tokens)),
        ("dimension", .integer(dimension)), ("pass", .string(pass.rawValue)),
      ] + storage.fields, w, verify: { verify(x, in: Workspace(pool: pool)) },
      run: { run(x, in: Workspace(pool: pool)) })
  }

  /// The check gives the first queries an upstream gradient and computes only these in f64, against
  /// all keys.
  private func verify(_ x: Input, in work: borrowing Workspace) -> Bool {
    let count = min(tokens, 48)
    let k = work.widened(x.k)
    let v = work.widened(x.v)
    let (o, lse) = work.attention(q: x.q, k: k, v: v, heads: heads, scale: scale)
    func few(_ x: Tensor) -> Tensor { work.narrowed(x, axis: 1, 0..<count) }
    let q64 = BenchmarkReference.wide(few(x.q), work)
    let k64 = BenchmarkReference.wide(k, work)
    let v64 = BenchmarkReference.wide(v, work)
    let (o64, lse64) = work.attention(q: q64, k: k64, v: v64, heads: heads, scale: scale)
    guard BenchmarkReference.agree(few(o), o64, tolerance: 1e-5) else { return false }
    if pass != .both { return true }
    var partial = work.zeros(x.dout.shape)
    work.place(few(x.dout), into: &partial, axis: 1, at: 0)
    let d = work.attentionBackward(
      partial, q: x.q, k: k, v: v, o: o, lse: lse, heads: heads, scale: scale)
    let r = work.attentionBackward(
      BenchmarkReference.wide(few(x.dout), work), q: q64, k: k64, v: v64, o: o64, lse: lse64,
      heads: heads, scale: scale)
    return BenchmarkReference.agree(few(d.dq), r.dq, tolerance: 2e-5)
      && BenchmarkReference.agree(d.dk, r.dk, tolerance: 2e-5)
      && BenchmarkReference.agree(d.dv, r.dv, tolerance: 2e-5)
  }

  private func run(_ x: Input, in work: borrowing Workspace) {
    let k = work.widened(x.k)
    let v = work.widened(x.v)
    let (o, lse) = work.attention(q: x.q, k: k, v: v, heads: heads, scale: scale)
    if pass == .both {
      _ = work.attentionBackward(
        x.dout, q: x.q, k: k, v: v, o: o, lse: lse, heads: heads, scale: scale)
    }
  }
}
