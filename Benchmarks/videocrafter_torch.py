"""VideoCrafter2's denoising network in torch.

The formulas are those of the specification (videocrafter.md, section 2). Written for speed in torch:
channels-last convolutions for single frames, fused attention (scaled_dot_product_attention).
"""

import math

import torch
import torch.nn as nn
import torch.nn.functional as F


def sinusoid(values, width):
    half = width // 2
    omega = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32) / half)
    angles = values.float()[:, None] * omega
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


def scale_embedding(values, width):
    half = width // 2
    nu = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / max(half - 1, 1))
    angles = 1000 * values.double()[:, None] * nu
    return torch.cat([angles.sin(), angles.cos()], dim=-1).float()


class Attention(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context, width, bias=False)
        self.to_v = nn.Linear(context, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x, context=None):
        context = x if context is None else context

        def split(t):
            return t.view(*t.shape[:2], self.heads, -1).transpose(1, 2)

        q, k, v = split(self.to_q(x)), split(self.to_k(context)), split(self.to_v(context))
        o = F.scaled_dot_product_attention(q, k, v)
        return self.to_out[0](o.transpose(1, 2).reshape(x.shape))


class GEGLU(nn.Module):
    def __init__(self, width, hidden):
        super().__init__()
        self.proj = nn.Linear(width, 2 * hidden)

    def forward(self, x):
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class FeedForward(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.ModuleList(
            [GEGLU(width, 4 * width), nn.Identity(), nn.Linear(4 * width, width)]
        )

    def forward(self, x):
        return self.net[2](self.net[0](x))


class Block(nn.Module):
    def __init__(self, width, context, heads):
        super().__init__()
        self.attn1 = Attention(width, width, heads)
        self.ff = FeedForward(width)
        self.attn2 = Attention(width, context or width, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(self, x, context=None):
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class Transformer(nn.Module):
    """In space (with a context) or in time."""

    def __init__(self, width, inner, heads, depth, context, groups, convolution=False):
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        kind = (lambda a, b: nn.Conv1d(a, b, 1)) if convolution else nn.Linear
        self.proj_in, self.proj_out = kind(width, inner), kind(inner, width)
        self.transformer_blocks = nn.ModuleList(
            [Block(inner, context, heads) for _ in range(depth)]
        )
        self.is_spatial = context is not None

    def project(self, layer, x):
        if isinstance(layer, nn.Conv1d):
            return F.linear(x, layer.weight[:, :, 0], layer.bias)
        return layer(x)

    def forward(self, x, frames, context=None):
        n, c, h, w = x.shape
        b = n // frames
        if self.is_spatial:
            y = self.norm(x).flatten(2).transpose(1, 2)
            y = self.project(self.proj_in, y)
            for block in self.transformer_blocks:
                y = block(y, context.repeat_interleave(frames, 0))
            y = self.project(self.proj_out, y).transpose(1, 2).reshape(n, c, h, w)
            return x + y
        clip = x.view(b, frames, c, h, w).transpose(1, 2)
        y = self.norm(clip).permute(0, 3, 4, 2, 1).reshape(b * h * w, frames, c)
        y = self.project(self.proj_in, y)
        for block in self.transformer_blocks:
            y = block(y)
        y = self.project(self.proj_out, y)
        y = y.view(b, h, w, frames, c).permute(0, 3, 4, 1, 2).reshape(n, c, h, w)
        return x + y


class Temporal(nn.Module):
    def __init__(self, width, groups):
        super().__init__()

        def part(i):
            conv = nn.Conv3d(width, width, (3, 1, 1), padding=(1, 0, 0))
            head = [nn.GroupNorm(groups, width), nn.SiLU()]
            return nn.Sequential(*head, *([] if i == 1 else [nn.Identity()]), conv)

        for i in range(1, 5):
            setattr(self, f"conv{i}", part(i))

    def forward(self, x):
        y = x
        for i in range(1, 5):
            y = getattr(self, f"conv{i}")(y)
        return x + y


class Residual(nn.Module):
    def __init__(self, width, output, embedding, groups):
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, width), nn.SiLU(), nn.Conv2d(width, output, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, output))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, output),
            nn.SiLU(),
            nn.Identity(),
            nn.Conv2d(output, output, 3, padding=1),
        )
        if width != output:
            self.skip_connection = nn.Conv2d(width, output, 1)
        self.temopral_conv = Temporal(output, groups)

    def forward(self, x, emb, frames):
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        h = self.out_layers(h)
        h = h + (self.skip_connection(x) if hasattr(self, "skip_connection") else x)
        n, c, height, width = h.shape
        clip = h.view(n // frames, frames, c, height, width).transpose(1, 2)
        return self.temopral_conv(clip).transpose(1, 2).reshape(n, c, height, width)


class Downsample(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x):
        return self.op(x)


class Upsample(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x):
        return self.conv(F.interpolate(x, scale_factor=2, mode="nearest"))


class VideoUNet(nn.Module):
    def __init__(self, config):
        super().__init__()
        c = self.config = config
        mc, groups = c["model_channels"], c["norm_num_groups"]
        emb = 4 * mc

        def network():
            return nn.Sequential(nn.Linear(mc, emb), nn.SiLU(), nn.Linear(emb, emb))

        self.time_embed, self.fps_embedding = network(), network()
        if c.get("time_cond_proj_dim"):
            self.time_cond_proj = nn.Linear(c["time_cond_proj_dim"], mc, bias=False)
        if c.get("motion_cond_proj_dim"):
            self.motion_cond_proj = nn.Linear(c["motion_cond_proj_dim"], mc, bias=False)
            self.combine_proj = nn.Linear(2 * mc, mc, bias=False)

        def residual(a, b):
            return Residual(a, b, emb, groups)

        def pair(width):
            heads, depth = width // c["num_head_channels"], c["transformer_depth"]
            return [
                Transformer(width, width, heads, depth, c["context_dim"], groups),
                Transformer(width, width, heads, depth, None, groups),
            ]

        def has_pair(level):
            return 2 ** level in c["attention_resolutions"]

        self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Conv2d(4, mc, 3, padding=1)])])
        inner = c["init_attn_heads"] * c["num_head_channels"]
        self.init_attn = nn.ModuleList(
            [
                Transformer(
                    mc, inner, c["init_attn_heads"], c["transformer_depth"], None, groups, True
                )
            ]
        )
        width, skips, levels = mc, [mc], len(c["channel_mult"])
        for level, mult in enumerate(c["channel_mult"]):
            for _ in range(c["num_res_blocks"]):
                parts = [residual(width, mult * mc)]
                width = mult * mc
                self.input_blocks.append(
                    nn.ModuleList(parts + (pair(width) if has_pair(level) else []))
                )
                skips.append(width)
            if level + 1 < levels:
                self.input_blocks.append(nn.ModuleList([Downsample(width)]))
                skips.append(width)
        self.middle_block = nn.ModuleList(
            [residual(width, width), *pair(width), residual(width, width)]
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(levels)):
            for i in range(c["num_res_blocks"] + 1):
                output = c["channel_mult"][level] * mc
                parts = [residual(width + skips.pop(), output)]
                width = output
                parts += pair(width) if has_pair(level) else []
                if level and i == c["num_res_blocks"]:
                    parts.append(Upsample(width))
                self.output_blocks.append(nn.ModuleList(parts))
        self.out = nn.Sequential(
            nn.GroupNorm(groups, mc), nn.SiLU(), nn.Conv2d(mc, 4, 3, padding=1)
        )

    def embedding(self, times, fps, guidance=None, motion=None):
        mc = self.config["model_channels"]
        a = sinusoid(times, mc)
        if guidance is not None and hasattr(self, "time_cond_proj"):
            g = self.time_cond_proj(scale_embedding(guidance, self.config["time_cond_proj_dim"]))
            if hasattr(self, "combine_proj"):
                m = scale_embedding(motion, self.config["motion_cond_proj_dim"])
                g = self.combine_proj(torch.cat([g, self.motion_cond_proj(m)], dim=-1))
            a = a + g
        return self.time_embed(a) + self.fps_embedding(sinusoid(fps, mc))

    def stage(self, parts, h, emb, text, frames):
        for part in parts:
            if isinstance(part, Residual):
                h = part(h, emb, frames)
            elif isinstance(part, Transformer):
                h = part(h, frames, text if part.is_spatial else None)
            else:
                h = part(h)
        return h

    def forward(self, x, times, text, fps, guidance=None, motion=None):
        b, c, t, height, width = x.shape
        emb = self.embedding(times, fps, guidance, motion).repeat_interleave(t, 0)
        h = x.transpose(1, 2).reshape(b * t, c, height, width)
        h = self.init_attn[0](self.input_blocks[0][0](h), t)
        kept = [h]
        for parts in self.input_blocks[1:]:
            h = self.stage(parts, h, emb, text, t)
            kept.append(h)
        h = self.stage(self.middle_block, h, emb, text, t)
        for parts in self.output_blocks:
            h = self.stage(parts, torch.cat([h, kept.pop()], dim=1), emb, text, t)
        return self.out(h).view(b, t, -1, height, width).transpose(1, 2)
