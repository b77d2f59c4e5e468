#!/usr/bin/env python3
"""The functions as processes of their own, run by `cargo lambda watch`.

    tests/lambda/pass.py

First every function answers its sample event (`tests/events`) through `cargo lambda invoke`, with `towpath dev --lambda`
as its cloud. Then the end-to-end tests run once more, each with a cloud and a watch of its own. Such functions go by the
system's clock, so tests that move the clock cannot run this way: those that can are in `suitable.txt`, and the others
are named. Needs cargo-lambda (`pip install cargo-lambda`). Whatever it starts, it stops.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EVENTS = ROOT / "tests" / "events"
SUITABLE = Path(__file__).with_name("suitable.txt")
# How long something may take before it is said to hang. Nothing is measured by it.
PATIENCE = 300


def status(expected):
    return lambda answer: isinstance(answer, dict) and answer.get("statusCode") == expected


# What each function says to its sample event when there are no records. Without a run there is nothing to do, and
# without a key there is nothing to see.
ANSWERS = {
    "advance": lambda answer: answer is None,
    "poll-job": lambda answer: answer is None,
    "poll-gate": lambda answer: answer is None,
    "settle": lambda answer: answer is None,
    "tick": lambda answer: isinstance(answer, dict) and answer.get("due") == 0 and answer.get("failed") == 0,
    "api": status(401),
    "resolve-decision": status(401),
    "runner": status(401),
    "executors": status(401),
    "poll": status(401),
    "executor-socket": status(401),
    "admin": status(401),
    "events": status(401),
}


# Functions whose responses are streamed, which are asked by their URL.
STREAMED = {"events"}


def by_url(port, name, event):
    """Asks a function by its URL, as its sample event says: the status of its answer."""
    url = f"http://127.0.0.1:{port}/lambda-url/{name}{event['rawPath']}"
    headers = {header: value for header, value in event["headers"].items() if header != "host"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE) as answer:
            return {"statusCode": answer.status}
    except urllib.error.HTTPError as refusal:
        return {"statusCode": refusal.code}


class Failed(Exception):
    pass


def say(text):
    print(text, flush=True)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until(what, done, process, log):
    """Waits until `done`, as long as `process` runs."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            raise Failed(f"{what} did not come up:\n{log.read_text(errors='replace')[-4000:]}")
        time.sleep(0.05)


def listening(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def running(command, log, **more):
    """A program, stopped at the end as a person would: by its process id, and asked first."""
    with open(log, "w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True, **more,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def cargo(*arguments, **more):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, **more)


def executables(*arguments):
    """The executables a cargo command makes, by target name."""
    made = cargo(*arguments, "--message-format=json-render-diagnostics", stdout=subprocess.PIPE, text=True)
    found = {}
    for line in made.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable"):
            found[message["target"]["name"]] = Path(message["executable"])
    return found


def invoke_each(towpath, folder):
    """Invokes every function with its sample event, and checks what it says."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    data = folder / "data"
    variables = data / "functions.env"
    cloud_log, watch_log = folder / "cloud.log", folder / "watch.log"
    cloud = [towpath, "dev", "--port", "0", "--data", data, "--lambda", url]
    watch = ["cargo", "lambda", "watch", "--ignore-changes", "--features", "process",
             "--concurrency", "4", "--invoke-address", "127.0.0.1",
             "--invoke-port", str(port), "--env-file", variables]
    with running(cloud, cloud_log) as process:
        until("towpath dev", variables.is_file, process, cloud_log)
        with running(watch, watch_log) as process:
            until("cargo lambda watch", lambda: listening(port), process, watch_log)
            for name, right in ANSWERS.items():
                event = EVENTS / f"{name}.json"
                if name in STREAMED:
                    answer = by_url(port, name, json.loads(event.read_text()))
                    if not right(answer):
                        raise Failed(f"{name} answered {event} with {answer}\n{watch_log.read_text()[-4000:]}")
                    say(f"  {name:<18}{json.dumps(answer)[:100]}")
                    continue
                invoked = subprocess.run(
                    ["cargo", "lambda", "invoke", name, "--data-file", event, "--invoke-address", "127.0.0.1",
                     "--invoke-port", str(port)],
                    cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
                )
                said = (invoked.stdout + invoked.stderr).strip()
                try:
                    answer = json.loads(invoked.stdout)
                except ValueError:
                    raise Failed(f"{name} did not answer {event}: {said}\n{watch_log.read_text()[-4000:]}") from None
                if invoked.returncode or not right(answer):
                    raise Failed(f"{name} answered {event} with {said}\n{watch_log.read_text()[-4000:]}")
                say(f"  {name:<18}{json.dumps(answer)[:100]}")
    functions = {path.stem for path in ROOT.glob("functions/src/bin/*.rs")}
    if functions != ANSWERS.keys():
        raise Failed(f"functions without a sample event here: {sorted(functions ^ ANSWERS.keys())}")


def suitable():
    """The tests that can run with the system's clock, by the name of their executable."""
    lines = (line.split("#")[0].strip() for line in SUITABLE.read_text().splitlines())
    chosen = {}
    for executable, test in (line.split("::", 1) for line in lines if line):
        chosen.setdefault(executable, []).append(test)
    return chosen


def end_to_end(executable, path, chosen):
    """Runs the chosen tests of one executable, and names the others."""
    listed = subprocess.run([path, "--list", "--format", "terse"], check=True, capture_output=True, text=True)
    known = [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]
    gone = [test for test in chosen if test not in known]
    if gone:
        raise Failed(f"{SUITABLE.name} names tests that {executable} does not have: {', '.join(gone)}")
    for test in known:
        if test not in chosen:
            say(f"  NOT RUN with functions as processes: {executable}::{test}")
    say(f"  running {len(chosen)} of the {len(known)} tests of {executable}")
    environment = {**os.environ, "TOWPATH_TEST_LAMBDA": "1"}
    with tempfile.TemporaryFile("w+") as out:
        ran = subprocess.run([path, "--exact", "--test-threads", "2", *chosen], cwd=ROOT / "tests", env=environment,
                             stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        out.seek(0)
        text = out.read()
    say("\n".join(f"  {line}" for line in text.strip().splitlines()))
    if ran.returncode or f"{len(chosen)} passed" not in text:
        raise Failed("not every test passed")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", action="store_true", help="only the sample events, not the end-to-end tests")
    options = parser.parse_args()
    began = time.monotonic()

    def took(what):
        say(f"[{time.monotonic() - began:6.1f} s] {what}")

    try:
        if subprocess.run(["cargo", "lambda", "--version"], capture_output=True, cwd=ROOT).returncode:
            raise Failed("cargo-lambda is not installed: pip install cargo-lambda")
        # Built as `cargo lambda watch` builds them, so that it finds them built.
        towpath = executables("build", "--features", "process")["towpath"]
        took("built; each function and its sample event:")
        with tempfile.TemporaryDirectory(prefix="towpath-lambda-") as folder:
            invoke_each(towpath, Path(folder))
        if not options.events:
            chosen = suitable()
            targets = [argument for executable in chosen for argument in ("--test", executable)]
            paths = executables("test", "-p", "towpath-tests", *targets, "--no-run")
            took("tests built; the end-to-end tests:")
            for executable, tests in chosen.items():
                end_to_end(executable, paths[executable], tests)
        took("passed")
        return 0
    except (Failed, subprocess.CalledProcessError, subprocess.TimeoutExpired) as failure:
        print(f"{failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
