"""Balanced entropic transport under POT's names (ot.bregman): one solver behind every method name,
and points whose cost is not stored.

Differences that a script can notice: the residual in log["err"] is the L1 error of the marginals
before their update, relative to the mass; every log has the entries of every method and
`certificate`; weights that are exactly zero give exactly zero rows.
"""

import numpy as np

from .arrays import Space, paid
from .library import COSTS, divergence, transport
from .library import barycenter as _barycenter
from .solving import (
    FLOOR,
    Record,
    agree,
    empty,
    matrix,
    points_of,
    positive,
    solve,
    status,
    warn_user,
)
from .utils import dist

METHODS = (
    "sinkhorn",
    "sinkhorn_log",
    "greenkhorn",
    "sinkhorn_stabilized",
    "sinkhorn_epsilon_scaling",
)
SEVERAL = (
    "sinkhorn",
    "sinkhorn_log",
    "sinkhorn_stabilized",
)  # those that take several histograms b [m, items]


def _log(solution, err, iterations, reg):
    """The entries of POT's logs, of whichever method; scalings beyond the range of double are inf
    or 0, their logarithms never."""
    log_u, log_v = solution.log_u.T, solution.log_v.T
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        u, v = np.exp(log_u), np.exp(log_v)
    alpha, beta = reg * log_u, reg * log_v
    return {
        "err": err, "niter": iterations, "n_iter": iterations, "u": u, "v": v, "log_u": log_u, "log_v": log_v,
        "logu": log_u, "logv": log_v, "alpha": alpha, "beta": beta, "warmstart": (log_u, log_v), "certificate": solution.certificate,
        "status": status(solution.certificate),
    }  # fmt: skip


def _how(numItermax, stopThr, verbose, log, warn, warmstart):
    return dict(
        max_iterations=numItermax,
        tolerance=stopThr,
        verbose=verbose,
        log=log,
        warn=warn,
        warm=warmstart,
    )


def _warm(space, warmstart):
    return None if warmstart is None else tuple(space.array(w).T for w in warmstart)


def _method(method, names):
    if method.lower() not in names:
        raise ValueError(f"Unknown method '{method}'. Known are {', '.join(names)}.")


def _sinkhorn(a, b, M, reg, loss, how):
    """The plan, or the loss <P, M>; of several histograms always the losses."""
    space, kept = Space(M, a, b), []
    space.refuse_gradients("sinkhorn", reg=reg)
    reg, M_ = positive("reg", reg, zero=True), matrix(space.array(M), "M")
    if not reg:
        plan = space.back(empty(reg, M_.shape, M_.dtype))
        return (plan, {"err": [], "niter": 0, "n_iter": 0}) if how["log"] else plan
    if np.ndim(b) == 2 and space.differentiable:
        return _each(space, a, b, M, reg, how)

    def run(M, a, b, plan=True):
        b = agree(a, None if b is None else b.T, M.shape[1])
        kept[:] = solve(M, a, b, reg, plan=plan, **{**how, "warm": _warm(space, how["warm"])})
        return kept[0]

    if np.ndim(b) == 2 or (loss and not space.differentiable):
        cost = space.array(M)
        certificate = run(cost, space.array(a), space.array(b), plan=False).certificate
        result = space.back(
            [c.cost for c in certificate] if isinstance(certificate, list) else certificate.cost,
            cost.dtype,
        )
    else:
        result, _ = space.plan(run, M, a, b)
        result = paid(result, M) if loss else result
    return (result, space.log(_log(*kept, reg))) if how["log"] else result


