#!/usr/bin/env python3
"""pisces against PyTorch (and, for products, OpenBLAS and ONNX Runtime) in turn, in one run: times
and peak memory as ratios.

usage: Benchmarks/against-torch.py [--rounds 3] [--threads 2] [--only gemm,attention,...]
                                   [--types f32,bf16] [--tuned] [--turns N] [--json FILE]
needs: torch; .build/release/pisces. Optional: diffusers (the VAE's peer), onnxruntime and onnx,
       libopenblas.so.0, safetensors (the step's and the score's).

--tuned sends torch's f32 products to oneDNN where that is faster (not with AMX, where
they would no longer be f32) and keeps malloc from returning memory.

A ratio above 1 means pisces is that many times faster (memory: smaller). Each round runs the peers,
then pisces, in processes of their own; the ratio is of the medians of the rounds' medians, and the
spread is that of the rounds' ratios. With --turns N all programs of a case stay and take turns of a
tenth of a second (or one repeat) instead, so that a slow minute of a shared machine meets them all;
the ratio is then the median over turns, the spread their quartiles. A peer runs the arithmetic the
case needs and nothing else. In bf16 torch gets bf16 tensors (training: autocast), pisces --compute-dtype
bf16: its operands are rounded as they are packed.
"""

import argparse, json, os, resource, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
# On a processor with AMX, "medium" lets oneDNN round operands of f32 products to bf16 (errors of
# 0.5 where f32's are 1e-4): such a peer is not f32.
HAS_AMX = "amx_bf16" in open("/proc/cpuinfo").read()
PISCES = os.path.join(HERE, "..", ".build", "release", "pisces")
GEMM = [
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (2049, 4224, 1408),
    (2049, 6144, 1408),
    (2049, 1408, 6144),
    (256, 2048, 512),
    (352, 1536, 384),
    (40, 2049, 88),
]
# name: (group, arguments of pisces bench, floors by type)
CASES = {
    f"gemm {m}x{n}x{k}": (
        "gemm",
        ["gemm", "--m", m, "--n", n, "--k", k],
        {"f32": 1.1 if m in (40, 352) else 1.05, "bf16": 1.05},
    )
    for m, n, k in GEMM
}
CASES |= {
    f"gemm {m}x{n}x{k}, B packed before": (
        "packed",
        ["gemm", "--m", m, "--n", n, "--k", k, "--packed"],
        {"f32": 1.1 if m in (40, 352) else 1.05},
    )
    for m, n, k in GEMM
}
CASES |= {
    "gemm 64x64x64, 512 of them": (
        "gemm",
        ["gemm", "--m", 64, "--n", 64, "--k", 64, "--batch", 512],
        {"f32": 1.5},
    ),
    "attention 16x2049x88": ("attention", ["attention"], {"f32": 1.5, "bf16": 2}),
    "attention 16x2049x88, with backward": (
        "attention",
        ["attention", "--pass", "both"],
        {"f32": 1.5, "bf16": 2},
    ),
    "ViT block, 2049 tokens": (
        "encoder",
        ["encoder", "--preset", "vit-block"],
        {"f32": 1.3, "bf16": 1.9},
    ),
    "BERT fusion layer, 40 x 2049": ("encoder", ["encoder", "--preset", "bert-fusion"], {}),
    "BERT fusion layer, a later caption": (
        "encoder",
        ["encoder", "--preset", "bert-fusion-again"],
        {"f32": 6, "bf16": 6},
    ),
    "generator step, 384 wide, batch 4": (
        "step",
        ["generator", "--preset", "mmdit-384", "--pass", "step"],
        {"f32": 1.7, "bf16": 1.9},
    ),
    "generator step, 768 wide, batch 1": (
        "step",
        ["generator", "--preset", "mmdit-768", "--pass", "step"],
        {"f32": 1.7, "bf16": 1.9},
    ),
    "UNet forward, 128 wide": (
        "unet",
        ["generator", "--preset", "unet-small"],
        {"f32": 1.5, "bf16": 1.5},
    ),
    "UNet step, 128 wide": (
        "step",
        ["generator", "--preset", "unet-small", "--pass", "step"],
        {"f32": 1.5, "bf16": 1.5},
    ),
    "UNet forward, full size": (
        "unet-full",
        ["generator", "--preset", "unet-full"],
        {"f32": 1.3, "bf16": 1.5},
    ),
    "VAE decode": ("vae", ["vae", "--pass", "forward"], {"f32": 1.8, "bf16": 1.3}),
    "VAE decode and back to the latents": ("vae", ["vae", "--pass", "latents"], {"f32": 1.8}),
    "OT-map round, 1 f + 10 T": ("ot-map", ["ot-map"], {"f32": 1.6, "bf16": 2.5}),
    "demo's post-training step": ("demo", ["step"], {"f32": 2, "bf16": 2}),
    "token OT, 16 heads, 20 x 2049": ("ot", ["ot", "--kind", "token", "--text", 20], {}),
    "token OT, 16 heads, 8 x 2049": ("ot", ["ot", "--kind", "token", "--text", 8], {}),
}


