"""Man pages from the commands' own description (`pisces --experimental-dump-help`), on standard
input: one for each command.

usage: man_pages.py VERSION FOLDER
"""

import json
import re
import sys


def text(words):
    """Of roff: backslashes and dots at the start of a line mean themselves."""
    words = re.sub(r"\s+", " ", words or "").strip().replace("\\", "\\\\").replace("-", "\\-")
    return "\\&" + words if words[:1] in (".", "'") else words


def names(argument):
    dashes = {"long": "--", "short": "-", "longWithSingleDash": "-"}
    if argument["kind"] == "positional":
        return [f"<{argument.get('valueName', 'value')}>"]
    value = f" <{argument['valueName']}>" if argument["kind"] == "option" else ""
    return [dashes[n["kind"]] + n["name"] + value for n in argument["names"]]


def page(path, command, version):
    arguments = [a for a in command.get("arguments", []) if a.get("shouldDisplay", True)]
    children = [c for c in command.get("subcommands", []) if c.get("shouldDisplay", True)]
    title, name = "-".join(path), " ".join(path)
    lines = [
        f'.TH {title.upper()} 1 "" "pisces {version}"',
        ".SH NAME",
        f"{text(title)} \\- {text(command.get('abstract'))}",
        ".SH SYNOPSIS",
        f".B {text(name)}",
        text(("<command> " if children else "") + ("[options]" if arguments else "")),
    ]
    if command.get("discussion"):
        lines += [".SH DESCRIPTION", text(command["discussion"])]
    if arguments:
        lines.append(".SH OPTIONS")
        for a in arguments:
            lines += [".TP", ".B " + text(", ".join(names(a))), text(a.get("abstract") or "")]
    if children:
        lines.append(".SH COMMANDS")
        for c in children:
            lines += [".TP"]
            lines += [f".BR {text(title + '-' + c['commandName'])} (1)", text(c.get("abstract"))]
    return title, "\n".join(lines) + "\n"


def write(path, command, version, folder):
    title, content = page(path, command, version)
    with open(f"{folder}/{title}.1", "w", encoding="utf-8") as file:
        file.write(content)
    for child in command.get("subcommands", []):
        if child["commandName"] != "help":
            write(path + [child["commandName"]], child, version, folder)


version, folder = sys.argv[1:]
write(["pisces"], json.load(sys.stdin)["command"], version, folder)
