"""Tests of the C library and of its Python doors, against closed forms and dense computations in
numpy. Needs numpy only:

python3 tools/python/test_pisces_ot.py
"""

import re
import threading
import unittest
import warnings
from pathlib import Path

import numpy as np

import pisces_ot as ot
from pisces_ot import library

rng = np.random.default_rng(7)


def lse(x, axis):
    top = x.max(axis, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(axis, keepdims=True))).squeeze(axis)


def plan_of(C, a, b, eps, rho=(np.inf, np.inf), iterations=200000):
    """Textbook iteration in the log domain (Chizat et al. 2018), reference measure 1."""
    f, g = (1 / (1 + eps / np.array(rho))).tolist()
    u, v = np.zeros(len(a)), np.zeros(len(b))
    for _ in range(iterations):
        last, u = u, f * (np.log(a) - lse(v - C / eps, 1))
        if abs(u - last).max() < 1e-14 * (1 + abs(u).max()):
            break
        v = g * (np.log(b) - lse(u[:, None] - C / eps, 0))
    return np.exp(u[:, None] + v - C / eps)


def partial_plan(C, a, b, eps, mass, iterations=4000):
    """Dykstra's projections (Benamou et al. 2015, section 5.2)."""
    X = np.exp(-C / eps)
    X *= mass / X.sum()
    q1, q2, q3 = np.ones((len(a), 1)), np.ones((1, len(b))), 1.0
    for _ in range(iterations):
        Y = X * q1
        X1 = Y * np.minimum(a / Y.sum(1), 1)[:, None]
        q1 = q1 * (X / X1).max(1, keepdims=True)
        Y = X1 * q2
        X2 = Y * np.minimum(b / Y.sum(0), 1)
        q2 = q2 * (X1 / X2).max(0, keepdims=True)
        Y = X2 * q3
        q3, X = q3 * (X2 / (Y * mass / Y.sum())).max(), Y * mass / Y.sum()
    return X


def mean_of(A, C, eps, w, debiased=False, iterations=3000):
    """Iterative Bregman projections in the log domain (Benamou et al. 2015; Janati et al. 2020,
    algorithm 1); costs C [items, n, m]."""
    g, d = np.zeros((len(A), C.shape[2])), np.zeros(C.shape[2])
    with np.errstate(divide="ignore"):
        logs = np.log(A)
    for _ in range(iterations):
        h = np.stack(
            [
                lse((logs[k] - lse(g[k] - C[k] / eps, 1))[:, None] - C[k] / eps, 0)
                for k in range(len(A))
            ]
        )
        a = d + w @ h
        g = a - h
        if debiased:
            d = (d + a - lse(d - C[0] / eps, 1)) / 2
    return np.exp(a)


def kl(p, q):
    return float((p * np.log(p / q) - p + q).sum())


def value(P, C, a, b, eps, rho=np.inf):
    """The objective with the product reference."""
    relaxed = 0 if np.isinf(rho) else rho * (kl(P.sum(1), a) + kl(P.sum(0), b))
    return float((P * C).sum()) + eps * kl(P, np.outer(a, b)) + relaxed


def problem(n=9, m=12, d=3, same=True):
    x, y, a, b = (
        rng.normal(size=(n, d)),
        rng.normal(size=(m, d)),
        rng.uniform(0.2, 1, n),
        rng.uniform(0.2, 1, m),
    )
    a, b = a / a.sum(), b / b.sum() * (1 if same else 1.7)
    return x, y, a, b, ((x[:, None] - y) ** 2).sum(2)


