public import CInterface
internal import Models
internal import Pipelines
internal import Rewards
internal import TensorRuntime

// The functions of pisces.h, in its order. The compiler compares each with its declaration.

@c @implementation
public func pisces_version() -> Int32 {
  PISCES_VERSION_MAJOR * 10000 + PISCES_VERSION_MINOR * 100 + PISCES_VERSION_PATCH
}

@c @implementation
public func pisces_reward_options_init(_ options: UnsafeMutablePointer<pisces_reward_options>!) {
  guard let options = unsafe options else { return }
  unsafe options.pointee = unsafe pisces_reward_options(
    size: MemoryLayout<pisces_reward_options>.size, ot_map: nil, threads: 0, compute: PISCES_F32)
}

@c @implementation
public func pisces_reward_open(
  _ path: UnsafePointer<CChar>!, _ options: UnsafePointer<pisces_reward_options>!,
  _ reward: UnsafeMutablePointer<OpaquePointer?>!, _ message: UnsafeMutablePointer<pisces_message>!
) -> pisces_status {
  unsafe answer("pisces_reward_open", message) {
    guard let reward = unsafe reward else { throw Handle.missing("reward") }
    unsafe reward.pointee = nil
    let given = unsafe options?.pointee
    let expected = unsafe MemoryLayout<pisces_reward_options>.size
    let size = unsafe given?.size ?? expected
    guard size == expected else {
      throw Refusal(
        .badArgument, "options.size is \(size)", "set them up with pisces_reward_options_init")
    }
    let map = try unsafe given?.ot_map.map { try unsafe Handle.text($0, "options.ot_map") }
    let handle = try unsafe Handle(
      Handle.text(path, "path"), map: map, threads: Int(given?.threads ?? 0),
      given?.compute ?? PISCES_F32)
    unsafe reward.pointee = unsafe OpaquePointer(Unmanaged.passRetained(handle).toOpaque())
  }
}

@c @implementation
public func pisces_reward_close(_ reward: OpaquePointer!) {
  guard let reward = unsafe reward else { return }
  unsafe Unmanaged<Handle>.fromOpaque(UnsafeRawPointer(reward)).release()
}

@c @implementation
public func pisces_reward_describe(
  _ reward: OpaquePointer!, _ sizes: UnsafeMutablePointer<pisces_reward_sizes>!,
  _ message: UnsafeMutablePointer<pisces_message>!
) -> pisces_status {
  unsafe answer("pisces_reward_describe", message) {
    let handle = try unsafe Handle.of(reward)
    guard let sizes = unsafe sizes else { throw Handle.missing("sizes") }
    let c = handle.folder.config.visionEncoder
    unsafe sizes.pointee = pisces_reward_sizes(
      frames: c.numFrames, tubelet_size: c.tubeletSize, image_size: c.imgSize, grid: c.grid,
      features: handle.folder.config.embedDim, tokens: handle.withTransport.mostTokens,
      plain_tokens: handle.model.plain.mostTokens, has_map: handle.folder.map == nil ? 0 : 1)
  }
}

@c @implementation
public func pisces_reward_tokenize(
  _ reward: OpaquePointer!, _ caption: UnsafePointer<CChar>!, _ ids: UnsafeMutablePointer<Int32>!,
  _ capacity: Int, _ count: UnsafeMutablePointer<Int>!,
  _ message: UnsafeMutablePointer<pisces_message>!
) -> pisces_status {
  unsafe answer("pisces_reward_tokenize", message) {
    let handle = try unsafe Handle.of(reward)
    let text = try unsafe Handle.text(caption, "caption")
    guard let count = unsafe count else { throw Handle.missing("count") }
    if capacity < 0 { throw Refusal(.badArgument, "capacity is \(capacity)", "give 0 or more") }
    if unsafe capacity > 0 && ids == nil { throw Handle.missing("ids") }
    let found = handle.withTransport.tokens([text]).ids
    for (i, id) in found.prefix(capacity).enumerated() { unsafe ids![i] = id }
    unsafe count.pointee = found.count
  }
}

@c @implementation
public func pisces_reward_token(
  _ reward: OpaquePointer!, _ id: Int32, _ text: UnsafeMutablePointer<CChar>!, _ capacity: Int,
  _ message: UnsafeMutablePointer<pisces_message>!
) -> pisces_status {
  unsafe answer("pisces_reward_token", message) {
    let handle = try unsafe Handle.of(reward)
    guard let text = unsafe text else { throw Handle.missing("text") }
    let tokenizer = handle.folder.tokenizer
    guard let token = tokenizer.token(Int(id)) else {
      throw Refusal(.badArgument, "no token \(id)", "give 0 to \(tokenizer.count - 1)")
    }
    let bytes = Array(token.utf8CString)
    guard bytes.count <= capacity else {
      throw Refusal(
        .badArgument, "a token of \(bytes.count) bytes, room for \(capacity)", "make more room")
    }
    for (i, byte) in bytes.enumerated() { unsafe text[i] = byte }
  }
}

@c @implementation
public func pisces_reward_score(
  _ reward: OpaquePointer!, _ frames: UnsafePointer<pisces_frames>!,
  _ captions: UnsafePointer<UnsafePointer<CChar>?>!, _ count: Int,
  _ scores: UnsafeMutablePointer<pisces_scores>!, _ message: UnsafeMutablePointer<pisces_message>!
) -> pisces_status {
  unsafe answer("pisces_reward_score", message) {
    let handle = try unsafe Handle.of(reward)
    let x = try unsafe handle.clip(frames)
    let texts = try unsafe Handle.texts(captions, count, "captions")
    guard let scores = unsafe scores else { throw Handle.missing("scores") }
    let found = try handle.scores(x, texts)
    for (i, s) in found.enumerated() { unsafe scores[i] = s }
  }
}

