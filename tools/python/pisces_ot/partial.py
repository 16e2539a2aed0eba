"""Partial transport under POT's names (ot.partial): mass m is transported, P1 <= a, P'1 <= b."""

import numpy as np

from .arrays import Space, paid
from .library import exact
from .solving import empty, matrix, positive, solve, status, warn_user

METHODS = ("sinkhorn", "sinkhorn_log")


def _mass(a, b, m):
    limit = min(1.0 if w is None else float(w.sum(dtype=np.float64)) for w in (a, b))
    m = limit if m is None else float(m)
    if not m >= 0:
        raise ValueError("Problem infeasible. Parameter m should be greater than 0.")
    if m > limit * (1 + 1e-7):
        raise ValueError(
            "Problem infeasible. Parameter m should lower or equal than min(|a|_1, |b|_1)."
        )
    return min(m, limit)


def entropic_partial_wasserstein(
    a,
    b,
    M,
    reg,
    m=None,
    method="sinkhorn",
    numItermax=1000,
    stopThr=1e-100,
    verbose=False,
    log=False,
):
    """Plan [n, m] of min <P, M> + reg sum P log P of mass m (by default all that fits), in the log
    domain with either method.

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
        how = dict(
            tolerance=max(stopThr, 1e-12),
            max_iterations=numItermax,
            warm=None,
            verbose=verbose,
            log=log,
            warn=True,
        )
        s, err, iterations = solve(M, a, b, reg, rule="exact_mass", mass=mass, **how)
        kept.append(
            {
                "err": err,
                "niter": iterations,
                "certificate": s.certificate,
                "status": status(s.certificate),
            }
        )
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
    return plan, {**kept[0], "partial_w_dist": paid(plan, cost)}


def entropic_partial_wasserstein_logscale(
    a, b, M, reg, m=None, numItermax=1000, stopThr=1e-100, verbose=False, log=False
):
    """entropic_partial_wasserstein(..., method="sinkhorn_log")."""
    return entropic_partial_wasserstein(
        a, b, M, reg, m, "sinkhorn_log", numItermax, stopThr, verbose, log
    )


def _gradients(result, a, b, m):
    """Derivatives of <P, M> with respect to a and b: the prices of the caps; where all that fits is
    transported, the mass is the smaller side's sum, and its price goes there, too."""
    plan, u, v, price, _ = result
    if m is None:
        sums = [1.0 if w is None else float(w.sum()) for w in (a, b)]
        u, v = (u + price, v) if sums[0] <= sums[1] else (u, v + price)
    return plan, u, v


def _partial(a, b, M, m):
    space = Space(M, a, b)
    space.refuse_gradients("partial_wasserstein", m=m)
    arrays = [space.array(x) for x in (a, b, M)]
    cost = matrix(arrays[2], "M")
    mass = _mass(arrays[0], arrays[1], m)
    result = exact(cost, arrays[0], arrays[1], mass)
    plan, _, _, _, certificate = result
    entries = {
        "cost": certificate.cost, "u": result[1], "v": result[2], "warning": None, "result_code": 1, "certificate": certificate,
        "status": certificate.outcome,
    }  # fmt: skip
    if certificate.outcome != "converged":
        entries["warning"] = (
            f"partial_wasserstein: the plan has a gap of {certificate.gap:.2g} to the optimum"
        )
        warn_user(entries["warning"])
    gradients = zip((M, a, b), _gradients(result, arrays[0], arrays[1], m))
    entries["partial_w_dist"] = space.value(certificate.cost, list(gradients), cost.dtype)
    # The plan of a linear programme is constant almost everywhere: it has no gradient, as in POT.
    return space.back(plan.astype(cost.dtype)), space.log(entries, refuses=())


def partial_wasserstein(a, b, M, m=None, nb_dummies=1, log=False, **kwargs):
    """Plan [n, m] of min <P, M> of mass m (by default all that fits), exact, by the library's
    network simplex. nb_dummies is not needed."""
    plan, entries = _partial(a, b, M, m)
    return (plan, entries) if log else plan


def partial_wasserstein2(a, b, M, m=None, nb_dummies=1, log=False, **kwargs):
    """<P, M> of partial_wasserstein, which torch differentiates with respect to M, a and b; its log
    has the plan as T."""
    plan, entries = _partial(a, b, M, m)
    return (entries["partial_w_dist"], {**entries, "T": plan}) if log else entries["partial_w_dist"]
