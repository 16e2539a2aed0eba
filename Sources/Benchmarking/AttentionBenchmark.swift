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

  /// The check gives the first queries an upstream gradient and computes only these in f64, against
  /// all keys.
  public func prepare() -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let width = heads * dimension
    let shape = Shape(1, tokens, width)
    let s = self
    let scale = 1 / Double(dimension).squareRoot()
    let q = BenchmarkReference.normal(shape, 1, work)
    let k = work.converted(BenchmarkReference.normal(shape, 2, work), to: storage.element)
    let v = work.converted(BenchmarkReference.normal(shape, 3, work), to: storage.element)
    let dout = BenchmarkReference.normal(shape, 4, work)
    let n = Double(tokens)
    let pairs = Double(heads) * n * n
    let isBoth = pass == .both
    let w = BenchmarkCase.Work(
      // Two products forward and five more backward. The exponentials are computed again in
      // backward.
      flops: 2 * pairs * Double(dimension) * (isBoth ? 7 : 2),
      bytes: Double(4 * q.count + 2 * k.byteCount) * (isBoth ? 3 : 1),
      exponentials: pairs * (isBoth ? 2 : 1))
    return BenchmarkCase(
      "attention",
      [
        ("heads", .integer(heads)), ("tokens", .integer(tokens)),
        ("dimension", .integer(dimension)), ("pass", .string(pass.rawValue)),
      ] + storage.fields, w,
      verify: {
        let work = Workspace(pool: pool)
        let count = min(s.tokens, 48)
        let kw = work.widened(k)
        let vw = work.widened(v)
        let (o, lse) = work.attention(q: q, k: kw, v: vw, heads: s.heads, scale: scale)
        func few(_ x: Tensor) -> Tensor { work.narrowed(x, axis: 1, 0..<count) }
        let q64 = BenchmarkReference.wide(few(q), work)
        let k64 = BenchmarkReference.wide(kw, work)
        let v64 = BenchmarkReference.wide(vw, work)
        let (o64, lse64) = work.attention(q: q64, k: k64, v: v64, heads: s.heads, scale: scale)
        guard BenchmarkReference.agree(few(o), o64, tolerance: 1e-5) else { return false }
        if !isBoth { return true }
        var partial = work.zeros(shape)
        work.place(few(dout), into: &partial, axis: 1, at: 0)
        let d = work.attentionBackward(
          partial, q: q, k: kw, v: vw, o: o, lse: lse, heads: s.heads, scale: scale)
        let r = work.attentionBackward(
          BenchmarkReference.wide(few(dout), work), q: q64, k: k64, v: v64, o: o64, lse: lse64,
          heads: s.heads, scale: scale)
        return BenchmarkReference.agree(few(d.dq), r.dq, tolerance: 2e-5)
          && BenchmarkReference.agree(d.dk, r.dk, tolerance: 2e-5)
          && BenchmarkReference.agree(d.dv, r.dv, tolerance: 2e-5)
      },
      run: {
        let work = Workspace(pool: pool)
        let kw = work.widened(k)
        let vw = work.widened(v)
        let (o, lse) = work.attention(q: q, k: kw, v: vw, heads: s.heads, scale: scale)
        if isBoth {
          _ = work.attentionBackward(
            dout, q: q, k: kw, v: vw, o: o, lse: lse, heads: s.heads, scale: scale)
        }
      })
  }
}
