#!/usr/bin/env python3
"""The sum of a step's gradients beside MPI's own reduce-scatter.

    pip install mpi4py numpy
    Benchmarks/against-mpi.py --ranks 4 --rounds 5

Each round runs `pisces bench cluster` (gradients of every rank summed along the tree of leaves, each
rank left with its shard, in a fixed order of additions) and MPI_Reduce_scatter_block of the same
number of f32 in turn, on ranks of one thread, and prints the best seconds of each and their ratio.
Both start behind a barrier; a run counts the slowest rank. A ratio above 1 is in our favour.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys

COUNTS = [1 << 18, 1 << 22, 1 << 24]


def worker():
    """One rank of MPI's side: a line of JSON for each count from the first rank."""
    import numpy
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    for count in COUNTS:
        x = numpy.random.default_rng(world.rank).standard_normal(count, dtype=numpy.float32)
        y = numpy.empty(count // world.size, numpy.float32)
        seconds = []
        for _ in range(5):
            world.Barrier()
            began = MPI.Wtime()
            world.Reduce_scatter_block(x, y)
            seconds.append(MPI.Wtime() - began)
        slowest = world.allreduce(min(seconds[1:]), op=MPI.MAX)
        if world.rank == 0:
            print(json.dumps({"parameters": count, "sum_seconds": slowest}), flush=True)


def measured(command, ranks):
    """Seconds of each count, of a run on `ranks` ranks."""
    environment = dict(
        os.environ,
        OMP_NUM_THREADS="1",
        OMPI_ALLOW_RUN_AS_ROOT="1",
        OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1",
    )
    launcher = ["mpirun", "--oversubscribe", "--bind-to", "none", "-n", str(ranks)]
    run = subprocess.run(
        launcher + command, env=environment, check=True, capture_output=True, text=True
    )
    rows = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    return {r["parameters"]: r for r in rows if "sum_seconds" in r}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pisces", default=".build/release/pisces")
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker()
    ours = [options.pisces, "bench", "cluster", "--threads", "1", "--json"]
    theirs = [sys.executable, __file__, "--worker"]
    rounds = []
    for _ in range(options.rounds):
        rounds.append((measured(ours, options.ranks), measured(theirs, options.ranks)))
    for count in COUNTS:
        if not all(a[count]["verified"] for a, _ in rounds):
            sys.exit(f"{count} parameters: the sums differ from those of one process")
        a = [a[count]["sum_seconds"] for a, _ in rounds]
        b = [b[count]["sum_seconds"] for _, b in rounds]
        ratios = sorted(y / x for x, y in zip(a, b))
        print(
            f"{options.ranks} ranks, {count / (1 << 18):5.0f} MiB: pisces {min(a) * 1e3:7.1f} ms, "
            f"MPI {min(b) * 1e3:7.1f} ms; {statistics.median(ratios):.2f} times as fast "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()
