#!/usr/bin/env python3
"""The peer in PyTorch of `pisces score`: quality and semantic reward of a video and a prompt.

usage: torch_score.py --make reward.safetensors
       torch_score.py --weights reward.safetensors --video clip.safetensors
                      --prompt "a red circle moving left" [--threads N]
       torch_score.py --model DIRECTORY [--compute f32|bf16] --video clip.safetensors ...

The first is done once: the embedded model, its map and its words in one file. The last takes a
reward-model directory of any size (`pisces bench score --model` makes one).

The video is the tensor `pixels` [T, 3, H, W] in [0, 1], of the model's size, as `pisces bench
startup` and `pisces bench score` write it.
Quality is the cosine of the video feature and the mapped text feature; semantic is the match
probability after fusion layers whose cross-attention is multiplied by token plans of token
transport. Mirrors Sources/Rewards (RewardModel, QualityReward), Sources/Models/VideoEncoder,
Sources/Models/TextEncoder, Sources/Transport/TokenTransport.swift and NeuralMap; torch_step.py
takes these networks from here. Vanilla scores, which `pisces score` adds, are left out.
"""

import argparse, json, os

import torch
import torch.nn.functional as F
from safetensors import safe_open

MODELS = os.path.join(
    os.path.dirname(os.path.abspath(__file__)), "..", "CSupport", "Embedded", "models"
)
HEADS, FUSION, LAYERS, DEPTH, SIDE, FRAMES = 4, 2, 5, 4, 8, 9
MEAN, DEVIATION = (
    torch.tensor(x).view(3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)


def read(path):
    """All tensors of a file, widened to f32."""
    with safe_open(path, "pt") as f:
        return {name: f.get_tensor(name).float() for name in f.keys()}


def linear(w, name, x):
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def layer_norm(w, name, x, epsilon):
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], epsilon)


def rms_norm(w, name, x):
    return F.rms_norm(x, x.shape[-1:], w[f"{name}.weight"].to(x.dtype), 1e-6)


def split(x, heads=None):
    """[B, N, D] to [B, heads, N, D / heads]."""
    return x.unflatten(-1, (heads or HEADS, -1)).transpose(1, 2)


def join(x):
    return x.transpose(1, 2).flatten(2)


def dot_product_attention(q, k, v, mask=None):
    """Of [B, heads, N, D] in f32: without matrix units that is faster than bf16, backward twice as
    fast. Heads are joined again."""
    with torch.autocast("cpu", enabled=False):
        return join(F.scaled_dot_product_attention(q.float(), k.float(), v.float(), mask))


def attention(q, k, v, mask=None, heads=None):
    return dot_product_attention(*(split(t, heads) for t in (q, k, v)), mask)


# Video


def video_tokens(w, pixels):
    """Pixels [B, T, 3, 32, 32] in [0, 1] to tokens [B, M, D], [CLS] first."""
    patch, bias = (
        w["vision_encoder.patch_embed.proj.weight"],
        w["vision_encoder.patch_embed.proj.bias"],
    )
    x = (
        F.conv3d(((pixels - MEAN) / DEVIATION).transpose(1, 2), patch, bias, stride=patch.shape[2:])
        .flatten(2)
        .transpose(1, 2)
    )
    x = (
        torch.cat((w["vision_encoder.cls_token"].expand(x.shape[0], -1, -1), x), 1)
        + w["vision_encoder.pos_embed"]
    )
    for i in range(DEPTH):
        x = video_block(w, i, x)
    return x


def video_block(w, i, x):
    name = f"vision_encoder.blocks.{i}"
    q, k, v = linear(w, f"{name}.attn.qkv", rms_norm(w, f"{name}.norm1", x)).chunk(3, -1)
    a = attention(rms_norm(w, f"{name}.attn.q_norm", q), rms_norm(w, f"{name}.attn.k_norm", k), v)
    x = torch.addcmul(x, w[f"{name}.ls1.gamma"], linear(w, f"{name}.attn.proj", a))
    up = F.gelu(linear(w, f"{name}.mlp.fc1", rms_norm(w, f"{name}.norm2", x)), approximate="tanh")
    x = torch.addcmul(x, w[f"{name}.ls2.gamma"], linear(w, f"{name}.mlp.fc2", up))
    return x


def video_feature(w, x):
    """Attention pooling of tokens, projected: unit rows [B, E]."""
    pool = "vision_encoder.clip_projector"
    q, k, v = (
        layer_norm(w, f"{pool}.norm1_{n}", t, 1e-5)
        for n, t in (("q", x.mean(1, keepdim=True)), ("k", x), ("v", x))
    )
    q, k, v = (
        F.linear(t, w[f"{pool}.cross_attn.{n}.weight"], w[f"{pool}.cross_attn.{n}_bias"])
        for n, t in (("q", q), ("k", k), ("v", v))
    )
    return F.normalize(
        linear(w, "vision_proj", linear(w, f"{pool}.cross_attn.proj", attention(q, k, v)[:, 0])),
        dim=-1,
    )


