#!/usr/bin/env python3
"""Checks what is linked against deny.toml, where cargo-deny itself cannot be had: licences, sources, second versions.

The same rules by the same file, on the output of `cargo metadata`.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def allowed(expression: str, licences: set[str]) -> bool:
    """Whether an SPDX expression can be met with these licences."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either() -> bool:
        met = both()
        while words and words[0] == "OR":
            words.pop(0)
            met = both() or met
        return met

    def both() -> bool:
        met = one()
        while words and words[0] == "AND":
            words.pop(0)
            met = one() and met
        return met

    def one() -> bool:
        word = words.pop(0)
        if word == "(":
            met = either()
            words.pop(0)
            return met
        if words and words[0] == "WITH":
            word = " ".join([word, words.pop(0), words.pop(0)])
        return word in licences

    return either()


def main() -> int:
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    packages = json.loads(subprocess.check_output(command, cwd=ROOT))["packages"]
    wrong = []
    licences = set(rules["licenses"]["allow"])
    registries = {f"registry+{url}" for url in rules["sources"]["allow-registry"]}
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if not allowed(package["license"] or "none", licences):
            wrong.append(f"{name}: the licence {package['license']} is not allowed")
        if package["source"] and package["source"] not in registries:
            wrong.append(f"{name}: comes from {package['source']}")
    skipped = {entry["name"] for entry in rules["bans"]["skip"]}
    versions = collections.Counter(package["name"] for package in packages)
    twice = {name for name, count in versions.items() if count > 1}
    wrong += [f"{name}: more than one version" for name in sorted(twice - skipped)]
    wrong += [f"{name}: is skipped in deny.toml for nothing" for name in sorted(skipped - twice)]
    print("\n".join(wrong) or f"{len(packages)} crates are as deny.toml wants them")
    return 1 if wrong else 0


if __name__ == "__main__":
    # An expression that no rule meets, so that the check cannot pass by accident.
    assert not allowed("GPL-3.0 AND MIT", {"MIT"}) and allowed("(MIT OR GPL-3.0) AND ISC", {"MIT", "ISC"})
    sys.exit(main())
