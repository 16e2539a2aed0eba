"""The C library libpisces_ot (Library/include/pisces_ot.h) through ctypes: problems, solutions,
certificates.

`transport` is the library's own door: every rule and cost it has, and a `Solution` with its
certificate, gradients and barycentric projection. The modules beside this one put the names and
habits of POT on top of it.
"""

import ctypes as C
import os
import sys
import threading
import warnings
import weakref
from pathlib import Path

import numpy as np

OUTCOMES = ("converged", "max_iterations", "stalled", "non_finite", "interrupted")
COSTS = {"matrix": 0, "sqeuclidean": 1, "euclidean": 2, "cosine": 3}
RULES = {"balanced": 0, "unbalanced": 1, "relaxed": 2, "exact_mass": 3}
REFERENCES = {"entropy": 0, "product": 1}

_pointer, _double, _size, _int = C.c_void_p, C.c_double, C.c_ssize_t, C.c_int
_progress = C.CFUNCTYPE(_int, _pointer, _size, _double)


class _Problem(C.Structure):
    _fields_ = [
        ("size", C.c_size_t), ("n", _size), ("m", _size), ("d", _size),
        ("type", _int), ("cost", _int), ("rule", _int), ("reference", _int),
        ("x", _pointer), ("y", _pointer), ("source", _pointer), ("target", _pointer),
        ("scale", _double), ("epsilon", _double), ("rho_source", _double), ("rho_target", _double),
        ("mass", _double), ("tolerance", _double), ("max_iterations", _size),
        ("warm", _int), ("plain", _int), ("progress", _progress), ("context", _pointer),
    ]  # fmt: skip


class _Solution(C.Structure):
    _fields_ = [("log_u", _pointer), ("log_v", _pointer), ("log_z", _double), ("plan", _pointer)]


class Certificate(C.Structure):
    """What the library says of a solution, recomputed from its plan; see pisces_ot_certificate."""

    _fields_ = [("_outcome", _int), ("iterations", _size)] + [
        (name, _double)
        for name in "residual error_l1 error_linf cost primal dual gap mass epsilon log_z".split()
    ] + [("_reserved", _double * 4)]  # fmt: skip

    @property
    def outcome(self):
        return OUTCOMES[self._outcome]

    def __repr__(self):
        names = [name for name, _ in self._fields_ if not name.startswith("_")]
        return (
            f"Certificate({self.outcome}, "
            + ", ".join(f"{n}={getattr(self, n):.6g}" for n in names)
            + ")"
        )


class _Barycenter(C.Structure):
    _fields_ = [
        ("size", C.c_size_t), ("count", _size), ("n", _size), ("m", _size),
        ("histograms", _pointer), ("weights", _pointer), ("cost", _pointer), ("cost_stride", _size),
        ("debiased", _int), ("own_cost", _pointer), ("epsilon", _double), ("tolerance", _double), ("max_iterations", _size),
        ("plain", _int), ("progress", _progress), ("context", _pointer),
    ]  # fmt: skip


class _Strides(C.Structure):
    _fields_ = [(name, _size) for name in "x y source target plan log_u log_v".split()]


class _Upstream(C.Structure):
    _fields_ = [("plan", _pointer), ("cost", _double), ("objective", _double)]


class _Gradients(C.Structure):
    _fields_ = [(name, _pointer) for name in "x y source target".split()] + [("residual", _double)]