def in_turns(run):
    """Median seconds of run. As a worker: "ready", and then for each line of standard input repeats
    for 0.1 s or more and their median (as `pisces bench --turns`)."""
    if "PISCES_TURNS" not in os.environ:
        return timed(run)
    run()
    print("ready", flush=True)
    turns = []
    for _ in sys.stdin:
        some = []
        while sum(some) < 0.1:
            began = time.perf_counter()
            run()
            some.append(time.perf_counter() - began)
        turns.append(statistics.median(some))
        print(turns[-1], flush=True)
    return statistics.median(turns)


def timed(run, seconds=3.0):
    run()
    out, began = [], time.perf_counter()
    while len(out) < 3 or (len(out) < 50 and time.perf_counter() - began < seconds):
        t = time.perf_counter()
        run()
        out.append(time.perf_counter() - t)
    return statistics.median(out)


def torch_case(name, threads, tuned, narrow):
    """Runs one case in torch; prints median seconds and the peak resident size."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if tuned and not HAS_AMX:
        torch.set_float32_matmul_precision("medium")
    if narrow and name.split()[0] in ("gemm", "attention", "ViT", "BERT", "VAE"):
        torch.set_default_dtype(torch.bfloat16)
    if name.startswith("gemm"):
        m, n, k = map(int, name.split()[1].strip(",").split("x"))
        batch = (512,) if "512 of" in name else ()
        a, b = torch.randn(*batch, m, k), torch.randn(*batch, k, n)
        run = lambda: a @ b
    elif name.startswith("attention"):
        return attention_case("backward" in name)
    elif name.startswith("VAE"):
        run = decoding("back" in name)
    elif name.startswith("OT-map"):
        run = map_round(narrow)
    elif name.startswith("generator"):
        step = generator_step(*((384, 6, 4) if "384" in name else (768, 12, 1)))

        def run():
            with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
                step()

    elif name.startswith("UNet"):
        run = unet("step" in name, "full" in name, narrow)
    elif name.startswith("ViT"):
        d, h, hidden, n = 1408, 16, 6144, 2049
        w = {
            key: torch.randn(*shape) * 0.02
            for key, shape in {
                "qkv": (3 * d, d),
                "o": (d, d),
                "up": (hidden, d),
                "down": (d, hidden),
            }.items()
        }
        one, scale, x = torch.ones(d), torch.full((d,), 0.1), torch.randn(1, n, d)

        def run():
            with torch.no_grad():
                q, k, v = (
                    F.linear(F.rms_norm(x, (d,), one, 1e-6), w["qkv"])
                    .view(1, n, 3, h, d // h)
                    .permute(2, 0, 3, 1, 4)
                )
                q, k = (
                    F.rms_norm(t.transpose(1, 2).flatten(2), (d,), one, 1e-6)
                    .view(1, n, h, d // h)
                    .transpose(1, 2)
                    for t in (q, k)
                )
                y = x + scale * F.linear(
                    F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), w["o"]
                )
                return y + scale * F.linear(
                    F.gelu(F.linear(F.rms_norm(y, (d,), one, 1e-6), w["up"])), w["down"]
                )

    elif name.startswith("BERT"):
        d, h, hidden, e, l, n = 1024, 16, 4096, 1408, 40, 2049
        make = lambda *s: torch.randn(*s) * 0.02
        self_, cross, kv, outs, up, down = (
            make(3 * d, d),
            make(d, d),
            make(2 * d, e),
            [make(d, d), make(d, d)],
            make(hidden, d),
            make(d, hidden),
        )
        one, x, vision = torch.ones(d), torch.randn(1, l, d), torch.randn(1, n, e)
        heads = lambda t: t.view(1, t.shape[1], h, d // h).transpose(1, 2)

        def run():
            with torch.no_grad():
                q, k, v = (heads(t) for t in F.linear(x, self_).chunk(3, -1))
                y = F.layer_norm(
                    x
                    + F.linear(
                        F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), outs[0]
                    ),
                    (d,),
                    one,
                )
                k, v = (heads(t) for t in F.linear(vision, kv).chunk(2, -1))
                z = F.layer_norm(
                    y
                    + F.linear(
                        F.scaled_dot_product_attention(heads(F.linear(y, cross)), k, v)
                        .transpose(1, 2)
                        .flatten(2),
                        outs[1],
                    ),
                    (d,),
                    one,
                )
                return F.layer_norm(z + F.linear(F.gelu(F.linear(z, up)), down), (d,), one)

    else:
        words, tokens, heads, epsilon, phi, tolerance = (
            int(name.split()[-3]),
            2049,
            16,
            0.05,
            0.9,
            1e-3,
        )
        attention = torch.softmax(torch.randn(heads, words, tokens), -1)
        q, k = F.normalize(torch.randn(words, 64), dim=-1), F.normalize(
            torch.randn(tokens, 64), dim=-1
        )
        frame, cell = torch.arange(tokens - 1) // 256, torch.arange(tokens - 1) % 256
        t = torch.cat((torch.tensor([-1.0]), frame.float()))
        s = torch.cat((torch.tensor([[-1.0, -1.0]]), torch.stack((cell // 16, cell % 16), -1) / 15))

        def run():
            """The released loop: a cost for all heads, then log-domain updates until nothing moves
            by more than the tolerance."""
            with torch.no_grad():
                a = attention / attention.sum(-1, keepdim=True).clamp_min(1e-6)
                cost = (
                    (1 - q @ k.T)[None]
                    + 0.2 * (a @ t)[..., None].sub(t).abs() / (t.max() - t.min())
                    + 0.2 * torch.cdist(a @ s, s.expand(heads, -1, -1)) / 2**0.5
                )
                low, high = cost.amin((1, 2), keepdim=True), cost.amax((1, 2), keepdim=True)
                cost = (cost - low) / (high - low).clamp_min(1e-8)
                log = -cost / epsilon
                u, v = torch.zeros(heads, words), torch.zeros(heads, tokens)
                mu, nu = -torch.log(torch.tensor(float(words))), -torch.log(
                    torch.tensor(float(tokens))
                )
                for _ in range(200):
                    u_old, v_old = u, v
                    u = phi * (mu - torch.logsumexp(log + v[:, None], 2))
                    v = phi * (nu - torch.logsumexp(log + u[:, :, None], 1))
                    if max((u - u_old).abs().max(), (v - v_old).abs().max()) < tolerance:
                        break
                plan = torch.exp(log + u[:, :, None] + v[:, None])
                return plan / plan.sum(-1, keepdim=True).clamp_min(1e-8)

    report(in_turns(run), f"torch {torch.__version__}")


def report(seconds, peer):
    print(
        json.dumps(
            {
                "seconds": seconds,
                "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
                "peer": peer,
            }
        )
    )


def attention_case(backward):
    """Softmax attention of one sample, 16 heads of 88: the faster of torch's fused attention and
    its two products with a softmax between."""
    import torch
    import torch.nn.functional as F

    q, k, v, g = (torch.randn(1, 16, 2049, 88) for _ in range(4))
    if backward:
        q, k, v = (t.requires_grad_() for t in (q, k, v))

    def through(attend):
        def run():
            with torch.set_grad_enabled(backward):
                o = attend()
                if backward:
                    torch.autograd.grad(o, (q, k, v), g)

        return run

    ways = {
        "fused": through(lambda: F.scaled_dot_product_attention(q, k, v)),
        "explicit": through(lambda: torch.softmax(q @ k.mT * 88**-0.5, -1) @ v),
    }
    way = min(ways, key=lambda n: timed(ways[n]))
    report(in_turns(ways[way]), f"torch {torch.__version__}, {way}")


def decoding(back):
    """diffusers' causal 3D VAE decoder at the size of `pisces bench vae`: 5x16x16 latents to
    17x128x128 pixels."""
    import torch
    from diffusers import AutoencoderKLHunyuanVideo

    vae = (
        AutoencoderKLHunyuanVideo(
            block_out_channels=(32, 64, 64, 64),
            norm_num_groups=8,
            layers_per_block=2,
            latent_channels=16,
        )
        .to(torch.get_default_dtype())
        .requires_grad_(False)
    )
    z = torch.randn(1, 16, 5, 16, 16)

    def forward():
        with torch.no_grad():
            vae.decode(z)

    def both():
        x = z.clone().requires_grad_()
        vae.decode(x).sample.square().mean().backward()

    return both if back else forward


def map_round(narrow):
    """Ten updates of T and one of f (Korotin et al. 2023, algorithm 1), batch 128, gradients
    clipped as `pisces bench ot-map` does."""
    import torch
    import torch.nn as nn

    def network(out):
        return nn.Sequential(
            nn.Linear(512, 1024),
            nn.ReLU(),
            nn.LayerNorm(1024),
            nn.Linear(1024, 1024),
            nn.ReLU(),
            nn.LayerNorm(1024),
            nn.Linear(1024, out),
        )

    T, f = network(512), network(1)
    optimizers = [torch.optim.AdamW(n.parameters(), 1e-4, fused=True) for n in (T, f)]
    y, v = torch.randn(128, 512), torch.randn(128, 512)

    def update(n, loss, optimizer):
        optimizer.zero_grad(set_to_none=True)
        loss().backward()
        nn.utils.clip_grad_norm_(n.parameters(), 1.0)
        optimizer.step()

    def mapped():
        t = T(y)
        return (t - y).square().mean() - f(t).mean()

    def potential():
        with torch.no_grad():
            t = T(y)
        return f(t).mean() - f(v).mean()

    def run():
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            f.requires_grad_(False)
            for _ in range(10):
                update(T, mapped, optimizers[0])
            f.requires_grad_(True)
            update(f, potential, optimizers[1])

    return run


def product_case(name, threads, peer):
    """The same product in OpenBLAS or ONNX Runtime (whose second operand is a constant, so packed
    beforehand)."""
    import numpy as np

    m, n, k = map(int, name.split()[1].strip(",").split("x"))
    a, b = np.random.rand(m, k).astype(np.float32), np.random.rand(k, n).astype(np.float32)
    if peer == "openblas":
        import ctypes

        library = ctypes.CDLL("libopenblas.so.0")
        library.openblas_set_num_threads(threads)
        c = np.empty((m, n), np.float32)
        library.cblas_sgemm.argtypes = [ctypes.c_int] * 6 + [
            ctypes.c_float,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_void_p,
            ctypes.c_int,
            ctypes.c_float,
            ctypes.c_void_p,
            ctypes.c_int,
        ]
        return report(
            in_turns(
                lambda: library.cblas_sgemm(
                    101,
                    111,
                    111,
                    m,
                    n,
                    k,
                    1,
                    a.ctypes.data,
                    k,
                    b.ctypes.data,
                    n,
                    0,
                    c.ctypes.data,
                    n,
                )
            ),
            "OpenBLAS",
        )
    import onnx, onnxruntime
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "b"], ["c"])],
        "g",
        [helper.make_tensor_value_info("a", 1, [m, k])],
        [helper.make_tensor_value_info("c", 1, [m, n])],
        [numpy_helper.from_array(b, "b")],
    )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, ["CPUExecutionProvider"]
    )
    return report(
        in_turns(lambda: session.run(None, {"a": a})), f"ONNX Runtime {onnxruntime.__version__}"
    )


def generator_step(width, heads, batch):
    """Forward, backward and AdamW of four double and eight single blocks (Kong et al. 2024) on 320
    video and 32 text tokens."""
    import torch
    import torch.nn as nn
    import torch.nn.functional as F

    d, per = width, width // heads
    angle = torch.arange(320)[:, None] * torch.exp(-torch.arange(per // 2) * 9.21 / (per // 2))
    cos, sin = angle.cos().repeat_interleave(2, -1), angle.sin().repeat_interleave(2, -1)

    def rotate(x):
        a, b = x[..., ::2], x[..., 1::2]
        return x * cos + torch.stack((-b, a), -1).flatten(-2) * sin

    def split(x):
        return x.view(batch, -1, heads, per).transpose(1, 2)

    def modulated(x, shift, scale):
        return F.layer_norm(x, (d,), eps=1e-6) * (1 + scale[:, None]) + shift[:, None]

    class Stream(nn.Module):
        def __init__(self):
            super().__init__()
            self.modulation, self.qkv, self.out, self.up, self.down = (
                nn.Linear(d, 6 * d),
                nn.Linear(d, 3 * d),
                nn.Linear(d, d),
                nn.Linear(d, 4 * d),
                nn.Linear(4 * d, d),
            )
            self.nq, self.nk = nn.Parameter(torch.ones(per)), nn.Parameter(torch.ones(per))

        def before(self, x, c, video):
            m = self.modulation(F.silu(c)).chunk(6, -1)
            q, k, v = (split(t) for t in self.qkv(modulated(x, m[0], m[1])).chunk(3, -1))
            q, k = F.rms_norm(q, (per,), self.nq, 1e-6), F.rms_norm(k, (per,), self.nk, 1e-6)
            return (rotate(q) if video else q, rotate(k) if video else k, v), m

        def after(self, x, a, m):
            x = x + m[2][:, None] * self.out(a)
            return x + m[5][:, None] * self.down(
                F.gelu(self.up(modulated(x, m[3], m[4])), approximate="tanh")
            )

    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.modulation, self.inward, self.outward = (
                nn.Linear(d, 3 * d),
                nn.Linear(d, 7 * d),
                nn.Linear(5 * d, d),
            )
            self.nq, self.nk = nn.Parameter(torch.ones(per)), nn.Parameter(torch.ones(per))

        def forward(self, x, c):
            shift, scale, gate = self.modulation(F.silu(c)).chunk(3, -1)
            qkv, up = self.inward(modulated(x, shift, scale)).split((3 * d, 4 * d), -1)
            q, k, v = (split(t) for t in qkv.chunk(3, -1))
            q, k = (F.rms_norm(t, (per,), w, 1e-6) for t, w in ((q, self.nq), (k, self.nk)))
            q, k = (torch.cat((rotate(t[:, :, :320]), t[:, :, 320:]), 2) for t in (q, k))
            a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return x + gate[:, None] * self.outward(
                torch.cat((a, F.gelu(up, approximate="tanh")), -1)
            )

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.text, self.time = (
                nn.Linear(64, d),
                nn.Linear(512, d),
                nn.Sequential(nn.Linear(256, d), nn.SiLU(), nn.Linear(d, d)),
            )
            self.video, self.words, self.single = (
                nn.ModuleList(make() for _ in range(n))
                for make, n in ((Stream, 4), (Stream, 4), (Single, 8))
            )
            self.modulation, self.final = nn.Linear(d, 2 * d), nn.Linear(d, 64)

        def forward(self, z, text, time):
            x, t = self.patch(z), self.text(text)
            phase = time[:, None] * torch.exp(-torch.arange(128) * 9.21 / 128)
            c = self.time(torch.cat((phase.cos(), phase.sin()), -1))
            for i, w in zip(self.video, self.words):
                (qi, ki, vi), mi = i.before(x, c, True)
                (qw, kw, vw), mw = w.before(t, c, False)
                a = (
                    F.scaled_dot_product_attention(
                        torch.cat((qi, qw), 2), torch.cat((ki, kw), 2), torch.cat((vi, vw), 2)
                    )
                    .transpose(1, 2)
                    .flatten(2)
                )
                x, t = i.after(x, a[:, :320], mi), w.after(t, a[:, 320:], mw)
            x = torch.cat((x, t), 1)
            for s in self.single:
                x = s(x, c)
            shift, scale = self.modulation(F.silu(c)).chunk(2, -1)
            return self.final(modulated(x[:, :320], shift, scale))

    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    z, text, time_, target = (
        torch.randn(batch, 320, 64),
        torch.randn(batch, 32, 512),
        torch.rand(batch) * 1000,
        torch.randn(batch, 320, 64),
    )

    def run():
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(network(z, text, time_), target).backward()
        optimizer.step()

    return run


def unet(steps, full, narrow):
    """VideoCrafter2's network at the sizes of `pisces bench generator`, channels last: forward alone
    in the type asked for, or a step of training under autocast."""
    import torch
    import torch.nn.functional as F
    from videocrafter_torch import VideoUNet

    config = dict(
        model_channels=320 if full else 128,
        channel_mult=[1, 2, 4, 4] if full else [1, 2, 2],
        num_res_blocks=2,
        attention_resolutions=[4, 2, 1] if full else [2, 1],
        num_head_channels=64,
        init_attn_heads=8 if full else 4,
        transformer_depth=1,
        context_dim=1024 if full else 512,
        norm_num_groups=32,
    )
    kind = torch.bfloat16 if narrow and not steps else torch.float32
    network = VideoUNet(config).to(kind)
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.to(memory_format=torch.channels_last)
    size = (16, 40, 64) if full else (16, 16, 24)
    z, text = torch.randn(1, 4, *size, dtype=kind), torch.randn(1, 77, config["context_dim"]).to(
        kind
    )
    times, fps = torch.tensor([500]), torch.tensor([8])
    if not steps:

        def forward():
            with torch.no_grad():
                network(z, times, text, fps)

        return forward
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    target = torch.randn_like(z)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            noise = network(z, times, text, fps)
        F.mse_loss(noise.float(), target).backward()
        optimizer.step()

    return step


def peers_of(name, group, threads, tuned, narrow):
    """Command lines of the peers of a case, each printing one line of JSON."""
    me = [sys.executable, __file__, "--case", name, "--threads", str(threads)]
    if group == "demo":
        return [
            [sys.executable, os.path.join(HERE, "torch_step.py"), "--threads", str(threads)]
            + (["--bf16"] if narrow else [])
        ]
    settings = (
        [[]]
        if not tuned
        else [["--tuned"], []] if group in ("step", "attention") else [["--tuned"]]
    )
    commands = [me + s + (["--narrow"] if narrow else []) for s in settings]
    if group == "packed":
        return [me + ["--peer", "onnxruntime"]]
    if group == "gemm" and not narrow and "512 of" not in name:
        commands.append(me + ["--peer", "openblas"])
    return commands


def score_row(rounds, threads, environment):
    """Whole processes: one clip, one prompt, the embedded reward model."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        weights, clip = f"{folder}/w.safetensors", f"{folder}/clip.safetensors"
        script = os.path.join(HERE, "torch_score.py")
        subprocess.run([sys.executable, script, "--make", weights], check=True, capture_output=True)
        import numpy as np
        from safetensors.numpy import save_file

        save_file({"pixels": np.random.rand(9, 3, 32, 32).astype(np.float32)}, clip)
        prompt = "a red circle moving left"
        theirs = [
            sys.executable,
            script,
            "--weights",
            weights,
            "--video",
            clip,
            "--prompt",
            prompt,
            "--threads",
            str(threads),
        ]
        ours = [
            PISCES,
            "score",
            "--model",
            "embedded:reward",
            "--frames",
            "9",
            "--video",
            clip,
            "--prompt",
            prompt,
            "--quiet",
            "--threads",
            str(threads),
        ]

        def whole(command):
            began = time.perf_counter()
            process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"{command[0]} failed")
            return time.perf_counter() - began, usage.ru_maxrss << 10

        pairs = [(whole(theirs), whole(ours)) for _ in range(max(rounds, 5))]
    return (
        [p[0][0] for p in pairs],
        [p[1][0] for p in pairs],
        max(p[0][1] for p in pairs),
        max(p[1][1] for p in pairs),
    )


