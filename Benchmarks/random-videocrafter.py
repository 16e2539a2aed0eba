#!/usr/bin/env python3
"""Writes VideoCrafter2's checkpoint with random weights: every name and shape of the published
model.ckpt, in f16 (3.7 GB with autoencoder and text tower).

  python3 Benchmarks/random-videocrafter.py model.ckpt

Needs torch. Matrices are normal with deviation 1 / sqrt(inputs), norms are 1 and biases 0, so that
a pass through the network stays finite. Then: pisces convert --input model.ckpt --output FOLDER
"""

import sys

import torch


def pair(name, weight):
    return [(f"{name}.weight", weight), (f"{name}.bias", weight[:1])]


def residual(p, a, b):
    names = pair(f"{p}.in_layers.0", [a]) + pair(f"{p}.in_layers.2", [b, a, 3, 3])
    names += pair(f"{p}.emb_layers.1", [b, 1280]) + pair(f"{p}.out_layers.0", [b])
    names += pair(f"{p}.out_layers.3", [b, b, 3, 3])
    if a != b:
        names += pair(f"{p}.skip_connection", [b, a, 1, 1])
    for k in range(1, 5):
        names += pair(f"{p}.temopral_conv.conv{k}.0", [b])
        names += pair(f"{p}.temopral_conv.conv{k}.{2 if k == 1 else 3}", [b, b, 3, 1, 1])
    return names


def transformer(p, c, context, outer=None):
    q = f"{p}.transformer_blocks.0"
    names = pair(f"{p}.norm", [outer or c])
    names += pair(f"{p}.proj_in", [c, outer, 1] if outer else [c, c])
    for attention, keys in (("attn1", c), ("attn2", context)):
        names += [(f"{q}.{attention}.to_{x}.weight", [c, c if x == "q" else keys]) for x in "qkv"]
        names += pair(f"{q}.{attention}.to_out.0", [c, c])
    names += pair(f"{q}.ff.net.0.proj", [8 * c, c]) + pair(f"{q}.ff.net.2", [c, 4 * c])
    for k in range(1, 4):
        names += pair(f"{q}.norm{k}", [c])
    return names + pair(f"{p}.proj_out", [outer, c, 1] if outer else [c, c])


def unet():
    names = []
    for name in ("time_embed", "fps_embedding"):
        names += pair(f"{name}.0", [1280, 320]) + pair(f"{name}.2", [1280, 1280])
    names += pair("input_blocks.0.0", [320, 4, 3, 3])
    names += transformer("init_attn.0", 512, 512, outer=320)

    def block(p, a, b, attends):
        found = residual(f"{p}.0", a, b)
        if attends:
            found += transformer(f"{p}.1", b, 1024) + transformer(f"{p}.2", b, b)
        return found

    down = {
        1: (320, 320),
        2: (320, 320),
        4: (320, 640),
        5: (640, 640),
        7: (640, 1280),
        8: (1280, 1280),
        10: (1280, 1280),
        11: (1280, 1280),
    }
    for i, (a, b) in down.items():
        names += block(f"input_blocks.{i}", a, b, i < 10)
    for i, c in ((3, 320), (6, 640), (9, 1280)):
        names += pair(f"input_blocks.{i}.0.op", [c, c, 3, 3])
    names += block("middle_block", 1280, 1280, True) + residual("middle_block.3", 1280, 1280)
    up = [(2560, 1280)] * 5 + [
        (1920, 1280),
        (1920, 640),
        (1280, 640),
        (960, 640),
        (960, 320),
        (640, 320),
        (640, 320),
    ]
    for i, (a, b) in enumerate(up):
        names += block(f"output_blocks.{i}", a, b, i > 2)
    for name, c in (("2.1", 1280), ("5.3", 1280), ("8.3", 640)):
        names += pair(f"output_blocks.{name}.conv", [c, c, 3, 3])
    return names + pair("out.0", [320]) + pair("out.2", [4, 320, 3, 3])


def autoencoder():
    def block(p, a, b):
        found = pair(f"{p}.norm1", [a]) + pair(f"{p}.conv1", [b, a, 3, 3])
        found += pair(f"{p}.norm2", [b]) + pair(f"{p}.conv2", [b, b, 3, 3])
        return found + (pair(f"{p}.nin_shortcut", [b, a, 1, 1]) if a != b else [])

    names = pair("quant_conv", [8, 8, 1, 1]) + pair("post_quant_conv", [4, 4, 1, 1])
    names += pair("encoder.conv_in", [128, 3, 3, 3]) + pair("encoder.conv_out", [8, 512, 3, 3])
    names += pair("decoder.conv_in", [512, 4, 3, 3]) + pair("decoder.conv_out", [3, 128, 3, 3])
    names += pair("encoder.norm_out", [512]) + pair("decoder.norm_out", [128])
    widths = [128, 256, 512, 512]
    for i, c in enumerate(widths):
        before, above = widths[max(i - 1, 0)], widths[min(i + 1, 3)]
        for j in range(2):
            names += block(f"encoder.down.{i}.block.{j}", c if j else before, c)
        for j in range(3):
            names += block(f"decoder.up.{i}.block.{j}", c if j else above, c)
        if i < 3:
            names += pair(f"encoder.down.{i}.downsample.conv", [c, c, 3, 3])
        if i > 0:
            names += pair(f"decoder.up.{i}.upsample.conv", [c, c, 3, 3])
    for side in ("encoder", "decoder"):
        for k in (1, 2):
            names += block(f"{side}.mid.block_{k}", 512, 512)
        names += pair(f"{side}.mid.attn_1.norm", [512])
        for m in ("q", "k", "v", "proj_out"):
            names += pair(f"{side}.mid.attn_1.{m}", [512, 512, 1, 1])
    return names


def text_tower(c=1024):
    names = [
        ("positional_embedding", [77, c]),
        ("text_projection", [c, c]),
        ("logit_scale", []),
        ("token_embedding.weight", [49408, c]),
    ]
    for i in range(24):
        p = f"transformer.resblocks.{i}"
        names += pair(f"{p}.ln_1", [c]) + pair(f"{p}.ln_2", [c])
        names += [(f"{p}.attn.in_proj_weight", [3 * c, c]), (f"{p}.attn.in_proj_bias", [3 * c])]
        names += pair(f"{p}.attn.out_proj", [c, c])
        names += pair(f"{p}.mlp.c_fc", [4 * c, c]) + pair(f"{p}.mlp.c_proj", [c, 4 * c])
    return names + pair("ln_final", [c])


def value(name, shape):
    if len(shape) < 2:
        return torch.full(shape, 0.0 if name.endswith("bias") else 1.0, dtype=torch.float16)
    inputs = torch.Size(shape[1:]).numel()
    return (torch.randn(shape) / inputs**0.5).half()


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.manual_seed(1)
    parts = [
        ("model.diffusion_model.", unet()),
        ("first_stage_model.", autoencoder()),
        ("cond_stage_model.model.", text_tower()),
    ]
    state = {prefix + name: value(name, shape) for prefix, names in parts for name, shape in names}
    assert sum(state[f"model.diffusion_model.{n}"].numel() for n, _ in unet()) == 1_413_284_420
    torch.save({"state_dict": state}, sys.argv[1])


if __name__ == "__main__":
    main()
