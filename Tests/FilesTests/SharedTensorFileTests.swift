import TensorRuntime
import TestSupport
import Testing

@testable import Files

/// A checkpoint that several ranks write together.
@Suite struct SharedTensorFileTests {
  let folder = TemporaryFolder()
  let a = randomTensor(Shape(3, 5), seed: 1, type: .f32)
  let b = randomTensor(Shape(4), seed: 2, type: .f64)
  private var entries: [(name: String, type: ElementType, shape: Shape)] {
    [("a", .f32, a.shape), ("b", .f64, b.shape)]
  }

  @Test func hasTheBytesOfAFileWrittenByOne() throws {
    let whole = folder.path + "/whole.safetensors"
    try SafetensorsWriter.write([("a", a), ("b", b)], to: whole)
    let path = folder.path + "/shared.safetensors"
    let first = SharedTensorFile(path, entries)
    try first.create()
    let second = SharedTensorFile(path, entries)
    try second.write([("a", 7, a.flat(7..<15)), ("b", 0, b.flat(0..<1))])
    try first.write([("b", 1, b.flat(1..<4)), ("a", 0, a.flat(0..<7))])
    let (x, y) = (try MappedFile(path), try MappedFile(whole))
    #expect(x.count == y.count)
    #expect(Array(x.bytes(0..<x.count)) == Array(y.bytes(0..<y.count)))
  }
  @Test func aFileThatIsNotSeenIsALine() throws {
    let file = SharedTensorFile(folder.path + "/elsewhere.safetensors", entries)
    expectError(.cannotCreate, "that all hosts share") { try file.write([("b", 0, b)]) }
    try file.write([])
    try file.create()
    expectError(.cannotCreate, "File exists") { try file.create() }
  }
}
