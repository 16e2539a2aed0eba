#!/usr/bin/env python3
"""Both rewards of one clip and the gradient of their sum with respect to its pixels: in PyTorch with
recomputation of the encoder's blocks (torch_score.py), or by the package `pisces`.

usage: torch_gradient.py torch|pisces --model DIRECTORY --video clip.safetensors --prompt TEXT
                         [--compute f32|bf16] [--threads N] [--gradient FILE.npy]

Prints one JSON object: rewards, seconds of the pass (without opening the model), peak MiB.
"""

import argparse
import json
import os
import resource
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "tools", "python")]

import numpy as np


def by_pisces(o, pixels):
    import pisces

    reward = pisces.Reward(o.model, compute=o.compute, threads=o.threads or 0)
    start = time.time()
    quality, semantic, gradient = reward.gradient(pixels, [o.prompt])
    return quality[0], semantic[0], gradient, time.time() - start


def by_torch(o, pixels):
    import torch
    import torch_score as score
    from torch.utils.checkpoint import checkpoint

    if o.threads:
        torch.set_num_threads(o.threads)
    if "amx_bf16" not in open("/proc/cpuinfo").read():
        torch.set_float32_matmul_precision("medium")  # oneDNN's products, where they stay f32
    w, words = score.read_directory(o.model, o.compute)
    start = time.time()
    x = torch.from_numpy(pixels).requires_grad_()
    ids = torch.tensor([[words.index(word) for word in ["[CLS]", *o.prompt.split()]]])
    with torch.autocast("cpu", torch.bfloat16, enabled=o.compute == "bf16"):
        with torch.no_grad():
            hidden = score.text_states(w, ids, None)
            target = score.text_target(w, hidden)
        run = score.video_block
        score.video_block = lambda w, i, x: checkpoint(run, w, i, x, use_reentrant=False)
        lexical = torch.arange(ids.shape[1])[None] > 0
        quality, semantic = score.rewards(w, x, hidden, target, None, lexical)
        (quality.sum() + semantic.sum()).backward()
    return quality.item(), semantic.item(), x.grad.numpy(), time.time() - start


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("by", choices=("torch", "pisces"))
    for name in ("--model", "--video", "--prompt"):
        parser.add_argument(name, required=True)
    parser.add_argument("--compute", choices=("f32", "bf16"), default="f32")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--gradient")
    o = parser.parse_args()
    from safetensors.numpy import load_file

    pixels = load_file(o.video)["pixels"][None].astype(np.float32)
    run = by_torch if o.by == "torch" else by_pisces
    quality, semantic, gradient, seconds = run(o, pixels)
    if o.gradient:
        np.save(o.gradient, gradient)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    record = {
        "quality": float(quality),
        "semantic": float(semantic),
        "seconds": seconds,
        "mib": peak,
    }
    print(json.dumps(record))


main()