def _each(space, a, b, M, reg, how):
    """Several histograms one by one, so that torch can differentiate their losses."""
    losses, logs = zip(
        *(
            _sinkhorn(a, b[:, k], M, reg, True, {**how, "log": True, "warm": None})
            for k in range(b.shape[1])
        )
    )
    entries = {
        k: space.torch.stack([dict.__getitem__(one, k) for one in logs], -1)
        for k in ("u", "v", "log_u", "log_v", "logu", "logv", "alpha", "beta")
    }
    certificates = [one["certificate"] for one in logs]
    entries = {
        **logs[-1],
        **entries,
        "warmstart": (entries["log_u"], entries["log_v"]),
        "certificate": certificates,
        "status": status(certificates),
    }
    return (
        (space.torch.stack(losses), space.log(entries)) if how["log"] else space.torch.stack(losses)
    )


def sinkhorn(
    a,
    b,
    M,
    reg,
    method="sinkhorn",
    numItermax=1000,
    stopThr=1e-9,
    verbose=False,
    log=False,
    warn=True,
    warmstart=None,
    **kwargs,
):
    """Plan [n, m] of min <P, M> + reg sum P log P with P1 = a, P'1 = b; of several histograms b [m,
    items] the losses [items].

    Empty a or b: uniform. method: POT's names; the solver is one. With log: (result, dictionary).
    """
    _method(method, SEVERAL if np.ndim(b) == 2 else METHODS)
    return _sinkhorn(a, b, M, reg, False, _how(numItermax, stopThr, verbose, log, warn, warmstart))


def sinkhorn2(
    a,
    b,
    M,
    reg,
    method="sinkhorn",
    numItermax=1000,
    stopThr=1e-9,
    verbose=False,
    log=False,
    warn=False,
    warmstart=None,
    **kwargs,
):
    """Loss <P, M> of the plan of `sinkhorn`; of several histograms b [m, items] one each."""
    _method(method, SEVERAL)
    return _sinkhorn(a, b, M, reg, True, _how(numItermax, stopThr, verbose, log, warn, warmstart))


def _named(method):
    def function(
        a,
        b,
        M,
        reg,
        numItermax=1000,
        stopThr=1e-9,
        verbose=False,
        log=False,
        warn=True,
        warmstart=None,
        **kwargs,
    ):
        return sinkhorn(a, b, M, reg, method, numItermax, stopThr, verbose, log, warn, warmstart)

    function.__name__ = function.__qualname__ = method if method != "sinkhorn" else "sinkhorn_knopp"
    function.__doc__ = f"sinkhorn(..., method={method!r})."
    return function


sinkhorn_knopp, sinkhorn_log, greenkhorn, sinkhorn_stabilized, sinkhorn_epsilon_scaling = map(
    _named, METHODS
)


class LazyPlan:
    """A plan that is computed where it is looked at: plan[i], plan[2:5, ::3], plan[:]."""

    def __init__(self, space, X, Y, log_u, log_v, metric, reg):
        self._space, self._X, self._Y, self._u, self._v, self._metric, self._reg = (
            space,
            X,
            Y,
            log_u,
            log_v,
            metric,
            reg,
        )
        self.shape = (len(X), len(Y))

    def __getitem__(self, key):
        rows, columns = key if isinstance(key, tuple) else (key, slice(None))
        flat = tuple(
            k
            for k, index in enumerate((rows, columns))
            if np.ndim(index) == 0 and not isinstance(index, slice)
        )
        rows, columns = (
            np.atleast_1d(np.arange(n)[index]) for n, index in zip(self.shape, (rows, columns))
        )
        M = dist(self._X[rows], self._Y[columns], metric=self._metric)
        plan = np.exp(self._u[rows, None] + self._v[columns] - M / self._reg)
        return self._space.back(plan.squeeze(flat) if flat else plan)


def empirical_sinkhorn(
    X_s, X_t, reg, a=None, b=None, metric="sqeuclidean", numIterMax=10000, stopThr=1e-9, isLazy=False, batchSize=100,
    verbose=False, log=False, warn=True, warmstart=None, **kwargs,
):  # fmt: skip
    """sinkhorn between points. With isLazy the cost is never stored, and the result is the
    potentials f, g with P = exp(f + g - M / reg); metrics sqeuclidean, euclidean, cosine (others
    store the cost). batchSize is not needed.
    """
    how = _how(numIterMax, stopThr, verbose, log, warn, warmstart)
    if not isLazy:
        return _sinkhorn(a, b, dist(X_s, X_t, metric=metric), reg, False, how)
    space, s, entries = _lazy(X_s, X_t, reg, a, b, metric, how)
    f, g = space.back(s.log_u), space.back(s.log_v)
    return (f, g, entries) if log else (f, g)


