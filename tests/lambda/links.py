#!/usr/bin/env python3
"""No function links what only a laptop or a test needs.

    tests/lambda/links.py

Reads from cargo which crates the functions link as they are deployed, without the feature `process`, and fails if one of
those below is among them.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = {
    "towpath-instruments": "meters, faults and deaths are for the local cloud and for tests",
    "towpath-jobs-process": "process supervision and git are for the machine of the local cloud",
    "towpath-local": "the local cloud",
    "towpath-stepfunctions": "the local cloud",
    "rusqlite": "the local cloud",
    "regex": "half a megabyte for the filters of logs",
}


def main():
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "-p", "towpath-functions", "-e", "normal", "--prefix", "none", "--format", "{p}"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    )
    linked = {line.split()[0] for line in tree.stdout.splitlines() if line.strip()}
    if "towpath-service" not in linked:
        print("cargo tree does not name what the functions are made of", file=sys.stderr)
        return 1
    wrong = sorted(linked & LEFT_OUT.keys())
    for name in wrong:
        print(f"the functions link {name}: {LEFT_OUT[name]}", file=sys.stderr)
    print(f"the functions link {len(linked)} crates, none of them for a laptop or a test" if not wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
