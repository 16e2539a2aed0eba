import Files
import Models
public import Rewards
public import TensorRuntime
import Transport

/// Which word is transported to which frames and patches: the token plans of every fusion layer,
/// averaged over layers and heads.
public struct WordPlans: Sendable {
  /// Token ids of the words that have a plan.
  public let ids: [Int32]
  /// For each word its share on [CLS] and on each patch of each time position,
  /// `[1 + times · grid²]`, of sum 1.
  public let shares: [[Double]]
  /// The plan's total mass before row normalisation, averaged over layers and heads; and for each
  /// word the mass left unmatched, 1 - N · (row sum), where the marginals ask for 1/N in each row.
  public let mass: Double, unmatched: [Double]

  /// The plans of one caption and one video.
  public init(
    _ reward: RewardModel, _ video: RewardModel.VideoFeatures, _ captions: CaptionBatch,
    in work: borrowing Workspace
  ) {
    var sum: [Double] = []
    var raw: [Double] = []
    var masses: [Double] = []
    var layers = 0
    let tokens = captions.tokens
    let rows = (0..<tokens.length).filter { tokens.lexical[$0] != 0 }
    let m = video.tokens.shape[1]
    let l = tokens.length
    let prior = reward.prior(lastLayer: true) { view, plans in
      let h = view.attention.shape[1]
      let p = plans.plan.doubles
      let q = plans.raw!.doubles
      if sum.isEmpty {
        (sum, raw) = (
          Array(repeating: 0, count: rows.count * m), Array(repeating: 0, count: rows.count)
        )
      }
      for (i, row) in rows.enumerated() {
        for head in 0..<h {
          let base = (head * l + row) * m
          for j in 0..<m {
            sum[i * m + j] += p[base + j] / Double(h)
            raw[i] += q[base + j] / Double(h)
          }
        }
      }
      masses += plans.mass
      layers += 1
    }
    _ = reward.model.text.fusion(
      captions.hidden, tokens, vision: video.tokens, prior: prior, in: work)
    let n = Double(max(layers, 1))
    ids = rows.map { tokens.ids[$0] }
    shares = rows.indices.map { i in (0..<m).map { sum[i * m + $0] / n } }
    mass = masses.isEmpty ? 0 : masses.reduce(0, +) / Double(masses.count)
    unmatched = raw.map { max(0, 1 - Double(rows.count) * $0 / n) }
  }
}

/// The plans of a pair as files for people.
struct Explanation {
  let plans: WordPlans, words: [String]
  let grid: Int, prompt: String
  let pixels: Tensor
  /// Shares of each word on each patch `[times, grid, grid]`, and on each time position.
  private var maps: [[Double]] { plans.shares.map { Array($0.dropFirst()) } }

  init(
    _ reward: RewardModel, _ tokenizer: WordPieceTokenizer, _ video: RewardModel.VideoFeatures,
    _ captions: CaptionBatch, _ source: Video, _ prompt: String, in work: borrowing Workspace
  ) {
    plans = WordPlans(reward, video, captions, in: work)
    words = plans.ids.map { tokenizer.token(Int($0)) ?? "?" }
    (grid, self.prompt, pixels) = (reward.model.config.visionEncoder.grid, prompt, source.pixels)
  }

  /// Writes `NNNN.json` and `NNNN.png`: a row with the frames, then for every word a row with the
  /// same frames, whose brightness shows the word's share.
  func write(to folder: String, index: Int, video: String) throws -> String {
    let name = "\(folder)/" + String(String(10000 + index).dropFirst())
    let patches = grid * grid
    let list = zip(words.indices, maps).map { i, map -> JSONValue in
      let times = stride(from: 0, to: map.count, by: patches).map {
        map[$0..<$0 + patches].reduce(0, +)
      }
      return [
        "word": .string(words[i]), "unmatched_mass": .number(plans.unmatched[i]),
        "cls": .number(plans.shares[i][0]), "frames": .array(times.map { .number($0) }),
        "patches": .array(map.map { .number($0) }),
      ]
    }
    let json: JSONValue = [
      "video": .string(video), "prompt": .string(prompt), "mass": .number(plans.mass),
      "grid": .integer(grid), "words": .array(list),
    ]
    try picture().write(to: name + ".png")
    try OutputFile.write(json.line + "\n", to: name + ".json")
    return name + ".json"
  }

  private func picture() -> PNGImage {
    let (t, h, w) = (pixels.shape[0], pixels.shape[2], pixels.shape[3])
    let scale = max(1, 96 / max(h, 1))
    let gap = 2
    let cell = (h: h * scale, w: w * scale)
    let rows = words.count + 1
    let width = t * (cell.w + gap) - gap
    let height = rows * (cell.h + gap) - gap
    let x = pixels.floats
    let maps = maps
    let times = (maps.first?.count ?? 0) / (grid * grid)
    var out = [UInt8](repeating: 255, count: width * height * 3)
    for r in 0..<rows {
      for f in 0..<t {
        let slot = f * times / t
        let peak = r > 0 ? maps[r - 1].max() ?? 1 : 1
        for i in 0..<cell.h {
          for j in 0..<cell.w {
            let (y, c) = (i / scale, j / scale)
            // The plan's patches cover the centre crop. Outside it the picture stays dark.
            let side = min(h, w)
            let py = (y - (h - side) / 2) * grid / side
            let px = (c - (w - side) / 2) * grid / side
            let inside = py >= 0 && py < grid && px >= 0 && px < grid
            let light =
              r == 0
              ? 1
              : inside
                ? 0.15 + 0.85 * maps[r - 1][slot * grid * grid + py * grid + px] / max(peak, 1e-12)
                : 0.15
            let at = ((r * (cell.h + gap) + i) * width + f * (cell.w + gap) + j) * 3
            for k in 0..<3 {
              out[at + k] = UInt8(
                min(max(Double(x[((f * 3 + k) * h + y) * w + c]) * light, 0), 1) * 255)
            }
          }
        }
      }
    }
    return PNGImage(width: width, height: height, pixels: out)
  }
}
