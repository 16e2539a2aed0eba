/// What `pisces convert` can be told the input is.
public enum ConversionKind: String, Sendable, CaseIterable {
  case internvideo2
  case hunyuanTransformer = "hunyuan-transformer"
  case hunyuanVAE = "hunyuan-vae"
  case otMap = "ot-map"
  case lora
}
