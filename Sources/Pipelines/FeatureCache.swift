import Files
import Rewards
import TensorRuntime

/// Features of videos that were seen, within a budget of bytes. The one that was used longest ago
/// goes first.
struct FeatureCache {
  private struct Entry {
    let file: FileIdentity, features: RewardModel.VideoFeatures
    var bytes: Int { features.tokens.byteCount + features.projected.byteCount * 2 }
  }
  private let budget: Int
  /// The last one was used last.
  private var entries: [Entry] = []
  init(bytes: Int) { budget = bytes }

  /// The features of a file, if they are there. They are dropped if the video will not return.
  subscript(file: FileIdentity, returns returns: Bool?) -> RewardModel.VideoFeatures? {
    mutating get {
      guard let at = entries.firstIndex(where: { $0.file == file }) else { return nil }
      let entry = entries.remove(at: at)
      if returns != false { entries.append(entry) }
      return entry.features
    }
  }
  mutating func keep(_ f: RewardModel.VideoFeatures, of file: FileIdentity) {
    let entry = Entry(file: file, features: f)
    if entry.bytes > budget { return }
    while entries.reduce(entry.bytes, { $0 + $1.bytes }) > budget { entries.removeFirst() }
    entries.append(entry)
  }
}
