import FoundationEssentials
import TensorRuntime
import TestSupport
import Testing

@testable import Files

/// Seeded damage to valid files: readers may refuse them with one line, and nothing else may
/// happen.
@Suite struct HostileFileTests {
  static let x = randomTensor(Shape(3, 4), seed: 1, type: .f32)
  static let safetensors: [UInt8] = {
    let header =
      #"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},"b":{"dtype":"U64","shape":[2,0],"data_offsets":[48,48]},"c":{"dtype":"I16","shape":[],"data_offsets":[48,50]}}"#
    return littleEndian(UInt64(header.utf8.count)) + Array(header.utf8) + x.withBytes { Array($0) }
      + [1, 2]
  }()
  static let npy: [UInt8] = {
    let header = Array("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }\n".utf8)
    return [0x93] + Array("NUMPY".utf8) + [1, 0] + littleEndian(UInt16(header.count)) + header
      + x.withBytes { Array($0) }
  }()
  static let pt: [UInt8] = PickleText().op(0x7d, 0x28).text("module").op(0x7d, 0x28).text("a")
    .tensor(count: 12, shape: [3, 4], strides: [4, 1]).text(
      "t"
    ).tensor(count: 12, shape: [4, 3], strides: [1, 4])
    .op(0x75).text("step").int(3).text("list").op(0x5d, 0x71, 1, 0x28, 0x4b, 1, 0x88, 0x65).text(
      "float"
    ).op(0x47, 0, 0, 0, 0, 0, 0, 0, 0).text(
      "evil"
    ).global("os", "system").op(0x29, 0x52, 0x75)
    .archive([x.withBytes { Array($0) }], extra: [("byteorder", Array("little".utf8))])
  static let tar: [UInt8] = {
    var tar = TarText()
    tar.add("a.mp4", [1, 2, 3])
    tar.add("x", Array("15 path=b.mp4  \n".utf8.dropLast(2)) + [0x0a], type: "x")
    tar.add("b", [4])
    tar.add("././@LongLink", Array("long.txt\u{0}".utf8), type: "L")
    tar.add("c", [5])
    return tar.finished
  }()
  /// numpy.savez(f, a=x, b=int16 scalar) and the same by savez_compressed, of numpy 2.4.
  static let npz = Array(Data(base64Encoded: Numpy.stored)!)
  static let npzDeflated = Array(Data(base64Encoded: Numpy.deflated)!)
  static let text = Array(String(repeating: "one hundred words, ", count: 40).utf8)
  static let deflated = Array(Data(base64Encoded: "y89LVcgozUspSk1RKM8vSinWUcgfFRoVGu5CAA==")!)
  static let png = PNGImage(width: 9, height: 7, pixels: (0..<189).map { UInt8($0) }).encoded()

  static func readSafetensors(_ bytes: [UInt8]) throws {
    let f = try SafetensorsFile(file(bytes))
    for name in f.names { _ = try? f.tensor(named: name).withBytes { Checksum.crc32($0) } }
  }
  static func readTorch(_ bytes: [UInt8]) throws {
    let dict = try TorchCheckpoint(file(bytes)).stateDictionary()
    for name in dict.names { _ = try? dict.tensor(named: name).withBytes { Checksum.crc32($0) } }
  }
  static func readTar(_ bytes: [UInt8]) throws {
    for group in try TarReader(file(bytes)).groups { for f in group.files { _ = f.entry.contents } }
  }
  /// The pickle alone, where damage gets past the CRC.
  static func readPickle(_ bytes: [UInt8]) throws {
    var zip = ZipWriter()
    zip.add("x/data.pkl", bytes: bytes)
    zip.add("x/data/0", bytes: [UInt8](repeating: 0, count: 48))
    try readTorch(zip.bytes())
  }

  static func readNumpy(_ bytes: [UInt8]) throws {
    let archive = try NumpyArchive(file(bytes))
    for name in archive.names {
      _ = try archive.tensor(named: name).withBytes { Checksum.crc32($0) }
    }
  }
  /// The entry alone, where damage gets past the CRC.
  static func readEntry(_ bytes: [UInt8]) throws {
    var zip = ZipWriter()
    zip.add("a.npy", bytes: bytes)
    try readNumpy(zip.bytes())
  }

