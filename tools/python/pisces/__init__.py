"""Rewards of videos and prompts (PISCES, arXiv:2602.01624) on the processor:

    import pisces
    reward = pisces.Reward("embedded:reward")
    print(reward.score(frames, "a large red circle moving left"))

`pisces.ot` is the transport of PISCES under the names of POT (also `import pisces_ot as ot`). See
README.md of the folder above.
"""

from .library import BadArgument, BadData, PiscesError, version
from .reward import Plan, Reward, Scores

__version__ = "%d.%d.%d" % version()
__all__ = ["Reward", "Scores", "Plan", "PiscesError", "BadArgument", "BadData", "version", "ot"]


def __getattr__(name):
    if name == "ot":
        import pisces_ot

        return pisces_ot
    raise AttributeError(f"pisces has no {name!r}: it offers {', '.join(__all__)}")