# Text


def key_mask(counts, length, before=0):
    """Boolean mask [B, 1, 1, before + length]: what a query may see of `before` rows followed by
    padded text."""
    return (torch.arange(before + length) < before + counts[:, None])[:, None, None]


def text_states(w, ids, mask):
    """The layers that read text alone: [B, L] to [B, L, D]."""
    name = "text_encoder.bert.embeddings"
    words, positions, types = (
        w[f"{name}.{n}_embeddings.weight"] for n in ("word", "position", "token_type")
    )
    x = layer_norm(
        w,
        f"{name}.LayerNorm",
        F.embedding(ids, words) + positions[: ids.shape[1]] + types[0],
        1e-12,
    )
    for i in range(FUSION):
        x = text_layer(w, i, x, mask)
    return x


def text_layer(w, i, x, mask, vision=None, lexical=None):
    """BERT's layer; with `vision` also cross-attention, with `lexical` multiplied by token plans on
    those rows."""
    name = f"text_encoder.bert.encoder.layer.{i}"
    q, k, v = (linear(w, f"{name}.attention.self.{n}", x) for n in ("query", "key", "value"))
    x = layer_norm(
        w,
        f"{name}.attention.output.LayerNorm",
        linear(w, f"{name}.attention.output.dense", attention(q, k, v, mask)) + x,
        1e-12,
    )
    if vision is not None:
        cross = f"{name}.crossattention"
        q, k, v = (
            linear(w, f"{cross}.self.query", x),
            linear(w, f"{cross}.self.key", vision),
            linear(w, f"{cross}.self.value", vision),
        )
        a = attention(q, k, v) if lexical is None else planned_attention(q, k, v, lexical)
        x = layer_norm(
            w, f"{cross}.output.LayerNorm", linear(w, f"{cross}.output.dense", a) + x, 1e-12
        )
    up = F.gelu(linear(w, f"{name}.intermediate.dense", x))
    return layer_norm(
        w, f"{name}.output.LayerNorm", linear(w, f"{name}.output.dense", up) + x, 1e-12
    )


def planned_attention(q, k, v, lexical):
    """softmax(log A + log P) V on lexical rows, A V on the others; the plan P is a constant."""
    logits = split(q) @ split(k).transpose(-1, -2) * (HEADS / q.shape[-1]) ** 0.5
    a = logits.float().softmax(-1)
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        plan = token_plans(q.float(), k.float(), a, lexical).clamp_min_(1e-6)
    fused = a.clamp_min(1e-6) * plan
    # Rows without a plan keep A: their plan is 1, their sum 1.
    fused = fused / torch.where(lexical[:, None, :, None], fused.sum(-1, keepdim=True), 1.0)
    return join(torch.where(lexical[:, None, :, None], fused, a).to(v.dtype) @ split(v))