def empirical_sinkhorn2(
    X_s, X_t, reg, a=None, b=None, metric="sqeuclidean", numIterMax=10000, stopThr=1e-9, isLazy=False, batchSize=100,
    verbose=False, log=False, warn=True, warmstart=None, **kwargs,
):  # fmt: skip
    """sinkhorn2 between points; isLazy as in empirical_sinkhorn, but for torch tensors that require
    a gradient."""
    how = _how(numIterMax, stopThr, verbose, log, warn, warmstart)
    if not isLazy or Space(X_s, X_t, a, b).differentiable:
        return _sinkhorn(a, b, dist(X_s, X_t, metric=metric), reg, True, how)
    space, s, entries = _lazy(X_s, X_t, reg, a, b, metric, how)
    loss = space.back(s.certificate.cost, space.array(X_s).dtype)
    return (loss, entries) if log else loss


def _lazy(X_s, X_t, reg, a, b, metric, how):
    space = Space(X_s, X_t, a, b)
    space.refuse_gradients("empirical_sinkhorn(isLazy=True)", X_s=X_s, X_t=X_t, a=a, b=b, reg=reg)
    reg = positive("reg", reg)
    X, Y, a, b = map(space.array, (X_s, X_t, a, b))
    X, Y = points_of(X, "X_s"), points_of(Y, "X_t")
    x, points = (
        (X, {"y": Y, "cost": metric}) if metric in COSTS else (dist(X, Y, metric=metric), {})
    )
    s, err, n = solve(
        x,
        a,
        agree(a, b, len(Y)),
        reg,
        plan=False,
        **points,
        **{**how, "warm": _warm(space, how["warm"])},
    )
    entries = None
    if how["log"]:
        entries = space.log(
            {**_log(s, err, n, reg), "u": s.log_u, "v": s.log_v}
        )  # logarithms, as POT has them here
        entries["lazy_plan"] = LazyPlan(space, X, Y, s.log_u, s.log_v, metric, reg)
    return space, s, entries


def empirical_sinkhorn_divergence(
    X_s, X_t, reg, a=None, b=None, metric="sqeuclidean", numIterMax=10000, stopThr=1e-9, verbose=False, log=False, warn=True,
    warmstart=None, **kwargs,
):  # fmt: skip
    """<P, M> - (<P_a, M_a> + <P_b, M_b>) / 2 of three entropic plans, as POT has it: without the
    entropy. The divergence of the literature is `sinkhorn_divergence`."""
    u, v = warmstart or (None, None)
    terms = [
        (X_s, X_t, a, b, warmstart),
        (X_s, X_s, a, a, warmstart and (u, u)),
        (X_t, X_t, b, b, warmstart and (v, v)),
    ]
    how = dict(
        metric=metric,
        numIterMax=numIterMax,
        stopThr=stopThr,
        verbose=verbose,
        warn=warn,
        isLazy=kwargs.get("isLazy", False),
    )
    results = [
        empirical_sinkhorn2(X, Y, reg, w, z, warmstart=warm, log=log, **how)
        for X, Y, w, z, warm in terms
    ]
    losses = [r[0] for r in results] if log else results
    value = losses[0] - (losses[1] + losses[2]) / 2
    value = value * (value > 0)
    if not log:
        return value
    entries = {f"sinkhorn_loss_{name}": loss for name, loss in zip(("ab", "a", "b"), losses)}
    return value, {
        **entries,
        **{f"log_sinkhorn_{name}": r[1] for name, r in zip(("ab", "a", "b"), results)},
    }


