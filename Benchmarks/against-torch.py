#!/usr/bin/env python3
"""pisces against PyTorch as installed, in turn, in one run: times as ratios, and the peak memory of a training step.

usage: Benchmarks/against-torch.py [--rounds 3] [--threads 2] [--only gemm,step,encoder,ot] [--tuned]
needs: torch; .build/release/pisces. --tuned sends torch's f32 products to oneDNN and keeps malloc from returning memory.

A ratio above 1 means pisces is that many times faster (memory: smaller). Each round runs torch, then pisces, in processes of their own; the
ratio is of the medians of the rounds' medians. Torch runs the arithmetic the case needs and nothing else.
"""
import argparse, json, os, resource, statistics, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
PISCES = os.path.join(HERE, "..", ".build", "release", "pisces")
GEMM = [(1024, 1024, 1024), (2048, 2048, 2048), (2049, 4224, 1408), (2049, 6144, 1408), (2049, 1408, 6144), (352, 1536, 384), (4608, 768, 192)]
CASES = {f"gemm {m}x{n}x{k}": ("gemm", ["gemm", "--m", m, "--n", n, "--k", k]) for m, n, k in GEMM}
CASES |= {
    "generator step, 384 wide, batch 4": ("step", ["generator", "--preset", "mmdit-384", "--pass", "step"]),
    "generator step, 768 wide, batch 1": ("step", ["generator", "--preset", "mmdit-768", "--pass", "step"]),
    "ViT block, 2049 tokens": ("encoder", ["encoder", "--preset", "vit-block"]),
    "BERT fusion layer, 40 x 2049": ("encoder", ["encoder", "--preset", "bert-fusion"]),
    "BERT fusion layer, a later caption": ("encoder", ["encoder", "--preset", "bert-fusion-again"]),
    "token OT, 16 heads, 20 x 2049": ("ot", ["ot", "--kind", "token", "--text", 20]),
    "token OT, 16 heads, 8 x 2049": ("ot", ["ot", "--kind", "token", "--text", 8]),
}


def timed(run, seconds=3.0):
    run()
    out, began = [], time.perf_counter()
    while len(out) < 3 or (len(out) < 50 and time.perf_counter() - began < seconds):
        t = time.perf_counter()
        run()
        out.append(time.perf_counter() - t)
    return statistics.median(out)