class ClosedForms(unittest.TestCase):
    def test_diracs_and_constant_costs(self):
        self.assertEqual(ot.sinkhorn([1.0], [1.0], [[3.0]], 0.1).tolist(), [[1.0]])
        a, b = np.array([0.2, 0.8]), np.array([0.1, 0.4, 0.5])
        np.testing.assert_allclose(
            ot.sinkhorn(a, b, np.full((2, 3), 5.0), 0.3), np.outer(a, b), atol=1e-12
        )
        np.testing.assert_allclose(
            ot.sinkhorn([1.0], b, [[1.0, 9.0, 4.0]], 0.01), b[None], atol=1e-12
        )

    def test_permutation_at_small_epsilon(self):
        p = rng.permutation(20)
        P = ot.sinkhorn([], [], 1.0 - np.eye(20)[p], 0.01)
        np.testing.assert_allclose(P, np.eye(20)[p] / 20, atol=1e-10)

    def test_two_by_two(self):
        """a = b = 1/2, cost 0 on the diagonal and 1 off it: p / (1/2 - p) = exp(1 / eps)."""
        for eps in (1.0, 0.1, 0.02):
            p = 0.5 / (1 + np.exp(-1 / eps))
            np.testing.assert_allclose(
                ot.sinkhorn([], [], [[0.0, 1.0], [1.0, 0.0]], eps),
                [[p, 0.5 - p], [0.5 - p, p]],
                atol=1e-9,
            )

    def test_gaussians(self):
        """Entropic plan of N(0, s^2) with itself, cost (x - y)^2: correlated Gaussian (Janati et
        al. 2020, arXiv:2006.02572, thm. 1)."""
        x, s, eps = np.linspace(-6, 6, 241)[:, None], 1.0, 2.0
        w = np.exp(-((x[:, 0] / s) ** 2) / 2)
        P = ot.sinkhorn(w / w.sum(), w / w.sum(), ot.dist(x), eps)
        covariance = float((P * (x * x.T)).sum())
        self.assertAlmostEqual(
            covariance, (np.sqrt(4 * s**4 + (eps / 2) ** 2) - eps / 2) / 2, places=6
        )

    def test_one_dimensional_quantiles(self):
        x, y = np.sort(rng.normal(size=(2, 30)), axis=1)
        exact = ((x - y) ** 2).mean()
        self.assertAlmostEqual(
            ot.sinkhorn2([], [], (x[:, None] - y) ** 2, 1e-4, numItermax=20000), exact, delta=1e-3
        )

    def test_partial_takes_the_cheapest(self):
        C = np.array([[0.0, 5.0], [5.0, 1.0]])
        for m, P in ((0.25, [[0.25, 0], [0, 0]]), (0.75, [[0.5, 0], [0, 0.25]])):
            np.testing.assert_allclose(ot.partial_wasserstein([], [], C, m), P, atol=1e-6)
            np.testing.assert_allclose(
                ot.entropic_partial_wasserstein([], [], C, 1e-2, m), P, atol=1e-6
            )


