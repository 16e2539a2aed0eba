"""Unbalanced entropic transport under POT's names (ot.unbalanced): marginals relaxed by KL terms.

total_cost, and returnCost="total", is <P, M> + reg KL(P | c) + reg_m1 KL(P1 | a) + reg_m2 KL(P'1 | b) with KL(p | q) = sum p log(p / q) - p + q, as
POT's documentation has it. (POT 0.9.7 leaves out the masses, which makes its number about 0 at every solution.)
"""

import numpy as np

from .arrays import Space
from .solving import agree, empty, solve, warn_user

METHODS = ("sinkhorn", "sinkhorn_stabilized", "sinkhorn_translation_invariant", "sinkhorn_reg_scaling")


def _strengths(space, reg_m):
    values = np.atleast_1d(np.asarray(space.array(reg_m), dtype=np.float64)).ravel()
    if values.size not in (1, 2):
        raise ValueError(f"reg_m has {values.size} elements: give one, or one a side")
    return float(values[0]), float(values[-1])


def _within(M, reg, c):
    """The cost whose entropic problem is that of M with the reference c; where c is 0 no exponential survives it."""
    on = c > 0
    shifted = M - reg * np.log(np.where(on, c, 1), dtype=np.float64)
    far = 1e4 * (reg + np.ptp(shifted[on])) + shifted[on].max()
    return np.where(on, shifted, far).astype(M.dtype)


def _solve(space, M, a, b, reg, rho, reference, warmstart, plan, how):
    """All numpy; reference: "entropy", "product" or a matrix c. Returns the solution with what POT's names are computed from."""
    n, m = M.shape
    a, b = (np.full(k, 1 / k) if w is None else w.astype(np.float64).T for k, w in ((n, a), (m, b)))
    b = agree(a, b, m) if np.isinf(rho).all() else b
    # A weight's power 1 + reg / reg_m may leave the range of double: then the reference goes into the cost.
    reference = np.outer(a, b) if isinstance(reference, str) and reference == "product" and reg / min(rho) > 20 else reference
    own, constant = (0.0, 0.0), float(n * m)
    if isinstance(reference, np.ndarray):
        M, constant, reference = _within(M, reg, reference), float(reference.sum()), "entropy"
    elif reference == "product":  # POT's potentials do not hold the reference's share, the library's do
        with np.errstate(divide="ignore"):
            own, constant = (np.log(a), np.log(b)), 0.0
    warm = None if warmstart is None else tuple(space.array(w).T + o for w, o in zip(warmstart, own))
    how = {**how, "tolerance": how["tolerance"] / max(n, m)}
    s, err, iterations = solve(M, a, b, reg, warm=warm, warn=True, plan=plan, rule="unbalanced", rho=rho, reference=reference, **how)
    s.shift, s.entries = reg * constant, {"err": err, "niter": iterations, "certificate": s.certificate}
    for name, x, o in zip(("logu", "logv"), (s.log_u, s.log_v), own):
        s.entries[name] = np.subtract(x, o, out=np.full_like(x, -np.inf), where=x > -np.inf).T
    return s


def _run(a, b, M, reg, reg_m, method, reg_type, c, want, warmstart, numItermax, stopThr, verbose, log):
    """want: plan, linear or total."""
    if method.lower() not in METHODS:
        raise ValueError(f"Unknown method '{method}'. Known are {', '.join(METHODS)}.")
    if reg_type.lower() not in ("kl", "entropy"):
        raise ValueError(f"Unknown reg_type '{reg_type}'. Known are kl, entropy.")
    space, how = Space(M, a, b, c), dict(tolerance=stopThr, max_iterations=numItermax, verbose=verbose, log=log)
    if not reg:
        plan = space.back(empty(reg, np.shape(M), space.array(M).dtype))
        return (plan, {"err": []}) if log else plan
    rho, several, reference = _strengths(space, reg_m), np.ndim(b) == 2, reg_type.lower()
    if several and reference == "kl":
        warn_user("with several histograms reg_type is entropy, as in POT: pass it to silence this")
        reference = "entropy"
    if reference == "entropy" and c is not None:
        warn_user("with reg_type entropy c is not used")
    elif reference == "kl":
        reference = "product" if c is None else space.array(c)

    def run(M, a, b, plan=True):
        return _solve(space, M, a, b, reg, rho, reference, warmstart, plan, how)

    if several:
        s = run(*map(space.array, (M, a, b)), plan=False)
        result = space.back([c.primal + s.shift if want == "total" else c.cost for c in s.certificate], space.array(M).dtype)
    else:
        plan, s = space.plan(run, M, a, b)
        cost, total = (plan * M).sum(), space.back(s.certificate.primal + s.shift, s.plan.dtype)
        s.entries.update(cost=cost, total_cost=total)
        result = {"plan": plan, "linear": cost, "total": total}[want]
    return (result, space.log(s.entries)) if log else result


def sinkhorn_unbalanced(
    a, b, M, reg, reg_m, method="sinkhorn", reg_type="kl", c=None, warmstart=None, numItermax=1000, stopThr=1e-6, verbose=False,
    log=False, **kwargs,
):  # fmt: skip
    """Plan [n, m] of min <P, M> + reg KL(P | c) + reg_m1 KL(P1 | a) + reg_m2 KL(P'1 | b); of several histograms b [m, items] the <P, M>.

    reg_m: one number, or one a side; inf keeps the marginal. reg_type kl: c is a b' unless given; entropy: c is 1. Potentials in
    log and warmstart are POT's: P = exp(logu + logv - M / reg) c.
    """
    return _run(a, b, M, reg, reg_m, method, reg_type, c, "plan", warmstart, numItermax, stopThr, verbose, log)


def sinkhorn_unbalanced2(
    a, b, M, reg, reg_m, method="sinkhorn", reg_type="kl", c=None, warmstart=None, returnCost="linear", numItermax=1000, stopThr=1e-6,
    verbose=False, log=False, **kwargs,
):  # fmt: skip
    """<P, M> of that plan (returnCost linear), or the whole objective (total)."""
    if returnCost not in ("linear", "total"):
        raise ValueError(f"Unknown returnCost '{returnCost}'. Known are linear, total.")
    return _run(a, b, M, reg, reg_m, method, reg_type, c, returnCost, warmstart, numItermax, stopThr, verbose, log)


def _named(method, name):
    def function(a, b, M, reg, reg_m, reg_type="kl", c=None, warmstart=None, numItermax=1000, stopThr=1e-6, verbose=False, log=False, **kwargs):
        return sinkhorn_unbalanced(a, b, M, reg, reg_m, method, reg_type, c, warmstart, numItermax, stopThr, verbose, log)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"sinkhorn_unbalanced(..., method={method!r})."
    return function


sinkhorn_knopp_unbalanced = _named("sinkhorn", "sinkhorn_knopp_unbalanced")
sinkhorn_stabilized_unbalanced = _named("sinkhorn_stabilized", "sinkhorn_stabilized_unbalanced")
sinkhorn_unbalanced_translation_invariant = _named("sinkhorn_translation_invariant", "sinkhorn_unbalanced_translation_invariant")
