"""Tests of POT's habits: warnings, gradients of torch tensors against finite differences, edge
values of reg_m, messages. Needs numpy; what needs torch or POT says so where it is missing.

    python3 tools/python/test_pot_habits.py
"""

import unittest
import warnings

import numpy as np

import pisces_ot as ot

try:
    import torch
except ImportError:
    torch = None
try:
    import ot as pot
except ImportError:
    pot = None

rng = np.random.default_rng(11)


def problem(n=7, m=9, d=3):
    x, y, a, b = (
        rng.normal(size=(n, d)),
        rng.normal(size=(m, d)),
        rng.uniform(0.2, 1, n),
        rng.uniform(0.2, 1, m),
    )
    return x, y, a / a.sum(), b / b.sum(), ((x[:, None] - y) ** 2).sum(2)


class Silence(unittest.TestCase):
    """What stops at its limit warns, and says so with log=True."""

    def test_limits(self):
        x, y, a, b, C = problem()
        A = np.stack([a, a[::-1]], 1)
        square = ((x[:, None] - x) ** 2).sum(2)
        calls = [
            lambda **k: ot.sinkhorn(a, b, C, 0.01, numItermax=2, **k),
            lambda **k: ot.sinkhorn2(a, b, C, 0.01, numItermax=2, warn=True, **k),
            lambda **k: ot.empirical_sinkhorn(x, y, 0.01, numIterMax=2, **k),
            lambda **k: ot.empirical_sinkhorn2(x, y, 0.01, numIterMax=2, **k),
            lambda **k: ot.empirical_sinkhorn2(x, y, 0.01, numIterMax=2, isLazy=True, **k),
            lambda **k: ot.sinkhorn_divergence(x, y, 0.01, numIterMax=2, **k),
            lambda **k: ot.sinkhorn_divergence(x, y, 0.01, numIterMax=2, reg_m=1.0, **k),
            lambda **k: ot.sinkhorn_unbalanced(a, b, C, 0.01, 1.0, numItermax=2, **k),
            lambda **k: ot.sinkhorn_unbalanced2(a, b, C, 0.01, 1.0, numItermax=2, **k),
            lambda **k: ot.entropic_partial_wasserstein(a, b, C, 0.01, 0.5, numItermax=2, **k),
            lambda **k: ot.barycenter(A, square, 0.01, numItermax=2, **k),
            lambda **k: ot.bregman.barycenter_debiased(A, square, 0.01, numItermax=2, **k),
        ]
        for k, call in enumerate(calls):
            with self.assertWarns(UserWarning, msg=str(k)):
                call()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                entries = call(log=True)[-1]
            self.assertIn(entries["status"], ("max_iterations", "stalled"), k)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ot.sinkhorn2(a, b, C, 0.01, numItermax=2)  # POT's default is not to warn
            ot.sinkhorn_divergence(x, y, 0.01, numIterMax=2, warn=False)
            value, entries = ot.sinkhorn_divergence(x, y, 0.5, log=True)
        self.assertEqual(entries["status"], "converged")