class Barycenters(unittest.TestCase):
    x = np.linspace(0, 1, 150)
    C = (x[:, None] - x) ** 2
    rng = np.random.default_rng(11)

    def gauss(self, mean, s):
        g = np.exp(-((self.x - mean) ** 2) / (2 * s * s))
        return g / g.sum()

    def test_gaussians(self):
        """Equal variances: their mean's Gaussian, blurred by eps / 2 (the kernel is a Gaussian of
        that variance), debiased not at all."""
        A = np.stack([self.gauss(0.35, 0.05), self.gauss(0.55, 0.05)], 1)
        for eps in (1e-2, 1e-3, 2e-4):
            for weights, mean in ((None, 0.45), ([3.0, 1.0], 0.4)):
                a = ot.barycenter(A, self.C, eps, weights, stopThr=1e-9)
                np.testing.assert_allclose(
                    a, self.gauss(mean, np.sqrt(0.05**2 + eps / 2)), atol=2e-5
                )
                a = ot.bregman.barycenter_debiased(A, self.C, eps, weights, stopThr=1e-9)
                np.testing.assert_allclose(a, self.gauss(mean, 0.05), atol=1e-6)

    def test_one_and_equal_histograms(self):
        b = self.gauss(0.3, 0.06) + 0.5 * self.gauss(0.6, 0.1)
        b /= b.sum()
        for A in (b[:, None], np.stack([b, b, b], 1)):
            np.testing.assert_allclose(
                ot.bregman.barycenter_debiased(A, self.C, 1e-3, stopThr=1e-10), b, atol=1e-7
            )
            K = np.exp(-self.C / 1e-2)
            np.testing.assert_allclose(
                ot.barycenter(A, self.C, 1e-2, stopThr=1e-12), K.T @ (b / K.sum(1)), atol=1e-12
            )

    def test_against_numpy(self):
        A, w, C = (
            self.rng.uniform(size=(3, 20)),
            np.array([0.2, 0.5, 0.3]),
            self.rng.uniform(size=(3, 20, 27)),
        )
        A[0, :9] = A[2, 5:14] = 0
        A /= A.sum(1, keepdims=True)
        for eps in (2.0, 0.1, 0.01):
            got, log_u, log_v, errors, c = library.barycenter(A, C, w, epsilon=eps, tolerance=1e-13)
            self.assertEqual(c.outcome, "converged")
            np.testing.assert_allclose(got, mean_of(A, C, eps, w), atol=1e-9)
            self.assertLess(max(abs(c.gap), errors.max(), c.error_l1), 1e-11)
            P = np.exp(log_u[:, :, None] + log_v[:, None] - C / eps)
            np.testing.assert_allclose(P.sum(2), A, atol=1e-12)
            np.testing.assert_allclose(P.sum(1), got[None].repeat(3, 0), atol=1e-12)
            self.assertAlmostEqual(c.cost, float(w @ (P * C).sum((1, 2))), places=12)
            with np.errstate(all="ignore"):
                entropy = np.where(P > 0, P * (np.log(P) - 1), 0).sum((1, 2))
            self.assertAlmostEqual(
                c.primal, float(w @ ((P * C).sum((1, 2)) + eps * entropy)), places=10
            )
            # no histogram near it does better
            other = got * np.exp(0.05 * self.rng.normal(size=27))
            other /= other.sum()
            self.assertGreater(
                sum(
                    w[k]
                    * ot.transport(
                        C[k], source=A[k], target=other, epsilon=eps, tolerance=1e-12
                    ).certificate.primal
                    for k in range(3)
                ),
                c.primal,
            )
        square = self.C[::8, ::8]
        A = self.rng.uniform(0.5, 1, size=(2, len(square)))
        A /= A.sum(1, keepdims=True)
        got = library.barycenter(
            A, square, epsilon=0.01, debiased=True, tolerance=1e-9, max_iterations=100000
        )[0]
        np.testing.assert_allclose(
            got, mean_of(A, np.stack([square] * 2), 0.01, np.ones(2) / 2, True, 20000), atol=1e-5
        )
        # the same with the shared cost given once a histogram and once for the barycenter
        own = library.barycenter(
            A,
            np.stack([square] * 2),
            epsilon=0.01,
            debiased=True,
            own_cost=square,
            tolerance=1e-9,
            max_iterations=100000,
        )[0]
        np.testing.assert_allclose(got, own, atol=1e-7)

    def test_any_epsilon(self):
        A = np.stack([self.gauss(0.2, 0.03), np.where(self.x > 0.9, 1.0, 0.0)], 1)
        A /= A.sum(0)
        for eps in (10.0, 1e-2, 1e-3, 1e-4, 1e-5):
            a, log = ot.barycenter(A, self.C, eps, stopThr=1e-8, numItermax=100000, log=True)
            self.assertEqual(log["certificate"].outcome, "converged", eps)
            self.assertLess(log["errors"].max(), 1e-6)
            self.assertAlmostEqual(a.sum(), 1, places=7)

    def test_permutations(self):
        A, order, turn = self.rng.uniform(size=(150, 3)), self.rng.permutation(150), [2, 0, 1]
        A, w = A / A.sum(0), np.array([0.5, 0.2, 0.3])
        a = ot.barycenter(A, self.C, 0.01, w, stopThr=1e-10)
        np.testing.assert_allclose(
            ot.barycenter(A[:, turn], self.C, 0.01, w[turn], stopThr=1e-10), a, atol=1e-10
        )
        np.testing.assert_allclose(
            ot.barycenter(A[order], self.C[np.ix_(order, order)], 0.01, w, stopThr=1e-10),
            a[order],
            atol=1e-10,
        )

    def test_same_bits_for_any_number_of_threads(self):
        A = self.rng.uniform(size=(4, 150))
        A[1, 40:] = 0
        A /= A.sum(1, keepdims=True)
        results = []
        for threads in (1, 2, 3, 7):
            ot.set_threads(threads)
            results.append(
                b"".join(
                    x.tobytes()
                    for e in (0.01, 2e-4)
                    for d in (0, 1)
                    for x in library.barycenter(
                        A, self.C, epsilon=e, debiased=d, max_iterations=300
                    )[:4]
                )
            )
        ot.set_threads(2)
        self.assertEqual(len(set(results)), 1)

    def test_hostile_inputs(self):
        A, C = np.full((4, 2), 0.25), np.ones((4, 4)) - np.eye(4)
        for change, word in (
            (lambda A, C: (A * np.nan, C, 1.0), "histograms: element 0 is nan"), (lambda A, C: (-A, C, 1.0), "negative"), (lambda A, C: (A * 0, C, 1.0), "the sum is 0"),
            (lambda A, C: (A, C * np.inf, 1.0), "cost: element"), (lambda A, C: (A, C, -1.0), "reg is -1"),
            (lambda A, C: (A, C[:3], 1.0), "shapes"), (lambda A, C: (A[:0], C[:0], 1.0), "A has"),
        ):  # fmt: skip
            with self.assertRaisesRegex(ValueError, word), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                with np.errstate(all="ignore"):
                    ot.barycenter(*change(A, C))
        with self.assertRaisesRegex(ValueError, "weights"):
            ot.barycenter(A, C, 1.0, [1.0, -1.0])
        with self.assertRaisesRegex(ValueError, "own_cost"):
            library.barycenter(A.T, C[:, :3], epsilon=1.0, debiased=True)
        with self.assertWarnsRegex(UserWarning, "did not converge"):
            ot.barycenter(np.eye(4)[:, :2], 1e30 * C, 1.0, numItermax=20)
        with self.assertRaises(ZeroDivisionError):
            library.barycenter(np.eye(4)[:2], C, epsilon=1.0, progress=lambda *_: 1 / 0)


