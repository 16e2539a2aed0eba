/// The kinds of input that `pisces convert` accepts.
public enum ConversionKind: String, Sendable, CaseIterable {
  case internvideo2
  case hunyuanTransformer = "hunyuan-transformer"
  case hunyuanVAE = "hunyuan-vae"
  case otMap = "ot-map"
  case lora
}
