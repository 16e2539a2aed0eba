"""Unbalanced entropic transport under POT's names (ot.unbalanced): marginals relaxed by KL terms.

total_cost, and returnCost="total", is <P, M> + reg KL(P | c) + reg_m1 KL(P1 | a) + reg_m2 KL(P'1 |
b) with KL(p | q) = sum p log(p / q) - p + q, as POT's documentation has it. (POT 0.9.7 leaves out
the masses, which makes its number about 0 at every solution.)
"""

import numpy as np

from .arrays import Space, paid
from .library import Certificate
from .solving import agree, empty, matrix, positive, solve, status, warn_user

METHODS = (
    "sinkhorn",
    "sinkhorn_stabilized",
    "sinkhorn_translation_invariant",
    "sinkhorn_reg_scaling",
)


def _strengths(space, reg_m):
    """The strength of each side from one number, or one a side; 0 lets a marginal free, inf keeps
    it."""
    if reg_m is None or isinstance(reg_m, str):
        raise TypeError(f"reg_m is {reg_m!r}: give a number, or (reg_m1, reg_m2)")
    values = np.asarray(space.array(reg_m) if np.ndim(reg_m) else reg_m, dtype=np.float64).ravel()
    if values.size not in (1, 2):
        raise ValueError(f"reg_m has {values.size} elements: give one number, or one a side")
    for value in values:
        if not value >= 0:
            raise ValueError(f"reg_m is {value:g}: give a number of at least 0, or inf")
    return float(values[0]), float(values[-1])


def _exponent(rho, reg):
    return 1.0 if np.isinf(rho) else rho / (rho + reg)


class _Plan:
    """A plan P = exp(logu + logv - M / reg) c with what POT's names are computed from, all numpy
    and f64."""

    def __init__(self, M, a, b, c, reg, rho, plan, logu, logv, entries):
        self.M, self.a, self.b, self.c, self.reg, self.rho = M.astype(np.float64), a, b, c, reg, rho
        self.plan, self.logu, self.logv, self.entries = plan, logu, logv, entries
        entries.update(logu=logu, logv=logv)

    def cost(self):
        return float(paid(self.plan.astype(np.float64), self.M))

    def total(self):
        """The objective, term by term."""
        value = self.cost() + self.reg * _kl(self.plan, self.c)
        for rho, marginal, weight in zip(self.rho, self._marginals(), (self.a, self.b)):
            value += rho * _kl(marginal, weight) if 0 < rho < np.inf else 0.0
        return value

    def _marginals(self):
        P = self.plan.astype(np.float64)
        return P.sum(1), P.sum(0)

    def total_gradients(self, is_product):
        """Derivatives of the total with respect to M, a, b and c: those of the objective with the
        plan held, and the potential of a marginal that is kept (the envelope theorem)."""
        P = self.plan.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            ratio = np.exp(
                self.logu[:, None] + self.logv - self.M / self.reg
            )  # P / c, also where c is 0
            dc = self.reg * (1 - np.nan_to_num(ratio))
            sides = []
            for k, (rho, weight, potential) in enumerate(
                ((self.rho[0], self.a, self.logu), (self.rho[1], self.b, self.logv))
            ):
                d = np.zeros(len(weight))
                if np.isinf(rho):
                    d += self.reg * potential
                elif rho:
                    d += rho * (1 - self._marginals()[k] / weight)
                if is_product:
                    d += dc @ self.b if k == 0 else self.a @ dc
                sides.append(np.where(weight > 0, d, 0))
        return P, sides[0], sides[1], dc


def _kl(p, q):
    p, q = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p > 0, p * np.log(p / np.where(q > 0, q, 1)), 0)
    return float(terms.sum() - p.sum() + q.sum())


