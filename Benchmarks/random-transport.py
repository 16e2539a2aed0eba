#!/usr/bin/env python3
"""Ten thousand seeded random transport problems through the command, the C library and Python: what
is called converged is right.

usage: Benchmarks/random-transport.py [--count 10000] [--first 0] [--commands 0.15]
                                      [--pisces PATH] [--library PATH] [--verbose]
needs: numpy scipy POT (for the exact problems); .build/release/pisces and .build/library
       (tools/build, tools/library)

Problem k depends on k alone. Kinds: entropic (balanced, unbalanced, relaxed, exact mass), exact and
exact partial, divergences, barycenters; costs stored or between points (three metrics, 1 to 128
dimensions), f32 and f64; outliers from 1e3 to 1e7, one and several, clusters at 1e2 to 1e5,
sentinels, offsets, duplicates, masks from 1e6 to 1e15, infinite costs, costs scaled by 1e-30 to
1e30, zero weights, epsilon from a fiftieth of the median cost to ten times it. The reference is
log-domain iteration in f64 here, on costs from differences in extended precision; for exact
problems POT on costs whose masks are low enough for doubles, and so are those of the entropic
references. Every result called converged whose cost (divergence, barycenter) is off by more than
1e-3 is printed, with the command to repeat it, and makes the exit status 1; refusals are counted by
kind. A reference that does not converge itself is counted, not judged.
"""

import argparse, collections, json, os, subprocess, sys, tempfile, warnings

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "tools", "python"))
import numpy as np

LIMIT = 1e-3
METRICS = ("sqeuclidean", "euclidean", "cosine")