class Worker:
    """A program that waits for its turns."""

    def __init__(self, command, environment):
        self.command, self.turns = command, []
        self.process = subprocess.Popen(
            command,
            env=dict(environment, PISCES_TURNS="1"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.ready = self.process.stdout.readline().strip() == "ready"
        if not self.ready:  # mostly a peer that is not installed; never silently
            print(
                f"left out: {' '.join(command[1:])}: {(self.process.communicate()[1].strip().splitlines() or ['?'])[-1]}",
                file=sys.stderr,
            )

    def turn(self):
        time.sleep(0.25)  # the threads of who was before spin no longer
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.turns.append(float(self.process.stdout.readline()))

    def end(self):
        return json.loads(self.process.communicate()[0].strip().splitlines()[-1])


def turns_row(name, kind, peers, command, turns, environment, narrow, floor, row):
    workers = [w for w in (Worker(c, environment) for c in [*peers, command]) if w.ready]
    if len(workers) < 2 or workers[-1].command != command:
        sys.exit(f"{name}: a peer and pisces are needed")
    for i in range(turns):
        for worker in workers if i % 2 else workers[::-1]:
            worker.turn()
    ends = [w.end() for w in workers]
    best = min(range(len(workers) - 1), key=lambda i: statistics.median(workers[i].turns))
    peer = ends[best].get("peer", f"torch {ends[best].get('torch')}") + (
        ", oneDNN" if "--tuned" in workers[best].command and not narrow and not HAS_AMX else ""
    )
    row(
        name,
        kind,
        peer,
        workers[best].turns,
        workers[-1].turns,
        floor,
        ends[best]["bytes"],
        ends[-1]["peak_resident_bytes"],
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--turns",
        type=int,
        default=0,
        help="so many turns of a tenth of a second or one repeat, all programs kept running, instead of rounds of processes",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--only", default="gemm,packed,attention,encoder,step,vae,ot-map,demo,score,ot"
    )
    parser.add_argument("--types", default="f32,bf16")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--json", help="a line of JSON for each row")
    for hidden in ("--case", "--peer"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--narrow", action="store_true", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.case:
        return (
            product_case(o.case, o.threads, o.peer)
            if o.peer
            else torch_case(o.case, o.threads, o.tuned, o.narrow)
        )
    environment = dict(
        os.environ,
        OMP_NUM_THREADS=str(o.threads),
        OPENBLAS_CORETYPE=os.environ.get("OPENBLAS_CORETYPE", "SkylakeX"),
    )
    if o.tuned:
        environment |= {
            "MALLOC_MMAP_THRESHOLD_": "4294967296",
            "MALLOC_TRIM_THRESHOLD_": "17179869184",
        }
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in open("/proc/cpuinfo")
            if line.startswith("model name")
        ),
        "?",
    )
    print(
        f"{cpu}, {o.threads} threads, torch {'tuned' if o.tuned else 'as installed'}, {f'{o.turns} turns, median and quartiles of their ratios' if o.turns else f'{o.rounds} rounds'}, {time.strftime('%Y-%m-%d %H:%M')}\n"
    )
    print(
        "| case | type | best peer | peer ms | pisces ms | times as fast | rounds | floor | peer MiB | pisces MiB |\n| --- | --- | --- | ---: | ---: | ---: | --- | ---: | ---: | ---: |"
    )
    out = open(o.json, "a") if o.json else None

    def row(name, kind, peer, theirs, ours, floor, a, b):
        t, p = statistics.median(theirs), statistics.median(ours)
        ratios = sorted(x / y for x, y in zip(theirs, ours))
        ratio, low, high = (
            (statistics.median(ratios), ratios[len(ratios) // 4], ratios[-1 - len(ratios) // 4])
            if o.turns
            else (t / p, ratios[0], ratios[-1])
        )
        print(
            f"| {name} | {kind} | {peer} | {1e3 * t:.2f} | {1e3 * p:.2f} | **{ratio:.2f}** | {low:.2f}-{high:.2f} | {floor or ''} | {a >> 20} | {b >> 20} |",
            flush=True,
        )
        if out:
            print(
                json.dumps(
                    {
                        "case": name,
                        "type": kind,
                        "peer": peer,
                        "peer_seconds": theirs,
                        "pisces_seconds": ours,
                        "floor": floor,
                        "peer_bytes": a,
                        "pisces_bytes": b,
                    }
                ),
                file=out,
                flush=True,
            )

    for name, (group, arguments, floors) in CASES.items():
        for kind in o.types.split(","):
            if group not in o.only.split(",") or (
                kind == "bf16"
                and kind not in floors
                and name not in ("VAE decode and back to the latents",)
            ):
                continue
            narrow, theirs, ours, failed = kind == "bf16", {}, [], set()
            command = [
                PISCES,
                "bench",
                *map(str, arguments),
                "--compute-dtype",
                kind,
                "--json",
                "--quiet",
                "--no-check",
                "--threads",
                str(o.threads),
            ]
            if o.turns:
                turns_row(
                    name,
                    kind,
                    peers_of(name, group, o.threads, o.tuned, narrow),
                    command + ["--turns"],
                    o.turns,
                    environment,
                    narrow,
                    floors.get(kind),
                    row,
                )
                continue
            for _ in range(o.rounds):
                for command in peers_of(name, group, o.threads, o.tuned, narrow):
                    if tuple(command) in failed:
                        continue
                    run = subprocess.run(command, env=environment, capture_output=True, text=True)
                    if run.returncode != 0:  # mostly a peer that is not installed; never silently
                        failed.add(tuple(command))
                        print(
                            f"left out: {' '.join(command[1:])}: {(run.stderr.strip().splitlines() or ['?'])[-1]}",
                            file=sys.stderr,
                        )
                        continue
                    x = json.loads(run.stdout.splitlines()[-1])
                    theirs.setdefault(
                        x.get("peer", f"torch {x.get('torch')}")
                        + (
                            ", oneDNN"
                            if "--tuned" in command and not narrow and not HAS_AMX
                            else ""
                        ),
                        [],
                    ).append(x)
                ours.append(
                    json.loads(
                        subprocess.run(command, check=True, capture_output=True, text=True).stdout
                    )
                )
            if not theirs:
                print(f"| {name} | {kind} | no peer installed | | | | | | | |")
                continue
            peer = min(theirs, key=lambda k: statistics.median(x["seconds"] for x in theirs[k]))
            row(
                name,
                kind,
                peer,
                [x["seconds"] for x in theirs[peer]],
                [x["median_seconds"] for x in ours],
                floors.get(kind),
                max(x["bytes"] for x in theirs[peer]),
                max(x["peak_resident_bytes"] for x in ours),
            )
    if "score" in o.only.split(","):
        t, p, a, b = score_row(o.rounds, o.threads, environment)
        row("`pisces score`, whole process, embedded model", "f32", "torch script", t, p, 50, a, b)


main()