def _free(M, a, b, c, reg, rho):
    """With a marginal that is free (reg_m of 0) its scaling is 1 and the other one has a closed
    form."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logits = np.log(c) - M.astype(np.float64) / reg
        logu, logv = np.zeros(len(a)), np.zeros(len(b))
        if rho[0]:
            logu = _exponent(rho[0], reg) * (np.log(a) - _lse(logits, 1))
        if rho[1]:
            logv = _exponent(rho[1], reg) * (np.log(b) - _lse(logits, 0))
        logu, logv = (np.where(np.isnan(x), -np.inf, x) for x in (logu, logv))
        plan = np.exp(logu[:, None] + logv + logits)
    certificate = Certificate(
        _outcome=0, iterations=1, epsilon=reg, mass=plan.sum(), cost=float(paid(plan, M))
    )
    return _Plan(
        M,
        a,
        b,
        c,
        reg,
        rho,
        plan.astype(M.dtype),
        logu,
        logv,
        {"err": [0.0], "niter": 1, "certificate": certificate, "status": "converged"},
    )


def _lse(x, axis):
    top = x.max(axis, keepdims=True)
    top = np.where(np.isfinite(top), top, 0)
    return (top + np.log(np.exp(x - top).sum(axis, keepdims=True))).squeeze(axis)


def _within(M, reg, c):
    """The cost whose entropic problem is that of M with the reference c; where c is 0 no
    exponential survives it."""
    on = c > 0
    shifted = M - reg * np.log(np.where(on, c, 1), dtype=np.float64)
    far = 1e4 * (reg + np.ptp(shifted[on])) + shifted[on].max()
    return np.where(on, shifted, far).astype(M.dtype)


def _solve(space, M, a, b, reg, rho, c, is_product, warmstart, how):
    """One problem, all numpy. c: the reference, [n, m]; is_product: it is a b'. Returns a _Plan,
    and the solution that the library differentiates (None where there is a closed form)."""
    n, m = M.shape
    if a.shape != (n,) or b.shape != (m,):
        raise ValueError(f"a and b have shapes {a.shape} and {b.shape}: give [{n}] and [{m}]")
    b = agree(a, b, m) if np.isinf(rho).all() else b
    if 0 in rho:
        return _free(M, a, b, c, reg, rho), None
    own = (0.0, 0.0)
    # A weight's power 1 + reg / reg_m may leave the range of double: then the reference goes into
    # the cost.
    by_library = is_product and reg / min(rho) <= 20
    if by_library:  # POT's potentials do not hold the reference's share, the library's do
        with np.errstate(divide="ignore"):
            own = (np.log(a), np.log(b))
    cost = M if by_library or (c == 1).all() else _within(M, reg, c)
    warm = (
        None
        if warmstart is None
        else tuple(
            np.asarray(space.array(w), dtype=np.float64).T + o for w, o in zip(warmstart, own)
        )
    )
    how = {**how, "tolerance": how["tolerance"] / max(n, m)}
    reference = "product" if by_library else "entropy"
    s, err, iterations = solve(
        cost,
        a,
        b,
        reg,
        warm=warm,
        warn=True,
        rule="unbalanced",
        rho=rho,
        reference=reference,
        **how,
    )
    logu, logv = (
        np.subtract(x, o, out=np.full_like(x, -np.inf), where=x > -np.inf)
        for x, o in zip((s.log_u, s.log_v), own)
    )
    entries = {
        "err": err,
        "niter": iterations,
        "certificate": s.certificate,
        "status": s.certificate.outcome,
    }
    return _Plan(M, a, b, c, reg, rho, s.plan, logu, logv, entries), s


class _Reference:
    """c of a problem as the caller gave it: a b', 1, or a matrix."""

    def __init__(self, space, reg_type, c, several):
        kind = reg_type.lower()
        if several and kind == "kl":
            warn_user(
                "with several histograms reg_type is entropy, as in POT: pass it to silence this"
            )
            kind = "entropy"
        if kind == "entropy" and c is not None:
            warn_user("with reg_type entropy c is not used")
        self.is_product, self.given = kind == "kl" and c is None, c if kind == "kl" else None
        self.matrix = None if self.given is None else matrix(space.array(c), "c").astype(np.float64)

    def of(self, a, b):
        if self.matrix is None:
            return np.outer(a, b) if self.is_product else np.ones((len(a), len(b)))
        if self.matrix.shape != (len(a), len(b)):
            raise ValueError(f"c has shape {self.matrix.shape}: give {(len(a), len(b))}")
        return self.matrix


def _uniform(w, count):
    return np.full(count, 1 / count) if w is None else w.astype(np.float64)


