#!/usr/bin/env python3
"""Writes FOLDER/embedded.c: the table of CSupport/Embedded/embedded.c with its large files packed,
which makes the program ten megabytes smaller. Sources/Files/Paths/EmbeddedFiles.swift reads them.

usage: tools/embedded/pack.py FOLDER
"""

import os, re, struct, sys, zlib

LARGE = 1 << 17
root = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "CSupport", "Embedded")


def packed(data):
    """Bytes at odd offsets deflated (exponents of bf16), those at even offsets as they are."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    odd = deflate.compress(data[1::2]) + deflate.flush()
    return struct.pack("<Q", len(odd)) + odd + data[0::2]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = os.path.abspath(sys.argv[1])
    os.makedirs(out, exist_ok=True)
    table = open(os.path.join(root, "embedded.c")).read()
    lengths, known = {}, {}
    for number, path in re.findall(r'file_(\d+)\[\] = \{\n#embed "([^"]+)"', table):
        source = os.path.realpath(os.path.join(root, path))
        data = open(source, "rb").read()
        first = known.setdefault(data, number)
        if first != number:  # the same file again: the same bytes
            array = rf"static [^\n]* file_{number}\[\] = {{\n[^\n]*\n}};\n"
            table = re.sub(array, "", table).replace(f"file_{number},", f"file_{first},")
            table = table.replace(f"sizeof file_{number}}}", f"sizeof file_{first}}}")
            continue
        if len(data) >= LARGE and path.endswith(".safetensors"):
            source = os.path.join(out, f"file_{number}.packed")
            with open(source, "wb") as file:
                file.write(packed(data))
            lengths[number] = len(data)
        table = table.replace(f'#embed "{path}"', f'#embed "{source}"')
    for number, length in lengths.items():
        table = table.replace(f"sizeof file_{number}}}", f"sizeof file_{number}, {length}}}")
    with open(os.path.join(out, "embedded.c"), "w") as file:
        file.write(table)


main()
