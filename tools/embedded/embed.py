#!/usr/bin/env python3
"""Puts two generators and a reward model into the program: bf16 weights under CSupport/Embedded/models
and the C table of their bytes, with those of OpenCLIP's tokenizer.

usage: tools/embedded/embed.py GENERATOR REWARD OT_MAP SHORT

SHORT is the generator of short video. What is in the program already may be given again, as
CSupport/Embedded/models/generator. Needs numpy; run tools/build afterwards.
"""

import json, os, shutil, struct, sys, tempfile
import numpy as np

LIMIT = 33_000_000
# Under CSupport/Embedded: what is not made here.
GIVEN = ["openclip/merges.txt"]
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "CSupport", "Embedded")


def narrowed(source, target):
    """A safetensors file with f32 tensors rounded to bf16, nearest even."""
    data = open(source, "rb").read()
    length = struct.unpack("<Q", data[:8])[0]
    header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
    parts, at, new = [], 0, {}
    for name, entry in header.items():
        if name == "__metadata__":
            new[name] = entry
            continue
        a, b = entry["data_offsets"]
        blob, kind = body[a:b], entry["dtype"]
        if kind == "F32":
            u = np.frombuffer(blob, "<u4").astype(np.uint64)
            blob, kind = ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype("<u2").tobytes(), "BF16"
        new[name] = {"dtype": kind, "shape": entry["shape"], "data_offsets": [at, at + len(blob)]}
        parts.append(blob)
        at += len(blob)
    text = json.dumps(new, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 64)
    with open(target, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + b"".join(parts))


def main():
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    generator, reward, ot_map, short = sys.argv[1:]
    models = os.path.join(root, "models")
    with tempfile.TemporaryDirectory() as made:
        files = collect(made, {"generator": generator, "reward": reward, "short": short}, ot_map)
        shutil.rmtree(models, ignore_errors=True)
        shutil.copytree(made, models)
    write_table(files)


def collect(models, sources, ot_map):
    """Narrowed copies of all files under the folder `models`; returns their names."""
    files = []
    for kind, source in sources.items():
        for folder, _, names in os.walk(source):
            for name in sorted(names):
                path = os.path.join(kind, os.path.relpath(os.path.join(folder, name), source))
                target = os.path.join(models, path)
                os.makedirs(os.path.dirname(target), exist_ok=True)
                if name.endswith(".safetensors"):
                    narrowed(os.path.join(folder, name), target)
                else:
                    shutil.copy(os.path.join(folder, name), target)
                files.append(path)
    if "reward/ot_map.safetensors" not in files:
        files.append("reward/ot_map.safetensors")
    narrowed(ot_map, os.path.join(models, "reward/ot_map.safetensors"))
    return files


def write_table(files):
    embedded = {f: f"models/{f}" for f in files} | {f: f for f in GIVEN}
    total = sum(os.path.getsize(os.path.join(root, path)) for path in embedded.values())
    if total > LIMIT:
        sys.exit(f"embed: {total} bytes are more than the {LIMIT} the program may carry")
    lines = ["/* Written by tools/embedded/embed.py: do not edit. */", '#include "embedded.h"', ""]
    files = sorted(embedded)
    for i, f in enumerate(files):
        lines += [
            f"static const _Alignas(64) unsigned char file_{i}[] = {{",
            f'#embed "{embedded[f]}"',
            "};",
        ]
    lines += ["static const pisces_embedded_file files[] = {"]
    lines += [f'  {{"{f}", file_{i}, sizeof file_{i}}},' for i, f in enumerate(files)]
    lines += [
        "};",
        "const pisces_embedded_file *pisces_embedded_files(size_t *count) {",
        "  *count = sizeof files / sizeof *files;",
        "  return files;",
        "}",
        "",
    ]
    open(os.path.join(root, "embedded.c"), "w").write("\n".join(lines))
    print(f"embed: {len(files)} files, {total} bytes")


main()
