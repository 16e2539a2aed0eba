import Files
import TensorRuntime
import TestSupport
import Testing

@Suite struct FileIdentityTests {
  @Test func tellsStatesOfAFileApart() throws {
    let folder = try ScratchFolder()
    let path = folder("a.npy")
    let other = folder("b.npy")
    try NumpyFile.write(Tensor([1, 2] as [Double], Shape(2)), to: path)
    let first = try #require(FileIdentity(path))
    #expect(FileIdentity(path) == first)
    try NumpyFile.write(Tensor([1, 2] as [Double], Shape(2)), to: other)
    #expect(FileIdentity(other) != first)
    try NumpyFile.write(Tensor([3, 4] as [Double], Shape(2)), to: path)
    #expect(FileIdentity(path) != first && FileIdentity(path) != nil)
  }
  @Test func whatIsNoFileHasNone() throws {
    let folder = try ScratchFolder()
    for path in [
      folder("missing"), folder("frame-%03d.png"), folder("."), "/dev/null", "embedded:reward",
      "a\0b",
    ] { #expect(FileIdentity(path) == nil, "\(path)") }
  }
}