def sinkhorn_divergence(
    X_s,
    X_t,
    reg,
    a=None,
    b=None,
    metric="sqeuclidean",
    reg_m=np.inf,
    numIterMax=10000,
    stopThr=1e-9,
    log=False,
    warn=True,
):
    """The debiased Sinkhorn divergence (Feydy et al. 2019, arXiv:1810.08278), unbalanced when reg_m
    is finite (Sejourne et al. 2019, arXiv:1910.12958). Not in POT. Costs are not stored. torch
    differentiates it with respect to points and weights. With log: the gradients grad_X_s and
    grad_X_t, the certificates of the three solves, and status, the worst of theirs.
    """
    space = Space(X_s, X_t, a, b)
    space.refuse_gradients("sinkhorn_divergence", reg=reg, reg_m=reg_m)
    reg, rho = positive("reg", reg), float(reg_m)
    if not rho > 0:
        raise ValueError(f"reg_m is {reg_m}: give a positive number, or inf")
    if metric not in COSTS or metric == "matrix":
        raise ValueError(f"metric is {metric!r}: give sqeuclidean, euclidean or cosine")
    X, Y, p, q = map(space.array, (X_s, X_t, a, b))
    X, Y = points_of(X, "X_s"), points_of(Y, "X_t")
    q = agree(p, q, len(Y)) if np.isinf(rho) else q
    options = dict(
        epsilon=reg,
        cost=metric,
        rho=rho,
        tolerance=max(stopThr, FLOOR[np.result_type(X, Y)]),
        max_iterations=int(numIterMax),
    )
    wants = log or space.differentiable
    value, dx, dy, certificates = (
        divergence(X, Y, p, q, gradient=True, **options)
        if wants
        else _without_gradients(X, Y, p, q, options)
    )
    worst = status(certificates)
    if worst != "converged" and (warn or worst == "non_finite"):
        warn_user(
            f"sinkhorn_divergence: a solve ended as {worst} after {max(c.iterations for c in certificates)} iterations: raise numIterMax, stopThr or reg"
        )
    gradients = [(X_s, dx), (X_t, dy)]
    if space.differentiable and any(getattr(w, "requires_grad", False) for w in (a, b)):
        gradients += zip((a, b), _weight_gradients(X, Y, p, q, options))
    result = space.value(value, gradients, X.dtype)
    entries = {"grad_X_s": dx, "grad_X_t": dy, "certificates": certificates, "status": worst}
    return (result, space.log(entries)) if log else result


def _without_gradients(X, Y, a, b, options):
    value, certificates = divergence(X, Y, a, b, **options)
    return value, None, None, certificates


def _weight_gradients(X, Y, a, b, options):
    """Derivatives of the divergence with respect to the weights of both sides. Balanced ones are
    divided by their sums where those differ, and their gradients are then orthogonal to them."""
    rho = options["rho"]
    a, b = (
        np.full(len(x), 1 / len(x)) if w is None else w.astype(np.float64)
        for x, w in ((X, a), (Y, b))
    )
    sums = a.sum(), b.sum()
    divided = np.isinf(rho) and abs(sums[0] / sums[1] - 1) > 1e-6
    p, q = (a / sums[0], b / sums[1]) if divided else (a, b)
    rule = dict(rule="balanced") if np.isinf(rho) else dict(rule="unbalanced", rho=(rho, rho))

    def gradient(x, y, u, v):
        shared = {k: options[k] for k in ("epsilon", "cost", "tolerance", "max_iterations")}
        s = transport(x, y, u, v, reference="product", plan=False, **shared, **rule)
        g = s.gradient(objective=1.0, x=False, y=False)
        return g["source"], g["target"]

    cross, own_a, own_b = gradient(X, Y, p, q), gradient(X, X, p, p), gradient(Y, Y, q, q)
    apart = options["epsilon"] * (p.sum() - q.sum())
    da, db = cross[0] - sum(own_a) / 2 + apart, cross[1] - sum(own_b) / 2 - apart
    if divided:
        da, db = ((g - g @ w) / total for g, w, total in ((da, p, sums[0]), (db, q, sums[1])))
    return da, db


