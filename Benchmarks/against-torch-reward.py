#!/usr/bin/env python3
"""The reward model of a directory (`pisces bench score --model DIR` makes one of full size) against
PyTorch: `score` in whole processes, and the gradient with respect to the frames, in turns.

usage: Benchmarks/against-torch-reward.py --model DIR [--rounds 2] [--threads 2] [--types f32,bf16]
needs: torch, safetensors; .build/release/pisces, tools/reward-library

torch is tuned: f32 products by oneDNN, malloc keeps its memory. Ratios above 1 are in our favour.
The programs' results must agree: within 1e-5 in f32, 2e-2 in bf16.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
PISCES = os.path.join(HERE, "..", ".build", "release", "pisces")
PROMPT = "a small cat walking on the left of a red circle"
TUNED = {
    "MALLOC_TOP_PAD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
}


def run(command, tuned=False):
    """Seconds of a process, its result (the last line, JSON) and its peak MiB."""
    start = time.time()
    env = dict(os.environ, **(TUNED if tuned else {}))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
    output, error = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.time() - start
    if status:
        sys.exit(f"{' '.join(command[:3])}: {error.decode()[-500:]}")
    return seconds, json.loads(output.decode().strip().splitlines()[-1]), usage.ru_maxrss >> 10


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--types", default="f32,bf16")
    o = parser.parse_args()
    import numpy as np
    from safetensors.numpy import save_file

    vision = json.load(open(f"{o.model}/config.json"))["vision_encoder"]
    frames = (vision["num_frames"], 3, vision["img_size"], vision["img_size"])
    with tempfile.TemporaryDirectory() as folder:
        clip = f"{folder}/clip.safetensors"
        save_file({"pixels": np.random.default_rng(1).random(frames, dtype=np.float32)}, clip)
        given = ["--model", o.model, "--video", clip, "--prompt", PROMPT]
        threads = ["--threads", str(o.threads)]
        gradient = [sys.executable, "-W", "ignore", f"{HERE}/torch_gradient.py"]
        score = [sys.executable, "-W", "ignore", f"{HERE}/torch_score.py", "--tuned"]
        print(
            "| work | type | torch s | pisces s | times as fast | rounds | torch MiB | pisces MiB |"
        )
        print("| --- | --- | ---: | ---: | ---: | --- | ---: | ---: |")
        for kind in o.types.split(","):
            compute = ["--compute", kind]
            cases = {
                "score, whole process": (
                    [PISCES, "score", "--json", "--quiet"] + given + compute + threads,
                    score + given + compute + threads,
                ),
                "gradient": (
                    gradient + ["pisces"] + given + compute + threads,
                    gradient + ["torch"] + given + compute + threads,
                ),
            }
            for name, (ours, theirs) in cases.items():
                rounds = []
                for _ in range(o.rounds):
                    rounds.append((run(theirs, tuned=True), run(ours)))
                own = name == "gradient"  # the pass alone, without opening the model
                times = [[r[1]["seconds"] if own else r[0] for r in pair] for pair in rounds]
                ratios = sorted(a / b for a, b in times)
                peer, mine = (statistics.median(t) for t in zip(*times))
                limit = 1e-5 if kind == "f32" else 2e-2
                for key in ("quality", "semantic"):
                    a, b = (rounds[0][i][1][key] for i in (0, 1))
                    if not abs(a - b) <= limit:
                        sys.exit(f"{name} {kind}: {key} {b}, torch {a}")
                print(
                    f"| {name} | {kind} | {peer:.2f} | {mine:.2f} | {peer / mine:.2f} | "
                    f"{ratios[0]:.2f}-{ratios[-1]:.2f} | {rounds[0][0][2]} | {rounds[0][1][2]} |",
                    flush=True,
                )


main()
