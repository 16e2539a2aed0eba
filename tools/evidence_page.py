"""Documentation/evidence.md from the tables of tools/evidence: Markdown, one function a kind of
table."""

import textwrap

from evidence_statistics import DIMENSIONS

HEAD = """# The paper's claims in miniature

`tools/evidence` writes this page from runs whose settings are in `tools/evidence.json`. The
generator is the embedded one: 45 % of its captions were wrong in one attribute. The judge is the
oracle of the built-in world, which reads pixels and knows nothing of the rewards. There are
{prompts} held-out prompts (seed {evaluation_seed}) and the seeds {seeds}. The best guidance of each
generator was found on {search_prompts} other prompts (seed {search_seed}). Brackets are 95 %
intervals over seeds and prompts together (bootstrap); for numbers without prompts, over seeds
(Student's t). A difference whose interval contains 0 is none.

There are two pairs of encoders. The *strong* pair is embedded; its two encoders were trained
together. The encoders of the *weak* pair were pretrained apart (text on masked words, video on
telling clips apart), and then joined in 900 steps at temperature .01, with 30 % of the captions
wrong.
"""
MAP_METRICS = {
    "mknn": "mutual k-NN",
    "recall": "recall at 10",
    "energy_distance": "energy distance",
    "cosine": "cosine of pairs",
    "mean_distance": "distance of means",
    "modality_accuracy": "modality told",
}


def number(x, sign=False):
    return "–" if x != x else f"{x:+.3f}" if sign else f"{x:.3f}"


def bracket(c, key="difference"):
    """A value with its interval; a difference has a sign."""
    value, low, high = (number(c[k], key == "difference") for k in (key, "low", "high"))
    return f"{value} [{low}, {high}]"


def change(c):
    """The mean of a `spread` as a difference."""
    return bracket({"difference": c["mean"], **c})


def wrapped(line):
    return textwrap.fill(line, 100, break_long_words=False, break_on_hyphens=False)


def row(*cells):
    return f"| {' | '.join(cells)} |"


def header(*cells):
    return [row(*cells), row(*["---"] * len(cells))]


def verdict(c):
    return "above" if c["low"] > 0 else "below" if c["high"] < 0 else "not told apart from"


def matching(pair, p):
    lines = [
        f"**The {pair} pair.** Accuracy on right captions and on captions wrong in one attribute, "
        "half each.",
        "",
        *header("attention", "accuracy", "over plain", "AUC"),
    ]
    for name, r in p["settings"].items():
        over = change(r["over_plain"]) if "over_plain" in r else ""
        lines.append(row(name, bracket(r["accuracy"], "mean"), over, number(r["auc"]["mean"])))
    mean, deviation, least, most = (
        number(p["sweep"][k]) for k in ("mean", "deviation", "least", "most")
    )
    return lines + [
        "",
        f"Sweep of both weights over [0, .5]²: mean {mean}, standard deviation {deviation}, "
        f"from {least} to {most}.",
        "",
    ]


def dynamics(pair, p):
    def rise(key):
        return f"{number(p[key]['first']['mean'])} → {bracket(p[key]['last'], 'mean')}"

    cosine = p["cosine"]
    first, last = (number(cosine[k]["mean"], True) for k in ("first", "last"))
    return [
        f"**The {pair} pair.** Quality reward {rise('reward_quality')}, semantic reward "
        f"{rise('reward_semantic')}. Cosine of their gradients: {first} at the first step, {last} "
        f"at the last, {bracket(cosine['mean'], 'mean')} on average.",
        "",
    ]


def maps(pair, by_objective):
    first = next(iter(by_objective.values()))
    lines = [
        f"**The {pair} pair**, held-out pairs.",
        "",
        *header("map", *MAP_METRICS.values(), "Spearman ρ"),
        row("none", *(number(first[k + "_before"]["mean"]) for k in MAP_METRICS), ""),
    ]
    for objective, m in by_objective.items():
        after = (number(m[k + "_after"]["mean"]) for k in MAP_METRICS)
        lines.append(row(objective, *after, bracket(m["struct_rho"], "mean")))
    return lines + [""]


def watches(variants):
    lines = [
        "",
        *header(
            "at the last look",
            "reward",
            "held-out reward",
            "share: reward up, held-out down",
            "runs with a warning, first at step",
        ),
    ]
    for name, r in variants.items():
        w = r["watch"]
        steps = [str(x) for x in w["first_warning"] if x is not None]
        warned = f"{len(steps)} of {len(w['first_warning'])}" + (
            ": " + ", ".join(steps) if steps else ""
        )
        values = (change(w["reward"]), change(w["held_out"]), bracket(w["share"], "mean"))
        lines.append(row(name, *values, warned))
    return lines


def post_training(pair, p):
    base = next(iter(p["variants"].values()))

    def before(measure):
        return [number(base[side][measure]["before"]) for side in ("unguided", "guided")]

    semantic, quality = before("semantic"), before("quality")
    lines = [
        f"**The {pair} pair.** Before: semantic {semantic[0]} without guidance, {semantic[1]} at "
        f"its best; quality {quality[0]}, {quality[1]}. Changes:",
        "",
        *header(
            "post-training",
            "semantic",
            "quality",
            "semantic, best guidance",
            "quality, best guidance",
            "seconds",
        ),
    ]
    for name, r in p["variants"].items():
        values = (
            bracket(r[side][m]) for side in ("unguided", "guided") for m in ("semantic", "quality")
        )
        lines.append(row(name, *values, f"{r['seconds']:.0f}"))
    if "watch" in base:
        lines += watches(p["variants"])
    lines += ["", *header("without guidance", *DIMENSIONS)]
    for name, r in p["variants"].items():
        values = (number(r["unguided"][d]["difference"], True) for d in DIMENSIONS)
        lines.append(row(name, *values))
    lines.append("")
    for side, what in (("unguided", "without guidance"), ("guided", "at best guidance")):
        told = []
        for names, c in p["order"][side].items():
            one, other = names.split(" over ")
            told.append(f"{one} {verdict(c['semantic'])} {other} ({bracket(c['semantic'])})")
        lines.append(f"Semantic, {what}: {'; '.join(told)}.")
    return lines + [""]


def table(t, about):
    """A table's part of the page; `about` says what it decides."""
    lines = [f"## {t['title']}", "", about, ""]
    for pair, p in t["pairs"].items():
        if "settings" in p:
            lines += matching(pair, p)
        elif "cosine" in p:
            lines += dynamics(pair, p)
        else:
            if "maps" in p:
                lines += maps(pair, p["maps"])
            lines += post_training(pair, p)
    return "\n".join(lines)


def page(settings, tables):
    """`tables`: (table, about) in the order of the page."""
    keys = ("prompts", "evaluation_seed", "search_prompts", "search_seed")
    seeds = ", ".join(map(str, settings["seeds"]))
    head = HEAD.format(seeds=seeds, **{k: settings[k] for k in keys})
    lines = "\n".join([head] + [table(t, about) for t, about in tables]).split("\n")
    return "\n".join(line if line.startswith("|") else wrapped(line) for line in lines)
