"""Entropic optimal transport of PISCES under the names of POT: `import pisces_ot as ot`. See
README.md of the folder above."""

from . import bregman, partial, unbalanced, utils
from .bregman import (
    barycenter,
    empirical_sinkhorn,
    empirical_sinkhorn2,
    empirical_sinkhorn_divergence,
    sinkhorn,
    sinkhorn2,
    sinkhorn_divergence,
)
from .library import Certificate, Solution, divergence, set_threads, threads, transport, version
from .partial import entropic_partial_wasserstein, partial_wasserstein, partial_wasserstein2
from .unbalanced import sinkhorn_unbalanced, sinkhorn_unbalanced2
from .utils import dist, unif

__version__ = "%d.%d.%d" % version()
__all__ = [
    "bregman", "partial", "unbalanced", "utils", "sinkhorn", "sinkhorn2", "empirical_sinkhorn", "empirical_sinkhorn2",
    "empirical_sinkhorn_divergence", "sinkhorn_divergence", "sinkhorn_unbalanced", "sinkhorn_unbalanced2", "entropic_partial_wasserstein",
    "partial_wasserstein", "partial_wasserstein2", "barycenter", "dist", "unif", "transport", "divergence", "Solution", "Certificate", "set_threads", "threads", "version",
]  # fmt: skip


def __getattr__(name):
    raise AttributeError(
        f"pisces_ot has no {name!r}: it offers {', '.join(sorted(__all__))}; take the rest of POT from `ot`"
    )
