#!/usr/bin/env python3
"""pisces' optimal transport against torch, torch.compile, POT, OTT-JAX and GeomLoss, each tuned, in
turn, in one run.

usage: Benchmarks/against-ot-peers.py [--rows token,square,...] [--match TEXT] [--rounds 3]
                                      [--threads 2] [--pisces PATH] [--peers-only] [--json FILE]
rows:  token square to-tolerance points gradient exact-mass startup threads
needs: numpy torch POT ott-jax geomloss, and pykeops with g++ for GeomLoss' online backend;
       .build/release/pisces

Every library has one worker process that stays alive; compilation and the first call are not
counted, and a worker is stopped (SIGSTOP) while it is not its turn. A round runs all peers of a
case, then pisces. Numbers are medians of the rounds' medians, with the least and the greatest round
in brackets; a ratio above 1 means pisces is that many times faster. A measurement waits until the
processors are idle, and is repeated when others took more than a tenth of them meanwhile;
`disturbed` says that it stayed so. All get the cost ready made. Problems have the distributions of
`pisces bench`, not its random numbers.
"""

import argparse, functools, importlib.metadata, json, math, os, select, signal, statistics, subprocess, sys, tempfile, time, warnings

import numpy as np

HERE = os.path.dirname(os.path.abspath(__file__))
HEADS, EPSILON, MASS, LIMIT, TOLERANCE = 16, 0.05, 0.9, 200, 1e-3
TOKENS = [(words, tokens) for words in (8, 20, 40) for tokens in (2049, 4097)]


# The problems of Sources/Benchmarking/TransportBenchmark.swift. Only the last is kept.
@functools.lru_cache(1)
def token_cost(n, m):
    """Random costs in [0, 1)."""
    return np.random.default_rng(1).random((HEADS, n, m), dtype=np.float32)


@functools.lru_cache(1)
def clouds(n):
    x, y = np.random.default_rng(1).standard_normal((2, n, 64)).astype(np.float32)
    return x, y, float((np.linalg.norm(x, axis=1).max() + np.linalg.norm(y, axis=1).max()) ** 2)