def torch_case(name, threads, tuned):
    """Runs one case in torch; prints median seconds and the peak resident size."""
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    if tuned:
        torch.set_float32_matmul_precision("medium")
    if name.startswith("gemm"):
        m, n, k = map(int, name.split()[1].split("x"))
        a, b = torch.randn(m, k), torch.randn(k, n)
        run = lambda: a @ b
    elif name.startswith("generator"):
        run = generator_step(*((384, 6, 4) if "384" in name else (768, 12, 1)))
    elif name.startswith("ViT"):
        d, h, hidden, n = 1408, 16, 6144, 2049
        w = {key: torch.randn(*shape) * 0.02 for key, shape in {"qkv": (3 * d, d), "o": (d, d), "up": (hidden, d), "down": (d, hidden)}.items()}
        one, scale, x = torch.ones(d), torch.full((d,), 0.1), torch.randn(1, n, d)

        def run():
            with torch.no_grad():
                q, k, v = F.linear(F.rms_norm(x, (d,), one, 1e-6), w["qkv"]).view(1, n, 3, h, d // h).permute(2, 0, 3, 1, 4)
                q, k = (F.rms_norm(t.transpose(1, 2).flatten(2), (d,), one, 1e-6).view(1, n, h, d // h).transpose(1, 2) for t in (q, k))
                y = x + scale * F.linear(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), w["o"])
                return y + scale * F.linear(F.gelu(F.linear(F.rms_norm(y, (d,), one, 1e-6), w["up"])), w["down"])
    elif name.startswith("BERT"):
        d, h, hidden, e, l, n = 1024, 16, 4096, 1408, 40, 2049
        make = lambda *s: torch.randn(*s) * 0.02
        self_, cross, kv, outs, up, down = make(3 * d, d), make(d, d), make(2 * d, e), [make(d, d), make(d, d)], make(hidden, d), make(d, hidden)
        one, x, vision = torch.ones(d), torch.randn(1, l, d), torch.randn(1, n, e)
        heads = lambda t: t.view(1, t.shape[1], h, d // h).transpose(1, 2)

        def run():
            with torch.no_grad():
                q, k, v = (heads(t) for t in F.linear(x, self_).chunk(3, -1))
                y = F.layer_norm(x + F.linear(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2), outs[0]), (d,), one)
                k, v = (heads(t) for t in F.linear(vision, kv).chunk(2, -1))
                z = F.layer_norm(y + F.linear(F.scaled_dot_product_attention(heads(F.linear(y, cross)), k, v).transpose(1, 2).flatten(2), outs[1]), (d,), one)
                return F.layer_norm(z + F.linear(F.gelu(F.linear(z, up)), down), (d,), one)
    else:
        words, tokens, heads, epsilon, phi, tolerance = int(name.split()[-3]), 2049, 16, 0.05, 0.9, 1e-3
        attention = torch.softmax(torch.randn(heads, words, tokens), -1)
        q, k = F.normalize(torch.randn(words, 64), dim=-1), F.normalize(torch.randn(tokens, 64), dim=-1)
        frame, cell = torch.arange(tokens - 1) // 256, torch.arange(tokens - 1) % 256
        t = torch.cat((torch.tensor([-1.0]), frame.float()))
        s = torch.cat((torch.tensor([[-1.0, -1.0]]), torch.stack((cell // 16, cell % 16), -1) / 15))

        def run():
            """The released loop: a cost for all heads, then log-domain updates until nothing moves by more than the tolerance."""
            with torch.no_grad():
                a = attention / attention.sum(-1, keepdim=True).clamp_min(1e-6)
                cost = (1 - q @ k.T)[None] + 0.2 * (a @ t)[..., None].sub(t).abs() / (t.max() - t.min()) + 0.2 * torch.cdist(a @ s, s.expand(heads, -1, -1)) / 2**0.5
                low, high = cost.amin((1, 2), keepdim=True), cost.amax((1, 2), keepdim=True)
                cost = (cost - low) / (high - low).clamp_min(1e-8)
                log = -cost / epsilon
                u, v = torch.zeros(heads, words), torch.zeros(heads, tokens)
                mu, nu = -torch.log(torch.tensor(float(words))), -torch.log(torch.tensor(float(tokens)))
                for _ in range(200):
                    u_old, v_old = u, v
                    u = phi * (mu - torch.logsumexp(log + v[:, None], 2))
                    v = phi * (nu - torch.logsumexp(log + u[:, :, None], 1))
                    if max((u - u_old).abs().max(), (v - v_old).abs().max()) < tolerance:
                        break
                plan = torch.exp(log + u[:, :, None] + v[:, None])
                return plan / plan.sum(-1, keepdim=True).clamp_min(1e-8)
    seconds = timed(run)
    print(json.dumps({"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10, "torch": torch.__version__}))


def generator_step(width, heads, batch):
    """Forward, backward and AdamW of four double and eight single blocks (Kong et al. 2024) on 320 video and 32 text tokens."""
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
            self.modulation, self.qkv, self.out, self.up, self.down = nn.Linear(d, 6 * d), nn.Linear(d, 3 * d), nn.Linear(d, d), nn.Linear(d, 4 * d), nn.Linear(4 * d, d)
            self.nq, self.nk = nn.Parameter(torch.ones(per)), nn.Parameter(torch.ones(per))

        def before(self, x, c, video):
            m = self.modulation(F.silu(c)).chunk(6, -1)
            q, k, v = (split(t) for t in self.qkv(modulated(x, m[0], m[1])).chunk(3, -1))
            q, k = F.rms_norm(q, (per,), self.nq, 1e-6), F.rms_norm(k, (per,), self.nk, 1e-6)
            return (rotate(q) if video else q, rotate(k) if video else k, v), m

        def after(self, x, a, m):
            x = x + m[2][:, None] * self.out(a)
            return x + m[5][:, None] * self.down(F.gelu(self.up(modulated(x, m[3], m[4])), approximate="tanh"))

    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            self.modulation, self.inward, self.outward = nn.Linear(d, 3 * d), nn.Linear(d, 7 * d), nn.Linear(5 * d, d)
            self.nq, self.nk = nn.Parameter(torch.ones(per)), nn.Parameter(torch.ones(per))

        def forward(self, x, c):
            shift, scale, gate = self.modulation(F.silu(c)).chunk(3, -1)
            qkv, up = self.inward(modulated(x, shift, scale)).split((3 * d, 4 * d), -1)
            q, k, v = (split(t) for t in qkv.chunk(3, -1))
            q, k = (F.rms_norm(t, (per,), w, 1e-6) for t, w in ((q, self.nq), (k, self.nk)))
            q, k = (torch.cat((rotate(t[:, :, :320]), t[:, :, 320:]), 2) for t in (q, k))
            a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            return x + gate[:, None] * self.outward(torch.cat((a, F.gelu(up, approximate="tanh")), -1))

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch, self.text, self.time = nn.Linear(64, d), nn.Linear(512, d), nn.Sequential(nn.Linear(256, d), nn.SiLU(), nn.Linear(d, d))
            self.video, self.words, self.single = (nn.ModuleList(make() for _ in range(n)) for make, n in ((Stream, 4), (Stream, 4), (Single, 8)))
            self.modulation, self.final = nn.Linear(d, 2 * d), nn.Linear(d, 64)

        def forward(self, z, text, time):
            x, t = self.patch(z), self.text(text)
            phase = time[:, None] * torch.exp(-torch.arange(128) * 9.21 / 128)
            c = self.time(torch.cat((phase.cos(), phase.sin()), -1))
            for i, w in zip(self.video, self.words):
                (qi, ki, vi), mi = i.before(x, c, True)
                (qw, kw, vw), mw = w.before(t, c, False)
                a = F.scaled_dot_product_attention(torch.cat((qi, qw), 2), torch.cat((ki, kw), 2), torch.cat((vi, vw), 2)).transpose(1, 2).flatten(2)
                x, t = i.after(x, a[:, :320], mi), w.after(t, a[:, 320:], mw)
            x = torch.cat((x, t), 1)
            for s in self.single:
                x = s(x, c)
            shift, scale = self.modulation(F.silu(c)).chunk(2, -1)
            return self.final(modulated(x[:, :320], shift, scale))

    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4, fused=True)
    z, text, time_, target = torch.randn(batch, 320, 64), torch.randn(batch, 32, 512), torch.rand(batch) * 1000, torch.randn(batch, 320, 64)

    def run():
        optimizer.zero_grad(set_to_none=True)
        F.mse_loss(network(z, text, time_), target).backward()
        optimizer.step()

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="gemm,step,encoder,ot")
    parser.add_argument("--tuned", action="store_true")
    parser.add_argument("--torch-case", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.torch_case:
        return torch_case(o.torch_case, o.threads, o.tuned)
    environment = dict(os.environ, OMP_NUM_THREADS=str(o.threads))
    if o.tuned:
        environment |= {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}
    print(f"threads {o.threads}, torch {'tuned' if o.tuned else 'as installed'}, {o.rounds} rounds")
    print("| case | torch ms | pisces ms | times as fast | torch MiB | pisces MiB | times as small |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, (group, arguments) in CASES.items():
        if group not in o.only.split(","):
            continue
        theirs, ours = [], []
        for _ in range(o.rounds):
            command = [sys.executable, __file__, "--torch-case", name, "--threads", str(o.threads)] + (["--tuned"] if o.tuned else [])
            theirs.append(json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout))
            command = [PISCES, "bench", *map(str, arguments), "--json", "--quiet", "--no-check", "--threads", str(o.threads)]
            ours.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        t, p = statistics.median(x["seconds"] for x in theirs), statistics.median(x["median_seconds"] for x in ours)
        a, b = max(x["bytes"] for x in theirs), max(x["peak_resident_bytes"] for x in ours)
        print(f"| {name} | {1e3 * t:.2f} | {1e3 * p:.2f} | {t / p:.2f} | {a >> 20} | {b >> 20} | {a / b:.2f} |", flush=True)


main()
