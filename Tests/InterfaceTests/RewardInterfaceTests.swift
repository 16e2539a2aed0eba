import CInterface
import Files
import Interface
import Models
import Pipelines
import Rewards
import TensorRuntime
import TestSupport
import Testing

/// The functions of pisces.h give what the program computes, to the bit. (Hostile arguments and
/// many threads: Tests/KernelDriver/reward.c, which tools/sanitize runs.)
@Suite(.serialized) struct RewardInterfaceTests {
  private let reward: OpaquePointer
  private let folder = try! RewardFolder("embedded:reward")
  private static let captions = [
    "a large red circle moving left", "a cross", "a blue star turning",
  ]
  private let clips = Workspace().affineClamp(
    randomTensor(Shape(3, 9, 3, 40, 32), seed: 1, type: .f32), alpha: 0.3, beta: 0.5, to: 0...1)

  init() throws {
    var handle: OpaquePointer?
    #expect(pisces_reward_open("embedded:reward", nil, &handle, nil) == PISCES_OK)
    reward = try #require(handle)
  }
  /// Calls `body` with clips as the header wants them, and with captions.
  private func with(
    _ x: Tensor, _ captions: [String] = captions,
    _ body: (UnsafePointer<pisces_frames>, UnsafePointer<UnsafePointer<CChar>?>) -> pisces_status
  ) {
    let texts = captions.map { caption in
      let bytes = caption.utf8CString
      let copy = UnsafeMutableBufferPointer<CChar>.allocate(capacity: bytes.count)
      _ = copy.initialize(from: bytes)
      return UnsafePointer(copy.baseAddress)
    }
    defer { for text in texts { text?.deallocate() } }
    let status = x.withBytes { bytes in
      var frames = pisces_frames(
        pixels: bytes.baseAddress!.assumingMemoryBound(to: Float.self), clips: x.shape[0],
        t: x.shape[1], h: x.shape[3], w: x.shape[4])
      return texts.withUnsafeBufferPointer { body(&frames, $0.baseAddress!) }
    }
    #expect(status == PISCES_OK)
  }

