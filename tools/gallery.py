#!/usr/bin/env python3
"""Makes the pictures of Documentation/transport/gallery.md from the program's own output.

    python3 tools/gallery.py [--pisces .build/release/pisces]

Needs numpy, matplotlib and scikit-image (for two pictures in the public domain: `coffee` by Rachel
Michetti, `astronaut` by NASA), and FFmpeg.
"""

import argparse, json, os, subprocess, tempfile
import numpy as np, matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
out = os.path.join(top, "Documentation/transport/gallery")
parser = argparse.ArgumentParser()
parser.add_argument("--pisces", default=os.path.join(top, ".build/release/pisces"))
program = parser.parse_args().pisces
os.makedirs(out, exist_ok=True)


def pisces(*arguments, **options):
    return subprocess.run(
        [program, *map(str, arguments), "--quiet"],
        check=True,
        capture_output=True,
        text=True,
        **options,
    ).stdout


def solve(*arguments):
    return json.loads(pisces("ot", "solve", *arguments, "--json"))


def save(name):
    plt.savefig(os.path.join(out, name), dpi=110, bbox_inches="tight", metadata={"Software": None})
    plt.close()


def words_and_frames(folder):
    """A clip of the embedded generator, and which word the reward's transport plan sent where."""
    prompt = "a red circle moving left"
    pisces(
        "sample",
        "--model",
        "embedded:generator",
        "--prompt",
        prompt,
        "--seed",
        3,
        "--output",
        f"{folder}/a.mp4",
    )
    pisces(
        "score",
        "--model",
        "embedded:reward",
        "--frames",
        9,
        "--video",
        f"{folder}/a.mp4",
        "--prompt",
        prompt,
        "--explain",
        f"{folder}/explain",
    )
    explained = json.load(open(f"{folder}/explain/0001.json"))
    raw = subprocess.run(
        [
            "ffmpeg",
            "-v",
            "error",
            "-i",
            f"{folder}/a.mp4",
            "-f",
            "rawvideo",
            "-pix_fmt",
            "rgb24",
            "-",
        ],
        check=True,
        capture_output=True,
    ).stdout
    frames = np.frombuffer(raw, np.uint8).reshape(-1, 32, 32, 3)
    words, grid = explained["words"], explained["grid"]
    count = len(words[0]["frames"])
    shown = frames[:: max(1, len(frames) // count)][:count]
    figure, axes = plt.subplots(
        len(words) + 1, count + 1, figsize=(1.3 * (count + 1), 1.3 * (len(words) + 1))
    )
    for axis in axes.flat:
        axis.axis("off")
    for t in range(count):
        axes[0, t + 1].imshow(shown[t]), axes[0, t + 1].set_title(
            f"frame {t * max(1, len(frames) // count)}", fontsize=8
        )
    for row, word in enumerate(words, 1):
        axes[row, 0].text(0.5, 0.5, word["word"], ha="center", va="center", fontsize=12)
        patches = np.array(word["patches"]).reshape(count, grid, grid)
        for t in range(count):
            axes[row, t + 1].imshow(
                patches[t], vmin=patches.min(), vmax=patches.max(), cmap="magma"
            )
            axes[row, t + 1].set_title(f"{word['frames'][t]:.2f}", fontsize=7, pad=2)
    save("words-and-frames.png")


def colour_transfer(folder):
    """The colours of one picture carried onto those of another: points in three dimensions, the
    cost never stored."""
    from skimage import data, transform

    shrink = lambda p: transform.resize(p[..., :3], (150, 200), anti_aliasing=True)
    source, target = shrink(data.coffee()), shrink(data.astronaut())
    np.save(f"{folder}/x.npy", source.reshape(-1, 3)), np.save(
        f"{folder}/y.npy", target.reshape(-1, 3)
    )
    pictures, titles = [source, target], ["source", "colours of"]
    for name, extra in (
        ("balanced", []),
        ("unbalanced, rho 0.05", ["--rho-source", 0.05, "--rho-target", 0.05]),
    ):
        r = solve(
            "--points",
            f"{folder}/x.npy",
            f"{folder}/y.npy",
            "--metric",
            "sqeuclidean",
            "--epsilon",
            0.005,
            "--tolerance",
            1e-4,
            "--dtype",
            "f32",
            "--projection",
            f"{folder}/moved.npy",
            *extra,
        )
        pictures.append(np.clip(np.load(f"{folder}/moved.npy").reshape(source.shape), 0, 1))
        titles.append(f"{name}: {r['seconds']:.1f} s, {r['iterations']} passes")
    figure, axes = plt.subplots(1, 4, figsize=(13, 2.8))
    for axis, picture, title in zip(axes, pictures, titles):
        axis.imshow(picture), axis.set_title(title, fontsize=9), axis.axis("off")
    save("colour-transfer.png")


def convergence(folder):
    """The marginal error (L1, from the certificate) after K passes."""
    random = np.random.default_rng(0)
    x, y = random.normal(size=(300, 8)), random.normal(size=(300, 8))
    cost = ((x[:, None] - y[None]) ** 2).sum(-1)
    np.save(f"{folder}/c.npy", cost / cost.max())
    passes = np.unique(np.round(np.geomspace(2, 1000, 45)).astype(int))
    figure, axis = plt.subplots(figsize=(7, 4))
    for colour, epsilon in enumerate((0.1, 0.03, 0.01, 0.005)):
        for style, extra in (("-", []), (":", ["--plain"])):
            runs = [
                solve(
                    "--cost",
                    f"{folder}/c.npy",
                    "--epsilon",
                    epsilon,
                    "--tolerance",
                    1e-13,
                    "--max-iterations",
                    k,
                    *extra,
                )
                for k in passes
            ]
            axis.loglog(
                passes,
                [max(r["marginal_error_l1"], 1e-16) for r in runs],
                style,
                color=f"C{colour}",
                label=f"ε = {epsilon} of the largest cost" if style == "-" else None,
            )
    axis.plot([], [], "k:", label="plain iterations (--plain)")
    axis.set_xlabel("passes over the kernel"), axis.set_ylabel("marginal error, L1"), axis.legend(
        fontsize=8
    ), axis.grid(alpha=0.3), axis.set_ylim(1e-14, 2)
    save("convergence.png")


with tempfile.TemporaryDirectory() as folder:
    for picture in (words_and_frames, colour_transfer, convergence):
        picture(folder)
        print(picture.__name__)