def _mean(A, M, reg, weights, debiased, numItermax, stopThr, verbose, log, warn):
    """The barycenter of the columns of A, in double; not differentiable."""
    space = Space(A, M, weights)
    space.refuse_gradients("barycenter", A=A, M=M, weights=weights, reg=reg)
    b, cost, w = (None if x is None else space.array(x) for x in (A, M, weights))
    if b is None or b.ndim != 2:
        raise ValueError(f"A has shape {np.shape(A)}: give histograms as columns [dim, n_hists]")
    reg, cost = positive("reg", reg, zero=True), matrix(cost, "M")
    if not reg:
        mean = space.back(empty(reg, (cost.shape[1],), b.dtype))
        return (mean, {"err": [], "niter": 0}) if log else mean
    record = Record(verbose)
    options = dict(
        epsilon=float(reg),
        debiased=debiased,
        tolerance=max(stopThr, FLOOR[np.dtype(np.float64)]),
        max_iterations=int(numItermax),
    )
    mean, _, _, errors, c = _barycenter(b.T, cost, w, progress=record, **options)
    if not record.err or record.err[-1] != c.residual:
        record.note(c.iterations, c.residual)
    if c._outcome and (warn or c.outcome == "non_finite"):
        warn_user(
            f"barycenter did not converge: {c.outcome} after {c.iterations} iterations with a residual of {c.residual:.2g}: raise numItermax, stopThr or reg"
        )
    mean = space.back(mean, b.dtype)
    return (
        (
            mean,
            {
                "err": record.err,
                "niter": c.iterations,
                "errors": errors,
                "certificate": c,
                "status": c.outcome,
            },
        )
        if log
        else mean
    )


def barycenter(
    A,
    M,
    reg,
    weights=None,
    method="sinkhorn",
    numItermax=10000,
    stopThr=1e-4,
    verbose=False,
    log=False,
    warn=True,
    **kwargs,
):
    """Entropic barycenter [dim] of the histograms in the columns of A [dim, n_hists], min over a of
    sum_k weights_k OT(A_k, a) (Benamou et al. 2015). Stable for any reg. stopThr: on the L1 error
    of the plans' marginals. method: POT's names; the solver is one.
    """
    _method(method, ("sinkhorn", "sinkhorn_stabilized", "sinkhorn_log"))
    return _mean(A, M, reg, weights, False, numItermax, stopThr, verbose, log, warn)


def barycenter_sinkhorn(
    A, M, reg, weights=None, numItermax=1000, stopThr=1e-4, verbose=False, log=False, warn=True
):
    """barycenter(..., method="sinkhorn")."""
    return barycenter(A, M, reg, weights, "sinkhorn", numItermax, stopThr, verbose, log, warn)


def barycenter_stabilized(
    A,
    M,
    reg,
    tau=1e10,
    weights=None,
    numItermax=1000,
    stopThr=1e-4,
    verbose=False,
    log=False,
    warn=True,
):
    """barycenter(..., method="sinkhorn_stabilized"); tau is not needed."""
    return barycenter(
        A, M, reg, weights, "sinkhorn_stabilized", numItermax, stopThr, verbose, log, warn
    )


def barycenter_debiased(
    A,
    M,
    reg,
    weights=None,
    method="sinkhorn",
    numItermax=10000,
    stopThr=1e-4,
    verbose=False,
    log=False,
    warn=True,
    **kwargs,
):
    """The barycenter of Sinkhorn divergences (Janati et al. 2020): without the blur of
    `barycenter`; of one histogram, the histogram. M symmetric."""
    _method(method, ("sinkhorn", "sinkhorn_log"))
    return _mean(A, M, reg, weights, True, numItermax, stopThr, verbose, log, warn)