@c @implementation
public func pisces_reward_video_features(
  _ reward: OpaquePointer!, _ frames: UnsafePointer<pisces_frames>!,
  _ features: UnsafeMutablePointer<Float>!, _ message: UnsafeMutablePointer<pisces_message>!
) -> pisces_status {
  unsafe answer("pisces_reward_video_features", message) {
    let handle = try unsafe Handle.of(reward)
    let x = try unsafe handle.clips(frames)
    guard let features = unsafe features else { throw Handle.missing("features") }
    let found = try handle.compute { work in
      // Clip by clip, as the program does: a feature does not depend on the others.
      work.concatenated(
        (0..<x.shape[0]).map { handle.withTransport.videos(x.slice($0..<$0 + 1), in: work).unit },
        axis: 0)
    }
    unsafe copy(found, to: features)
  }
}

@c @implementation
public func pisces_reward_text_features(
  _ reward: OpaquePointer!, _ captions: UnsafePointer<UnsafePointer<CChar>?>!, _ count: Int,
  _ features: UnsafeMutablePointer<Float>!, _ mapped: UnsafeMutablePointer<Float>!,
  _ message: UnsafeMutablePointer<pisces_message>!
) -> pisces_status {
  unsafe answer("pisces_reward_text_features", message) {
    let handle = try unsafe Handle.of(reward)
    let texts = try unsafe Handle.texts(captions, count, "captions")
    guard let features = unsafe features else { throw Handle.missing("features") }
    if unsafe mapped != nil && handle.folder.map == nil {
      throw Refusal(
        .badArgument, "this model has no OT map", "give mapped as NULL, or a map in the options")
    }
    let width = handle.folder.config.embedDim
    try handle.compute { work in
      for (i, text) in texts.prefix(work.rounds(texts.count)).enumerated() {
        let c = handle.withTransport.captions([text], in: work)
        if work.isPlanned { continue }
        unsafe copy(c.unit, to: features + i * width)
        if let mapped = unsafe mapped { unsafe copy(c.mapped!, to: mapped + i * width) }
      }
    }
  }
}

@c @implementation
public func pisces_reward_explain(
  _ reward: OpaquePointer!, _ frames: UnsafePointer<pisces_frames>!,
  _ caption: UnsafePointer<CChar>!, _ plan: UnsafeMutablePointer<pisces_plan>!,
  _ message: UnsafeMutablePointer<pisces_message>!
) -> pisces_status {
  unsafe answer("pisces_reward_explain", message) {
    let handle = try unsafe Handle.of(reward)
    let x = try unsafe handle.clip(frames)
    let text = try unsafe Handle.text(caption, "caption")
    guard let plan = unsafe plan else { throw Handle.missing("plan") }
    guard let ids = unsafe plan.pointee.ids, let shares = unsafe plan.pointee.shares,
      let unmatched = unsafe plan.pointee.unmatched
    else { throw Handle.missing("plan->ids, shares or unmatched") }
    let found = try handle.plans(x, text)
    let capacity = unsafe plan.pointee.capacity
    if found.ids.count > capacity {
      throw Refusal(
        .badArgument, "\(found.ids.count) words, room for \(capacity)",
        "make room for as many words as the caption has tokens")
    }
    for (i, id) in found.ids.enumerated() {
      unsafe (ids[i], unmatched[i]) = (id, Float(found.unmatched[i]))
      let row = found.shares[i]
      for (j, share) in row.enumerated() { unsafe shares[i * row.count + j] = Float(share) }
    }
    unsafe (plan.pointee.count, plan.pointee.mass) = (found.ids.count, found.mass)
  }
}

@c @implementation
public func pisces_reward_gradient(
  _ reward: OpaquePointer!, _ frames: UnsafePointer<pisces_frames>!,
  _ captions: UnsafePointer<UnsafePointer<CChar>?>!, _ weightsQuality: UnsafePointer<Double>!,
  _ weightsSemantic: UnsafePointer<Double>!, _ quality: UnsafeMutablePointer<Double>!,
  _ semantic: UnsafeMutablePointer<Double>!, _ gradient: UnsafeMutablePointer<Float>!,
  _ message: UnsafeMutablePointer<pisces_message>!
) -> pisces_status {
  unsafe answer("pisces_reward_gradient", message) {
    let handle = try unsafe Handle.of(reward)
    let x = try unsafe handle.clips(frames)
    let n = x.shape[0]
    let texts = try unsafe Handle.texts(captions, n, "captions")
    guard let quality = unsafe quality, let semantic = unsafe semantic else {
      throw Handle.missing("quality or semantic")
    }
    func weights(_ pointer: UnsafePointer<Double>?, _ name: String) throws -> [Double] {
      let list = unsafe pointer.map { p in (0..<n).map { unsafe p[$0] } } ?? []
      if let i = list.firstIndex(where: { !$0.isFinite }) {
        throw Refusal(.badData, "\(name)[\(i)] is \(list[i])", "give finite numbers")
      }
      return list
    }
    let found = try unsafe handle.gradient(
      x, texts, weights(weightsQuality, "weights_quality"),
      weights(weightsSemantic, "weights_semantic"), wantsGradient: gradient != nil)
    for i in 0..<n {
      unsafe (quality[i], semantic[i]) = (found.scores.quality[i], found.scores.semantic[i])
    }
    if let gradient = unsafe gradient { unsafe copy(found.gradient!, to: gradient) }
  }
}
