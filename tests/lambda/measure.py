#!/usr/bin/env python3
"""What each function weighs: its binary, its memory at rest, and the time from its start to its first poll.

    cargo lambda build --release && tests/lambda/measure.py target/lambda

Each binary is started as Lambda starts it, against a runtime API of our own on loopback that has no work for it. A
binary that does not come up, is missing or is larger than the target fails the measurement; memory and times are shown
beside their targets and fail nothing, since they depend on the machine. Binaries for another architecture are started
under qemu-user where that is there (their times and memory are then qemu's, and not shown), and else only weighed.
`--json` prints the same for machines.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# MB, a failure. What is deployed is built for aarch64; for x86_64 the same code is 1.18 times as large.
SIZE_TARGETS = {"aarch64": 6.0, "x86_64": 7.1}
MEMORY_TARGET = 25.0  # MB, shown
MB = 1_000_000
ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
# How long a function may take to come up before it counts as not coming up.
PATIENCE = 60


class RuntimeApi(ThreadingHTTPServer):
    """Lambda's runtime API with nothing to do, and an AWS where every table is empty."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.polled = threading.Event()
        self.polled_at = None
        self.over = threading.Event()
        self.complaint = None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        api = self.server
        if self.path != "/2018-06-01/runtime/invocation/next":
            return self.answer(404, b"{}")
        if not api.polled.is_set():
            api.polled_at = time.monotonic()
            api.polled.set()
        # There is never any work: the function rests until it is ended.
        api.over.wait()
        self.close_connection = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/2018-06-01/runtime/init/error":
            self.server.complaint = body.decode(errors="replace")
            return self.answer(202, b"{}")
        self.answer(200, b"{}")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-type", "application/x-amz-json-1.0")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class DoesNotComeUp(Exception):
    pass


def environment(name, api, tls):
    """What Lambda and the template give a function. With `tls`, AWS is at an https address where nobody answers, so
    that what TLS needs is loaded as it is in production."""
    address = f"127.0.0.1:{api.server_port}"
    return {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "AWS_LAMBDA_RUNTIME_API": address,
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": "measure",
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "measure",
        "AWS_SECRET_ACCESS_KEY": "measure",
        "AWS_ENDPOINT_URL": "https://127.0.0.1:1" if tls else f"http://{address}",
        "RUNS_TABLE": "runs",
        "EXECUTORS_TABLE": "executors",
        "OUTPUTS_BUCKET": "outputs",
        "STATE_MACHINE_ARN": "arn:aws:states:us-east-1:000000000000:stateMachine:measure-run",
        "FIRST_KEY_SECRET_ARN": "arn:aws:secretsmanager:us-east-1:000000000000:secret:measure",
        "RUST_LOG": "error",
    }


def emulator(arch):
    """What starts a binary for another architecture, if it can be started here at all."""
    qemu = shutil.which(f"qemu-{arch}") or shutil.which(f"qemu-{arch}-static")
    return [qemu, "-L", f"/usr/{arch}-linux-gnu"] if qemu else None


def start(name, binary, tls=False, under=()):
    """Starts a function once: seconds to its first poll, and its resident memory at rest in MB."""
    api = RuntimeApi()
    threading.Thread(target=api.serve_forever, daemon=True).start()
    began = time.monotonic()
    process = subprocess.Popen(
        [*under, binary],
        env=environment(name, api, tls),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = began + PATIENCE
        while not api.polled.wait(0.05):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                said = process.stdout.read().decode(errors="replace").strip()
                how = f"exit code {process.returncode}" if process.returncode is not None else "no poll"
                raise DoesNotComeUp(f"{how}; {api.complaint or said or 'it said nothing'}")
        time.sleep(0.3)  # what init set going settles
        return api.polled_at - began, resident(process.pid)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        api.over.set()
        api.shutdown()
        api.server_close()


def resident(pid):
    """Resident memory in MB, or None where the system does not say."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    return int(found.group(1)) * 1024 / MB if found else None


def architecture(binary):
    with open(binary, "rb") as file:
        head = file.read(20)
    if head[:4] != b"\x7fELF":
        return "not Linux"
    return ELF_MACHINES.get(struct.unpack_from("<H", head, 18)[0], "unknown")


def functions():
    """The binaries of the functions folder: what has to be there."""
    return sorted(path.stem for path in ROOT.glob("functions/src/bin/*.rs"))


def measure(name, folder, starts):
    binary = folder / name / "bootstrap"
    if not binary.is_file():
        return {"function": name, "error": f"there is no {binary}"}
    row = {"function": name, "architecture": architecture(binary), "sizeMB": binary.stat().st_size / MB}
    target = SIZE_TARGETS.get(row["architecture"], 0)
    if row["sizeMB"] > target:
        row["error"] = f"larger than {target} MB"
    if row["architecture"] != platform.machine() or sys.platform != "linux":
        under = emulator(row["architecture"]) if sys.platform == "linux" else None
        try:
            if under:
                start(name, binary, under=under)
                row["emulated"] = True
        except DoesNotComeUp as failure:
            row["error"] = f"does not come up: {failure}"
        return row
    try:
        ups = [start(name, binary) for _ in range(starts)]
        row["firstPollMs"] = statistics.median(seconds for seconds, _ in ups) * 1000
        row["restMB"] = ups[-1][1]
        row["restTlsMB"] = start(name, binary, tls=True)[1]
    except DoesNotComeUp as failure:
        row["error"] = f"does not come up: {failure}"
    return row


def shown(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where cargo lambda build put the functions: target/lambda")
    parser.add_argument("--starts", type=int, default=5, help="the time is the median of so many starts")
    parser.add_argument("--json", action="store_true", help="print it for machines")
    options = parser.parse_args()
    rows = [measure(name, options.folder, options.starts) for name in functions()]
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        cells = "{:<18}{:<10}{:>12}{:>14}{:>18}{:>16}"
        print(cells.format("function", "for", "binary, MB", "at rest, MB", "with TLS, MB", "first poll, ms"))
        sizes = {row["architecture"] for row in rows if "architecture" in row}
        size = ", ".join(f"<= {SIZE_TARGETS.get(it, 0)}" for it in sorted(sizes))
        target = (size, f"<= {MEMORY_TARGET:.0f}", f"<= {MEMORY_TARGET:.0f}")
        print(cells.format("(target)", "", *target, ""))
        for row in rows:
            get = row.get
            print(
                cells.format(
                    row["function"],
                    get("architecture", "-") + (" *" if get("emulated") else ""),
                    shown(get("sizeMB"), 2),
                    shown(get("restMB"), 1),
                    shown(get("restTlsMB"), 1),
                    shown(get("firstPollMs"), 1),
                )
            )
        if any(row.get("emulated") for row in rows):
            print("* started under qemu-user")
    failures = [row for row in rows if "error" in row]
    for row in failures:
        print(f"{row['function']}: {row['error']}", file=sys.stderr)
    if not rows:
        print("there are no functions to measure", file=sys.stderr)
    return 1 if failures or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
