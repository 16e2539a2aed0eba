import ArgumentParser

/// Sizes on the command line: bytes, or a number with K, M, G (powers of 1000; also KB, MB, GB) or
/// Ki, Mi, Gi (powers of 1024; also KiB, MiB, GiB).
enum ByteCount {
  static let words = "bytes, or a number with K, M, G (1000) or Ki, Mi, Gi (1024)"

  static func parse(_ text: String, option: String) throws -> Int {
    var digits = Substring(text.uppercased())
    if digits.hasSuffix("B") { digits.removeLast() }
    let base = digits.hasSuffix("I") ? 1024 : 1000
    if base == 1024 { digits.removeLast() }
    var unit = 1
    if let power = "KMG".firstIndex(where: { digits.last == $0 }) {
      digits.removeLast()
      for _ in "KMG"[...power] { unit *= base }
    }
    guard unit > 1 || base == 1000, let n = Int(digits), n > 0, n <= (1 << 50) / unit else {
      throw ValidationError("--\(option) takes \(words), not \(text)")
    }
    return n * unit
  }
}