def _load():
    """PISCES_OT_LIBRARY; the wheel that this file came in; the prefix it was installed under; the
    repository's build; the loader's own places."""
    given = os.environ.get("PISCES_OT_LIBRARY")
    here, name = Path(__file__).resolve().parents, "libpisces_ot.so.1"
    places = [here[1] / "pisces" / "lib" / name]
    places += [here[4] / "lib" / name] if len(here) > 4 else []
    places += [here[3] / ".build" / "library" / name] if len(here) > 3 else []
    places = [given] if given else [p for p in places if p.exists()] + [name]
    try:
        library = C.CDLL(str(places[0]))
    except OSError as error:
        raise ImportError(
            f"{name}: {error}: build it with tools/library, install it with tools/install, or name it in PISCES_OT_LIBRARY"
        ) from None
    p = C.POINTER
    for function, result, arguments in [
        ("version", _int, []),
        ("create", _int, [p(_pointer)]),
        ("destroy", None, [_pointer]),
        ("set_threads", _int, [_pointer, _int]),
        ("threads", _int, [_pointer]),
        ("message", C.c_char_p, [_pointer]),
        ("problem_init_size", None, [p(_Problem), C.c_size_t]),
        ("solve", _int, [_pointer, p(_Problem), p(_Solution), p(Certificate)]),
        (
            "solve_batch",
            _int,
            [_pointer, p(_Problem), _size, p(_Strides), p(_Solution), p(Certificate)],
        ),
        ("certify", _int, [_pointer, p(_Problem), p(_Solution), p(Certificate)]),
        ("gradient", _int, [_pointer, p(_Problem), p(_Solution), p(_Upstream), p(_Gradients)]),
        ("project", _int, [_pointer, p(_Problem), p(_Solution), _pointer]),
        (
            "exact",
            _int,
            [
                _pointer,
                _size,
                _size,
                _pointer,
                _pointer,
                _pointer,
                _double,
                _pointer,
                _pointer,
                _pointer,
                p(_double),
                p(Certificate),
            ],
        ),
        ("costs", _int, [_pointer, p(_Problem), _pointer]),
        (
            "divergence",
            _int,
            [
                _pointer,
                p(_Problem),
                _pointer,
                _pointer,
                p(_double),
                _pointer,
                _pointer,
                p(Certificate),
            ],
        ),
        (
            "barycenter",
            _int,
            [_pointer, p(_Barycenter), _pointer, _pointer, _pointer, _pointer, p(Certificate)],
        ),
    ]:
        f = getattr(library, "pisces_ot_" + function)
        f.restype, f.argtypes = result, arguments
    return library


_library = _load()
_thread = threading.local()


class _Context:
    """One a thread; it owns the library's scratch memory."""

    def __init__(self):
        self.handle = _pointer()
        _check(_library.pisces_ot_create(C.byref(self.handle)), None)
        weakref.finalize(self, _library.pisces_ot_destroy, self.handle)


def _context():
    try:
        return _thread.context.handle
    except AttributeError:
        _thread.context = _Context()
        return _thread.context.handle


def _check(status, context):
    if status:
        text = _library.pisces_ot_message(context).decode() if context else "no context"
        raise {1: ValueError, 2: ValueError, 3: MemoryError}.get(status, RuntimeError)(text)
    note = _library.pisces_ot_message(context) if context else None
    if note:
        _warn(note.decode())