def _run(
    a, b, M, reg, reg_m, method, reg_type, c, want, warmstart, numItermax, stopThr, verbose, log
):
    """want: plan, linear or total."""
    if method.lower() not in METHODS:
        raise ValueError(f"Unknown method '{method}'. Known are {', '.join(METHODS)}.")
    if reg_type.lower() not in ("kl", "entropy"):
        raise ValueError(f"Unknown reg_type '{reg_type}'. Known are kl, entropy.")
    space, how = Space(M, a, b, c), dict(
        tolerance=stopThr, max_iterations=numItermax, verbose=verbose, log=log
    )
    space.refuse_gradients("sinkhorn_unbalanced", reg=reg, reg_m=reg_m)
    reg = positive("reg", reg, zero=True)
    cost = matrix(space.array(M), "M")
    if not reg:
        plan = space.back(empty(reg, cost.shape, cost.dtype))
        return (plan, {"err": []}) if log else plan
    rho, several = _strengths(space, reg_m), np.ndim(b) == 2
    reference = _Reference(space, reg_type, c, several)
    if several:
        return _several(space, a, b, cost, reg, rho, want, warmstart, how)
    kept = []

    def run(M, a, b):
        weights = _uniform(a, M.shape[0]), _uniform(b, M.shape[1])
        kept[:] = _solve(
            space,
            M,
            *weights,
            reg,
            rho,
            reference.of(*weights),
            reference.is_product,
            warmstart,
            how,
        )
        return kept[0]

    if want == "total" or not space.differentiable:
        p = run(cost, space.array(a), space.array(b))
        plan = space.back(p.plan)
    else:
        plan, p = _differentiable_plan(space, run, kept, M, a, b, reference, reg)
    gradients = []
    if space.differentiable and (want == "total" or log):
        gradients = list(zip((M, a, b, reference.given), p.total_gradients(reference.is_product)))
    total = space.value(p.total(), gradients, cost.dtype)
    linear = paid(plan, M) if want == "linear" or log else None
    result = {"plan": plan, "linear": linear, "total": total}[want]
    return (
        (result, space.log({**p.entries, "cost": linear, "total_cost": total})) if log else result
    )


def _differentiable_plan(space, run, kept, M, a, b, reference, reg):
    """The plan as a node of torch. A reference that depends on what is differentiated goes into the
    cost, where torch follows it; so does a closed form."""
    torch = space.torch
    # Copies: the caller may write to its own before it asks for gradients.
    p = run(*(None if x is None else x.copy() for x in map(space.array, (M, a, b))))
    if kept[1] is not None and kept[1]._problem.reference == 1:  # the library's own product
        plan, _ = space.plan(lambda *_: kept[1], M, a, b)
        return plan, p

    def tensor(x, count):
        return (
            space.back(np.full(count, 1 / count)).to(cost.dtype)
            if x is None or not np.size(x)
            else torch.as_tensor(x, dtype=cost.dtype, device=cost.device)
        )

    cost = M if isinstance(M, torch.Tensor) else space.back(space.array(M))
    weights = tensor(a, cost.shape[0]), tensor(b, cost.shape[1])
    c = weights[0][:, None] * weights[1] if reference.is_product else reference.given
    if c is not None:
        c = torch.as_tensor(c, dtype=cost.dtype, device=cost.device)
        on = c > 0
        if not on.all() and kept[1] is not None:
            raise NotImplementedError(
                "a reference with zeros is not differentiated: give the pairs a small reference instead"
            )
        cost = cost - reg * torch.log(torch.where(on, c, torch.ones_like(c)))
    if kept[1] is not None:
        plan, _ = space.plan(lambda *_: kept[1], cost, *weights)
        return plan, p
    logits = -cost / reg if c is None else torch.where(c > 0, -cost / reg, -torch.inf)
    for axis, (rho, weight) in enumerate(zip(p.rho, weights)):
        if rho:
            scaling = _exponent(rho, reg) * (torch.log(weight) - torch.logsumexp(logits, 1 - axis))
            logits = logits + (scaling[:, None] if axis == 0 else scaling)
    return torch.exp(logits), p