  @Test func scores() throws {
    defer { pisces_reward_close(reward) }
    let work = Workspace()
    let model = try folder.reward()
    var options = RewardOptions()
    options.useTransport = false
    let plain = try model.with(options)
    let x = clips.slice(0..<1)
    var found = Array(repeating: pisces_scores(), count: 3)
    with(x) { pisces_reward_score(reward, $0, $1, 3, &found, nil) }
    let video = model.videos(x, in: work)
    for (caption, s) in zip(Self.captions, found) {
      let expected = model.allScores(
        video, model.fusion(of: video, in: work),
        withTransport: model.captions([caption], in: work),
        plain: plain.captions([caption], in: work), in: work)
      #expect(
        s.quality == expected.quality?[0] && s.semantic == expected.semantic[0]
          && s.vanilla_quality == expected.vanillaQuality[0]
          && s.vanilla_semantic == expected.vanillaSemantic[0] && s.truncated == 0)
    }
  }

  @Test func gradients() throws {
    defer { pisces_reward_close(reward) }
    let work = Workspace()
    var model = try folder.reward()
    let (dq, ds) = ([0.5, -1, 2], [1.0, 0.25, -3])
    let (scores, saved) = model.forward(
      clips, model.captions(Self.captions, in: work), checkpointing: true, in: work)
    let expected = model.backward(dQuality: dq, dSemantic: ds, saved, in: work).floats
    var (quality, semantic) = ([0.0, 0, 0], [0.0, 0, 0])
    var gradient = Array(repeating: Float.nan, count: clips.count)
    with(clips) {
      pisces_reward_gradient(reward, $0, $1, dq, ds, &quality, &semantic, &gradient, nil)
    }
    #expect(gradient == expected && quality == scores.quality && semantic == scores.semantic)
    // A clip's rewards and gradient do not depend on the others.
    var alone = Array(repeating: Float.nan, count: clips.count / 3)
    with(clips.slice(1..<2), [Self.captions[1]]) {
      pisces_reward_gradient(reward, $0, $1, [dq[1]], [ds[1]], &quality, &semantic, &alone, nil)
    }
    #expect(alone == Array(expected[alone.count..<2 * alone.count]))
    // One reward alone.
    var first = gradient
    with(clips) {
      pisces_reward_gradient(reward, $0, $1, dq, nil, &quality, &semantic, &first, nil)
    }
    #expect(first == model.backward(dQuality: dq, dSemantic: [], saved, in: work).floats)
  }

  @Test func featuresAndPlans() throws {
    defer { pisces_reward_close(reward) }
    let work = Workspace()
    let model = try folder.reward()
    var sizes = pisces_reward_sizes()
    #expect(pisces_reward_describe(reward, &sizes, nil) == PISCES_OK)
    let e = sizes.features
    var video = Array(repeating: Float.nan, count: 3 * e)
    with(clips) { frames, _ in pisces_reward_video_features(reward, frames, &video, nil) }
    #expect(video == model.videos(clips, in: work).unit.floats)
    var (text, mapped) = (video, video)
    with(clips) { _, texts in
      pisces_reward_text_features(reward, texts, 3, &text, &mapped, nil)
    }
    for (i, caption) in Self.captions.enumerated() {
      let c = model.captions([caption], in: work)
      #expect(Array(text[i * e..<(i + 1) * e]) == c.unit.floats)
      #expect(Array(mapped[i * e..<(i + 1) * e]) == c.mapped!.floats)
    }
    var ids = Array(repeating: Int32(-1), count: 8)
    var count = 0
    #expect(
      pisces_reward_tokenize(reward, Self.captions[0], &ids, 8, &count, nil) == PISCES_OK)
    let tokens = model.tokens([Self.captions[0]])
    #expect(Array(ids[..<count]) == tokens.ids)

    var word = Array(repeating: CChar(1), count: 16)
    #expect(pisces_reward_token(reward, ids[2], &word, 16, nil) == PISCES_OK)
    #expect(word.prefix { $0 != 0 }.map { UInt8($0) } == Array("large".utf8))
    #expect(pisces_reward_token(reward, ids[2], &word, 5, nil) == PISCES_BAD_ARGUMENT)
    #expect(pisces_reward_token(reward, 66, &word, 16, nil) == PISCES_BAD_ARGUMENT)
    let x = clips.slice(0..<1)
    let captions = model.captions([Self.captions[0]], in: work)
    let expected = WordPlans(model, model.videos(x, in: work), captions, in: work)
    let patches = 1 + 9 / sizes.tubelet_size * sizes.grid * sizes.grid
    var words = Array(repeating: Int32(-1), count: 8)
    var shares = Array(repeating: Float.nan, count: 8 * patches)
    var unmatched = Array(repeating: Float.nan, count: 8)
    var (mass, n) = (0.0, 0)
    with(x) { frames, _ in
      words.withUnsafeMutableBufferPointer { w in
        shares.withUnsafeMutableBufferPointer { s in
          unmatched.withUnsafeMutableBufferPointer { u in
            var plan = pisces_plan(
              ids: w.baseAddress!, shares: s.baseAddress!, unmatched: u.baseAddress!, capacity: 8,
              count: 0, mass: 0)
            defer { (mass, n) = (plan.mass, plan.count) }
            return pisces_reward_explain(reward, frames, Self.captions[0], &plan, nil)
          }
        }
      }
    }
    #expect(n == expected.ids.count && Array(words[..<n]) == expected.ids && mass == expected.mass)
    for i in 0..<n {
      let row = shares[i * patches..<(i + 1) * patches]
      #expect(Array(row) == expected.shares[i].map { Float($0) })
      #expect(abs(row.reduce(0, +) - 1) < 1e-4 && unmatched[i] == Float(expected.unmatched[i]))
    }
  }

  /// A message names the argument; the version is the header's.
  @Test func refusals() {
    defer { pisces_reward_close(reward) }
    var message = pisces_message()
    func text() -> String {
      withUnsafeBytes(of: &message.text) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }
    #expect(pisces_reward_score(nil, nil, nil, 1, nil, &message) == PISCES_BAD_ARGUMENT)
    #expect(text() == "reward is NULL: pisces_reward_score: give a pointer")
    var handle: OpaquePointer?
    #expect(pisces_reward_open("/nowhere", nil, &handle, &message) == PISCES_NOT_FOUND)
    #expect(handle == nil && text().contains("/nowhere"))
    #expect(pisces_version() == 200)
  }
}
