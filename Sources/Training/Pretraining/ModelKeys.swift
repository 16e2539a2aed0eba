import Files
import Models

/// The keys of the `model` sections of run files. The models know nothing of run files. Their
/// `problem` says which values do not go together.
enum ModelKeys {
  private static let width = Limits.whole(1...65536), heads = Limits.whole(1...4096),
    depth = Limits.whole(0...1024)

  static let autoencoder: [DeclaredKey] = [
    DeclaredKey("in_channels", .whole(3...3), "Channels of a clip."),
    DeclaredKey("out_channels", .whole(3...3), "Channels of a decoded clip."),
    DeclaredKey("latent_channels", width, "Channels of a latent."),
    DeclaredKey(
      "block_out_channels", .list(of: width, count: 1...8),
      "Channels of each level; multiples of norm_num_groups."),
    DeclaredKey(
      "layers_per_block", .whole(1...64),
      "Residual blocks of an encoder level; a decoder level has one more."),
    DeclaredKey("norm_num_groups", width, "Groups of the group norms."),
    DeclaredKey(
      "scaling_factor", .real(above: 0, to: 1e6),
      "Latents are multiplied by it; measured and replaced at the end of training."),
    DeclaredKey(
      "spatial_compression_ratio", .whole(1...128),
      "Pixels of a latent cell along a side; a power of two."),
    DeclaredKey(
      "temporal_compression_ratio", .whole(1...128), "Frames of a latent frame; a power of two."),
    DeclaredKey("mid_block_add_attention", .toggle, "Attention in the middle block."),
  ]
  static let imageAutoencoder: [DeclaredKey] = [
    DeclaredKey("in_channels", .whole(3...3), "Channels of a frame."),
    DeclaredKey("out_ch", .whole(3...3), "Channels of a decoded frame."),
    DeclaredKey("ch", width, "Channels of the first level; a multiple of norm_num_groups."),
    DeclaredKey(
      "ch_mult", .list(of: .whole(1...64), count: 1...8),
      "Channels of each level in those of the first; each level but the last halves a side."),
    DeclaredKey(
      "num_res_blocks", .whole(1...64),
      "Residual blocks of an encoder level; a decoder level has one more."),
    DeclaredKey("z_channels", width, "Channels of a latent inside the networks."),
    DeclaredKey("embed_dim", width, "Channels of a latent."),
    DeclaredKey("norm_num_groups", width, "Groups of the group norms."),
    DeclaredKey(
      "scaling_factor", .real(above: 0, to: 1e6),
      "Latents are multiplied by it; measured and replaced at the end of training."),
  ]
  static let transformer: [DeclaredKey] = [
    DeclaredKey("in_channels", width, "Taken from the autoencoder."),
    DeclaredKey("out_channels", width, "Taken from the autoencoder."),
    DeclaredKey("num_attention_heads", heads, "Attention heads."),
    DeclaredKey(
      "attention_head_dim", .whole(2...4096), "Width of a head; the sum of rope_axes_dim."),
    DeclaredKey("num_layers", depth, "Double-stream blocks."),
    DeclaredKey("num_single_layers", depth, "Single-stream blocks."),
    DeclaredKey("num_refiner_layers", depth, "Blocks of the token refiner."),
    DeclaredKey(
      "mlp_ratio", .real(above: 0, to: 1000), "Hidden width of a feed-forward network, in widths."),
    DeclaredKey("patch_size", .whole(1...64), "Latent cells of a token along a side."),
    DeclaredKey("patch_size_t", .whole(1...64), "Latent frames of a token."),
    DeclaredKey("guidance_embeds", .toggle, "Takes guidance as an input."),
    DeclaredKey("text_embed_dim", width, "Taken from the text encoder."),
    DeclaredKey("pooled_projection_dim", width, "Taken from the text encoder."),
    DeclaredKey("rope_theta", .real(1.001...1e9), "Base of the rotary embedding."),
    DeclaredKey(
      "rope_axes_dim", .list(of: .whole(2...4096), count: 3...3),
      "Rotary widths of time, height, width; even."),
  ]
  static let unet: [DeclaredKey] = [
    DeclaredKey("in_channels", width, "Taken from the autoencoder."),
    DeclaredKey("out_channels", width, "Taken from the autoencoder."),
    DeclaredKey("model_channels", width, "Width of the first level; even."),
    DeclaredKey(
      "channel_mult", .list(of: .whole(1...64), count: 1...8),
      "Width of each level in widths of the first; begins with 1."),
    DeclaredKey(
      "num_res_blocks", .whole(1...64), "Residual blocks of a level down; one more on the way up."),
    DeclaredKey(
      "attention_resolutions", .list(of: .whole(1...128), count: 0...8),
      "Downsampling factors at which there are transformers."),
    DeclaredKey("num_head_channels", .whole(1...4096), "Width of a head; divides the widths."),
    DeclaredKey("init_attn_heads", heads, "Heads of the first transformer in time."),
    DeclaredKey("transformer_depth", .whole(1...64), "Blocks of a transformer."),
    DeclaredKey("context_dim", width, "Taken from the text encoder."),
    DeclaredKey("norm_num_groups", width, "Groups of the group norms; divides the widths."),
    DeclaredKey("temporal_conv", .toggle, "Convolutions over time: always."),
    DeclaredKey("fps_cond", .toggle, "Takes the frame rate as an input: always."),
  ]
  private static let vision: [DeclaredKey] = [
    DeclaredKey("img_size", .whole(1...4096), "Side of a frame, in pixels."),
    DeclaredKey("num_frames", .frames, "Frames of a clip."),
    DeclaredKey("tubelet_size", .whole(1...64), "Frames of a token."),
    DeclaredKey("patch_size", .whole(1...1024), "Pixels of a token along a side."),
    DeclaredKey("d_model", width, "Width."),
    DeclaredKey("depth", .whole(1...1024), "Blocks."),
    DeclaredKey("num_heads", heads, "Attention heads."),
    DeclaredKey(
      "mlp_ratio", .real(above: 0, to: 1000), "Hidden width of a feed-forward network, in widths."),
    DeclaredKey("attn_pool_num_heads", heads, "Heads of the attention pooling."),
    DeclaredKey("clip_embed_dim", width, "Width behind the attention pooling."),
    DeclaredKey("mlp_gelu", .choice(VideoEncoderConfig.GELU.self), "Form of GELU (D-9)."),
    DeclaredKey("init_values", .real(0...100), "LayerScale at the start."),
  ]
  private static let text: [DeclaredKey] = [
    DeclaredKey("vocab_size", .whole(1...1 << 24), "Words; raised to what the vocabulary holds."),
    DeclaredKey("hidden_size", width, "Width."),
    DeclaredKey("num_hidden_layers", .whole(1...1024), "Layers."),
    DeclaredKey("num_attention_heads", heads, "Attention heads."),
    DeclaredKey(
      "intermediate_size", .whole(1...1 << 20), "Hidden width of a feed-forward network."),
    DeclaredKey("max_position_embeddings", .whole(1...1 << 20), "Longest text, in tokens."),
    DeclaredKey("type_vocab_size", .whole(1...1 << 16), "Token types."),
    DeclaredKey("layer_norm_eps", .real(above: 0, to: 1), "ε of the layer norms."),
    DeclaredKey("fusion_layer", depth, "First layer with cross-attention."),
    DeclaredKey("encoder_width", width, "Width of the visual tokens."),
    DeclaredKey("pad_token_id", .whole(0...1 << 24), "Token of padding."),
  ]
  static let videoText: [DeclaredKey] =
    [
      DeclaredKey("model_type", .choice(["internvideo2_stage2"]), "Kind of model."),
      DeclaredKey("embed_dim", width, "Width of the features."),
      DeclaredKey("max_txt_l", .whole(1...1 << 20), "Tokens of a caption; more are cut."),
    ] + vision.map { DeclaredKey("vision_encoder.\($0.name)", $0.limits, $0.meaning) }
    + text.map { DeclaredKey("text_encoder.\($0.name)", $0.limits, $0.meaning) }
    + ["input_dim", "hidden_dim", "output_dim"].map {
      DeclaredKey("ot_map.\($0)", width, "Width of the OT map.")
    }
}