def _several(space, a, b, M, reg, rho, want, warmstart, how):
    """Several histograms b [m, items], of reference 1: one number each, one batch call."""
    if space.differentiable:
        raise NotImplementedError(
            "several histograms are not differentiated here: call it for one at a time"
        )
    a, b = _uniform(space.array(a), M.shape[0]), space.array(b).astype(np.float64)
    if a.shape != (M.shape[0],) or b.shape[0] != M.shape[1]:
        raise ValueError(
            f"a and b have shapes {a.shape} and {b.shape}: give [{M.shape[0]}] and [{M.shape[1]}, items]"
        )
    if 0 in rho:
        plans = [_free(M, a, b[:, k], np.ones(M.shape), reg, rho) for k in range(b.shape[1])]
        costs, totals, entries = (
            [p.cost() for p in plans],
            [p.total() for p in plans],
            plans[-1].entries,
        )
        certificates = [p.entries["certificate"] for p in plans]
        logu, logv = (np.stack(x, 1) for x in ([p.logu for p in plans], [p.logv for p in plans]))
    else:
        warm = None if warmstart is None else tuple(space.array(w).T for w in warmstart)
        how = {**how, "tolerance": how["tolerance"] / max(M.shape)}
        s, err, iterations = solve(
            M,
            a,
            agree(a, b.T, M.shape[1]) if np.isinf(rho).all() else b.T,
            reg,
            warm=warm,
            warn=True,
            plan=False,
            rule="unbalanced",
            rho=rho,
            **how,
        )
        certificates, logu, logv, entries = (
            s.certificate,
            s.log_u.T,
            s.log_v.T,
            {"err": err, "niter": iterations},
        )
        costs, totals = [c.cost for c in certificates], [
            c.primal + reg * M.size for c in certificates
        ]
    result = space.back(totals if want == "total" else costs, M.dtype)
    entries = {
        **entries,
        "certificate": certificates,
        "status": status(certificates),
        "logu": logu,
        "logv": logv,
    }
    return (result, space.log(entries)) if how["log"] else result


def sinkhorn_unbalanced(
    a, b, M, reg, reg_m, method="sinkhorn", reg_type="kl", c=None, warmstart=None, numItermax=1000, stopThr=1e-6, verbose=False,
    log=False, **kwargs,
):  # fmt: skip
    """Plan [n, m] of min <P, M> + reg KL(P | c) + reg_m1 KL(P1 | a) + reg_m2 KL(P'1 | b); of
    several histograms b [m, items] the <P, M>.

    reg_m: one number, or one a side; inf keeps the marginal, 0 lets it free. reg_type kl: c is a b'
    unless given; entropy: c is 1. Potentials in log and warmstart are POT's: P = exp(logu + logv -
    M / reg) c.
    """
    return _run(
        a,
        b,
        M,
        reg,
        reg_m,
        method,
        reg_type,
        c,
        "plan",
        warmstart,
        numItermax,
        stopThr,
        verbose,
        log,
    )


def sinkhorn_unbalanced2(
    a, b, M, reg, reg_m, method="sinkhorn", reg_type="kl", c=None, warmstart=None, returnCost="linear", numItermax=1000, stopThr=1e-6,
    verbose=False, log=False, **kwargs,
):  # fmt: skip
    """<P, M> of that plan (returnCost linear), or the whole objective (total)."""
    if returnCost not in ("linear", "total"):
        raise ValueError(f"Unknown returnCost '{returnCost}'. Known are linear, total.")
    return _run(
        a,
        b,
        M,
        reg,
        reg_m,
        method,
        reg_type,
        c,
        returnCost,
        warmstart,
        numItermax,
        stopThr,
        verbose,
        log,
    )


def _named(method, name):
    def function(
        a,
        b,
        M,
        reg,
        reg_m,
        reg_type="kl",
        c=None,
        warmstart=None,
        numItermax=1000,
        stopThr=1e-6,
        verbose=False,
        log=False,
        **kwargs,
    ):
        return sinkhorn_unbalanced(
            a, b, M, reg, reg_m, method, reg_type, c, warmstart, numItermax, stopThr, verbose, log
        )

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"sinkhorn_unbalanced(..., method={method!r})."
    return function


sinkhorn_knopp_unbalanced = _named("sinkhorn", "sinkhorn_knopp_unbalanced")
sinkhorn_stabilized_unbalanced = _named("sinkhorn_stabilized", "sinkhorn_stabilized_unbalanced")
sinkhorn_unbalanced_translation_invariant = _named(
    "sinkhorn_translation_invariant", "sinkhorn_unbalanced_translation_invariant"
)
