#!/usr/bin/env python3
"""The peer in PyTorch of `pisces bench step --preset demo`: one post-training step on the embedded
models.

usage: torch_step.py [--threads 2] [--tuned] [--bf16] [--flops] [--steps 7]

32 of the demo's captions and own samples of 9 frames of 32 x 32: prompts encoded; student with
adapters of rank 16 forward; its prediction of clean latents decoded; both rewards; backward through
rewards and decoder; the teacher's velocity for the anchor; backward through the student; clipping;
AdamW. The demo has no consistency term and no moving average: neither is here. The rewards' text
side is a constant of a caption, kept as ours is. Mirrors Sources/PostTraining (DirectStep,
DirectTask), Sources/Evaluation/Demonstration/DemoSettings.swift, Sources/Models/Generator,
Sources/Models/Autoencoder and Sources/Pipelines/LatentDecoder.swift; the rewards are those of
torch_score.py. Weights are the embedded ones: plans take as many iterations as ours.

Prints one JSON line: median seconds of a step, peak resident bytes (and those of the imports
alone), mean seconds of the parts; with --flops also the products and convolutions counted. --tuned:
products may go to oneDNN (the caller sets MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_).
--bf16: generator, text and rewards under autocast, the frozen decoder in bf16 throughout.
"""

import argparse, contextlib, json, os, re, resource, statistics, sys, time

import torch
import torch.nn.functional as F

import torch_score as score
from torch_score import MODELS, key_mask, layer_norm, linear, read

BATCH, RANK, ALPHA, RATE, ANCHOR, SHIFT = 32, 16, 16, 1e-4, 0.3, 3.0
DOUBLE, SINGLE, HEADS, WIDTH = 2, 4, 6, 192
LATENT, GRID, AXES, THETA = (16, 3, 8, 8), (3, 4, 4), (8, 12, 12), 256
GROUPS, SCALING = 8, 1.1524270114451285
# Captions of the scenes the demo starts with (seed 1); synonyms are drawn otherwise.
CAPTIONS = """a small purple square going up and down, a cyan circle below a green disc, a big red ring rising, a cyan triangle to the left of a
green disc, a huge green square standing still, a purple star getting smaller, a red triangle drifting left, a green star to the left of a
turquoise star, a blue hoop moving right, a white star growing, a tiny blue star standing still, a small yellow hoop bouncing, a tiny yellow star
standing still, a huge red hoop going to the left, a small yellow star moving left, a huge violet hoop going to the left, a red triangle standing
still, a orange square moving left, a green circle going to the left, a yellow cross under a white square, a red disc getting bigger, a green
square beneath a red square, a orange ring right of a yellow box, a blue triangle right of a cyan triangle, a cyan circle left of a yellow disc, a
yellow triangle going downwards, a yellow square getting smaller, a yellow disc to the right of a green cross, a red cross to the left of a green
disc, a green ring to the left of a violet triangle, a little red star drifting left, a orange star over a white box"""


# Generator


class Adapted(torch.nn.Module):
    """Several linear layers of one input with low-rank adapters: one product for all weights, one
    for all A, one addmm each for B."""

    def __init__(self, w, names, adapted=True):
        super().__init__()
        self.sizes = [w[f"{n}.weight"].shape[0] for n in names]
        self.weight, self.bias = (
            torch.cat([w[f"{n}.{part}"] for n in names]) for part in ("weight", "bias")
        )
        width = self.weight.shape[1]
        self.a, self.b = None, ()
        if adapted:
            self.a = torch.nn.Parameter(
                torch.empty(RANK * len(names), width).uniform_(-1, 1) / width**0.5
            )
            self.b = torch.nn.ParameterList(torch.zeros(n, RANK) for n in self.sizes)

    def forward(self, x):
        y = F.linear(x, self.weight, self.bias)
        if self.a is None:
            return y.split(self.sizes, -1)
        down = F.linear(x, self.a).flatten(0, -2).split(RANK, -1)
        parts = y.flatten(0, -2).split(self.sizes, -1)
        return [
            torch.addmm(p, d, b.T, alpha=ALPHA / RANK).unflatten(0, x.shape[:-1])
            for p, d, b in zip(parts, down, self.b)
        ]


