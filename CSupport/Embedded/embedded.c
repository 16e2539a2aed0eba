/* Written by tools/embedded/embed.py: do not edit. */
#include "embedded.h"

static const _Alignas(64) unsigned char file_0[] = {
#embed "models/generator/model_index.json"
};
static const _Alignas(64) unsigned char file_1[] = {
#embed "models/generator/scheduler/scheduler_config.json"
};
static const _Alignas(64) unsigned char file_2[] = {
#embed "models/generator/text_encoder/config.json"
};
static const _Alignas(64) unsigned char file_3[] = {
#embed "models/generator/text_encoder/model.safetensors"
};
static const _Alignas(64) unsigned char file_4[] = {
#embed "models/generator/text_encoder/vocab.txt"
};
static const _Alignas(64) unsigned char file_5[] = {
#embed "models/generator/transformer/config.json"
};
static const _Alignas(64) unsigned char file_6[] = {
#embed "models/generator/transformer/diffusion_pytorch_model.safetensors"
};
static const _Alignas(64) unsigned char file_7[] = {
#embed "models/generator/vae/config.json"
};
static const _Alignas(64) unsigned char file_8[] = {
#embed "models/generator/vae/diffusion_pytorch_model.safetensors"
};
static const _Alignas(64) unsigned char file_9[] = {
#embed "openclip/merges.txt"
};
static const _Alignas(64) unsigned char file_10[] = {
#embed "models/reward/config.json"
};
static const _Alignas(64) unsigned char file_11[] = {
#embed "models/reward/model.safetensors"
};
static const _Alignas(64) unsigned char file_12[] = {
#embed "models/reward/ot_map.safetensors"
};
static const _Alignas(64) unsigned char file_13[] = {
#embed "models/reward/vocab.txt"
};
static const _Alignas(64) unsigned char file_14[] = {
#embed "models/short/model_index.json"
};
static const _Alignas(64) unsigned char file_15[] = {
#embed "models/short/scheduler.json"
};
static const _Alignas(64) unsigned char file_16[] = {
#embed "models/short/text_encoder/config.json"
};
static const _Alignas(64) unsigned char file_17[] = {
#embed "models/short/text_encoder/model.safetensors"
};
static const _Alignas(64) unsigned char file_18[] = {
#embed "models/short/text_encoder/vocab.txt"
};
static const _Alignas(64) unsigned char file_19[] = {
#embed "models/short/unet/config.json"
};
static const _Alignas(64) unsigned char file_20[] = {
#embed "models/short/unet/diffusion_pytorch_model.safetensors"
};
static const _Alignas(64) unsigned char file_21[] = {
#embed "models/short/vae/config.json"
};
static const _Alignas(64) unsigned char file_22[] = {
#embed "models/short/vae/diffusion_pytorch_model.safetensors"
};
static const pisces_embedded_file files[] = {
  {"generator/model_index.json", file_0, sizeof file_0},
  {"generator/scheduler/scheduler_config.json", file_1, sizeof file_1},
  {"generator/text_encoder/config.json", file_2, sizeof file_2},
  {"generator/text_encoder/model.safetensors", file_3, sizeof file_3},
  {"generator/text_encoder/vocab.txt", file_4, sizeof file_4},
  {"generator/transformer/config.json", file_5, sizeof file_5},
  {"generator/transformer/diffusion_pytorch_model.safetensors", file_6, sizeof file_6},
  {"generator/vae/config.json", file_7, sizeof file_7},
  {"generator/vae/diffusion_pytorch_model.safetensors", file_8, sizeof file_8},
  {"openclip/merges.txt", file_9, sizeof file_9},
  {"reward/config.json", file_10, sizeof file_10},
  {"reward/model.safetensors", file_11, sizeof file_11},
  {"reward/ot_map.safetensors", file_12, sizeof file_12},
  {"reward/vocab.txt", file_13, sizeof file_13},
  {"short/model_index.json", file_14, sizeof file_14},
  {"short/scheduler.json", file_15, sizeof file_15},
  {"short/text_encoder/config.json", file_16, sizeof file_16},
  {"short/text_encoder/model.safetensors", file_17, sizeof file_17},
  {"short/text_encoder/vocab.txt", file_18, sizeof file_18},
  {"short/unet/config.json", file_19, sizeof file_19},
  {"short/unet/diffusion_pytorch_model.safetensors", file_20, sizeof file_20},
  {"short/vae/config.json", file_21, sizeof file_21},
  {"short/vae/diffusion_pytorch_model.safetensors", file_22, sizeof file_22},
};
const pisces_embedded_file *pisces_embedded_files(size_t *count) {
  *count = sizeof files / sizeof *files;
  return files;
}