def token_plans(
    q, k, a, lexical, gamma=0.2, eta=0.2, epsilon=0.05, mass=0.9, iterations=200, tolerance=1e-3
):
    """Row-normalised plans [B, heads, L, M] of partial transport, all problems at once: scaling of
    exp(-C / epsilon), as ours (algorithm.md 4)."""
    (b, heads, length, m), row = a.shape, lexical[:, None, :, None]
    cell = torch.arange(m - 1)
    t = torch.cat((torch.tensor([-1.0]), (cell // SIDE**2).float()))
    s = torch.cat(
        (
            torch.tensor([[-1.0, -1.0]]),
            torch.stack((cell % SIDE**2 // SIDE, cell % SIDE), -1) / (SIDE - 1),
        )
    )
    seen = a / a.sum(-1, keepdim=True).clamp_min(1e-6) @ torch.cat((t[:, None], s), 1)
    cost = (1 - F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(1, 2)).clamp_(0, 2)[
        :, None
    ]
    cost = (
        cost
        + (seen[..., :1] - t).abs_().mul_(gamma / max((m - 1) // SIDE**2, 1))
        + torch.cdist(seen[..., 1:], s).mul_(eta / 2**0.5)
    )
    low, high = cost.masked_fill(~row, torch.inf).amin((2, 3), keepdim=True), cost.masked_fill(
        ~row, -torch.inf
    ).amax((2, 3), keepdim=True)
    kernel = (
        ((low - cost) / ((high - low).clamp_min(1e-6) * epsilon))
        .nan_to_num_(0)
        .exp_()
        .mul_(row)
        .flatten(0, 1)
    )
    outside = ~row.expand(b, heads, length, 1).flatten(0, 1)
    mu = (1 / lexical.sum(1).clamp_min(1)).repeat_interleave(heads)[:, None, None]
    u, v = torch.ones(b * heads, length, 1), torch.ones(b * heads, m, 1)
    for _ in range(iterations):
        u_old, v_old = u, v
        u = (mu / torch.bmm(kernel, v)).pow_(mass).masked_fill_(outside, 1)
        v = (1 / m / torch.bmm(kernel.transpose(1, 2), u)).pow_(mass)
        if max((u / u_old).log_().abs_().max(), (v / v_old).log_().abs_().max()) < tolerance:
            break
    plan = (kernel * u * v.transpose(1, 2)).view_as(a)
    return plan / plan.sum(-1, keepdim=True).clamp_min(1e-8)


def text_target(w, hidden):
    """The mapped text feature: unit rows [B, E]."""
    x = F.normalize(linear(w, "text_proj", hidden[:, 0]), dim=-1)
    for i in (0, 3):
        x = layer_norm(w, f"net.{i + 2}", F.relu(linear(w, f"net.{i}", x)), 1e-5)
    return F.normalize(linear(w, "net.6", x), dim=-1)


def rewards(w, pixels, hidden, target, mask, lexical):
    """Quality and semantic reward [B] of pixels [B, T, 3, 32, 32] and captions. The last layer's
    plan would not reach [CLS]."""
    x = video_tokens(w, pixels)
    quality = (video_feature(w, x) * target).sum(-1)
    h = hidden
    for i in range(FUSION, LAYERS):
        h = text_layer(w, i, h, mask, x, lexical if i < LAYERS - 1 else None)
    return quality, linear(w, "itm_head", h[:, 0]).softmax(-1)[:, 1]


def read_directory(path, compute):
    """Weights, words and sizes of a reward-model directory. In bf16, matrices stay as they are
    stored and autocast rounds what they are multiplied with; everything else is f32."""
    global HEADS, FUSION, LAYERS, DEPTH, SIDE, FRAMES
    config = json.load(open(f"{path}/config.json"))
    vision, text = config["vision_encoder"], config["text_encoder"]
    HEADS, FUSION, LAYERS = vision["num_heads"], text["fusion_layer"], text["num_hidden_layers"]
    DEPTH, SIDE = vision["depth"], vision["img_size"] // vision["patch_size"]
    FRAMES = vision["num_frames"]
    assert HEADS == text["num_attention_heads"] == vision["attn_pool_num_heads"]
    w = {}
    for name in ("model", "ot_map"):
        with safe_open(f"{path}/{name}.safetensors", "pt") as f:
            for key in f.keys():
                x = f.get_tensor(key)
                keep = compute == "bf16" and x.ndim == 2 and "embeddings" not in key
                w[key] = x if keep else x.float()
    return w, open(f"{path}/vocab.txt").read().split("\n")


def make(path):
    from safetensors.torch import save_file

    tensors = {}
    for name in ("model", "ot_map"):
        with safe_open(f"{MODELS}/reward/{name}.safetensors", "pt") as f:
            tensors |= {key: f.get_tensor(key) for key in f.keys()}
    save_file(
        tensors, path, {"words": json.dumps(open(f"{MODELS}/reward/vocab.txt").read().split())}
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--make", metavar="PATH")
    parser.add_argument("--weights")
    parser.add_argument("--model", help="a reward-model directory, instead of --weights")
    parser.add_argument("--compute", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--video")
    parser.add_argument("--prompt")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tuned", action="store_true", help="f32 products by oneDNN")
    o = parser.parse_args()
    if o.make:
        return make(o.make)
    if o.threads:
        torch.set_num_threads(o.threads)
    if o.tuned and "amx_bf16" not in open("/proc/cpuinfo").read():
        torch.set_float32_matmul_precision("medium")
    bf16 = o.compute == "bf16"
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        if o.model:
            w, words = read_directory(o.model, o.compute)
        else:
            w = read(o.weights)
            with safe_open(o.weights, "pt") as f:
                words = json.loads(f.metadata()["words"])
        with safe_open(o.video, "pt") as f:
            pixels = f.get_tensor("pixels").float()[None, :FRAMES]
        # Every word of the built-in world is one token; [CLS] is not lexical.
        ids = torch.tensor(
            [
                [
                    words.index(x) if x in words else words.index("[UNK]")
                    for x in ["[CLS]", *o.prompt.lower().split()]
                ]
            ]
        )
        hidden = text_states(w, ids, None)
        quality, semantic = rewards(
            w, pixels, hidden, text_target(w, hidden), None, torch.arange(ids.shape[1])[None] > 0
        )
    print(json.dumps({"quality": quality.item(), "semantic": semantic.item()}))


if __name__ == "__main__":
    main()
