import Files
import TensorRuntime

/// C = A B, row-major, once or for a batch of independent products.
public struct GemmBenchmark: Sendable {
  public var m = 2049, n = 6144, k = 1408, batch = 1, storage = StorageType.f32, isPacked = false
  /// `isPacked`: B is packed once before, as frozen weights are.
  public init(
    m: Int = 2049, n: Int = 6144, k: Int = 1408, batch: Int = 1, storage: StorageType = .f32,
    isPacked: Bool = false
  ) {
    (self.m, self.n, self.k, self.batch, self.storage, self.isPacked) = (
      m, n, k, batch, storage, isPacked && batch == 1
    )
  }

  /// The check is that of BLIS: C t = A (B t) for a random vector t, in f64.
  public func prepare() -> BenchmarkCase {
    let pool = BufferPool()
    let work = Workspace(pool: pool)
    let self_ = self
    func shape(_ a: Int, _ b: Int) -> Shape { batch == 1 ? Shape(a, b) : Shape(batch, a, b) }
    let a = BenchmarkReference.normal(shape(m, k), 1, work)
    let b = work.converted(BenchmarkReference.normal(shape(k, n), 2, work), to: storage.element)
    @Sendable func product(_ work: borrowing Workspace) -> Tensor {
      self_.isPacked
        ? work.matmul(a, keeping: b)
        : self_.batch == 1
          ? work.matmul(a, work.widened(b)) : work.batchedMatmul(a, work.widened(b))
    }
    let d = Double(m * batch)
    let flops = 2 * d * Double(n) * Double(k)
    let bytes = 4.0 * (d * Double(k) + d * Double(n)) + Double(b.byteCount)
    return BenchmarkCase(
      "gemm",
      [("m", .integer(m)), ("n", .integer(n)), ("k", .integer(k)), ("batch", .integer(batch))]
        + (isPacked ? [("packed", .bool(true))] : []) + storage.fields,
      .init(flops: flops, bytes: bytes),
      verify: {
        let work = Workspace(pool: pool)
        let c = product(work)
        let t = BenchmarkReference.signs(self_.n, 3)
        for g in 0..<self_.batch {
          func part(_ x: Tensor) -> Tensor {
            BenchmarkReference.wide(self_.batch == 1 ? x : x[row: g], work)
          }
          if !BenchmarkReference.agree(
            work.matmul(part(c), t), work.matmul(part(a), work.matmul(part(b), t)), tolerance: 1e-5)
          {
            return false
          }
        }
        return true
      },
      run: { _ = product(Workspace(pool: pool)) })
  }
}