def rotary_table(text):
    """Turns [N + text, 1, pairs] of image tokens, and none for text."""
    places = torch.cartesian_prod(*(torch.arange(n) for n in GRID)).float()
    angle = torch.cat(
        [places[:, i : i + 1] * THETA ** (-torch.arange(0, d, 2) / d) for i, d in enumerate(AXES)],
        1,
    )
    return torch.polar(
        torch.ones(len(places) + text, 1, 16), F.pad(angle, (0, 0, 0, text))[:, None]
    )


def headed(x, gain, turn=None):
    """RMS norm per head of [B, N, D], then rotation: [B, N, heads, D / heads]."""
    x = F.rms_norm(x.unflatten(-1, (HEADS, -1)), (WIDTH // HEADS,), gain, 1e-6)
    if turn is None:
        return x
    return (
        torch.view_as_real(torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * turn)
        .flatten(-2)
        .to(x.dtype)
    )


def attention(q, k, v, mask):
    return score.dot_product_attention(
        *(t.transpose(1, 2) for t in (q, k, v.unflatten(-1, (HEADS, -1)))), mask
    )


def modulated(x, shift, scale):
    return torch.addcmul(shift, F.layer_norm(x, (WIDTH,), eps=1e-6), 1 + scale)


def sinusoids(t):
    phase = t[:, None] * torch.exp(-torch.arange(128) * (torch.log(torch.tensor(1e4)) / 128))
    return torch.cat((phase.cos(), phase.sin()), -1)


def perceptron(w, name, x, up="linear_1", down="linear_2"):
    return linear(w, f"{name}.{down}", F.silu(linear(w, f"{name}.{up}", x)))


class Generator(torch.nn.Module):
    """HunyuanVideo's velocity network. Frozen but for the adapters; without them it is the
    teacher."""

    def __init__(self, w, adapted):
        super().__init__()
        self.w, make = w, lambda *names: Adapted(w, names, adapted)
        self.layers = torch.nn.ModuleDict()
        for i in range(DOUBLE):
            a = f"transformer_blocks.{i}.attn"
            for stream, qkv, out in (
                ("i", ("to_q", "to_k", "to_v"), "to_out.0"),
                ("t", ("add_q_proj", "add_k_proj", "add_v_proj"), "to_add_out"),
            ):
                self.layers[f"d{i}{stream}in"] = make(*(f"{a}.{n}" for n in qkv))
                self.layers[f"d{i}{stream}out"] = make(f"{a}.{out}")
        for i in range(SINGLE):
            s = f"single_transformer_blocks.{i}"
            self.layers[f"s{i}in"] = make(
                f"{s}.attn.to_q", f"{s}.attn.to_k", f"{s}.attn.to_v", f"{s}.proj_mlp"
            )
            self.layers[f"s{i}out"] = make(f"{s}.proj_out")

    def refined(self, states, counts, time, mask):
        w, name = self.w, "context_embedder"
        seen = (torch.arange(states.shape[1]) < counts[:, None])[..., None]
        mean = (states * seen).sum(1) / counts[:, None]
        c = F.silu(
            perceptron(w, f"{name}.time_text_embed.timestep_embedder", time)
            + perceptron(w, f"{name}.time_text_embed.text_embedder", mean)
        )
        x, block = linear(w, f"{name}.proj_in", states), f"{name}.token_refiner.refiner_blocks.0"
        gate1, gate2 = linear(w, f"{block}.norm_out.linear", c)[:, None].chunk(2, -1)
        u = layer_norm(w, f"{block}.norm1", x, 1e-6)
        a = score.attention(*(linear(w, f"{block}.attn.to_{n}", u) for n in "qkv"), mask, HEADS)
        x = torch.addcmul(x, gate1, linear(w, f"{block}.attn.to_out.0", a))
        return torch.addcmul(
            x,
            gate2,
            perceptron(
                w, f"{block}.ff.net", layer_norm(w, f"{block}.norm2", x, 1e-6), "0.proj", "2"
            ),
        )

    def forward(self, x, times, states, counts, turn):
        w, b, layers, n = self.w, x.shape[0], self.layers, GRID[0] * GRID[1] * GRID[2]
        time, text_mask, mask = (
            sinusoids(times),
            key_mask(counts, states.shape[1]),
            key_mask(counts, states.shape[1], n),
        )
        c = F.silu(
            perceptron(w, "time_text_embed.timestep_embedder", time)
            + perceptron(w, "time_text_embed.text_embedder", states[:, 0])
        )
        t = self.refined(states, counts, time, text_mask)
        patches = x.view(b, 16, 3, 4, 2, 4, 2).permute(0, 2, 3, 5, 1, 4, 6).flatten(4).flatten(1, 3)
        x = F.linear(patches, w["x_embedder.proj.weight"].flatten(1), w["x_embedder.proj.bias"])
        for i in range(DOUBLE):
            block, streams = f"transformer_blocks.{i}", []
            for h, key, norm, gain, rotation in (
                (x, "i", "norm1", "norm_", turn[:n]),
                (t, "t", "norm1_context", "norm_added_", None),
            ):
                m = linear(w, f"{block}.{norm}.linear", c)[:, None].chunk(6, -1)
                q, k, v = layers[f"d{i}{key}in"](modulated(h, m[0], m[1]))
                streams.append(
                    (
                        headed(q, w[f"{block}.attn.{gain}q.weight"], rotation),
                        headed(k, w[f"{block}.attn.{gain}k.weight"], rotation),
                        v,
                        m,
                    )
                )
            a = attention(
                *(torch.cat((i, j), 1) for i, j in zip(streams[0][:3], streams[1][:3])), mask
            )
            x, t = (
                self.after(f"{block}.{ff}", h, *layers[f"d{i}{key}out"](part), s[3])
                for h, part, s, key, ff in (
                    (x, a[:, :n], streams[0], "i", "ff"),
                    (t, a[:, n:], streams[1], "t", "ff_context"),
                )
            )
        h = torch.cat((x, t), 1)
        for i in range(SINGLE):
            block = f"single_transformer_blocks.{i}"
            shift, scale, gate = linear(w, f"{block}.norm.linear", c)[:, None].chunk(3, -1)
            q, k, v, up = layers[f"s{i}in"](modulated(h, shift, scale))
            a = attention(
                headed(q, w[f"{block}.attn.norm_q.weight"], turn),
                headed(k, w[f"{block}.attn.norm_k.weight"], turn),
                v,
                mask,
            )
            h = torch.addcmul(
                h, gate, *layers[f"s{i}out"](torch.cat((a, F.gelu(up, approximate="tanh")), -1))
            )
        scale, shift = linear(w, "norm_out.linear", c)[:, None].chunk(2, -1)
        y = linear(w, "proj_out", modulated(h[:, :n], shift, scale))
        return y.float().view(b, 3, 4, 4, 16, 2, 2).permute(0, 4, 1, 2, 5, 3, 6).reshape(b, *LATENT)

    def after(self, feed_forward, x, attended, m):
        w, x = self.w, torch.addcmul(x, m[2], attended)
        up = F.gelu(
            linear(w, f"{feed_forward}.net.0.proj", modulated(x, m[3], m[4])), approximate="tanh"
        )
        return torch.addcmul(x, m[5], linear(w, f"{feed_forward}.net.2", up))


# Decoder


def convolved(w, name, x, front=2):
    """Causal convolution with repeated edges."""
    weight = w[f"{name}.conv.weight"]
    return F.conv3d(
        F.pad(x, (1, 1, 1, 1, front, 0), "replicate") if weight.shape[-1] == 3 else x,
        weight,
        w[f"{name}.conv.bias"],
    )


def group_norm(w, name, x):
    return F.group_norm(x, GROUPS, w[f"{name}.weight"], w[f"{name}.bias"], 1e-6)


def residual(w, name, x):
    h = convolved(w, f"{name}.conv1", F.silu(group_norm(w, f"{name}.norm1", x)))
    h = convolved(w, f"{name}.conv2", F.silu(group_norm(w, f"{name}.norm2", h)))
    return h + (
        convolved(w, f"{name}.conv_shortcut", x) if f"{name}.conv_shortcut.conv.weight" in w else x
    )


def decoded(w, z):
    """Scaled latents [B, 16, n, h, w] to frames [B, T, 3, 4h, 4w] in [0, 1]."""
    z = F.conv3d(
        (z / SCALING).to(w["post_quant_conv.weight"].dtype),
        w["post_quant_conv.weight"],
        w["post_quant_conv.bias"],
    )
    x, middle = convolved(w, "decoder.conv_in", z), "decoder.mid_block"
    x = residual(w, f"{middle}.resnets.0", x)
    name, frame = f"{middle}.attentions.0", torch.arange(x.shape[2]).repeat_interleave(
        x.shape[3] * x.shape[4]
    )
    tokens = group_norm(w, f"{name}.group_norm", x).flatten(2).transpose(1, 2)
    a = score.attention(
        *(linear(w, f"{name}.to_{n}", tokens) for n in "qkv"), frame[:, None] >= frame, 1
    ).to(tokens.dtype)
    x = x + linear(w, f"{name}.to_out.0", a).transpose(1, 2).reshape(x.shape)
    x = residual(w, f"{middle}.resnets.1", x)
    for level in range(3):
        for i in range(2):
            x = residual(w, f"decoder.up_blocks.{level}.resnets.{i}", x)
        if level < 2:
            # The first frame is doubled in space alone: its second copy stands for one of the two
            # frames of padding in front.
            x = convolved(
                w,
                f"decoder.up_blocks.{level}.upsamplers.0.conv",
                F.interpolate(x, scale_factor=2, mode="nearest"),
                front=1,
            )
    x = convolved(w, "decoder.conv_out", F.silu(group_norm(w, "decoder.conv_norm_out", x)))
    return (x.float() / 2 + 0.5).clamp(0, 1).transpose(1, 2)


# Step


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Step:
    def __init__(self, bf16):
        self.networks = (
            (lambda: torch.autocast("cpu", torch.bfloat16)) if bf16 else contextlib.nullcontext
        )
        generator, self.decoder, self.encoder = (
            read(f"{MODELS}/generator/{part}.safetensors")
            for part in (
                "transformer/diffusion_pytorch_model",
                "vae/diffusion_pytorch_model",
                "text_encoder/model",
            )
        )
        self.reward = read(f"{MODELS}/reward/model.safetensors") | read(
            f"{MODELS}/reward/ot_map.safetensors"
        )
        if (
            bf16
            # Frozen matrices, and gains behind products, are kept in the type they are used in; the
            # decoder is bf16 throughout.
        ):
            gain = re.compile(r"attn\.(norm_|[qk]_norm)")
            for w in (generator, self.encoder, self.reward):
                w.update(
                    {
                        k: t.bfloat16()
                        for k, t in w.items()
                        if t.dim() > 1 and "embed" not in k or gain.search(k)
                    }
                )
            self.decoder = {k: t.bfloat16() for k, t in self.decoder.items()}
        else:  # Channels last is a fifth faster in f32; in bf16 its group norm is slow backward.
            self.decoder = {
                k: t.contiguous(memory_format=torch.channels_last_3d) if t.dim() == 5 else t
                for k, t in self.decoder.items()
            }
        self.student, self.teacher = Generator(generator, True), Generator(generator, False)
        parameters = list(self.student.parameters())
        self.optimizer = torch.optim.AdamW(parameters, RATE, weight_decay=0.001, fused=True)
        words = open(f"{MODELS}/reward/vocab.txt").read().split()
        rows = [
            [words.index(x) for x in ["[CLS]", *caption.split()]] for caption in CAPTIONS.split(",")
        ]
        self.counts = torch.tensor([len(r) for r in rows])
        self.ids = torch.tensor([r + [0] * (max(self.counts) - len(r)) for r in rows])
        self.turn = rotary_table(self.ids.shape[1])
        table = (
            SHIFT * torch.arange(1, 1001) / 1000 / (1 + (SHIFT - 1) * torch.arange(1, 1001) / 1000)
        )
        self.sigmas, self.clean = table[19::20], table[0]
        with torch.no_grad(), self.networks():
            self.hidden = score.text_states(
                self.reward, self.ids, key_mask(self.counts, self.ids.shape[1])
            ).float()
            self.target = score.text_target(self.reward, self.hidden).float()
        self.phases, self.latents = {}, self.sampled()

    def sampled(self, steps=16):
        """Latents of the teacher's own for all captions."""
        levels = torch.linspace(1, 0, steps + 1)
        levels, x = SHIFT * levels / (1 + (SHIFT - 1) * levels), torch.randn(BATCH, *LATENT)
        with torch.no_grad(), self.networks():
            states = score.text_states(
                self.encoder, self.ids, key_mask(self.counts, self.ids.shape[1])
            ).float()
            for a, b in zip(levels, levels[1:]):
                x = x + (b - a) * self.teacher(
                    x, (1000 * a).expand(BATCH), states, self.counts, self.turn
                )
        return x

    def mark(self, name=None):
        now = time.perf_counter()
        if name:
            self.phases[name] = self.phases.get(name, 0) + now - self.began
        self.began = now

    def __call__(self):
        self.mark()
        rows = torch.randint(BATCH, (BATCH,))
        counts = self.counts[rows]
        # What is padding for every caption drawn is cut off.
        length = int(counts.max())
        ids, z, turn = (
            self.ids[rows, :length],
            self.latents[rows],
            self.turn[: len(self.turn) - self.ids.shape[1] + length],
        )
        mask, lexical = key_mask(counts, length), (torch.arange(length) > 0) & (
            torch.arange(length) < counts[:, None]
        )
        sigma = self.sigmas[torch.randint(16, 30, (BATCH,))].view(-1, 1, 1, 1, 1)
        x, times = torch.lerp(z, torch.randn_like(z), sigma), 1000 * sigma.flatten()
        with self.networks():
            with torch.no_grad():
                states = score.text_states(self.encoder, ids, mask).float()
            v = self.student(x, times, states, counts, turn)
            self.mark("student forward")
            # Leaves between the parts let each part's backward be timed, and free its memory before
            # the next.
            velocity = v.detach().requires_grad_()
            with torch.autocast("cpu", enabled=False):
                frames = decoded(self.decoder, torch.addcmul(x, self.clean - sigma, velocity))
            self.mark("decode")
            pixels = frames.detach().requires_grad_()
            quality, semantic = score.rewards(
                self.reward, pixels, self.hidden[rows, :length], self.target[rows], mask, lexical
            )
            self.mark("rewards")
        reward = quality.float().mean() + semantic.float().mean()
        (-reward).backward()
        self.mark("rewards backward")
        frames.backward(pixels.grad)
        del frames, pixels
        self.mark("decode backward")
        with torch.no_grad(), self.networks():
            goal = self.teacher(x, times, states, counts, turn)
        anchor = F.mse_loss(velocity, goal)
        (ANCHOR * anchor).backward()
        self.mark("teacher")
        v.backward(velocity.grad)
        self.mark("student backward")
        norm = torch.nn.utils.clip_grad_norm_(self.student.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.mark("update")
        return {
            "loss": (ANCHOR * anchor - reward).item(),
            "norm": norm.item(),
            "quality": quality.mean().item(),
            "semantic": semantic.mean().item(),
        }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--flops", action="store_true")
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.manual_seed(0)
    imports = peak()
    if o.tuned and "amx_bf16" not in open("/proc/cpuinfo").read():  # with AMX that would not be f32
        torch.set_float32_matmul_precision("medium")
    step = Step(o.bf16)
    step()
    step.phases.clear()
    seconds = []
    turns = (
        "PISCES_TURNS" in os.environ
    )  # against-torch.py --turns: a step for each line of standard input
    if turns:
        print("ready", flush=True)
    for _ in sys.stdin if turns else range(o.steps):
        began = time.perf_counter()
        values = step()
        seconds.append(time.perf_counter() - began)
        if turns:
            print(seconds[-1], flush=True)
    out = {
        "seconds": statistics.median(seconds),
        "bytes": peak(),
        "import_bytes": imports,
        "torch": torch.__version__,
    }
    out |= {"phases": {name: t / len(seconds) for name, t in step.phases.items()}, "last": values}
    if o.flops:
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            step()
        out["gflop"] = counter.get_total_flops() / 1e9
    print(json.dumps(out))


if __name__ == "__main__":
    main()
