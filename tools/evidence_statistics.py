"""Means, differences and 95 % intervals of tools/evidence, over seeds and prompts. Needs numpy."""

import numpy as np

DIMENSIONS = ["colour", "shape", "size", "motion", "count", "multi", "relation"]
QUALITY = ["flicker", "image", "consistency", "smoothness", "background", "purity"]
NAMES = ["semantic", "quality"] + DIMENSIONS + QUALITY


def watched(runs):
    """What the watch saw in each run: at its last look, and whether and when it first gave a
    warning."""
    looks = [[m for m in run if "watch_share" in m] for run in runs]
    first = [next((m["step"] for m in run if m["watch_hacking"]), None) for run in looks]
    out = {
        key: spread([run[-1]["watch_" + key] for run in looks])
        for key in ("reward", "held_out", "share")
    }
    return {
        **out,
        "looks": [
            [[m["step"], m["watch_reward"], m["watch_held_out"], m["watch_share"]] for m in run]
            for run in looks
        ],
        "first_warning": first,
    }


def spread(values):
    """Mean and 95 % interval of a mean over seeds (Student's t)."""
    t = {1: float("nan"), 2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}.get(len(values), 2.0)
    mean, half = float(np.mean(values)), (
        float(t * np.std(values, ddof=1) / len(values) ** 0.5) if len(values) > 1 else float("nan")
    )
    return {
        "mean": mean,
        "low": mean - half,
        "high": mean + half,
        "values": [float(v) for v in values],
    }


def scores(run, side):
    """[prompts, dimensions], nan where a prompt does not have one."""
    return np.array([[np.nan if v is None else v for v in row] for row in run[side]], dtype=float)


def measures(x, weights):
    """Semantic, quality and each dimension of runs x [seeds, prompts, dimensions] under prompt
    weights [resamples, prompts]: [resamples, seeds, 2 + dimensions]."""
    there = ~np.isnan(x)
    sums = np.einsum("rp,spd->rsd", weights, np.where(there, x, 0))
    means = sums / np.maximum(np.einsum("rp,spd->rsd", weights, there.astype(float)), 1e-9)
    k = len(DIMENSIONS)
    return np.concatenate(
        [means[..., :k].mean(-1, keepdims=True), means[..., k:].mean(-1, keepdims=True), means], -1
    )


def resampled(arrays, base, count=2000, seed=5):
    """Measures of each array minus those of the base, over resamples of seeds and of prompts (the
    same prompts for all)."""
    rng = np.random.default_rng(seed)
    prompts, seeds = base.shape[0], arrays[0].shape[0]
    weights = np.concatenate(
        [np.ones((1, prompts)), rng.multinomial(prompts, np.full(prompts, 1 / prompts), count)]
    )
    chosen = (
        np.concatenate(
            [np.ones((1, seeds)), rng.multinomial(seeds, np.full(seeds, 1 / seeds), count)]
        )
        / seeds
    )
    start = measures(base[None], weights)[:, 0]
    return [np.einsum("rs,rsm->rm", chosen, measures(x, weights)) - start for x in arrays], start[0]


def interval(samples):
    return {
        "difference": float(samples[0]),
        "low": float(np.quantile(samples[1:], 0.025)),
        "high": float(np.quantile(samples[1:], 0.975)),
    }


def changes(base, runs):
    out = {"seeds": len(runs), "guidance": [r["guidance"] for r in runs]}
    for side in ("unguided", "guided"):
        (d,), start = resampled([np.stack([scores(r, side) for r in runs])], scores(base, side))
        out[side] = {
            name: {"before": float(start[i]), **interval(d[:, i])} for i, name in enumerate(NAMES)
        }
    return out


def orders(base, groups):
    """Differences between neighbours in the list."""
    out = {}
    for side in ("unguided", "guided"):
        names = list(groups)
        d, _ = resampled(
            [np.stack([scores(r, side) for r in groups[n]]) for n in names], scores(base, side)
        )
        out[side] = {
            f"{b} over {a}": {NAMES[i]: interval(d[k + 1][:, i] - d[k][:, i]) for i in (0, 1)}
            for k, (a, b) in enumerate(zip(names, names[1:]))
        }
    return out
