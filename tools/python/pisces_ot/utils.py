"""Costs and weights under POT's names (ot.utils)."""

import numpy as np

from .arrays import Space
from .library import costs

# Those computed here; the others by scipy.
METRICS = ("sqeuclidean", "euclidean", "cosine", "cityblock", "minkowski")


def unif(n, type_as=None):
    """Uniform weights of sum 1, of the kind and precision of type_as."""
    if n < 1:
        raise ValueError(f"unif of {n} atoms: give a positive number")
    w = np.full(n, 1 / n)
    if type_as is None:
        return w
    space = Space(type_as)
    return space.back(
        w.astype(
            space.array(type_as).dtype if np.size(type_as) or space.like is not None else np.float64
        )
    )


def euclidean_distances(X, Y, squared=False, nx=None):
    """|x - y|, or its square, between the rows. nx is not needed."""
    return dist(X, Y, "sqeuclidean" if squared else "euclidean")


def _squared(x, y, same):
    """Around the common mean, so that |x|^2 + |y|^2 - 2 <x, y> keeps the digits of near points."""
    centre = x.mean(0)
    x, y = x - centre, y - centre
    M = (x * x).sum(1)[:, None] + (y * y).sum(1)[None, :] - 2 * (x @ y.T)
    M = M * (M > 0)
    if same:
        M = M - M * _eye(M)
    return M


def _eye(M):
    if isinstance(M, np.ndarray):
        return np.eye(len(M), dtype=M.dtype)
    return M.new_ones(len(M)).diag()


def _root(M):
    """The square root, whose derivative at 0 is taken as 0."""
    if isinstance(M, np.ndarray):
        return np.sqrt(M)
    return (M + (M == 0)).sqrt() * (M > 0)


def dist(x1, x2=None, metric="sqeuclidean", p=2, w=None, **kwargs):
    """Costs [n, m] between the rows of x1 [n, d] and x2 [m, d] (x1 itself when absent).

    sqeuclidean, euclidean, cosine, cityblock, minkowski (p, weights w), for numpy and torch
    (differentiably); a function of two vectors; any other metric of scipy.spatial.distance.cdist
    where scipy is installed.
    """
    x2 = x1 if x2 is None else x2
    same, space = x1 is x2, Space(x1, x2)
    if space.like is not None:
        x, y = (v if v.is_floating_point() else v.double() for v in (x1, x2))
    else:
        x, y = space.array(x1), space.array(x2)
    for name, v in (("x1", x), ("x2", y)):
        if v is None or v.ndim != 2:
            raise ValueError(
                f"{name} has shape {() if v is None else tuple(v.shape)}: give points [n, d]"
            )
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"points of {x.shape[1]} and {y.shape[1]} coordinates: give both the same number"
        )
    if space.differentiable and (
        callable(metric) or metric not in METRICS or metric == "cosine" and w is not None
    ):
        raise NotImplementedError(
            "dist with a function, or a metric of scipy, is not differentiated: detach the points, or give the cost itself"
        )
    if callable(metric) or metric not in METRICS:
        return space.back(_scipy(space.array(x1), space.array(x2), metric, p, w))
    power = {"cityblock": 1, "minkowski": p}.get(metric, 2)
    if w is not None and metric != "cosine":
        factor = np.asarray(space.array(w), dtype=np.float64) ** (1 / power)
        factor = factor if space.like is None else space.back(factor)
        x, y = x * factor, y * factor
    if metric == "cosine" and w is not None:
        return space.back(_scipy(space.array(x1), space.array(x2), metric, p, w))
    if space.like is None and metric in ("sqeuclidean", "euclidean", "cosine"):
        M = costs(x, y, metric)
        if same:
            np.fill_diagonal(M, 0)
        return space.back(M)
    if metric == "cosine":
        x, y = (v / (v * v).sum(1)[:, None] ** 0.5 for v in (x, y))
        M = 1 - x @ y.T
        M = M * (M > 0)
    elif metric == "cityblock" or (metric == "minkowski" and p != 2):
        M = sum(abs(x[:, k, None] - y[None, :, k]) ** power for k in range(x.shape[1])) ** (
            1 / power
        )
    else:
        M = _squared(x, y, same)
        M = M if metric == "sqeuclidean" else _root(M)
    return space.back(M) if space.like is None else M


def _scipy(x, y, metric, p, w):
    if callable(metric):
        return np.array([[metric(a, b) for b in y] for a in x], dtype=np.float64)
    try:
        from scipy.spatial.distance import cdist
    except ImportError:
        raise ValueError(
            f"metric {metric!r} needs scipy: install it, or pass the cost itself"
        ) from None
    options = {"minkowski": {"p": p}, "wminkowski": {"p": p}}.get(metric, {})
    try:
        return (
            cdist(x, y, metric=metric, w=w, **options)
            if w is not None
            else cdist(x, y, metric=metric, **options)
        )
    except ValueError as error:
        raise ValueError(
            f"metric {metric!r}: {error}: give {', '.join(METRICS)}, or one of scipy's cdist"
        ) from None