class AgainstNumpy(unittest.TestCase):
    def test_balanced(self):
        _, _, a, b, C = problem()
        P, log = ot.sinkhorn(a, b, C, 0.5, log=True)
        np.testing.assert_allclose(P, plan_of(C, a, b, 0.5), atol=1e-9)
        np.testing.assert_allclose(log["u"][:, None] * np.exp(-C / 0.5) * log["v"], P, atol=1e-12)
        c = log["certificate"]
        self.assertEqual(c.outcome, "converged")
        self.assertAlmostEqual(c.cost, (P * C).sum(), places=12)
        self.assertAlmostEqual(
            c.primal, (P * C).sum() + 0.5 * (P * (np.log(P) - 1)).sum(), places=10
        )
        self.assertLess(abs(c.gap), 1e-8)
        self.assertAlmostEqual(
            c.error_l1, max(abs(P.sum(1) - a).sum(), abs(P.sum(0) - b).sum()), places=12
        )

    def test_unbalanced(self):
        _, _, a, b, C = problem(same=False)
        for rho in ((1.0, 1.0), (0.3, 4.0), (np.inf, 2.0)):
            P = ot.sinkhorn_unbalanced(a, b, C, 0.5, rho, reg_type="entropy", stopThr=1e-11)
            np.testing.assert_allclose(P, plan_of(C, a, b, 0.5, rho), atol=1e-9)
            shifted = C - 0.5 * np.log(np.outer(a, b))
            for c in (None, np.outer(a, b)):
                P, log = ot.sinkhorn_unbalanced(a, b, C, 0.5, rho, c=c, stopThr=1e-11, log=True)
                np.testing.assert_allclose(P, plan_of(shifted, a, b, 0.5, rho), atol=1e-9)
                np.testing.assert_allclose(
                    np.exp(log["logu"][:, None] + log["logv"] - C / 0.5) * np.outer(a, b),
                    P,
                    atol=1e-11,
                )
        total = ot.sinkhorn_unbalanced2(a, b, C, 0.5, 2.0, returnCost="total", stopThr=1e-11)
        self.assertAlmostEqual(
            total, value(plan_of(shifted, a, b, 0.5, (2.0, 2.0)), C, a, b, 0.5, 2.0), places=8
        )
        # A weight's power 1 + reg / reg_m would be below the smallest double here.
        P = ot.sinkhorn_unbalanced(a, b, C, 1.0, 1e-3)
        np.testing.assert_allclose(
            P, plan_of(C - np.log(np.outer(a, b)), a, b, 1.0, (1e-3, 1e-3)), rtol=1e-5
        )

    def test_costs_far_from_zero(self):
        """One atom each: sum P = exp(-C / (2 rho + eps)) whatever the scale of C / eps."""
        for C, eps in ((1.0, 1e-3), (100.0, 1.0), (0.5, 1e-5)):
            c = ot.transport(
                [[C]], epsilon=eps, rule="unbalanced", rho=2.0, tolerance=1e-11
            ).certificate
            self.assertAlmostEqual(np.log(c.mass), -C / (4 + eps), places=7)

    def test_relaxed(self):
        _, _, a, b, C = problem()
        rho = 0.2 * 0.9 / 0.1
        s = ot.transport(C, source=a, target=b, epsilon=0.2, rule="relaxed", mass=0.9)
        np.testing.assert_allclose(s.plan, plan_of(C, a, b, 0.2, (rho, rho)), atol=1e-8)

    def test_exact_mass(self):
        _, _, a, b, C = problem(same=False)
        for mass in (0.3, 0.8, 0.99):
            P, log = ot.entropic_partial_wasserstein(a, b, C, 0.8, mass, log=True, numItermax=20000)
            np.testing.assert_allclose(P, partial_plan(C, a, b, 0.8, mass), atol=1e-7)
            self.assertAlmostEqual(P.sum(), mass, places=10)
            self.assertTrue((P.sum(1) <= a + 1e-10).all() and (P.sum(0) <= b + 1e-10).all())
            self.assertAlmostEqual(log["partial_w_dist"], (P * C).sum(), places=12)
        np.testing.assert_allclose(
            ot.entropic_partial_wasserstein(a, b / b.sum(), C, 0.8),
            plan_of(C, a, b / b.sum(), 0.8),
            atol=1e-8,
        )

    def test_points(self):
        x, y, a, b, C = problem()
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
        for metric, cost in (
            ("sqeuclidean", C),
            ("euclidean", np.sqrt(C)),
            ("cosine", 1 - unit[0] @ unit[1].T),
        ):
            np.testing.assert_allclose(ot.dist(x, y, metric), cost, atol=1e-12)
            s = ot.transport(x, y, a, b, cost=metric, epsilon=0.5)
            P = plan_of(cost, a, b, 0.5)
            np.testing.assert_allclose(s.plan, P, atol=1e-8)
            np.testing.assert_allclose(
                s.project(),
                P @ (unit[1] if metric == "cosine" else y) / P.sum(1, keepdims=True),
                atol=1e-7,
            )
            f, g, log = ot.empirical_sinkhorn(x, y, 0.5, a, b, metric, isLazy=True, log=True)
            np.testing.assert_allclose(np.exp(f[:, None] + g - cost / 0.5), P, atol=1e-8)
            np.testing.assert_allclose(log["lazy_plan"][2:5, ::3], P[2:5, ::3], atol=1e-8)
            self.assertAlmostEqual(float(log["lazy_plan"][1, 1]), P[1, 1], places=8)
            self.assertAlmostEqual(
                ot.empirical_sinkhorn2(x, y, 0.5, a, b, metric, isLazy=True),
                (P * cost).sum(),
                places=7,
            )

    def test_several_histograms_are_single_solves(self):
        x, y, a, _, C = problem()
        B = rng.uniform(size=(len(y), 5))
        B /= B.sum(0)
        losses = ot.sinkhorn2(a, B, C, 0.3)
        self.assertEqual(
            losses.tolist(), [ot.sinkhorn2(a, B[:, k].copy(), C, 0.3) for k in range(5)]
        )
        losses = ot.sinkhorn_unbalanced2(a, B, C, 0.3, 1.0, reg_type="entropy")
        self.assertEqual(
            losses.tolist(),
            [
                ot.sinkhorn_unbalanced(
                    a, B[:, k].copy(), C, 0.3, 1.0, reg_type="entropy", log=True
                )[1]["certificate"].cost
                for k in range(5)
            ],
        )

    def test_warm_start_zero_weights_f32(self):
        _, _, a, b, C = problem()
        a[3] = 0
        a /= a.sum()
        P, log = ot.sinkhorn(a, b, C, 0.2, log=True)
        self.assertEqual(P[3].tolist(), [0.0] * len(b))
        self.assertEqual(log["log_u"][3], -np.inf)
        again, second = ot.sinkhorn(a, b, C, 0.2, log=True, warmstart=log["warmstart"])
        np.testing.assert_allclose(again, P, atol=1e-8)
        self.assertLess(second["niter"], log["niter"])
        single = ot.sinkhorn(a, b, C.astype(np.float32), 0.2)
        self.assertEqual(single.dtype, np.float32)
        np.testing.assert_allclose(single, P, atol=1e-5)

    def test_certify(self):
        _, _, a, b, C = problem(60, 80)
        s = ot.transport(C.astype(np.float32), source=a, target=b, epsilon=0.05, tolerance=1e-6)
        of_potentials = np.exp(
            s.log_u[:, None] + s.log_v - C.astype(np.float32).astype(float) / 0.05
        )
        for plan, P in ((s.plan, s.plan.astype(float)), (None, of_potentials)):
            s.plan = plan
            c = s.certify()
            self.assertAlmostEqual(
                c.error_l1, max(abs(P.sum(1) - a).sum(), abs(P.sum(0) - b).sum()), places=12
            )
            self.assertAlmostEqual(c.mass, P.sum(), places=12)
            self.assertEqual(c.outcome, "converged")
        # judged again: potentials that are not the solution's
        s.log_u += 0.1
        self.assertEqual(s.certify().outcome, "stalled")

    def test_distances(self):
        """Outliers, clusters and sentinels in f32: to 1e-5 of the entry or of the median one."""
        for d in (2, 20, 200):
            for kind in range(4):
                x, y = rng.normal(size=(40, d)), rng.normal(size=(37, d))
                if kind == 1:
                    x[0] += 1e6
                    y[3:5] -= 1e7
                if kind == 2:
                    x[::2] += 1e5
                    y[::3] += 1e5
                if kind == 3:
                    x[1, 0] = y[2, 1] = -9999
                x, y = x.astype(np.float32), y.astype(np.float32)
                difference = x[:, None].astype(float) - y.astype(float)
                u, v = (
                    z / np.linalg.norm(z, axis=1)[:, None]
                    for z in (x.astype(float), y.astype(float))
                )
                square = (difference**2).sum(2)
                for metric, exact in (
                    ("sqeuclidean", square),
                    ("euclidean", square**0.5),
                    ("cosine", ((u[:, None] - v) ** 2).sum(2) / 2),
                ):
                    M = ot.dist(x, y, metric=metric)
                    self.assertEqual(M.dtype, np.float32)
                    self.assertLess(
                        (abs(M - exact) / np.maximum(exact, np.median(exact))).max(),
                        1e-5,
                        (d, kind, metric),
                    )

    def test_forbidden_pairs(self):
        _, _, a, b, C = problem()
        forbidden = np.where(np.eye(9, 12) > 0, np.inf, C)
        s, large = (
            ot.transport(x, source=a, target=b, epsilon=0.1, tolerance=1e-12)
            for x in (forbidden, np.where(np.eye(9, 12) > 0, 1e6, C))
        )
        self.assertTrue(
            (s.plan[np.eye(9, 12) > 0] == 0).all() and s.certificate.outcome == "converged"
        )
        np.testing.assert_allclose(s.plan, large.plan, atol=1e-12)
        blocked = C.copy()
        blocked[:5, :-1] = np.inf  # more mass than the last column takes
        with self.assertRaisesRegex(ValueError, "infeasible"):
            ot.transport(blocked, source=a, target=b, epsilon=0.1)
        blocked[4] = np.inf
        with self.assertRaisesRegex(ValueError, "source 4 has weight"):
            ot.transport(blocked, source=a, target=b, epsilon=0.1)


