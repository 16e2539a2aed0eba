"""Partial transport under POT's names (ot.partial): mass m is transported, P1 <= a, P'1 <= b."""

import numpy as np

from .arrays import Space
from .solving import empty, matrix, positive, solve, status, warn_user

METHODS = ("sinkhorn", "sinkhorn_log")


def _mass(a, b, m):
    limit = min(1.0 if w is None else float(w.sum(dtype=np.float64)) for w in (a, b))
    m = limit if m is None else float(m)
    if not m >= 0:
        raise ValueError("Problem infeasible. Parameter m should be greater than 0.")
    if m > limit * (1 + 1e-7):
        raise ValueError("Problem infeasible. Parameter m should lower or equal than min(|a|_1, |b|_1).")
    return min(m, limit)


def entropic_partial_wasserstein(a, b, M, reg, m=None, method="sinkhorn", numItermax=1000, stopThr=1e-100, verbose=False, log=False):
    """Plan [n, m] of min <P, M> + reg sum P log P of mass m (by default all that fits), in the log domain with either method.

    The answer keeps to the caps and to the mass, or a warning says that it does not.
    """
    if method.lower() not in METHODS:
        raise ValueError(f"Unknown method '{method}'. Known are {', '.join(METHODS)}.")
    space, kept = Space(M, a, b), []
    space.refuse_gradients("entropic_partial_wasserstein", reg=reg, m=m)
    reg = positive("reg", reg, zero=True)
    matrix(space.array(M), "M")

    def run(M, a, b):
        mass = _mass(a, b, m)
        # A threshold no rounding can meet asks for the best there is.
        how = dict(tolerance=max(stopThr, 1e-12), max_iterations=numItermax, warm=None, verbose=verbose, log=log, warn=True)
        s, err, iterations = solve(M, a, b, reg, rule="exact_mass", mass=mass, **how)
        kept.append({"err": err, "niter": iterations, "certificate": s.certificate, "status": status(s.certificate)})
        return s

    if not reg or not _mass(space.array(a), space.array(b), m):
        shape, dtype = np.shape(M), space.array(M).dtype
        plan = space.back(empty(reg, shape, dtype) if not reg else np.zeros(shape, dtype))
        kept.append({"err": []})
    else:
        plan, _ = space.plan(run, M, a, b)
    if not log:
        return plan
    cost = M if space.like is not None else np.asarray(space.array(M))
    return plan, {**kept[0], "partial_w_dist": (plan * cost).sum()}


def entropic_partial_wasserstein_logscale(a, b, M, reg, m=None, numItermax=1000, stopThr=1e-100, verbose=False, log=False):
    """entropic_partial_wasserstein(..., method="sinkhorn_log")."""
    return entropic_partial_wasserstein(a, b, M, reg, m, "sinkhorn_log", numItermax, stopThr, verbose, log)


def _exact(a, b, M, m):
    """The linear programme, by HiGHS in scipy: plan and its dual prices, of the caps and of the mass."""
    from scipy.optimize import linprog
    from scipy.sparse import eye_array, kron, vstack

    n, k = M.shape
    rows, columns = kron(eye_array(n), np.ones((1, k))), kron(np.ones((1, n)), eye_array(k))
    r = linprog(M.ravel(), A_ub=vstack([rows, columns]), b_ub=np.concatenate([a, b]), A_eq=np.ones((1, n * k)), b_eq=[m], method="highs-ds")
    if r.status:
        raise RuntimeError(f"the linear programme was not solved: {r.message}")
    prices = r.ineqlin.marginals
    return r.x.reshape(n, k), {"cost": float(r.fun), "u": prices[:n], "v": prices[n:], "warning": None, "result_code": 1, "exact": True}


def _approximate(a, b, M, m):
    """The entropic plan at 1e-6 of the range of M, or where that does not converge at the next larger reg."""
    scale = float(np.ptp(M)) or 1.0
    for reg in scale * np.array([1e-6, 1e-5, 1e-4, 1e-3]):
        how = dict(tolerance=1e-9, max_iterations=20000, warm=None, verbose=False, log=False, warn=reg == 1e-3 * scale)
        s, _, _ = solve(M, a, b, reg, rule="exact_mass", mass=m, **how)
        if s.certificate.outcome == "converged":
            break
    text = f"scipy is not installed: the plan is the entropic one at reg {reg:.2g}, not a vertex"
    return s.plan, {"cost": s.certificate.cost, "u": reg * s.log_u, "v": reg * s.log_v, "warning": text, "result_code": 1, "exact": False}


def partial_wasserstein(a, b, M, m=None, nb_dummies=1, log=False, **kwargs):
    """Plan [n, m] of min <P, M> of mass m. Exact through scipy's HiGHS where scipy is installed; otherwise the entropic plan at 1e-6 of the
    range of M, with a warning that says so. log["exact"] tells which. nb_dummies is not needed."""
    space = Space(M, a, b)

    def run(M, a, b):
        mass = _mass(a, b, m)
        a, b = (np.full(k, 1 / k) if w is None else w.astype(np.float64) for k, w in zip(M.shape, (a, b)))
        try:
            plan, entries = _exact(a, b, M.astype(np.float64), mass)
        except ImportError:
            plan, entries = _approximate(a, b, M.astype(np.float64), mass) if mass else (np.zeros(M.shape), {"cost": 0.0, "warning": None, "exact": True})
            if entries["warning"]:
                warn_user(entries["warning"])
        return space.back(plan.astype(M.dtype)), entries

    plan, entries = run(*map(space.array, (M, a, b)))
    if not log:
        return plan
    # The plan of a linear programme is constant almost everywhere: torch differentiates <P, M> rightly with P held.
    cost = M if space.like is not None else np.asarray(space.array(M))
    return plan, {**space.log(entries), "partial_w_dist": (plan * cost).sum()}


def partial_wasserstein2(a, b, M, m=None, nb_dummies=1, log=False, **kwargs):
    """<P, M> of partial_wasserstein; its log has the plan as T."""
    plan, entries = partial_wasserstein(a, b, M, m, nb_dummies, log=True)
    return (entries["partial_w_dist"], {**entries, "T": plan}) if log else entries["partial_w_dist"]