@unittest.skipIf(torch is None, "needs torch")
class Gradients(unittest.TestCase):
    """Every gradient that is asked for comes, as finite differences have it, or an error says that
    it does not."""

    def check(self, function, inputs, centred=(), places=5):
        """function(*tensors) against central differences along random directions; of `centred`
        inputs along directions of sum 0."""
        tensors = [torch.tensor(x, requires_grad=True) for x in inputs]
        function(*tensors).backward()
        for k, (x, t) in enumerate(zip(inputs, tensors)):
            self.assertIsNotNone(t.grad, k)
            direction = rng.normal(size=x.shape)
            if k in centred:
                direction -= direction.mean()
            h = 1e-5
            ahead, behind = (
                [torch.tensor(z + s * h * direction if i == k else z) for i, z in enumerate(inputs)]
                for s in (1, -1)
            )
            slope = (float(function(*ahead)) - float(function(*behind))) / (2 * h)
            self.assertAlmostEqual(
                float((t.grad.numpy() * direction).sum()),
                slope,
                delta=10**-places * max(1, abs(slope)),
                msg=str(k),
            )

    def test_divergence(self):
        x, y, a, b, _ = problem()
        for metric in ("sqeuclidean", "euclidean", "cosine"):
            exact = dict(metric=metric, stopThr=1e-12, numIterMax=100000)
            self.check(
                lambda x, y, a, b: ot.sinkhorn_divergence(x, y, 0.3, a, b, **exact),
                [x, y, a, b],
                centred=(2, 3),
            )
            self.check(
                lambda x, y, a, b: ot.sinkhorn_divergence(x, y, 0.3, a, b, reg_m=0.7, **exact),
                [x, y, a, 1.6 * b],
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the sums
            self.check(
                lambda a, b: ot.sinkhorn_divergence(
                    torch.tensor(x), torch.tensor(y), 0.3, a, b, stopThr=1e-12
                ),
                [a, 1.6 * b],
            )
        self.assertFalse(
            ot.sinkhorn_divergence(torch.tensor(x), torch.tensor(y), 0.3).requires_grad
        )

    def test_balanced(self):
        x, y, a, b, C = problem()
        exact = dict(stopThr=1e-13, numItermax=100000)
        self.check(lambda a, b, C: ot.sinkhorn2(a, b, C, 0.3, **exact), [a, b, C], centred=(0, 1))
        W = torch.tensor(rng.normal(size=C.shape))
        self.check(
            lambda a, b, C: (W * ot.sinkhorn(a, b, C, 0.3, **exact)).sum(),
            [a, b, C],
            centred=(0, 1),
        )
        for lazy in (False, True):
            self.check(
                lambda x, y: ot.empirical_sinkhorn2(
                    x, y, 0.3, stopThr=1e-13, numIterMax=100000, isLazy=lazy
                ),
                [x, y],
            )
        self.check(
            lambda x, y: ot.empirical_sinkhorn_divergence(
                x + 1, y, 0.3, stopThr=1e-13, numIterMax=100000
            ),
            [x, y],
        )

    def test_unbalanced(self):
        x, y, a, b, C = problem()
        b = 1.4 * b
        exact = dict(stopThr=1e-13, numItermax=100000)
        W, c = torch.tensor(rng.normal(size=C.shape)), rng.uniform(0.1, 1, C.shape)
        for reg_m in (
            1.0,
            (0.5, 2.0),
            (np.inf, 2.0),
            (0.5, np.inf),
            0.01,
            0,
            (0, 1.0),
            (1.0, 0),
            (np.inf, 0),
            (0, np.inf),
        ):
            for options in (dict(), dict(reg_type="entropy")):
                for cost in ("linear", "total"):
                    f = lambda a, b, C: ot.sinkhorn_unbalanced2(
                        a, b, C, 0.3, reg_m, returnCost=cost, **options, **exact
                    )  # noqa: E731
                    inputs = [a, b, C]
                    free = (reg_m, reg_m) if np.ndim(reg_m) == 0 else reg_m
                    if (
                        options and 0 in free
                    ):  # a weight whose marginal is free, with a reference of 1, decides nothing
                        self.check(lambda C: f(torch.tensor(a), torch.tensor(b), C), [C])
                    else:
                        self.check(f, inputs)
                g = lambda C: (
                    W
                    * ot.sinkhorn_unbalanced(
                        torch.tensor(a), torch.tensor(b), C, 0.3, reg_m, **options, **exact
                    )
                ).sum()  # noqa: E731
                self.check(g, [C])
            for cost in ("linear", "total"):
                h = lambda C, c: ot.sinkhorn_unbalanced2(
                    torch.tensor(a), torch.tensor(b), C, 0.3, reg_m, c=c, returnCost=cost, **exact
                )  # noqa: E731
                self.check(h, [C, c])

    def test_forbidden_pairs(self):
        """Infinite costs forbid pairs and cost nothing; the gradients of the others are as without
        them."""
        _, _, a, b, C = problem()
        mask = torch.tensor(rng.random(C.shape) < 0.3) & ~torch.eye(*C.shape, dtype=bool)
        mask[:, -2:] = False
        inf = torch.tensor(np.inf, dtype=torch.float64)
        A, B = torch.tensor(a), torch.tensor(b)
        exact = dict(stopThr=1e-13, numItermax=100000)
        for f in (
            lambda C: ot.sinkhorn2(A, B, C, 0.5, **exact), lambda C: ot.sinkhorn_unbalanced2(A, B, C, 0.5, 1.0, **exact),                  # fmt: skip
            lambda C: ot.sinkhorn_unbalanced2(A, B, C, 0.5, (np.inf, 0), **exact),
            lambda C: ot.partial_wasserstein2(A, B, C, 0.5),
        ):
            self.check(lambda C: f(torch.where(mask, inf, C)), [C], places=4)
        plan, log = ot.entropic_partial_wasserstein(
            a, b, np.where(mask, np.inf, C), 0.5, 0.5, log=True
        )
        self.assertTrue(np.isfinite(log["partial_w_dist"]) and (plan[mask.numpy()] == 0).all())

    def test_partial(self):
        x, y, a, b, C = problem()
        W = torch.tensor(rng.normal(size=C.shape))
        f = lambda C: (
            W
            * ot.entropic_partial_wasserstein(
                torch.tensor(a), torch.tensor(b), C, 0.3, 0.6, numItermax=100000
            )
        ).sum()  # noqa: E731
        self.check(f, [C], places=4)
        self.check(lambda a, b, C: ot.partial_wasserstein2(a, b, C, 0.6), [a, b, C], places=4)

    def test_distances(self):
        x, y, *_ = problem()
        W = torch.tensor(rng.normal(size=(len(x), len(y))))
        for metric in ("sqeuclidean", "euclidean", "cosine", "cityblock"):
            self.check(lambda x, y: (W * ot.dist(x, y, metric=metric)).sum(), [x, y])

    def test_refusals(self):
        x, y, a, b, C = problem()
        t = lambda z: torch.tensor(z, requires_grad=True)  # noqa: E731
        square = ((x[:, None] - x) ** 2).sum(2)
        refused = {
            "empirical_sinkhorn": lambda: ot.empirical_sinkhorn(t(x), t(y), 0.3, isLazy=True),
            "barycenter": lambda: ot.barycenter(t(np.stack([a, a], 1)), square, 0.3),
            "sinkhorn is not differentiated with respect to reg": lambda: ot.sinkhorn(
                a, b, torch.tensor(C), t(0.3)
            ),
            "reg_m": lambda: ot.sinkhorn_unbalanced(a, b, torch.tensor(C), 0.3, t(1.0)),
            "several histograms": lambda: ot.sinkhorn_unbalanced(
                torch.tensor(a),
                torch.tensor(np.stack([b, b], 1)),
                t(C),
                0.3,
                1.0,
                reg_type="entropy",
            ),
            "with respect to m": lambda: ot.partial_wasserstein2(
                torch.tensor(a), torch.tensor(b), torch.tensor(C), t(0.5)
            ),
            "a function": lambda: ot.dist(t(x), t(y), metric=lambda u, v: abs(u - v).sum()),
        }
        for words, call in refused.items():
            with self.assertRaisesRegex(NotImplementedError, words):
                call()
        loss, log = ot.sinkhorn2(torch.tensor(a), torch.tensor(b), t(C), 0.3, log=True)
        loss.backward()
        with self.assertRaisesRegex(NotImplementedError, "log"):
            log["logu"]
        self.assertEqual(log["status"], "converged")


class Strengths(unittest.TestCase):
    """reg_m of 0, inf, tuples: POT's numbers where POT is there, closed forms elsewhere."""

    @unittest.skipIf(pot is None, "needs POT")
    def test_as_pot(self):
        _, _, a, b, C = problem()
        b = 1.3 * b
        for reg_m in (
            1,
            0.5,
            (1.0,),
            [0.5, 2.0],
            np.array([0.5, 2.0]),
            (np.inf, 2.0),
            (2.0, np.inf),
            0,
            0.0,
            (np.inf, 0),
            (0, np.inf),
            (0, 1.0),
            (1.0, 0.0),
        ):
            for reg_type in ("kl", "entropy"):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    theirs = pot.unbalanced.sinkhorn_unbalanced(
                        a, b, C, 0.3, reg_m, reg_type=reg_type, numItermax=20000, stopThr=1e-14
                    )
                    ours = ot.sinkhorn_unbalanced(
                        a, b, C, 0.3, reg_m, reg_type=reg_type, numItermax=20000, stopThr=1e-14
                    )
                np.testing.assert_allclose(
                    ours, theirs, rtol=1e-7, atol=1e-12, err_msg=f"{reg_m} {reg_type}"
                )

    def test_free_side(self):
        """With one marginal kept and the other free, each row is a softmax of its own."""
        _, _, a, b, C = problem()
        K = np.exp(-C / 0.3) * np.outer(a, b)
        np.testing.assert_allclose(
            ot.sinkhorn_unbalanced(a, b, C, 0.3, (np.inf, 0)),
            a[:, None] * K / K.sum(1)[:, None],
            rtol=1e-12,
        )
        np.testing.assert_allclose(
            ot.sinkhorn_unbalanced(a, b, C, 0.3, (0, np.inf)), b * K / K.sum(0), rtol=1e-12
        )
        np.testing.assert_allclose(ot.sinkhorn_unbalanced(a, b, C, 0.3, 0), K, rtol=1e-12)
        one, log = ot.sinkhorn_unbalanced(a, b, C, 0.3, (np.inf, 0), log=True)
        np.testing.assert_allclose(np.exp(log["logu"][:, None] + log["logv"]) * K, one, rtol=1e-12)
        B = np.stack([b, b[::-1]], 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            costs = ot.sinkhorn_unbalanced2(a, B, C, 0.3, (np.inf, 0))
        one = ot.sinkhorn_unbalanced2(a, b, C, 0.3, (np.inf, 0), reg_type="entropy")
        np.testing.assert_allclose(costs, [one, one], rtol=1e-12)


class Messages(unittest.TestCase):
    """Bad input gets an error of the usual kind that says what it is and what to give."""

    def test_messages(self):
        x, y, a, b, C = problem()
        cases = [
            (TypeError, "reg_m is None", lambda: ot.sinkhorn_unbalanced(a, b, C, 0.3, None)),
            (
                ValueError,
                "reg_m has 3 elements",
                lambda: ot.sinkhorn_unbalanced(a, b, C, 0.3, (1, 2, 3)),
            ),
            (ValueError, "reg_m is -1", lambda: ot.sinkhorn_unbalanced(a, b, C, 0.3, -1)),
            (ValueError, "reg_m is nan", lambda: ot.sinkhorn_unbalanced(a, b, C, 0.3, np.nan)),
            (TypeError, "reg is None", lambda: ot.sinkhorn(a, b, C, None)),
            (ValueError, "reg is -1", lambda: ot.sinkhorn(a, b, C, -1)),
            (ValueError, "reg is nan", lambda: ot.sinkhorn2(a, b, C, np.nan)),
            (ValueError, r"M has shape", lambda: ot.sinkhorn(a, b, C[0], 0.3)),
            (ValueError, r"M has shape", lambda: ot.sinkhorn(a, b, None, 0.3)),
            (ValueError, r"M has shape", lambda: ot.sinkhorn_unbalanced(a, b, C[0], 0.3, 1)),
            (
                ValueError,
                r"M has shape",
                lambda: ot.entropic_partial_wasserstein(a, b, C[0], 0.3, 0.5),
            ),
            (ValueError, r"M has shape", lambda: ot.partial_wasserstein(a, b, C[0], 0.5)),
            (ValueError, r"M has shape", lambda: ot.barycenter(np.stack([a, a], 1), C[0], 0.3)),
            (ValueError, "weights", lambda: ot.sinkhorn(a[:3], b, C, 0.3)),
            (
                ValueError,
                "a and b have shapes",
                lambda: ot.sinkhorn_unbalanced(a[:3], b, C, 0.3, 0),
            ),
            (
                ValueError,
                "c has shape",
                lambda: ot.sinkhorn_unbalanced(a, b, C, 0.3, 1, c=np.ones((2, 2))),
            ),
            (ValueError, "Problem infeasible", lambda: ot.partial_wasserstein(a, b, C, np.nan)),
            (
                ValueError,
                "Problem infeasible",
                lambda: ot.entropic_partial_wasserstein(a, b, C, 0.3, -1),
            ),
            (ValueError, "X_s has shape", lambda: ot.sinkhorn_divergence(x[0], y, 0.3)),
            (ValueError, "X_t has shape", lambda: ot.empirical_sinkhorn(x, y[0], 0.3, isLazy=True)),
            (
                ValueError,
                "metric is 'manhattan'",
                lambda: ot.sinkhorn_divergence(x, y, 0.3, metric="manhattan"),
            ),
            (ValueError, "x1 has shape", lambda: ot.dist(x[0], y)),
            (ValueError, "coordinates", lambda: ot.dist(x, y[:, :2])),
            (ValueError, "metric", lambda: ot.dist(x, y, metric="nonsense")),
            (ValueError, "Unknown method", lambda: ot.sinkhorn(a, b, C, 0.3, method="nonsense")),
            (
                ValueError,
                "rule is 'nonsense'",
                lambda: ot.transport(C, epsilon=0.3, rule="nonsense"),
            ),
            (
                ValueError,
                "cost is 'nonsense'",
                lambda: ot.transport(x, y, epsilon=0.3, cost="nonsense"),
            ),
            (
                ValueError,
                "reference is 'nonsense'",
                lambda: ot.transport(C, epsilon=0.3, reference="nonsense"),
            ),
            (
                ValueError,
                "rho",
                lambda: ot.transport(C, epsilon=0.3, rule="unbalanced", rho=(1, 2, 3)),
            ),
            (ValueError, "warm", lambda: ot.transport(C, epsilon=0.3, warm=(a[:2], b))),
            (ValueError, "warmstart", lambda: ot.sinkhorn(a, b, C, 0.3, warmstart=(a[:2], b))),
            (ValueError, "unif", lambda: ot.unif(0)),
        ]
        for k, (kind, words, call) in enumerate(cases):
            with self.assertRaisesRegex(kind, words, msg=str(k)), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                call()


if __name__ == "__main__":
    unittest.main()