class Gradients(unittest.TestCase):
    def check(self, f, x, gradient, direction, step=1e-5, rtol=1e-5):
        measured = (f(x + step * direction) - f(x - step * direction)) / (2 * step)
        np.testing.assert_allclose((gradient * direction).sum(), measured, rtol=rtol, atol=1e-7)

    def test_cost_and_weights(self):
        _, _, a, b, C = problem(same=False)
        b1, W = b / b.sum(), rng.normal(size=C.shape)
        for rule, options, target in [("balanced", {}, b1), ("unbalanced", {"rho": (0.7, 2.0)}, b), ("unbalanced", {"rho": (0.7, np.inf)}, b),
                                      ("exact_mass", {"mass": 0.6}, b)]:  # fmt: skip
            for reference in ("entropy", "product") if rule != "exact_mass" else ("entropy",):

                def solve(C=C, a=a, b=target):
                    return ot.transport(
                        C,
                        source=a,
                        target=b,
                        epsilon=0.6,
                        rule=rule,
                        reference=reference,
                        tolerance=1e-13,
                        max_iterations=50000,
                        **options
                    )

                def f(s):
                    return (
                        (W * s.plan).sum() + 0.3 * s.certificate.cost + 0.4 * s.certificate.primal
                    )

                with self.subTest(rule=rule, reference=reference, **options):
                    g = solve().gradient(plan=W, cost=0.3, objective=0.4)
                    self.check(lambda C: f(solve(C)), C, g["x"], rng.normal(size=C.shape))
                    for name, w in (("source", a), ("target", target)):
                        direction = rng.normal(size=len(w))
                        direction -= direction.mean() if rule == "balanced" else 0
                        self.check(
                            lambda w: f(solve(**{"a" if name == "source" else "b": w})),
                            w,
                            g[name],
                            direction,
                        )

    def test_points(self):
        x, y, a, b, _ = problem()
        for metric in ("sqeuclidean", "euclidean", "cosine"):

            def solve(x=x, y=y):
                return ot.transport(
                    x,
                    y,
                    a,
                    b,
                    cost=metric,
                    epsilon=0.5,
                    tolerance=1e-13,
                    max_iterations=50000,
                    scale=1.5,
                )

            def f(s):
                return s.certificate.cost + 0.5 * s.certificate.primal

            with self.subTest(metric):
                g = solve().gradient(cost=1.0, objective=0.5)
                self.check(lambda x: f(solve(x)), x, g["x"], rng.normal(size=x.shape))
                self.check(lambda y: f(solve(y=y)), y, g["y"], rng.normal(size=y.shape))

    def test_divergence(self):
        x, y, a, b, C = problem(same=False)
        A, B = ((x[:, None] - x) ** 2).sum(2), ((y[:, None] - y) ** 2).sum(2)
        for rho, w in ((np.inf, b / b.sum()), (1.5, b)):

            def optimal(C, a, b):
                return value(
                    plan_of(C - 0.5 * np.log(np.outer(a, b)), a, b, 0.5, (rho, rho)),
                    C,
                    a,
                    b,
                    0.5,
                    rho,
                )

            expected = (
                optimal(C, a, w)
                - (optimal(A, a, a) + optimal(B, w, w)) / 2
                + 0.25 * (a.sum() - w.sum()) ** 2
            )
            with self.subTest(rho=rho):
                options = dict(epsilon=0.5, rho=rho, tolerance=1e-12)
                got, dx, dy, certificates = ot.divergence(x, y, a, w, gradient=True, **options)
                self.assertAlmostEqual(got, expected, places=7)
                self.assertEqual([c.outcome for c in certificates], ["converged"] * 3)
                self.assertAlmostEqual(
                    ot.divergence(C, None, a, w, source_cost=A, target_cost=B, **options)[0],
                    expected,
                    places=7,
                )
                self.check(
                    lambda x: ot.divergence(x, y, a, w, **options)[0],
                    x,
                    dx,
                    rng.normal(size=x.shape),
                )
                self.check(
                    lambda y: ot.divergence(x, y, a, w, **options)[0],
                    y,
                    dy,
                    rng.normal(size=y.shape),
                )
                self.assertGreater(got, 0)
                self.assertAlmostEqual(ot.divergence(x, x, a, a, **options)[0], 0, places=10)


