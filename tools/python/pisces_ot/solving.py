"""What the doors share: the tolerance, the record of a solve, warnings."""

import numpy as np

from .library import _warn as warn_user
from .library import transport

# f32 kernels carry about seven digits; a tolerance below that would only be answered with
# "stalled".
FLOOR = {np.dtype(np.float64): 1e-14, np.dtype(np.float32): 1e-6}


class Record:
    """Progress of a solve: `err` for log=True, every tenth iteration and the last, and the lines of
    verbose=True."""

    def __init__(self, verbose):
        self.verbose, self.err, self.next = verbose, [], 0

    def __call__(self, iterations, residual):
        if iterations >= self.next:
            self.note(iterations, residual)
            self.next = iterations + 10

    def note(self, iterations, residual):
        if self.verbose:
            if len(self.err) % 20 == 0:
                print(f"{'It.':5s}|{'Err':12s}\n" + "-" * 19)
            print(f"{iterations:5d}|{residual:8e}|")
        self.err.append(residual)


def empty(reg, shape, dtype):
    """POT's answer to reg = 0 is a warning, not an error; ours too, with a plan that cannot be
    taken for a result."""
    warn_user(
        f"numerical errors: reg is {reg}, where the entropic plan is not defined: give a positive one"
    )
    return np.full(shape, np.nan, dtype)


def solve(M, a, b, reg, *, tolerance, max_iterations, warm, verbose, log, warn, **options):
    """transport(), recorded and with a warning when it did not converge. Returns the solution, its
    errors, its iterations."""
    record = Record(verbose) if (log or verbose) and (b is None or b.ndim == 1) else None
    # A tolerance of 0 asks for exactly so many iterations, which is not what a threshold of 0 means
    # to callers of POT.
    floor = FLOOR[np.dtype(M.dtype)]
    limits = dict(tolerance=max(tolerance, floor), max_iterations=int(max_iterations))
    solution = transport(
        M, source=a, target=b, epsilon=float(reg), warm=warm, progress=record, **limits, **options
    )
    certificates = (
        solution.certificate if isinstance(solution.certificate, list) else [solution.certificate]
    )
    worst = max(certificates, key=lambda c: (c._outcome != 0, c.residual))
    if record and (not record.err or record.err[-1] != worst.residual):
        record.note(worst.iterations, worst.residual)
    if worst._outcome and (warn or worst.outcome == "non_finite"):
        reason = (
            "numerical errors: numbers left the range of the type"
            if worst.outcome == "non_finite"
            else "did not converge"
        )
        warn_user(
            f"Sinkhorn {reason}: {worst.outcome} after {worst.iterations} iterations with a residual of {worst.residual:.2g}: "
            "raise numItermax, stopThr or the regularization"
        )
    return (
        solution,
        record.err if record else [worst.residual],
        max(c.iterations for c in certificates),
    )


def agree(a, b, count):
    """b [count] or [items, count] with the sum of a, which two hard marginals need; a and b may be
    None (uniform of sum 1). Where sums differ by more than rounding, the library divides each side
    by its own and warns, as `pisces ot solve` does."""
    if b is None:
        if a is None:
            return None
        b = np.full(count, 1 / count)
    a_sum = 1.0 if a is None else float(a.sum(dtype=np.float64))
    b_sum = b.sum(axis=-1, keepdims=True, dtype=np.float64)
    with np.errstate(all="ignore"):
        ratio = a_sum / b_sum
    off = float(abs(ratio - 1).max())
    return b * ratio if 1e-12 < off <= 1e-6 else b


def matrix(x, name):
    """`x`, which must be a matrix with elements."""
    if x is None or x.ndim != 2:
        raise ValueError(f"{name} has shape {() if x is None else x.shape}: give a matrix [n, m]")
    return x


def positive(name, value, zero=False):
    """A strength as a float: above 0, or 0 where the caller deals with it."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} is {value!r}: give a positive number") from None
    if not (number >= 0 if zero else number > 0) or np.isinf(number):
        raise ValueError(f"{name} is {number:g}: give a positive number")
    return number


def points_of(x, name):
    """`x`, which must be points [n, d]."""
    if x is None or x.ndim != 2:
        raise ValueError(f"{name} has shape {() if x is None else x.shape}: give points [n, d]")
    return x


def status(certificates):
    """The outcome of a solve, or the worst of several."""
    if not isinstance(certificates, list):
        return certificates.outcome
    return max(certificates, key=lambda c: (c._outcome != 0, c._outcome)).outcome