@functools.lru_cache(1)
def square_cost(n):
    x, y, _ = clouds(n)
    c = np.maximum((x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T, 0)
    return c / c.max()


@functools.lru_cache(1)
def token_limit(n, m):
    """The exact plans: 1000 updates in f64."""
    kernel, g = np.exp(token_cost(n, m) / -EPSILON, dtype=np.float64), np.ones((HEADS, m))
    for _ in range(1000):
        f = (n * (kernel @ g[:, :, None])[:, :, 0]) ** -MASS
        g = (m * (f[:, None] @ kernel)[:, 0]) ** -MASS
    return f[:, :, None] * kernel * g[:, None]


def token_error(plan, c):
    return float(
        abs(np.asarray(plan) - token_limit(c["n"], c["m"])).sum()
        / token_limit(c["n"], c["m"]).sum()
    )


def marginal_error(plan):
    plan = np.asarray(plan, np.float64)
    return float(sum(abs(plan.sum(i) - 1 / plan.shape[1 - i]).sum() for i in (0, 1)))


def potential_error(u, v, n, epsilon):
    return marginal_error(
        np.exp(
            np.asarray(u, np.float64)[:, None]
            + np.asarray(v, np.float64)
            - square_cost(n).astype(np.float64) / epsilon
        )
    )


def feasibility(plan):
    """Of a partial plan between uniform marginals: its mass error, and its mass above the
    marginals."""
    plan = np.asarray(plan, np.float64)
    return {
        "mass_error": float(abs(plan.sum() - MASS)),
        "mass_above": float(
            sum(np.maximum(plan.sum(i) - 1 / plan.shape[1 - i], 0).sum() for i in (0, 1))
        ),
    }


# Peers: a class a library, a method a row: (name, case) -> (what to time, its result -> what to
# report). `times` there scales the time.
class Torch:
    def __init__(self, threads):
        import torch

        self.t = torch
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        if "amx_bf16" not in open("/proc/cpuinfo").read():  # with AMX that would not be f32
            torch.set_float32_matmul_precision("medium")

    def compiled(self, f):
        self.t._dynamo.reset()
        return self.t.compile(f, dynamic=False)

    def token(self, name, c):
        torch, cost, mu, nu = (
            self.t,
            self.t.from_numpy(token_cost(c["n"], c["m"])),
            -math.log(c["n"]),
            -math.log(c["m"]),
        )

        def update(kernel, f, g):
            p = MASS * (mu - torch.logsumexp(kernel + g[:, None], 2))
            q = MASS * (nu - torch.logsumexp(kernel + p[:, :, None], 1))
            return p, q, torch.maximum((p - f).abs().max(), (q - g).abs().max())

        def solve(cost):
            f, g, kernel = (
                cost.new_zeros(cost.shape[:2]),
                cost.new_zeros(cost.shape[0], cost.shape[2]),
                cost / -EPSILON,
            )
            for i in range(1, LIMIT + 1):
                f, g, change = step(kernel, f, g)
                if change < TOLERANCE:
                    break
            return torch.exp(kernel + f[:, :, None] + g[:, None]), i

        def loop():
            parts = [solve(head[None]) for head in cost]
            return torch.cat([p for p, _ in parts]), max(i for _, i in parts)

        step = self.compiled(update) if name == "compiled" else update
        return loop if name == "loop" else lambda: solve(cost), lambda r: {
            "iterations": r[1],
            "plan_error": token_error(r[0], c),
        }

    def scaling(self, cost, epsilon, steps, tolerance=0):
        """Kernel domain; with a tolerance, the test is the L1 row error every ten updates."""
        n, kernel, v = (
            len(cost),
            self.t.exp(cost / -epsilon),
            self.t.full_like(cost[0], 1 / len(cost)),
        )
        for i in range(steps):
            s = kernel @ v
            if tolerance and i % 10 == 1 and i > 1 and (u * s - 1 / n).abs().sum() < tolerance:
                break
            u = 1 / n / s
            v = 1 / n / (kernel.T @ u)
        return u.log(), v.log(), i

    def square(self, name, c):
        torch, n, steps, cost, w = (
            self.t,
            c["n"],
            100 if c["n"] < 4096 else 20,
            self.t.from_numpy(square_cost(c["n"])),
            -math.log(c["n"]),
        )

        def update(kernel, g):
            f = w - torch.logsumexp(kernel + g, 1)
            return f, w - torch.logsumexp(kernel + f[:, None], 0)

        def run():
            kernel, g = cost / -EPSILON, torch.zeros(n)
            for _ in range(steps):
                f, g = step(kernel, g)
            return f, g

        step = self.compiled(update) if name == "compiled" else update
        run = run if name != "kernel" else lambda: self.scaling(cost, EPSILON, steps)
        return run, lambda r: {
            "iterations": steps,
            "times": 100 / steps,
            "l1": potential_error(*r[:2], n, EPSILON),
        }

    def to_tolerance(self, name, c):
        cost = self.t.from_numpy(square_cost(c["n"])).double()
        return lambda: self.scaling(cost, c["epsilon"], 20_000, 1e-6), lambda r: {
            "iterations": r[2],
            "l1": potential_error(*r[:2], c["n"], c["epsilon"]),
        }

    def points(self, name, c):
        """Not a library's solver: blocks of rows, each a product and a compiled log-sum-exp."""
        torch, n, steps, rows, (x, y, scale) = (
            self.t,
            c["n"],
            c["steps"],
            int(name.split("-")[-1]),
            clouds(c["n"]),
        )
        x, y, reg, w = torch.from_numpy(x), torch.from_numpy(y), EPSILON * scale, -math.log(n)
        xx, yy, reduce = (
            (x * x).sum(1) / reg,
            (y * y).sum(1) / reg,
            self.compiled(lambda block, h: torch.logsumexp(block + h, 1)),
        )
        half = lambda a, b, h: torch.cat(
            [reduce(a[i : i + rows] @ b, h) for i in range(0, n, rows)]
        )

        def run():
            g, a, b = torch.zeros(n), x * (2 / reg), y * (2 / reg)
            for _ in range(steps):
                f = w - half(a, y.T, g - yy) + xx
                g = w - half(b, x.T, f - xx) + yy
            return f, g

        return run, lambda r: {"iterations": steps, "times": 1 / steps}


class POT(Torch):
    """Names end in the arrays' type: f64, f32, or torch (f32)."""

    def __init__(self, threads):
        import ot, ot.partial

        super().__init__(threads)
        self.ot = ot

    def arrays(self, name, *arrays):
        arrays = [np.asarray(a, np.float64 if name.endswith("f64") else np.float32) for a in arrays]
        return [self.t.from_numpy(a) for a in arrays] if name.endswith("torch") else arrays

    def token(self, name, c):
        cost, a, b = self.arrays(
            name,
            token_cost(c["n"], c["m"]),
            np.full(c["n"], 1 / c["n"]),
            np.full(c["m"], 1 / c["m"]),
        )
        options = dict(
            reg=EPSILON,
            reg_m=EPSILON * MASS / (1 - MASS),
            method=name[:-4],
            reg_type="entropy",
            numItermax=LIMIT,
            stopThr=TOLERANCE,
        )
        return lambda: [
            self.ot.unbalanced.sinkhorn_unbalanced(a, b, h, **options) for h in cost
        ], lambda r: {"plan_error": token_error(np.stack(r), c)}

    def square(self, name, c):
        steps, (cost, a) = 20 if c["n"] == 4096 and "log" in name else 100, self.arrays(
            name, square_cost(c["n"]), np.full(c["n"], 1 / c["n"])
        )
        run = functools.partial(
            self.ot.sinkhorn,
            a,
            a,
            cost,
            EPSILON,
            method=name.split("-")[0],
            numItermax=steps,
            stopThr=0,
            warn=False,
        )
        return run, lambda r: {"iterations": steps, "times": 100 / steps, "l1": marginal_error(r)}

    def to_tolerance(self, name, c):
        """Its stop test is the 2-norm of one marginal: the loosest threshold that leaves an L1
        error of 1e-6."""
        cost, a = self.arrays(name, square_cost(c["n"]), np.full(c["n"], 1 / c["n"]))
        for stop in (1e-6, 5e-7, 3e-7, 2e-7, 1e-7, 5e-8, 2e-8, 1e-8):
            run = functools.partial(
                self.ot.sinkhorn,
                a,
                a,
                cost,
                c["epsilon"],
                numItermax=20_000,
                stopThr=stop,
                log=True,
                warn=False,
            )
            if marginal_error(run()[0]) <= 1e-6:
                break
        return run, lambda r: {
            "iterations": int(r[1]["niter"]) + 1,
            "l1": marginal_error(r[0]),
            "stop": stop,
        }

    def points(self, name, c):
        steps, (x, y, scale) = max(1, c["steps"] // 2), clouds(c["n"])
        options = dict(
            reg=EPSILON * scale,
            numIterMax=steps,
            isLazy=True,
            batchSize=int(name.split("-")[1]),
            stopThr=0,
            warn=False,
        )
        x, y = self.arrays(name, x, y)
        return lambda: self.ot.bregman.empirical_sinkhorn(x, y, **options), lambda r: {
            "iterations": steps,
            "times": 1 / steps,
        }

    def exact_mass(self, name, c):
        """The loosest threshold that leaves no more than the tolerance above the marginals."""
        cost, a, b, (mass,) = self.arrays(
            name,
            token_cost(c["n"], c["m"]),
            np.full(c["n"], 1 / c["n"]),
            np.full(c["m"], 1 / c["m"]),
            [MASS],
        )

        def check(r):
            worst = [feasibility(p) for p, _ in r]
            return {"iterations": max(10 * len(l["err"]) - 9 for _, l in r), "stop": stop} | {
                k: max(w[k] for w in worst) for k in worst[0]
            }

        for stop in (1e-1, 1e-2, 1e-3, 1e-4):
            solve = functools.partial(
                self.ot.partial.entropic_partial_wasserstein,
                a,
                b,
                reg=EPSILON,
                m=mass,
                numItermax=LIMIT,
                stopThr=stop,
                method=name.split("-")[0],
                log=True,
            )
            run = lambda: [solve(M=h) for h in cost]
            if check(run())["mass_above"] <= TOLERANCE:
                break
        return run, check


class OTT:
    def __init__(self, threads):
        import jax, jax.numpy
        from jax._src.interpreters import batching

        jax.interpreters.batching.is_vmappable = (
            batching.is_vmappable
        )  # OTT 0.6 needs it where jax 0.10 no longer has it
        from ott.geometry import geometry, pointcloud
        from ott.problems.linear import linear_problem
        from ott.solvers.linear import acceleration, implicit_differentiation, sinkhorn

        self.jax, self.array, self.geometry, self.cloud, self.implicit = (
            jax,
            jax.numpy.asarray,
            geometry.Geometry,
            pointcloud.PointCloud,
            implicit_differentiation.ImplicitDiff,
        )
        self.solver, self.problem, self.momentum = (
            sinkhorn.Sinkhorn,
            linear_problem.LinearProblem,
            acceleration.Momentum,
        )

    def ready(self, f, *arguments):
        f, arguments = self.jax.jit(f), [self.array(a) for a in arguments]
        return lambda: self.jax.block_until_ready(f(*arguments))

    def token(self, name, c):
        """Names: log or kernel, -centred with OTT's own translation step, then the iterations
        between stop tests."""
        solver = self.solver(
            threshold=TOLERANCE,
            max_iterations=LIMIT,
            inner_iterations=int(name.split("-")[-1]),
            lse_mode="log" in name,
            recenter_potentials="centred" in name,
        )

        def one(cost):
            r = solver(
                self.problem(
                    self.geometry(cost_matrix=cost, epsilon=EPSILON), tau_a=MASS, tau_b=MASS
                )
            )
            return r.matrix, r.n_iters

        return self.ready(self.jax.vmap(one), token_cost(c["n"], c["m"])), lambda r: {
            "iterations": int(r[1].max()),
            "plan_error": token_error(r[0], c),
        }

    def square(self, name, c, epsilon=EPSILON, dtype=np.float32, **options):
        steps = 100 if c["n"] < 4096 else 20
        options = options or dict(
            threshold=-1.0, min_iterations=steps, max_iterations=steps, inner_iterations=steps
        )

        def f(cost):
            r = self.solver(lse_mode="log" in name, **options)(
                self.problem(self.geometry(cost_matrix=cost, epsilon=epsilon))
            )
            return r.f / epsilon, r.g / epsilon, r.n_iters

        check = lambda r: {
            "iterations": int(r[2]),
            "l1": potential_error(*r[:2], c["n"], epsilon),
        } | ({"times": 100 / steps} if "min_iterations" in options else {})
        return self.ready(f, square_cost(c["n"]).astype(dtype)), check

    def to_tolerance(self, name, c):
        """Names: log or kernel; -momentum with OTT's adaptive over-relaxation, which leaves an
        error in both marginals."""
        options = (
            dict(threshold=4e-7, momentum=self.momentum(start=100, error_threshold=1.0))
            if "momentum" in name
            else dict(threshold=1e-6)
        )
        return self.square(name, c, c["epsilon"], np.float64, max_iterations=20_000, **options)

    def points(self, name, c):
        steps, (x, y, scale) = c["steps"], clouds(c["n"])
        solver = self.solver(
            threshold=-1.0, min_iterations=steps, max_iterations=steps, inner_iterations=steps
        )

        def f(x, y):
            r = solver(
                self.problem(
                    self.cloud(x, y, epsilon=EPSILON * scale, batch_size=int(name.split("-")[-1]))
                )
            )
            return r.f, r.g

        return self.ready(f, x, y), lambda r: {"iterations": steps, "times": 1 / steps}

    def gradient(self, name, c):
        """Of <plan, W>; the name ends in the iterations between stop tests."""
        w = self.array(np.random.default_rng(3).standard_normal((c["n"], c["n"])), np.float32)
        solver = self.solver(
            threshold=1e-5,
            max_iterations=2000,
            inner_iterations=int(name.split("-")[-1]),
            implicit_diff=self.implicit(),
        )

        def loss(cost):
            r = solver(self.problem(self.geometry(cost_matrix=cost, epsilon=EPSILON)))
            return (r.matrix * w).sum(), r.n_iters

        return self.ready(
            self.jax.value_and_grad(loss, has_aux=True), square_cost(c["n"])
        ), lambda r: {"iterations": int(r[0][1])}


class GeomLoss(Torch):
    def points(self, name, c):
        """The loop of the online backend at one epsilon, which begins with an update more. Its cost
        is half the squared distance."""
        from geomloss._legacy.sinkhorn_divergence import sinkhorn_loop
        from geomloss._legacy.sinkhorn_samples import cost_formulas, lse_genred, softmin_online

        steps, (x, y, scale) = max(1, c["steps"] - 1), clouds(c["n"])
        x, y, w = (
            self.t.from_numpy(x),
            self.t.from_numpy(y),
            self.t.full((1, c["n"]), -math.log(c["n"])),
        )
        softmin = functools.partial(softmin_online, log_conv=lse_genred(cost_formulas[2], 64))
        run = lambda: sinkhorn_loop(
            softmin,
            w,
            w,
            None,
            None,
            (x, y),
            (y, x),
            [EPSILON * scale / 2] * steps,
            None,
            debias=False,
            last_extrapolation=False,
        )
        return run, lambda r: {"iterations": steps + 1, "times": 1 / (steps + 1)}


def serve(library, threads):
    """A worker: a case a line in, the times of one round a line out. A first call of 20 s and more
    is itself the measurement."""
    warnings.filterwarnings("ignore")
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries print
    peers, kept = {"torch": Torch, "pot": POT, "ott": OTT, "ott64": OTT, "geomloss": GeomLoss}[
        library
    ](threads), {}
    for line in sys.stdin:
        q, times = json.loads(line), []
        key = q["case"]["name"], q["name"]
        try:
            if key not in kept:
                kept = {k: v for k, v in kept.items() if k[0] == key[0]}
                run, check = getattr(peers, q["case"]["row"].replace("-", "_"))(
                    q["name"], q["case"]
                )
                began = time.perf_counter()
                result = run()
                times = [t for t in [time.perf_counter() - began] if t > 20]
                kept[key], result = (run, check(result)), None
            run, report = kept[key]
            began = time.perf_counter()
            while not times or (
                time.perf_counter() - began < q["seconds"] and len(times) < 200 and times[0] < 20
            ):
                t = time.perf_counter()
                run()
                times.append(time.perf_counter() - t)
            scale = 1e3 * report.get("times", 1)
            answer = {
                "ms": scale * statistics.median(times),
                "fastest": scale * min(times),
                "call_s": max(times),
                **report,
            }
        except Exception as e:
            answer = {"failed": f"{type(e).__name__}: {e}"[:200]}
        print(json.dumps(answer), file=out, flush=True)


class Worker:
    def __init__(self, library, o):
        e = dict(
            os.environ,
            JAX_PLATFORMS="cpu",
            POT_BACKEND_DISABLE_JAX="1",
            CXXFLAGS="-march=native -ffast-math",
        )
        e |= {
            "MALLOC_MMAP_THRESHOLD_": "4294967296",
            "MALLOC_TRIM_THRESHOLD_": "17179869184",
        }  # freed blocks stay with the process
        e |= {
            k: str(o.threads)
            for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        }
        e |= {"OPENBLAS_CORETYPE": "SkylakeX"} if "avx512f" in open("/proc/cpuinfo").read() else {}
        e |= {"JAX_ENABLE_X64": "1"} if library == "ott64" else {}
        e |= (
            {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
            if o.threads == 1
            else {}
        )
        cores = sorted(os.sched_getaffinity(0))[: o.threads]
        command = [
            sys.executable,
            os.path.abspath(__file__),
            "--serve",
            library,
            "--threads",
            str(o.threads),
        ]
        pipes = dict(
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.p = subprocess.Popen(
            command, env=e, preexec_fn=lambda: os.sched_setaffinity(0, cores), **pipes
        )

    def ask(self, name, case, o):
        self.p.send_signal(signal.SIGCONT)
        try:
            case = {k: v for k, v in case.items() if k not in ("ours", "peers", "floors")}
            print(
                json.dumps({"name": name, "case": case, "seconds": o.seconds}),
                file=self.p.stdin,
                flush=True,
            )
            if select.select([self.p.stdout], [], [], o.cap)[0] and (
                line := self.p.stdout.readline()
            ):
                return json.loads(line)
        except BrokenPipeError:
            pass
        finally:
            self.p.send_signal(signal.SIGSTOP)
        self.close()
        return {"failed": f"no answer within {o.cap:.0f} s, or the worker ended"}

    def close(self):
        self.p.kill()
        self.p.wait()


def busy(worker):
    """Processor seconds used by all, and by this process, its children that ended and the
    worker."""
    with open("/proc/stat") as f:
        t = list(map(int, f.readline().split()[1:9]))
    own = sum(os.times()[:4])
    if worker and worker.p.poll() is None:
        with open(f"/proc/{worker.p.pid}/stat") as f:
            own += sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13])) / os.sysconf(
                "SC_CLK_TCK"
            )
    return (sum(t) - t[3] - t[4]) / os.sysconf("SC_CLK_TCK"), own, time.monotonic()


def others(before, after):
    return max(
        0.0, (after[0] - before[0] - after[1] + before[1]) / (after[2] - before[2]) / os.cpu_count()
    )


def measured(run, o, worker=None):
    """One measurement on processors that others leave alone, as far as waiting helps."""
    for attempt in range(3):
        end = time.monotonic() + o.patience
        while time.monotonic() < end:
            b = busy(worker)
            time.sleep(0.5)
            if others(b, busy(worker)) < 0.1:
                break
        b = busy(worker)
        answer = run()
        share = others(b, busy(worker))
        if share < 0.1 or answer.get("call_s", 0) > 20 or "failed" in answer:
            break
    return answer | ({"disturbed": round(share, 2)} if share >= 0.1 else {})


def cases(plain):
    """row, name, sizes; ours: label -> arguments of bench ot; peers; floors: (label, what, peers
    that count, factor or none)."""
    flags = lambda kind, **k: [
        "--kind",
        kind,
        *(x for key, v in k.items() for x in ("--" + key, str(v))),
    ]
    token = dict(heads=HEADS, epsilon=EPSILON, mass=MASS, tolerance=TOLERANCE)
    for n, m in TOKENS:
        (
            usual,
            ours,
        ) = "torch/batched torch/compiled pot/sinkhorn-f32 ott/log-1 ott/kernel-10".split(), {
            "": flags("token", text=n, video=m, **token)
        }
        step = ["pot/sinkhorn_translation_invariant-f32", "ott/log-centred-1"]
        floors = [
            ("", "the loop", ["torch/loop"], 80),
            ("", "best plain", usual, 25),
            ("", "best with a translation step", step, 25),
        ]
        if plain:
            ours["plain"] = ours[""] + ["--plain"]
            floors += [
                ("plain", "the loop", ["torch/loop"], 40),
                ("plain", "best plain", usual, 12),
            ]
        yield dict(
            row="token",
            name=f"token {HEADS} x {n} x {m}",
            n=n,
            m=m,
            ours=ours,
            peers=["torch/loop"] + usual + step,
            floors=floors,
        )
    for n in (512, 1024, 2048, 4096):
        stable, unstable = (
            "torch/log torch/compiled ott/log pot/sinkhorn_log-torch".split(),
            "torch/kernel ott/kernel pot/sinkhorn-f32".split(),
        )
        ours, floors = {"": flags("square", size=n, epsilon=EPSILON, iterations=100)}, [
            ("", "best stable", stable, 12),
            ("", "unstable, kernel domain", unstable, None),
        ]
        yield dict(
            row="square",
            name=f"square {n}, 100 iterations",
            n=n,
            steps=100,
            ours=ours,
            peers=stable + unstable,
            floors=floors,
        )
    for n in (1024, 2048):
        for epsilon in (0.01, 0.005):
            (
                peers,
                ours,
            ) = "torch/kernel-f64 pot/sinkhorn-f64 ott64/log ott64/log-momentum".split(), {
                "": flags("square", size=n, epsilon=epsilon, tolerance=1e-6)
            }
            yield dict(
                row="to-tolerance",
                name=f"square {n}, epsilon {epsilon}, to 1e-6",
                n=n,
                epsilon=epsilon,
                ours=ours,
                peers=peers,
                floors=[("", "best that arrives", peers, 10)],
            )
    for n, steps, more in (
        (16384, 10, dict(iterations=10)),
        (65536, 3, dict(iterations=3, repeat=1)),
    ):
        peers = "ott/online-8 ott/online-16 ott/online-32 geomloss/online pot/lazy-64-f32 pot/lazy-256-f32 pot/lazy-256-torch".split()
        blocks = ["torch/blocks-256", "torch/blocks-512"]
        ours, floors = {"": flags("points", size=n, dimension=64, epsilon=EPSILON, **more)}, [
            ("", "best library", peers, 10),
            ("", "blocks written here", blocks, None),
        ]
        yield dict(
            row="points",
            name=f"points {n} x 64, one iteration",
            n=n,
            steps=steps,
            ours=ours,
            peers=peers + blocks,
            floors=floors,
        )
    for n in (512, 1024, 2048):
        peers = ["ott/implicit-1", "ott/implicit-5", "ott/implicit-10"]
        yield dict(
            row="gradient",
            name=f"gradient {n}",
            n=n,
            ours={"": flags("gradient", size=n, epsilon=EPSILON)},
            peers=peers,
            floors=[("", "best", peers, 10)],
        )
    for n, m in TOKENS:
        peers = ["pot/sinkhorn-f64", "pot/sinkhorn_log-torch"]
        ours, floors = {"": flags("exact-mass", text=n, video=m, **token)}, [
            ("", "POT as it comes", peers[:1], 200),
            ("", "POT, log domain on torch", peers[1:], None),
        ]
        yield dict(
            row="exact-mass",
            name=f"exact mass {HEADS} x {n} x {m}",
            n=n,
            m=m,
            ours=ours,
            peers=peers,
            floors=floors,
        )
    yield dict(
        row="startup",
        name="whole process, 100 x 100",
        ours={},
        peers=[],
        floors=[("", "script", [k], 150) for k in SCRIPTS],
    )
    for name, f in [
        (f"square {n}", flags("square", size=n, epsilon=EPSILON, iterations=100))
        for n in (1024, 2048, 4096)
    ] + [("points 16384 x 64", flags("points", size=16384, iterations=10))]:
        ours = {"": f + ["--threads", "2"], "one thread": f + ["--threads", "1"]}
        yield dict(
            row="threads",
            name=f"{name}, two threads",
            ours=ours,
            peers=[],
            floors=[("", "", ["one thread"], 1.7)],
        )


def bench(arguments, case, o):
    threads = [] if "--threads" in arguments else ["--threads", str(o.threads)]
    r = subprocess.run(
        [o.pisces, "bench", "ot", *arguments, *threads, "--json", "--quiet", "--no-check"],
        capture_output=True,
        text=True,
    )
    if r.returncode:
        return {"failed": r.stderr.strip()[-200:]}
    r = json.loads(r.stdout)
    steps, points = r["case"].get("iterations"), "points" in arguments
    wanted = (
        arguments[arguments.index("--iterations") + 1]
        if "--iterations" in arguments
        else str(steps)
    )
    scale = 1e3 / (steps if points else 1)
    return {
        "ms": scale * r["median_seconds"],
        "fastest": scale * r["min_seconds"],
        "iterations": steps,
    } | ({} if wanted == str(steps) else {"invalid": f"ran {steps} of {wanted} iterations"})


def certificate(case, o, folder):
    """pisces' plan of the peers' problem (one head), judged here."""
    cost, plan, square = (
        os.path.join(folder, "cost.npy"),
        os.path.join(folder, "plan.npy"),
        case["row"] == "to-tolerance",
    )
    np.save(cost, square_cost(case["n"]) if square else token_cost(case["n"], case["m"])[0])
    options = (
        ["--tolerance", "1e-6"]
        if square
        else ["--mass", str(MASS), "--exact-mass", "--tolerance", str(TOLERANCE)]
    )
    r = subprocess.run(
        [
            o.pisces,
            "ot",
            "solve",
            "--cost",
            cost,
            "--epsilon",
            str(case.get("epsilon", EPSILON)),
            *options,
            "--plan",
            plan,
            "--json",
        ],
        capture_output=True,
        text=True,
    )
    if r.returncode:
        return {"invalid": r.stderr.strip()[-200:]}
    return {"status": json.loads(r.stdout)["status"]} | (
        {"l1": marginal_error(np.load(plan))} if square else feasibility(np.load(plan))
    )


SCRIPTS = {
    "pot": "import sys, json, numpy as np, ot; c = np.load(sys.argv[1]); p = ot.sinkhorn([], [], c, 0.05); print(json.dumps({'cost': float((p * c).sum())}))",
    "ott": "import sys, json, numpy as np; from ott.geometry import geometry as g; from ott.problems.linear import linear_problem as l; from ott.solvers.linear import sinkhorn as s; "
    "c = np.load(sys.argv[1]); p = s.Sinkhorn(threshold=1e-5)(l.LinearProblem(g.Geometry(cost_matrix=c, epsilon=0.05))).matrix; print(json.dumps({'cost': float((p * c).sum())}))",
}
HIDE = """import sys
class Hidden:
    def find_spec(self, name, *_):
        if name in ("torch", "jax", "geomloss"): raise ImportError(name)
sys.meta_path.insert(0, Hidden())
"""
SCRIPTS["pot, installed alone"] = HIDE + SCRIPTS["pot"]  # POT imports these when it finds them


def process(command, environment, repeats):
    r, times = subprocess.run(command, env=environment, capture_output=True, text=True), []
    silent = [(os.POSIX_SPAWN_OPEN, i, "/dev/null", os.O_WRONLY, 0) for i in (1, 2)]
    if r.returncode:
        return {"failed": r.stderr.strip()[-200:]}
    for _ in range(repeats):
        t = time.perf_counter()
        os.waitpid(os.posix_spawn(command[0], command, environment, file_actions=silent), 0)
        times.append(time.perf_counter() - t)
    return {
        "ms": 1e3 * statistics.median(times),
        "fastest": 1e3 * min(times),
        "cost": json.loads(r.stdout.splitlines()[-1])["cost"],
    }  # KeOps prints on import


def startup(o, folder):
    cost, e = os.path.join(folder, "small.npy"), dict(
        os.environ, JAX_PLATFORMS="cpu", OMP_NUM_THREADS=str(o.threads)
    )
    np.save(cost, square_cost(100).astype(np.float64))
    commands = {k: ([sys.executable, "-c", s, cost], e, 3) for k, s in SCRIPTS.items()}
    if not o.peers_only:
        commands[""] = (
            [
                o.pisces,
                "ot",
                "solve",
                "--cost",
                cost,
                "--epsilon",
                "0.05",
                "--json",
                "--quiet",
                "--threads",
                str(o.threads),
            ],
            dict(os.environ),
            100,
        )
    return {name: functools.partial(process, *c) for name, c in commands.items()}


def measure(case, workers, o, folder, smaller):
    rounds, load = {}, os.getloadavg()
    for _ in range(o.rounds):
        for peer in case["peers"]:
            (library, name), past, guess = (
                peer.split("/"),
                rounds.setdefault(peer, []),
                16 * smaller.get(peer, {}).get("ms", 0) / 1e3,
            )
            if case["row"] == "points" and case["n"] == 65536 and guess > 180:
                past[:] = [{"failed": f"left out: about {guess:.0f} s an iteration"}]
            elif not past or not ("failed" in past[-1] or past[-1]["call_s"] > 20):
                if library not in workers or workers[library].p.poll() is not None:
                    workers[library] = Worker(library, o)
                past.append(
                    measured(
                        functools.partial(workers[library].ask, name, case, o), o, workers[library]
                    )
                )
        ours = (
            {}
            if o.peers_only
            else {k: functools.partial(bench, a, case, o) for k, a in case["ours"].items()}
        )
        for label, run in (startup(o, folder) if case["row"] == "startup" else ours).items():
            rounds.setdefault(label, []).append(measured(run, o))
    results = {}
    for who, r in rounds.items():
        good = [x for x in r if "ms" in x]
        results[who] = r[-1]
        if good:
            times = [x["ms"] for x in good]
            results[who] = {k: v for k, v in good[0].items() if k != "call_s"} | {
                "ms": statistics.median(times),
                "rounds": times,
                "fastest": min(x["fastest"] for x in good),
            }
            results[who] |= (
                {"disturbed": d} if (d := max(x.get("disturbed", 0) for x in good)) else {}
            )
    if "" in results and case["row"] in ("to-tolerance", "exact-mass"):
        results[""] |= certificate(case, o, folder)
    for r in results.values():
        if r.get("l1", 0) > 1e-6 and case["row"] == "to-tolerance":
            r["invalid"] = "error above 1e-6"
    comparisons = []
    for label, what, peers, floor in case["floors"]:
        best = min(
            (p for p in peers if "ms" in results.get(p, {}) and "invalid" not in results[p]),
            key=lambda p: results[p]["ms"],
            default=None,
        )
        ours = results.get(label, {})
        ratio = results[best]["ms"] / ours["ms"] if best is not None and "ms" in ours else None
        reached = (
            None if ratio is None or floor is None else ratio >= floor and "invalid" not in ours
        )
        needed = results[best]["ms"] / floor if best is not None and floor else None
        comparisons.append(
            {
                "ours": label,
                "against": what,
                "best": best,
                "ratio": ratio,
                "floor": floor,
                "reached": reached,
                "needed_ms": needed,
            }
        )
    return {
        "row": case["row"],
        "case": case["name"],
        "load": load,
        "results": results,
        "comparisons": comparisons,
    }


def number(x):
    return "" if x is None else f"{x:.3g}" if x < 1000 else f"{x:.0f}"


def milliseconds(r):
    return (
        f"{number(r['ms'])} ({number(min(r['rounds']))}-{number(max(r['rounds']))})"
        if "ms" in r
        else ""
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", default="token,square,to-tolerance,points,gradient,exact-mass,startup,threads"
    )
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--seconds", type=float, default=2, help="of a peer in a round; at least one call"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cap", type=float, default=1200, help="seconds to wait for an answer of a peer"
    )
    parser.add_argument(
        "--patience",
        type=float,
        default=60,
        help="seconds to wait for idle processors before a measurement",
    )
    parser.add_argument("--pisces", default=os.path.join(HERE, "..", ".build", "release", "pisces"))
    parser.add_argument(
        "--peers-only",
        action="store_true",
        help="leave pisces out; print the time each floor asks of it",
    )
    parser.add_argument("--json")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    o = parser.parse_args()
    if o.serve:
        return serve(o.serve, o.threads)
    plain = (
        o.peers_only
        or "--plain"
        in subprocess.run(
            [o.pisces, "bench", "ot", "--help"], capture_output=True, text=True, check=True
        ).stdout
    )
    rows, workers, done = o.rows.split(","), {}, {}
    info = dict(
        l.replace("\t", "").split(":", 1)
        for l in open("/proc/cpuinfo").read().split("\n\n")[0].splitlines()
    )
    installed = {d.name: d.version for d in importlib.metadata.distributions()}
    machine = {
        k: info[v].strip()
        for k, v in (("cpu", "model name"), ("family", "cpu family"), ("model", "model"))
    } | {"cores": os.cpu_count(), "threads": o.threads, "load": os.getloadavg()[0]}
    machine["versions"] = {"python": sys.version.split()[0]} | {
        p: installed.get(p, "absent")
        for p in "torch POT ott-jax jax jaxlib geomloss pykeops numpy scipy".split()
    }
    print(
        ", ".join(f"{k} {v}" for k, v in (machine | machine["versions"]).items() if k != "versions")
    )
    print(
        "\n| case | against | its ms | pisces ms | ratio | floor | reached |\n| --- | --- | ---: | ---: | ---: | ---: | --- |",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        try:
            chosen = [
                c
                for c in cases(plain)
                if c["row"] in rows
                and o.match in c["name"]
                and not (o.peers_only and c["row"] == "threads")
            ]
            for case in sorted(chosen, key=lambda c: rows.index(c["row"])):
                done[case["name"]] = r = measure(
                    case,
                    workers,
                    o,
                    folder,
                    done.get("points 16384 x 64, one iteration", {}).get("results", {}),
                )
                if o.json:
                    with open(o.json, "w") as f:
                        json.dump({"machine": machine, "cases": list(done.values())}, f, indent=1)
                for c in r["comparisons"]:
                    ours, best = r["results"].get(c["ours"], {}), r["results"].get(c["best"], {})
                    mine = (
                        ("needs " + number(c["needed_ms"]) if c["floor"] else "")
                        if o.peers_only
                        else ours.get("failed") or milliseconds(ours)
                    )
                    reached = (
                        ours.get("invalid", "no")
                        if c["reached"] is False
                        else "yes" if c["reached"] else ""
                    )
                    cells = [
                        case["name"] + ", " * bool(c["ours"]) + c["ours"],
                        f"{c['against']}: {c['best']}",
                        milliseconds(best),
                        mine,
                        number(c["ratio"]),
                        c["floor"] or "",
                        reached,
                    ]
                    print(f"| {' | '.join(map(str, cells))} |", flush=True)
        finally:
            for w in workers.values():
                w.close()
    print(
        "\n| case | load | who | ms; * scaled from fewer iterations | report |\n| --- | ---: | --- | ---: | --- |"
    )
    for r in done.values():
        for who, x in r["results"].items():
            report = ", ".join(
                f"{k} {number(v) if isinstance(v, float) else v}"
                for k, v in x.items()
                if k not in ("ms", "rounds", "times")
            )
            who = ("pisces " + who).strip() if who in ("", "plain", "one thread") else who
            print(
                f"| {r['case']} | {r['load'][0]:.1f} | {who} | {milliseconds(x)}{'*' * (x.get('times', 1) > 1)} | {report} |"
            )


main()
