#!/usr/bin/env python3
"""Ranks the videos of a folder by how well they match a prompt.

usage: rank_folder.py FOLDER "a prompt" [--model embedded:reward]

Frames are read with ffmpeg.
"""

import argparse
import subprocess
from pathlib import Path

import numpy as np
import pisces


def frames(path, count, side=256):
    """`count` frames spread over a video, [T, 3, side, side] u8."""
    raw = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-vf", f"scale={side}:{side}"]
        + ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
        capture_output=True,
        check=True,
    ).stdout
    video = np.frombuffer(raw, np.uint8).reshape(-1, side, side, 3)
    chosen = np.linspace(0, len(video) - 1, count).round().astype(int)
    return video[chosen].transpose(0, 3, 1, 2)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("prompt")
    parser.add_argument("--model", default="embedded:reward")
    o = parser.parse_args()
    reward = pisces.Reward(o.model)
    found = []
    for path in sorted(Path(o.folder).glob("*.mp4")):
        s = reward.score(frames(path, reward.frames), o.prompt)
        found.append((s.semantic, s.quality, path.name))
    for semantic, quality, name in sorted(found, reverse=True):
        print(f"semantic {semantic:.4f}  quality {quality:+.4f}  {name}")


main()
