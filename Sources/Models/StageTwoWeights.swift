/// Names in an InternVideo2 stage-2 checkpoint (checkpoints.md 2).
public enum StageTwoWeights {
  /// Parameters that the rewards do not need; in a pattern `*` stands for any text.
  public static let ignored = [
    "vision_encoder.clip_pos_embed", "vision_encoder.clip_img_pos_embed",
    "vision_encoder.clip_decoder.*", "vision_encoder.final_clip_decoder.*",
    "vision_encoder.img_pos_embed", "text_encoder.bert.embeddings.position_ids",
    "text_encoder.bert.pooler.*", "text_encoder.cls.*", "temp",
  ]
}
