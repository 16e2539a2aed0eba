/// The kinds of input that `pisces convert` accepts.
public enum ConversionKind: String, Sendable, CaseIterable {
  case internvideo2
  case hunyuanTransformer = "hunyuan-transformer"
  case hunyuanVAE = "hunyuan-vae"
  /// A whole generator, and its networks one by one.
  case videocrafter2
  case videocrafterUNet = "videocrafter-unet"
  case imageVAE = "image-vae"
  case openCLIPText = "openclip-text"
  case otMap = "ot-map"
  case lora
}