def _warn(text):
    """A UserWarning at the line that called this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__package__") == __package__:
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def version():
    """Version of the library in use, as (major, minor, patch)."""
    v = _library.pisces_ot_version()
    return v // 10000, v // 100 % 100, v % 100


def set_threads(count):
    """Threads that calls from this thread of Python may use."""
    _check(_library.pisces_ot_set_threads(_context(), count), _context())


def threads():
    return _library.pisces_ot_threads(_context())


def _address(array):
    return None if array is None else array.ctypes.data


def _weights(w, count, items):
    """Weights as the library reads them: double, one row an item."""
    if w is None:
        return None
    w = np.ascontiguousarray(w, dtype=np.float64)
    if w.shape[-1:] != (count,) or w.ndim > 2 or (w.ndim == 2 and items and w.shape[0] != items):
        raise ValueError(
            f"weights have shape {w.shape}: give [{count}], or [items, {count}] for several problems"
        )
    return w


class Solution:
    """log_u [n], log_v [m] (each with a leading axis for several problems), plan [n, m] or None,
    certificate(s)."""

    def __init__(self, problem, arrays, log_u, log_v, plan, certificate):
        self._problem, self._arrays = problem, arrays
        self.log_u, self.log_v, self.plan, self.certificate = log_u, log_v, plan, certificate

    def _solution(self, plan=None):
        if isinstance(self.certificate, list):
            raise ValueError("several problems in one solution: solve the one you mean by itself")
        return _Solution(
            _address(self.log_u), _address(self.log_v), self.certificate.log_z, _address(plan)
        )

    def certify(self):
        """The certificate recomputed with every sum and exponential in f64, of the plan where there
        is one; its outcome is judged again."""
        out = Certificate(
            _outcome=self.certificate._outcome,
            iterations=self.certificate.iterations,
            residual=self.certificate.residual,
        )
        s, context = self._solution(self.plan), _context()
        _check(_library.pisces_ot_certify(context, self._problem, s, out), context)
        return out

    def gradient(self, plan=None, cost=0.0, objective=0.0, x=True, y=True, weights=True):
        """Gradients of a function of the solution whose derivatives are `plan` [n, m], `cost`,
        `objective`: a dictionary of x (the cost, or the sources), y (the targets), source, target,
        residual."""
        p, points = self._problem, self._problem.cost != 0
        dtype = np.float64 if p.type == 0 else np.float32
        upstream = None if plan is None else np.ascontiguousarray(plan, dtype=dtype)
        if upstream is not None and upstream.shape != (p.n, p.m):
            raise ValueError(
                f"the upstream on the plan has shape {upstream.shape}: give {(p.n, p.m)}"
            )
        out = {
            "x": np.empty((p.n, p.d if points else p.m), dtype) if x else None,
            "y": np.empty((p.m, p.d), dtype) if y and points else None,
            "source": np.empty(p.n) if weights else None,
            "target": np.empty(p.m) if weights else None,
        }
        g, context = _Gradients(*map(_address, out.values()), 0.0), _context()
        u = _Upstream(_address(upstream), cost, objective)
        _check(_library.pisces_ot_gradient(context, p, self._solution(), u, g), context)
        return {**out, "residual": g.residual}

    def project(self):
        """Barycentric projection of the sources [n, d], of points only (cosine: of targets scaled
        to length 1)."""
        p, context = self._problem, _context()
        out = np.empty((p.n, p.d), np.float64 if p.type == 0 else np.float32)
        _check(_library.pisces_ot_project(context, p, self._solution(), _address(out)), context)
        return out


def _pose(
    x,
    y,
    source,
    target,
    epsilon,
    cost,
    rule,
    reference,
    scale,
    rho,
    mass,
    tolerance,
    max_iterations,
    plain,
    progress,
    items=0,
):
    """A problem for the library and the arrays that it points into."""
    for name, value, known in (
        ("cost", cost, COSTS),
        ("rule", rule, RULES),
        ("reference", reference, REFERENCES),
    ):
        if value not in known:
            raise ValueError(f"{name} is {value!r}: give {', '.join(known)}")
    if isinstance(rho, (tuple, list)) and len(rho) != 2:
        raise ValueError(f"rho has {len(rho)} elements: give one number, or one a side")
    x = np.asarray(x)
    dtype = (
        np.float32
        if x.dtype == np.float32 and (y is None or np.asarray(y).dtype == np.float32)
        else np.float64
    )
    x = np.ascontiguousarray(x, dtype=dtype)
    y = None if y is None else np.ascontiguousarray(y, dtype=dtype)
    if (
        x.ndim != 2
        or (cost == "matrix") != (y is None)
        or (y is not None and (y.ndim != 2 or y.shape[1] != x.shape[1]))
    ):
        raise ValueError(
            f"arrays of shapes {x.shape} and {None if y is None else y.shape}: give a cost [n, m], or points [n, d] and [m, d]"
        )
    n, m = (x.shape[0], y.shape[0]) if y is not None else x.shape
    source, target = _weights(source, n, items), _weights(target, m, items)
    rhos = tuple(rho) if isinstance(rho, (tuple, list)) else (rho, rho)
    callback = _progress(progress) if progress else _progress()
    problem = _Problem(
        C.sizeof(_Problem), n, m, 0 if y is None else x.shape[1], dtype == np.float32, COSTS[cost], RULES[rule], REFERENCES[reference],
        _address(x), _address(y), _address(source), _address(target), scale, epsilon, rhos[0], rhos[1],
        mass, tolerance, max_iterations, 0, plain, callback, None,
    )  # fmt: skip
    return problem, (x, y, source, target, callback)


def _called(progress):
    """`progress` for the library, and the list that an error in it goes to."""
    raised = []

    def call(_, iterations, residual):
        try:
            return bool(progress(iterations, residual))
        except (
            BaseException
        ) as error:  # carried over the C frames; an interrupt from the keyboard too
            raised.append(error)
            return 1

    return (call if progress else None), raised


def transport(x, y=None, source=None, target=None, *, epsilon, cost=None, rule="balanced", reference="entropy", scale=1.0,
              # fmt: skip
              rho=np.inf, mass=1.0, tolerance=1e-9, max_iterations=10000, plain=False, warm=None, plan=True, progress=None):
    """Solves min <P, C> + epsilon sum P (log P - 1) with the marginals of `rule`, for a cost x [n,
    m], or points x [n, d] and y [m, d] at the distance `cost` (sqeuclidean, euclidean, cosine),
    which is never stored.

    rule       balanced, unbalanced (rho, or (rho, rho) by side), relaxed (mass), exact_mass (mass)
    reference  entropy, or product: epsilon KL(P | source x target) instead
    source, target  weights; [items, n] or [items, m] poses one problem an item, with the same x and
    y warm       (log_u, log_v) to start from progress   called with (iterations, residual); true
    interrupts. Single problems only Returns a Solution; look at its certificate's outcome.
    """
    items = (
        max((np.ndim(w) == 2) * len(w) for w in (source, target) if w is not None)
        if source is not None or target is not None
        else 0
    )
    call, raised = _called(progress)
    problem, arrays = _pose(x, y, source, target, epsilon, cost or ("matrix" if y is None else "sqeuclidean"), rule, reference, scale,
                            rho, mass, tolerance, max_iterations, plain, call, items)  # fmt: skip
    n, m = problem.n, problem.m
    lead = (items,) if items else ()
    log_u, log_v = np.empty(lead + (n,)), np.empty(lead + (m,))
    if warm is not None:
        for name, given, own in zip(("log_u", "log_v"), warm, (log_u, log_v)):
            if np.shape(given) != own.shape:
                raise ValueError(
                    f"warm (warmstart) holds a {name} of shape {np.shape(given)}: give {own.shape}"
                )
            own[...] = given
        problem.warm = 1
    plan = np.empty(lead + (n, m), arrays[0].dtype) if plan else None
    solution, context = _Solution(_address(log_u), _address(log_v), 0.0, _address(plan)), _context()
    if not items:
        certificate = Certificate()
        _check(_library.pisces_ot_solve(context, problem, solution, certificate), context)
        if raised:
            raise raised[0]
        return Solution(problem, arrays, log_u, log_v, plan, certificate)
    certificates = (Certificate * items)()
    source, target = arrays[2:4]
    strides = _Strides(
        0,
        0,
        n if source is not None and source.ndim == 2 else 0,
        m if target is not None and target.ndim == 2 else 0,
        n * m,
        n,
        m,
    )
    _check(
        _library.pisces_ot_solve_batch(context, problem, items, strides, solution, certificates),
        context,
    )
    return Solution(problem, arrays, log_u, log_v, plan, list(certificates))


def exact(cost, source=None, target=None, mass=None):
    """The exact plan [n, m] of a cost [n, m], in f64, by a network simplex: hard marginals, or with
    `mass` source and target as caps and that total. An infinite cost forbids its pair. Returns
    plan, prices of source [n] and target [m] (derivatives of the cost with respect to them), price
    of the mass, certificate.
    """
    C_ = np.ascontiguousarray(cost, dtype=np.float64)
    if C_.ndim != 2 or not C_.size:
        raise ValueError(f"the cost has shape {C_.shape}: give [n, m]")
    n, m = C_.shape
    source, target = _weights(source, n, 0), _weights(target, m, 0)
    plan, f, g, price, certificate, context = (
        np.empty((n, m)),
        np.empty(n),
        np.empty(m),
        _double(),
        Certificate(),
        _context(),
    )
    total = -1.0 if mass is None else float(mass)
    _check(
        _library.pisces_ot_exact(
            context,
            n,
            m,
            *map(_address, (C_, source, target)),
            total,
            *map(_address, (plan, f, g)),
            price,
            certificate,
        ),
        context,
    )
    return plan, f, g, price.value, certificate


def costs(x, y, cost="sqeuclidean", scale=1.0):
    """Costs [n, m] between points x [n, d] and y [m, d], as accurate as the solvers take them;
    float32 for two float32 arrays, else float64."""
    problem, arrays = _pose(
        x, y, None, None, 1.0, cost, "balanced", "entropy", scale, np.inf, 1.0, 0.0, 1, False, None
    )
    out, context = np.empty((problem.n, problem.m), arrays[0].dtype), _context()
    _check(_library.pisces_ot_costs(context, problem, _address(out)), context)
    return out


def divergence(x, y=None, source=None, target=None, *, epsilon, cost=None, source_cost=None, target_cost=None, rho=np.inf, scale=1.0,
               tolerance=1e-9, max_iterations=10000, gradient=False):  # fmt: skip
    """The Sinkhorn divergence OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 + epsilon / 2 (sum a - sum
    b)^2 (Feydy et al. 2019; a finite rho: Sejourne et al. 2019) of points, or of a cost x [n, m]
    with source_cost [n, n] and target_cost [m, m]. Returns value, certificates of the three solves;
    with gradient: value, dx, dy, certificates."""
    problem, arrays = _pose(x, y, source, target, epsilon, cost or ("matrix" if y is None else "sqeuclidean"),
                            # fmt: skip
                            "balanced" if np.isinf(rho) else "unbalanced", "product", scale, rho, 1.0, tolerance, max_iterations, False, None)
    dtype = arrays[0].dtype
    own = [
        None if c is None else np.ascontiguousarray(c, dtype=dtype)
        for c in (source_cost, target_cost)
    ]
    for c, size in zip(own, (problem.n, problem.m)):
        if c is not None and c.shape != (size, size):
            raise ValueError(f"a cost of shape {c.shape} within one measure: give {(size, size)}")
    value, certificates, context = _double(), (Certificate * 3)(), _context()
    dx, dy = (
        (np.empty_like(arrays[0]), np.empty_like(arrays[1]))
        if gradient and y is not None
        else (None, None)
    )
    _check(
        _library.pisces_ot_divergence(
            context, problem, *map(_address, own), value, _address(dx), _address(dy), certificates
        ),
        context,
    )
    return (
        (value.value, dx, dy, list(certificates)) if gradient else (value.value, list(certificates))
    )


def barycenter(
    histograms,
    cost,
    weights=None,
    *,
    epsilon,
    debiased=False,
    own_cost=None,
    tolerance=1e-9,
    max_iterations=10000,
    plain=False,
    progress=None,
):
    """The entropic barycenter of histograms [count, n] on the support of a cost [n, m] (or [count,
    n, m], one each), min over a of sum_k weights_k OT(b_k, a) (Benamou et al. 2015); debiased: of
    the Sinkhorn divergences (Janati et al. 2020), for which own_cost [m, m] is the cost between the
    barycenter's atoms, by default the shared, square cost. Returns the barycenter [m], log_u
    [count, n], log_v [count, m] of the plans, errors [count] of their marginals, the certificate.
    """
    b, C_, own = (
        None if x is None else np.ascontiguousarray(x, dtype=np.float64)
        for x in (histograms, cost, own_cost)
    )
    if (
        b.ndim != 2
        or C_.ndim not in (2, 3)
        or C_.shape[-2] != b.shape[1]
        or (C_.ndim == 3 and len(C_) != len(b))
    ):
        raise ValueError(
            f"histograms and cost of shapes {b.shape} and {C_.shape}: give [count, n], and [n, m] or [count, n, m]"
        )
    (count, n), m = b.shape, C_.shape[-1]
    if own is not None and own.shape != (m, m):
        raise ValueError(
            f"a cost of shape {own.shape} between the barycenter's atoms: give {(m, m)}"
        )
    w = None if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
    if w is not None and w.shape != (count,):
        raise ValueError(f"weights of shape {w.shape}: give [{count}]")
    call, raised = _called(progress)
    problem = _Barycenter(
        C.sizeof(_Barycenter), count, n, m, _address(b), _address(w), _address(C_), n * m if C_.ndim == 3 else 0, debiased,
        _address(own), epsilon, tolerance, max_iterations, plain, _progress(call) if call else _progress(), None,
    )  # fmt: skip
    a, log_u, log_v, errors, certificate, context = (
        np.empty(m),
        np.empty((count, n)),
        np.empty((count, m)),
        np.empty(count),
        Certificate(),
        _context(),
    )
    _check(
        _library.pisces_ot_barycenter(
            context, problem, *map(_address, (a, log_u, log_v, errors)), certificate
        ),
        context,
    )
    if raised:
        raise raised[0]
    return a, log_u, log_v, errors, certificate
