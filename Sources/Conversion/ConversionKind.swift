/// What `pisces convert` can be told the input is.
public enum ConversionKind: String, Sendable, CaseIterable {
  case internvideo2, hunyuanTransformer = "hunyuan-transformer", hunyuanVAE = "hunyuan-vae", otMap = "ot-map", lora
}
