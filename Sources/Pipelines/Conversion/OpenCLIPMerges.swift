import Files
import Models

/// The merges of CLIP's tokenizer, which are inside the program.
enum OpenCLIPMerges {
  /// Writes `merges.txt` and its licence. A tower of fewer words gets as many merges as it has
  /// words for (videocrafter.md 4.2); nothing is written where it has not even words for the bytes.
  static func write(vocabulary: Int, to folder: String) throws(FileError) {
    let count = min(vocabulary - 514, BytePairTokenizer.mergeCount)
    if count < 0 { return }
    let lines = try TextFile.lines("embedded:openclip/merges.txt")
    let heading = lines.first?.contains("#version") == true ? 1 : 0
    try createFolder(folder)
    try OutputFile.write(
      lines.prefix(heading + count).map { $0 + "\n" }.joined(), to: "\(folder)/merges.txt")
    try OutputFile.write(licence + "\n", to: "\(folder)/merges.LICENCE")
  }

  /// That of `CSupport/Embedded/openclip/merges.LICENCE`.
  static let licence = """
    The merges in merges.txt are those of bpe_simple_vocab_16e6.txt.gz, published with CLIP, \
    Copyright (c) 2021 OpenAI, under the MIT licence, and redistributed in the package \
    open_clip_torch (MIT). Permission is hereby granted, free of charge, to any person obtaining \
    a copy of this software and associated documentation files (the "Software"), to deal in the \
    Software without restriction, including without limitation the rights to use, copy, modify, \
    merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit \
    persons to whom the Software is furnished to do so, subject to the following conditions: The \
    above copyright notice and this permission notice shall be included in all copies or \
    substantial portions of the Software. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF \
    ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF \
    MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE \
    AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN \
    AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE \
    SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
    """
}