class Behaviour(unittest.TestCase):
    def test_same_bits_for_any_number_of_threads(self):
        before, (x, y, a, b, C) = ot.threads(), problem(150, 170)
        plans = []
        for count in (1, 2, 3, 7):
            ot.set_threads(count)
            plans.append(
                (
                    ot.sinkhorn(a, b, C, 0.3).tobytes(),
                    ot.sinkhorn(a, b, C.astype(np.float32), 0.3).tobytes(),
                    ot.sinkhorn_divergence(x, y, 0.3),
                )
            )
        ot.set_threads(before)
        self.assertEqual(len(set(plans)), 1)

    def test_two_threads_of_the_host(self):
        problems = [problem(40 + k, 50) for k in range(8)]
        expected = [ot.sinkhorn(a, b, C, 0.3).tobytes() for _, _, a, b, C in problems]
        found = [[] for _ in range(4)]

        def work(mine):
            for _, _, a, b, C in problems:
                mine.append(ot.sinkhorn(a, b, C, 0.3).tobytes())

        workers = [threading.Thread(target=work, args=(mine,)) for mine in found]
        [w.start() for w in workers]
        [w.join() for w in workers]
        self.assertEqual(found, [expected] * 4)

    def test_progress(self):
        _, _, a, b, C = problem()
        seen = []
        s = ot.transport(
            C,
            source=a,
            target=b,
            epsilon=0.01,
            plain=True,
            progress=lambda k, r: seen.append((k, r)) or len(seen) == 5,
        )
        self.assertEqual((s.certificate.outcome, len(seen)), ("interrupted", 5))

        def broken(k, r):
            raise KeyboardInterrupt

        with self.assertRaises(KeyboardInterrupt):
            ot.transport(C, epsilon=0.01, progress=broken)

    def test_not_converging_is_said(self):
        _, _, a, b, C = problem()
        with self.assertWarnsRegex(UserWarning, "did not converge"):
            ot.sinkhorn(a, b, C, 0.01, numItermax=1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ot.sinkhorn(a, b, C, 0.01, numItermax=1, warn=False)
        with self.assertWarnsRegex(
            UserWarning, "the weights sum to 1 and 2: .* each side is divided by its sum"
        ):
            P = ot.sinkhorn(a, 2 * b, C, 0.5)
        np.testing.assert_allclose(P, ot.sinkhorn(a, b, C, 0.5), atol=1e-14)
        A = np.random.default_rng(1).dirichlet(np.ones(9), 2).T
        square = problem(9, 9)[4]
        square = square + square.T
        with self.assertWarnsRegex(UserWarning, "each is divided by its sum"):
            mean = ot.barycenter(A * [1, 2], square, 0.5)
        np.testing.assert_allclose(mean, ot.barycenter(A, square, 0.5), atol=1e-12)
        with self.assertRaisesRegex(ValueError, "not symmetric"):
            ot.bregman.barycenter_debiased(A, np.triu(square), 0.5)

    def test_hostile_inputs(self):
        _, _, a, b, C = problem()
        x, bad = rng.normal(size=(9, 3)), C.copy()
        bad[2, 5] = np.nan
        infinite, zero = np.where(np.eye(9, 12), np.inf, C), x.copy()
        zero[4] = 0
        cases = [
            ("cost: element 29 is nan", dict(x=bad)), ("cost: element 0 is -inf", dict(x=-infinite)),
            ("cost: element 29 is nan", dict(x=bad.astype(np.float32))),
            ("source weights: element 0 is -1", dict(source=np.r_[-1, a[1:]])), ("source weights: element 0 is nan", dict(source=np.full(9, np.nan))),
            ("target weights: the sum is 0", dict(target=np.zeros(12))), ("target weights: the sum is inf", dict(target=np.full(12, 1e308))),
            ("masses differ, 1 and 2", dict(target=2 * b, rule="unbalanced")), ("epsilon is 0", dict(epsilon=0)), ("epsilon is -1", dict(epsilon=-1)),
            ("epsilon is nan", dict(epsilon=np.nan)), ("epsilon is inf", dict(epsilon=np.inf)), ("tolerance is -1", dict(tolerance=-1)),
            ("max_iterations is 0", dict(max_iterations=0)), ("sizes are n = 0", dict(x=np.zeros((0, 12)), source=None)),
            ("sizes are n = 9, m = 0", dict(x=np.zeros((9, 0)), target=None)), ("rho is 0", dict(rule="unbalanced", rho=(0.0, 1.0))),
            ("rho is nan", dict(rule="unbalanced", rho=np.nan)), ("mass is 1.5, the weights allow 1", dict(rule="exact_mass", mass=1.5)),
            ("mass is 0", dict(rule="exact_mass", mass=0)), ("mass is 2", dict(rule="relaxed", mass=2.0)),
            ("not offered with exact mass", dict(rule="exact_mass", mass=0.5, reference="product")),
            ("scale is 0", dict(x=x, y=x, target=None, scale=0.0)), ("x: row 4 is the zero vector", dict(x=zero, y=x, target=None, cost="cosine")),
            ("log_u holds nan", dict(warm=(np.full(9, np.nan), np.zeros(12)))), ("weights have shape", dict(source=np.ones(3))),
            ("arrays of shapes", dict(x=x, y=np.zeros((5, 4)))), ("out of range", dict(rule="unbalanced", rho=1e-5, reference="product")),
        ]  # fmt: skip
        for message, change in cases:
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                ot.transport(**{"x": C, "source": a, "target": b, "epsilon": 0.1, **change})
        for eps in (1e-300, 1e300):
            ot.transport(C, source=a, target=b, epsilon=eps, max_iterations=50)
        ot.transport(C * 1e30, source=a, target=b, epsilon=0.1, max_iterations=50)
        with self.assertRaises(ValueError):
            ot.divergence(C, epsilon=0.1)
        with self.assertRaisesRegex(ValueError, "upstream on the plan of points"):
            ot.transport(x, x, epsilon=1.0).gradient(plan=np.zeros((9, 9)))
        with self.assertRaises(ValueError):
            ot.sinkhorn(a, b, C, 0.1, method="foo")
        with self.assertWarnsRegex(UserWarning, "reg is 0"):
            self.assertTrue(np.isnan(ot.sinkhorn(a, b, C, 0)).all())

    def test_c_interface_refuses_null(self):
        L, c = library._library, library._context()
        p, s = library._Problem(), library._Solution()
        L.pisces_ot_problem_init_size(p, library.C.sizeof(p))
        self.assertEqual(
            (p.epsilon, p.tolerance, p.max_iterations, p.mass, p.rho_source),
            (0, 1e-9, 10000, 1, np.inf),
        )
        u = np.zeros(4)
        self.assertEqual(L.pisces_ot_solve(None, p, s, None), 1)
        self.assertEqual(L.pisces_ot_solve(c, p, s, None), 1)
        self.assertIn(b"log_u or log_v is missing", L.pisces_ot_message(c))
        s.log_u = s.log_v = u.ctypes.data
        self.assertEqual(L.pisces_ot_solve(c, None, s, None), 1)
        p.n = p.m = 2
        p.epsilon = 1
        self.assertEqual(L.pisces_ot_solve(c, p, s, None), 1)
        self.assertIn(b"the cost is missing", L.pisces_ot_message(c))
        p.n = p.m = 1 << 40
        self.assertEqual(L.pisces_ot_solve(c, p, s, None), 1)
        self.assertIn(b"too large", L.pisces_ot_message(c))
        p.size = 8
        self.assertEqual(L.pisces_ot_solve(c, p, s, None), 1)
        self.assertIn(b"pisces_ot_problem_init", L.pisces_ot_message(c))
        L.pisces_ot_destroy(None)

    def test_version(self):
        header = Path(__file__).parents[2] / "Library/include/pisces_ot.h"
        if header.exists():
            numbers = re.findall(
                r"define PISCES_OT_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)", header.read_text()
            )
            self.assertEqual(ot.version(), tuple(map(int, numbers)))

    def test_torch(self):
        try:
            import torch
        except ImportError:
            self.skipTest("torch is not installed")
        _, _, a, b, C = problem()
        M, u, v = (torch.tensor(t, requires_grad=True) for t in (C, a, b))
        loss = ot.sinkhorn2(u, v, M, 0.5, stopThr=1e-13)
        loss.backward()
        g = ot.transport(C, source=a, target=b, epsilon=0.5, tolerance=1e-13).gradient(cost=1.0)
        for tensor, name in ((M, "x"), (u, "source"), (v, "target")):
            np.testing.assert_allclose(tensor.grad.numpy(), g[name], atol=1e-8)
        self.assertEqual(ot.sinkhorn(u, v, M.float(), 0.5).dtype, torch.float32)


if __name__ == "__main__":
    unittest.main()