  struct Format: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let good: [UInt8]
    let read: @Sendable ([UInt8]) throws -> Void
  }
  static let formats: [Format] = [
    Format(testDescription: "safetensors", good: safetensors) { try readSafetensors($0) },
    Format(testDescription: "npy", good: npy) {
      _ = try NumpyFile.read(file($0).region, name: "t").withBytes { Checksum.crc32($0) }
    },
    Format(testDescription: "npz", good: npz) { try readNumpy($0) },
    Format(testDescription: "npz, deflated", good: npzDeflated) { try readNumpy($0) },
    Format(testDescription: "npz entry", good: npy) { try readEntry($0) },
    Format(testDescription: "deflate", good: deflated) {
      guard file($0).region.inflated(count: text.count, name: "t")?.array == text else {
        throw FileError.bad("not the text", "t")
      }
    },
    Format(testDescription: "pt", good: pt) { try readTorch($0) },
    Format(testDescription: "pickle", good: Array(pt[64..<64 + 600])) { try readPickle($0) },
    Format(testDescription: "tar", good: tar) { try readTar($0) },
    Format(testDescription: "png", good: png) { _ = try PNGImage(parsing: $0, name: "t") },
    Format(
      testDescription: "json",
      good: Array(#"{"a":[1,2.5e-3,"x\u00e9\n",null,true,{"b":{}}],"c":-7}"#.utf8)
    ) {
      _ = try JSONValue(parsing: $0, name: "t")
    },
  ]

  @Test func theFilesAreGoodBeforeTheDamage() throws {
    for format in Self.formats where format.testDescription != "pickle" {
      try format.read(format.good)
    }
  }
  @Test(arguments: formats) func damageIsRefusedNotFatal(_ format: Format) throws {
    let seed: UInt64 = 20_260_101
    var random = RandomStream(seed: seed, .test)
    func pick(_ n: Int) -> Int { Int(random.uniform() * Double(n)) }
    let interesting: [UInt8] = [0, 1, 0x7f, 0x80, 0xff, 0x28, 0x52, 0x85, 0x8a, 0x2d, 0x30, 0x39]
    for round in 0..<3000 {
      var bytes = format.good
      if round % 5 == 0 { bytes = Array(bytes.prefix(pick(bytes.count + 1))) }
      if !bytes.isEmpty {
        for _ in 0..<1 + pick(4) {
          let at = pick(bytes.count)
          switch pick(6) {
          case 0: bytes[at] = UInt8(pick(256))
          case 1: bytes[at] = interesting[pick(interesting.count)]
          case 2: bytes[at] ^= 1 << UInt8(pick(8))
          case 3: bytes.insert(interesting[pick(interesting.count)], at: at)
          case 4: for i in at..<min(at + 8, bytes.count) { bytes[i] = 0xff }
          default:
            if bytes.count > 1 { bytes.remove(at: at) }
          }
        }
      }
      do {
        try format.read(bytes)
      } catch let error as FileError {
        #expect(
          error.kind == .badData && !error.description.contains("\n"),
          "seed \(seed), round \(round)")
      }
    }
  }
  @Test func everyTruncationIsRefused() {
    for format in Self.formats where !["pickle", "tar", "json"].contains(format.testDescription) {
      // The end mark of a PNG file, 12 bytes, carries nothing.
      let needed = format.good.count - (format.testDescription == "png" ? 12 : 0)
      for n in 0..<needed {
        expectError(.badData) { try format.read(Array(format.good.prefix(n))) }
      }
    }
  }
}

/// [[0, 0.5, 1, 1.5], [2, 2.5, 3, 3.5], [4, 4.5, 5, 5.5]] as f32 under the name a, 7 as i16 under
/// b.
private enum Numpy {
  static let stored = """
    UEsDBC0AAAAAAAAAIQDufBU3//////////8FABQAYS5ucHkBABAAsAAAAAAAAACwAAAAAAAAAJNOVU1QWQEAdgB7J2Rlc2NyJzogJzxmNCcsICdmb3J0cmFuX29yZGVyJzogRmFsc2Us
    ICdzaGFwZSc6ICgzLCA0KSwgfSAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAKAAAAAAAAAD8AAIA/AADAPwAAAEAAACBAAABA
    QAAAYEAAAIBAAACQQAAAoEAAALBAUEsDBC0AAAAAAAAAIQBGoclp//////////8FABQAYi5ucHkBABAAggAAAAAAAACCAAAAAAAAAJNOVU1QWQEAdgB7J2Rlc2NyJzogJzxpMicsICdm
    b3J0cmFuX29yZGVyJzogRmFsc2UsICdzaGFwZSc6ICgpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAKBwBQSwEC
    LQMtAAAAAAAAACEA7nwVN7AAAACwAAAABQAAAAAAAAAAAAAAgAEAAAAAYS5ucHlQSwECLQMtAAAAAAAAACEARqHJaYIAAACCAAAABQAAAAAAAAAAAAAAgAHnAAAAYi5ucHlQSwUGAAAA
    AAIAAgBmAAAAoAEAAAAA
    """.filter { !$0.isWhitespace }
  static let deflated = """
    UEsDBC0AAAAIAAAAIQDufBU3//////////8FABQAYS5ucHkBABAAsAAAAAAAAABmAAAAAAAAAJvsF+obEMnIUMZQrZ6SWpxcpG6loG6TZqKuo6Cell9UUpSYF59flJIKEndLzClOBYoX
    ZyQWpAL5GsY6CiaaOgq1CmQDLgYIsGdgaADiA0DM4MDAoADEDkCcAMQNQDwBiBcA8QYHAFBLAwQtAAAACAAAACEARqHJaf//////////BQAUAGIubnB5AQAQAIIAAAAAAAAARAAAAAAA
    AACb7BfqGxDJyFDGUK2eklqcXKRupaBuk2mkrqOgnpZfVFKUmBefX5SSChJ3S8wpTgWKF2ckFqQC+RqaOgq1ChQBLnYGAFBLAQItAy0AAAAIAAAAIQDufBU3ZgAAALAAAAAFAAAAAAAA
    AAAAAACAAQAAAABhLm5weVBLAQItAy0AAAAIAAAAIQBGoclpRAAAAIIAAAAFAAAAAAAAAAAAAACAAZ0AAABiLm5weVBLBQYAAAAAAgACAGYAAAAYAQAAAAA=
    """.filter { !$0.isWhitespace }
}