def logsumexp(x, axis):
    top = np.max(x, axis=axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    with np.errstate(divide="ignore"):
        return np.squeeze(top, axis) + np.log(np.exp(x - top).sum(axis))


def potentials(C, a, b, epsilon, phi=(1.0, 1.0), limit=20000):
    """Log-domain scaling from large epsilons down; a pair of potentials over epsilon, or None."""
    with np.errstate(divide="ignore", invalid="ignore"):
        la, lb, v = np.log(a), np.log(b), np.zeros(len(b))
        spread = np.ptp(C[np.isfinite(C)]) if np.isfinite(C).any() else 0
        levels = [
            epsilon * 4.0**k for k in range(60) if k == 0 or epsilon * 4.0 ** (k - 1) * 50 < spread
        ]
        old = levels[-1]
        for e in reversed(levels):
            v, old, K = v * old / e, e, -C / e
            for i in range(limit if e == epsilon else 50):
                u = np.where(a > 0, phi[0] * (la - logsumexp(K + v, 1)), -np.inf)
                w = np.where(b > 0, phi[1] * (lb - logsumexp((K.T + u).T, 0)), -np.inf)
                if phi != (1, 1):  # the dual's best translation
                    kappa = [1 / p - 1 for p in phi]
                    s, t = logsumexp(la - kappa[0] * u, 0), logsumexp(lb - kappa[1] * w, 0)
                    move = (s - t) / sum(kappa)
                    u, w = u + move, w - move
                change, v = np.max(np.abs(np.where(b > 0, w - v, 0))), w
                if change < 1e-9:
                    break
    return (u, v) if change < 1e-6 else None


def plan_cost(C, u, v, epsilon):
    P = np.exp(u[:, None] + v - np.where(np.isfinite(C), C, np.inf) / epsilon)
    return float((P * np.where(np.isfinite(C), C, 0)).sum()), P


def distances(x, y, metric):
    x, y = x.astype(np.longdouble), y.astype(np.longdouble)
    if metric == "cosine":
        x, y = (z / np.sqrt((z * z).sum(1))[:, None] for z in (x, y))
    square = ((x[:, None] - y) ** 2).sum(2)
    return (
        np.sqrt(square) if metric == "euclidean" else square / 2 if metric == "cosine" else square
    ).astype(float)


def cloud_pair(g, n, m, d, kind):
    x, y = g.normal(size=(n, d)), g.normal(size=(m, d))
    k = min(n, m)
    if kind == "outlier":
        i, far = g.integers(k), 10 ** g.uniform(3, 7) * g.choice([-1, 1])
        x[i] += far
        if g.random() < 0.7:
            y[i] += far
    elif kind == "outliers":
        for i in range(min(3, k)):
            far = 10 ** g.uniform(3, 7)
            x[i], y[i] = x[i] + far, y[i] + far
    elif kind == "clusters":
        count, far = g.integers(2, 5), 10 ** g.uniform(2, 5)
        centres = far * g.normal(size=(count, d))
        x, y = x + centres[np.arange(n) % count], y + centres[np.arange(m) % count]
    elif kind == "sentinel":
        x[g.integers(n), g.integers(d)] = y[g.integers(m), g.integers(d)] = -9999
    elif kind == "offset":
        x, y = x + 1e4, y + 1e4
    elif kind == "tight":
        x, y = 5 + 1e-3 * x, 5 + 1e-3 * y
    elif kind == "duplicates":
        x, y = x[g.integers(max(n // 3, 1), size=n)], x[g.integers(n, size=m)]
    return x, y


def weights(g, n, kind):
    if kind == "uniform":
        return np.full(n, 1 / n)
    w = g.dirichlet(np.ones(n)) + 1e-3
    if kind == "zeros" and n > 2:
        w[g.integers(n)] = 0
    return w / w.sum()


class Problem:
    """Problem k: arrays, options, and what the answer is."""

    def __init__(self, k):
        g = np.random.default_rng([20, k])
        self.k, self.n, self.m = k, *(int(v) for v in g.integers(2, 40, size=2))
        self.form = str(
            g.choice(
                ["matrix", "points", "exact", "divergence", "barycenter"],
                p=[0.3, 0.4, 0.15, 0.1, 0.05],
            )
        )
        self.f32 = bool(g.random() < 0.6) and self.form in ("matrix", "points", "divergence")
        self.a, self.b = (
            weights(g, s, g.choice(["uniform", "random", "zeros"])) for s in (self.n, self.m)
        )
        self.cloud, self.mask, self.scale = "", 0.0, 1.0
        if self.form in ("points", "divergence"):
            self.cloud = str(
                g.choice(
                    [
                        "ordinary",
                        "outlier",
                        "outliers",
                        "clusters",
                        "sentinel",
                        "offset",
                        "tight",
                        "duplicates",
                    ]
                )
            )
            self.metric, d = str(g.choice(METRICS)), int(g.choice([1, 2, 3, 8, 9, 16, 64, 128]))
            if self.metric == "cosine":
                d = max(d, 2)
            dtype = np.float32 if self.f32 else np.float64
            self.x, self.y = (z.astype(dtype) for z in cloud_pair(g, self.n, self.m, d, self.cloud))
            self.C = distances(self.x, self.y, self.metric)
        else:
            self.C = (
                g.random((self.n, self.m))
                if g.random() < 0.5
                else distances(*cloud_pair(g, self.n, self.m, 3, "ordinary"), "sqeuclidean")
            )
            self.masked(g)
        finite = self.C[
            (
                np.isfinite(self.C) & (self.C < 1e5 * max(self.scale, 1e-300))
                if self.mask
                else np.isfinite(self.C)
            )
        ]
        typical = np.median(finite[finite > 0]) if (finite > 0).any() else 1.0
        self.epsilon = float(typical * 10 ** g.uniform(-1.7, 1))
        self.options(g)

    def masked(self, g):
        if self.form == "matrix":
            self.scale = (
                float(10 ** g.uniform(-30, 30)) if g.random() < 0.2 and not self.f32 else 1.0
            )
        if self.form in ("matrix", "exact") and g.random() < 0.5:
            self.mask = float(g.choice([1e6, 1e9, 1e12, 1e13, 1e15, np.inf]))
            keep = g.random((self.n, self.m)) < 0.5
            keep[
                np.arange(max(self.n, self.m)) % self.n, np.arange(max(self.n, self.m)) % self.m
            ] = True
            share = keep * g.random((self.n, self.m))
            self.a, self.b = (
                share.sum(1) / share.sum(),
                share.sum(0) / share.sum(),
            )  # of a plan that needs no mask
            self.low = np.where(keep, self.C, 1e3 * self.C.max())
            self.C = np.where(keep, self.C, self.mask)
        self.C = self.C * self.scale
        if self.f32:
            self.C = self.C.astype(np.float32)

    def options(self, g):
        self.rule, self.rho, self.mass = "balanced", (np.inf, np.inf), 1.0
        if self.form in ("matrix", "points"):
            self.rule = str(
                g.choice(
                    ["balanced", "unbalanced", "relaxed", "exact_mass"], p=[0.55, 0.2, 0.1, 0.15]
                )
            )
            if self.rule == "unbalanced":
                self.rho = tuple(float(self.epsilon * 10 ** g.uniform(-0.5, 1.5)) for _ in range(2))
            if self.rule in ("relaxed", "exact_mass"):
                self.mass = float(g.uniform(0.2, 0.9))
        if self.form == "exact" and g.random() < 0.3:
            self.rule, self.mass = "exact_mass", float(g.uniform(0.2, 0.9))
        self.tolerance = (
            float(10 ** g.uniform(-7, -4)) if self.f32 else float(10 ** g.uniform(-10, -5))
        )
        self.tolerance = max(self.tolerance, 1e-6) if self.f32 else self.tolerance
        if self.form == "barycenter":
            self.n = self.m
            self.histograms = np.array(
                [weights(g, self.n, "random") for _ in range(int(g.integers(1, 4)))]
            )
            grid = np.sort(g.random(self.n))
            self.C = (grid[:, None] - grid) ** 2
            self.epsilon = float(10 ** g.uniform(-2.5, 0))

    # References: a number to compare and what 1 is, or None.
    def reference(self):
        if self.form == "exact":
            return self.exact()
        if self.form == "divergence":
            return self.divergence()
        if self.form == "barycenter":
            return self.barycenter()
        C = (self.low * self.scale if self.mask else self.C).astype(float)
        if self.rule == "exact_mass":
            return self.partial(C)
        phi = (1.0, 1.0)
        if self.rule == "relaxed" and self.mass < 0.999:
            phi = (self.mass, self.mass)
        if self.rule == "unbalanced":
            phi = tuple(r / (r + self.epsilon) for r in self.rho)
        found = potentials(C, self.a, self.b, self.epsilon, phi)
        if found is None:
            return None
        value, P = plan_cost(C, *found, self.epsilon)
        # Mass that is not where it belongs counts by what it costs to move: beside far outliers f64
        # itself may not get there.
        off = (
            max(abs(P.sum(k) - w).sum() for k, w in ((1, self.a), (0, self.b)))
            if self.rule == "balanced"
            else 0
        )
        if off * np.max(C[P > 0], initial=0) > 2e-4 * abs(value):
            return None
        return value, max(abs(value), 1e-2 * self.epsilon * P.sum())

    def partial(self, C):
        """A balanced problem with a row and a column for what is left out, of a free pair each, is
        that of exact mass but for the entropy of what is left out; so this is Dykstra's iteration
        in logarithms."""
        with np.errstate(divide="ignore", invalid="ignore"):
            K, la, lb, lm = -C / self.epsilon, np.log(self.a), np.log(self.b), np.log(self.mass)
            u, v = np.where(self.a > 0, 0.0, -np.inf), np.where(self.b > 0, 0.0, -np.inf)
            z = lm - logsumexp(logsumexp(K + u[:, None] + v, 1), 0)
            for i in range(30000):
                before = z
                u = np.where(self.a > 0, np.minimum(0, la - logsumexp(K + v, 1) - z), -np.inf)
                v = np.where(self.b > 0, np.minimum(0, lb - logsumexp((K.T + u).T, 0) - z), -np.inf)
                total = logsumexp(logsumexp(K + u[:, None] + v, 1), 0)
                z = lm - total
                rows = np.exp(u + z + logsumexp(K + v, 1))
                if abs(z - before) < 1e-10 and (rows - self.a).max() < 1e-9:
                    break
            else:
                return None
        value, P = plan_cost(C, u + z, v, self.epsilon)
        return value, max(abs(value), 1e-2 * self.epsilon * P.sum())

    def exact(self):
        import ot

        C = (self.low if self.mask else self.C).astype(float)
        top = C.max()
        if (
            self.rule == "exact_mass"
        ):  # a free row and column take what is left; between them, nothing goes
            C = np.pad(C, ((0, 1), (0, 1)))
            C[-1, -1] = 1e4 * top
            a, b = np.r_[self.a, self.b.sum() - self.mass], np.r_[self.b, self.a.sum() - self.mass]
            P = ot.emd(a, b * (a.sum() / b.sum()), C, numItermax=1000000)[:-1, :-1]
        else:
            P = ot.emd(self.a, self.b * (self.a.sum() / self.b.sum()), C, numItermax=1000000)
        used = P * C[: self.n, : self.m]
        return float(used.sum()), max(
            abs(float(used.sum())), 1e-6 * np.median(self.C[self.C < 1e5])
        )

    def divergence(self):
        value, size = 0.0, 0.0
        terms = [
            (self.x, self.y, self.a, self.b, 1.0),
            (self.x, self.x, self.a, self.a, -0.5),
            (self.y, self.y, self.b, self.b, -0.5),
        ]
        for x, y, a, b, factor in terms:
            C = distances(x, y, self.metric)
            found = potentials(C, a, b, self.epsilon)
            if found is None:
                return None
            u, v = (
                np.where(w > 0, p - np.log(np.where(w > 0, w, 1)), 0) for p, w in zip(found, (a, b))
            )
            term = self.epsilon * ((a * u).sum() + (b * v).sum())  # with the product reference
            value, size = value + factor * term, max(size, abs(term))
        return value, max(abs(value), 1e-4 * max(size, self.epsilon))

    def barycenter(self):
        K, b = -self.C / self.epsilon, self.histograms
        g = np.zeros((len(b), self.m))
        for i in range(20000):
            f = np.log(b) - logsumexp(K + g[:, None], 2)
            h = logsumexp(K + f[:, :, None], 1)
            la = h.mean(0)
            change, g = np.max(np.abs(la - h - g)), la - h
            if change < 1e-9:
                return np.exp(la), 1.0
        return None


class Library:
    """The C library, through the package that only shows what it returns."""

    def __init__(self, path):
        os.environ["PISCES_OT_LIBRARY"] = path
        from pisces_ot import library

        self.library = library

    def __call__(self, p):
        l, common = self.library, dict(
            epsilon=p.epsilon, tolerance=p.tolerance, max_iterations=20000
        )
        if p.form == "exact":
            c = l.exact(p.C, p.a, p.b, p.mass if p.rule == "exact_mass" else None)[-1]
            return c.outcome, c.cost
        if p.form == "divergence":
            value, certificates = l.divergence(p.x, p.y, p.a, p.b, cost=p.metric, **common)
            return max((c._outcome, c.outcome) for c in certificates)[1], value
        if p.form == "barycenter":
            out = l.barycenter(
                p.histograms, p.C, epsilon=p.epsilon, tolerance=p.tolerance, max_iterations=20000
            )
            return out[-1].outcome, out[0]
        points = dict(y=p.y, cost=p.metric) if p.form == "points" else {}
        s = l.transport(
            p.x if points else p.C,
            source=p.a,
            target=p.b,
            rule=p.rule,
            rho=p.rho,
            mass=p.mass,
            plan=not points,
            **points,
            **common,
        )
        return s.certificate.outcome, s.certificate.cost


class Python:
    """The same under POT's names; None where POT has none for a problem."""

    def __init__(self):
        import pisces_ot

        self.ot = pisces_ot

    def __call__(self, p):
        ot, how = self.ot, dict(numItermax=20000, stopThr=p.tolerance, log=True)
        lazily = dict(numIterMax=20000, stopThr=p.tolerance, log=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if p.form == "exact":
                if p.rule != "exact_mass":
                    return None
                value, log = ot.partial_wasserstein2(p.a, p.b, p.C, p.mass, log=True)
            elif p.form == "divergence":
                value, log = ot.sinkhorn_divergence(
                    p.x, p.y, p.epsilon, p.a, p.b, metric=p.metric, **lazily
                )
            elif p.form == "barycenter":
                value, log = ot.barycenter(p.histograms.T, p.C, p.epsilon, **how)
            elif p.form == "points":
                if p.rule != "balanced":
                    return None
                value, log = ot.empirical_sinkhorn2(
                    p.x, p.y, p.epsilon, p.a, p.b, metric=p.metric, isLazy=p.k % 2 == 0, **lazily
                )
            elif p.rule == "balanced":
                value, log = ot.sinkhorn2(p.a, p.b, p.C, p.epsilon, **how)
            elif p.rule == "unbalanced":
                value, log = ot.sinkhorn_unbalanced2(
                    p.a, p.b, p.C, p.epsilon, p.rho, reg_type="entropy", **how
                )
            elif p.rule == "exact_mass":
                plan, log = ot.entropic_partial_wasserstein(p.a, p.b, p.C, p.epsilon, p.mass, **how)
                value = log["partial_w_dist"]
            else:
                return None
        return log["status"], value if p.form == "barycenter" else float(value)


class Command:
    def __init__(self, path, folder):
        self.path, self.folder = path, folder

    def put(self, name, x):
        np.save(os.path.join(self.folder, name), x)
        return os.path.join(self.folder, name + ".npy")

    def arguments(self, p):
        weights = ["--source-weights", self.put("a", p.a), "--target-weights", self.put("b", p.b)]
        if p.form == "exact":
            return [
                "exact",
                "--cost",
                self.put("c", p.C),
                *weights,
                *(["--mass", repr(p.mass)] if p.rule == "exact_mass" else []),
            ]
        how = ["--epsilon", repr(p.epsilon), "--tolerance", repr(p.tolerance)]
        if p.form == "barycenter":
            return [
                "barycenter",
                "--histograms",
                self.put("h", p.histograms),
                "--cost",
                self.put("c", p.C),
                *how,
            ]
        if p.form == "matrix":
            what = ["solve", "--cost", self.put("c", p.C)]
        else:
            what = [
                "divergence" if p.form == "divergence" else "solve",
                "--points",
                self.put("x", p.x),
                self.put("y", p.y),
                "--metric",
                p.metric,
            ]
        rule = {"unbalanced": ["--rho-source", repr(p.rho[0]), "--rho-target", repr(p.rho[1])], "relaxed": ["--mass", repr(p.mass)],
                "exact_mass": ["--mass", repr(p.mass), "--exact-mass"]}.get(p.rule, [])  # fmt: skip
        return [*what, *weights, *how, "--dtype", "f32" if p.f32 else "f64", *rule]

    def __call__(self, p):
        run = subprocess.run(
            [self.path, "ot", *self.arguments(p), "--json", "--quiet"],
            capture_output=True,
            text=True,
        )
        if run.returncode:
            return (
                "refused: " + run.stderr.strip().removeprefix("pisces: error: ").split(":")[0],
                None,
            )
        o = json.loads(run.stdout)
        return o["status"], (
            o["divergence"]
            if p.form == "divergence"
            else np.array(o["barycenter"]) if p.form == "barycenter" else o["cost"]
        )


def judge(p, reference, status, value):
    """The relative error of what is called converged, else None."""
    if status != "converged" or reference is None:
        return None
    expected, size = reference
    if p.form == "barycenter":
        return float(abs(np.asarray(value) - expected).sum())
    return abs(value - expected) / size if np.isfinite(value) else np.inf


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument(
        "--commands",
        type=float,
        default=0.15,
        help="share of the problems that also go through the command (exact ones: all)",
    )
    parser.add_argument("--pisces", default=os.path.join(HERE, "..", ".build", "release", "pisces"))
    parser.add_argument(
        "--library", default=os.path.join(HERE, "..", ".build", "library", "libpisces_ot.so.1")
    )
    parser.add_argument("--verbose", action="store_true")
    o = parser.parse_args()
    counts, failures, worst = collections.Counter(), 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        library, command = Library(o.library), Command(o.pisces, folder)
        python = Python()
        for k in range(o.first, o.first + o.count):
            p = Problem(k)
            doors = [("C", library), ("Python", python)]
            if p.form == "exact" or np.random.default_rng([21, k]).random() < o.commands:
                doors.append(("command", command))
            reference = p.reference()
            counts["problems"] += 1
            counts["reference did not converge"] += reference is None
            for name, door in doors:
                try:
                    answer = door(p)
                    if answer is None:
                        continue
                    status, value = answer
                except ValueError as error:
                    status, value = "refused: " + str(error).split(":")[0], None
                error = judge(p, reference, status, value)
                counts[f"{name}, {p.form}: {status}"] += 1
                worst = max(worst, error or 0)
                if error is not None and not error <= LIMIT or o.verbose:
                    print(
                        f"{k}: {name}: {p.form} {p.rule} {p.cloud} mask {p.mask:g} {'f32' if p.f32 else 'f64'} epsilon {p.epsilon:.3g}: "                          # fmt: skip
                        f"{status}, {value if p.form != 'barycenter' else ''} for {reference and (reference[0] if p.form != 'barycenter' else '')}, error {error}",
                        flush=True,
                    )
                failures += error is not None and not error <= LIMIT
            if (k + 1) % 1000 == 0:
                print(
                    f"{k + 1 - o.first} problems, {failures} failures, largest error {worst:.2g}",
                    file=sys.stderr,
                    flush=True,
                )
    for name, count in sorted(counts.items()):
        print(f"{count:7d} {name}")
    print(
        f"{failures} called converged with an error above {LIMIT:g}; the largest error is {worst:.2g}"
    )
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
