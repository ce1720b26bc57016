#!/usr/bin/env python3
"""Runs compiled tests by tier, and says what was run, what was sampled, and how long each took.

    tests/gate/run.py fast|gate|long|only [PATTERN..] --binaries FILE

`tests/run` calls it with what cargo printed of the binaries (`--message-format=json`). tests/gate/tiers.toml says which test is
in which tier, tests/times.tsv how long each took; docs/testing.md explains both. Each end-to-end test is a process of its own, so
that its processor time is known (wait4(2): with all that it waited for); the tests of a binary that are none of those share one.
"""

import argparse
import hashlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
TIMES = PROJECT / "tests/times.tsv"
NEW_TIMES = PROJECT / "tests/times.new.tsv"
TIERS = PROJECT / "tests/gate/tiers.toml"
# A test that hangs must not take the whole run with it. The longest takes a quarter of that.
LIMIT = 1800
# The store that tests share, and how much of its disk stays free: what tests of before left there is removed in time.
STORE = PROJECT / "target/tmp/e2e-store"
FREE = 6 << 30
# Rows of tests.tsv for shorter tests of a shared process would only be noise.
SHORTEST = 0.5


def git(*words):
    ran = subprocess.run(["git", "-C", PROJECT, *words], capture_output=True, text=True)
    return ran.stdout.strip() if ran.returncode == 0 else None


def read_times():
    """Rows of tests/times.tsv: name -> (seconds, CPU seconds or None, tier)."""
    rows = {}
    for line in TIMES.read_text().splitlines()[1:] if TIMES.exists() else []:
        name, seconds, cpu, tier = line.split("\t")
        rows[name] = (float(seconds), None if cpu == "-" else float(cpu), tier)
    return rows


def write_times(rows):
    lines = ["test\tseconds\tCPU seconds\ttier"]
    for name, (seconds, cpu, tier) in sorted(rows.items()):
        lines.append(f"{name}\t{seconds:.1f}\t{'-' if cpu is None else f'{cpu:.1f}'}\t{tier}")
    NEW_TIMES.write_text("\n".join(lines) + "\n")


class Unit:
    """What is one process: an end-to-end test, or all other tests of a binary."""

    def __init__(self, name, words, row):
        self.name, self.words = name, words
        # An unknown one is taken for long, so that it is started early.
        seconds, cpu, _ = row or (60.0, 60.0, "")
        self.seconds = seconds
        self.load = min(max((cpu if cpu is not None else seconds) / max(seconds, 0.1), 0.05), 3.0)


def binaries(file):
    """Name and path of each test program, of what cargo printed."""
    found = {}
    for line in pathlib.Path(file).read_text().splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if message.get("reason") == "compiler-artifact" and message["profile"]["test"] and message["executable"]:
            target = message["target"]
            name = target["name"]
            package = pathlib.Path(message["manifest_path"]).parent
            # A library and its program have one name, and whichever was linked last would be all that is run: the tests are the library's.
            if name in found and "lib" not in target["kind"]:
                continue
            found[name] = (message["executable"], package)
    return found


def program_of(file):
    """Path of `imgbuild` itself, of what cargo printed."""
    for line in pathlib.Path(file).read_text().splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if message.get("reason") == "compiler-artifact" and not message["profile"]["test"] and message["target"]["name"] == "imgbuild":
            if message["executable"]:
                return message["executable"]
    return None


def make_room(program):
    """Removes from the shared store what only tests that have ended needed, when the disk fills; others make it again."""
    if not program or not STORE.exists():
        return
    if shutil.disk_usage(STORE).free >= FREE:
        return
    ran = subprocess.run([program, "gc", "--store", STORE], capture_output=True, text=True, cwd=STORE)
    said = [line for line in (ran.stdout + ran.stderr).splitlines() if " removed with " in line] or [f"exit code {ran.returncode}"]
    print(f"tests/run: the disk fills; gc of the shared store: {said[0]}", flush=True)


def tests_of(program, package):
    """Names of all tests of a program."""
    listed = subprocess.run([program, "--list", "--format", "terse"], capture_output=True, text=True, cwd=package, check=True)
    return [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]


def belongs(name, prefixes):
    return any(name == prefix or (prefix.endswith("::") and name.startswith(prefix)) for prefix in prefixes)


class Tiers:
    """What tests/gate/tiers.toml says."""

    def __init__(self):
        data = tomllib.loads(TIERS.read_text())
        self.alone = data["alone"]
        self.groups = data["group"]
        self.rotating = data["rotation"]["cpu_seconds"]
        self.changed_at_most = data["rotation"]["changed_cpu_seconds"]

    def group_of(self, name):
        return next((group["name"] for group in self.groups if belongs(name, group["tests"])), None)

    def tier(self, name):
        """The tier of a test that is a process: gate, or its group."""
        group = self.group_of(name)
        return f"group {group}" if group else "gate"

    def changed(self):
        """Files that differ from the main branch, and what that was taken to be."""
        base = os.environ.get("IMGBUILD_GATE_BASE") or "origin/main"
        base = git("merge-base", "HEAD", base)
        if not base or base == git("rev-parse", "HEAD"):
            return [], None
        return (git("diff", "--name-only", base, "HEAD") or "").splitlines(), base

    def sample(self, names, times):
        """The groups of this run: those whose sources changed, then others in an order that HEAD gives, as far as time goes."""
        head = git("rev-parse", "HEAD") or ""
        files, base = self.changed()
        # What only `long` runs is named among what was not run.
        groups = [group for group in self.groups if not group.get("long")]
        of = {group["name"]: [name for name in names if self.tier(name) == f"group {group['name']}"] for group in groups}
        cost = {name: sum((times.get(test) or (60, 60, ""))[1] or 0 for test in tests) for name, tests in of.items()}
        changed = [g["name"] for g in groups if any(file.startswith(tuple(g["sources"])) for file in files)]
        order = sorted((g["name"] for g in groups), key=lambda name: hashlib.sha256(f"{head} {name}".encode()).digest())
        taken, left, spent = [], [], 0.0
        for name in [name for name in order if name in changed]:
            if spent + cost[name] <= self.changed_at_most:
                taken.append(name)
                spent += cost[name]
            else:
                left.append(name)
        spent = 0.0
        for name in [name for name in order if name not in changed]:
            if not spent or spent + cost[name] <= self.rotating:
                taken.append(name)
                spent += cost[name]
        said = [f"groups of this run: {', '.join(sorted(taken))} (of {len(self.groups)}, chosen by HEAD {head[:12]}"
                + (f"; changed since {base[:12]}: {', '.join(changed) or 'none'})" if base else ")")]
        rest = sorted({group["name"] for group in self.groups} - set(taken))
        if rest:
            said.append(f"not run: {', '.join(rest)}, and what is long; `tests/run long` runs all, `tests/run only GROUP` one")
        if left:
            said.append(f"CHANGED AND NOT RUN, for they take longer than a gate may: {', '.join(left)}; run `tests/run only {' '.join(left)}`")
        return taken, said


def measured(words, package, limit):
    """Runs a process to its end: exit code, seconds, CPU seconds, output."""
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        # A group of its own, so that nothing outlives a test that is ended.
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=package,
                                   env=environment(package), start_new_session=True)
        timer = threading.Timer(limit, lambda: os.killpg(process.pid, signal.SIGKILL))
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        output.seek(0)
        text = output.read().decode(errors="replace")
    if seconds >= limit:
        text += f"\nended after {limit} s\n"
    return process.returncode, seconds, usage.ru_utime + usage.ru_stime, text


def environment(package):
    variables = dict(os.environ)
    for name in ["RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS"]:
        variables.pop(name, None)
    # What cargo sets for a test that it starts. A stable Rust tells how long a test took only where it is told that it may.
    variables |= {"CARGO_MANIFEST_DIR": str(package), "INSTA_WORKSPACE_ROOT": str(PROJECT), "RUSTC_BOOTSTRAP": "1"}
    return variables


class Run:
    """Starts units side by side, as many as the processors bear by what is known of them."""

    def __init__(self, units, package_of, program):
        self.waiting = sorted(units, key=lambda unit: -unit.seconds)
        self.package_of, self.program = package_of, program
        self.room = threading.Lock()
        self.running, self.failed, self.rows = [], [], {}
        self.lock = threading.Condition()
        self.capacity = (os.cpu_count() or 1) + 0.6
        self.most = (os.cpu_count() or 1) * 2 + 2
        self.done, self.all = 0, len(units)

    def next(self):
        load = sum(unit.load for unit in self.running)
        if len(self.running) >= self.most:
            return None
        for unit in self.waiting:
            if not self.running or load + unit.load <= self.capacity:
                return unit
        return None

    def work(self):
        threads = []
        with self.lock:
            while self.waiting or self.running:
                unit = self.next() if self.waiting else None
                if unit is None:
                    self.lock.wait()
                    continue
                self.waiting.remove(unit)
                self.running.append(unit)
                thread = threading.Thread(target=self.one, args=(unit,))
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join()

    def one(self, unit):
        code, seconds, cpu, text = measured(unit.words, self.package_of(unit), LIMIT)
        with self.room:
            make_room(self.program)
        with self.lock:
            self.running.remove(unit)
            self.done += 1
            verdict = "ok" if code == 0 else "FAILED"
            print(f"[{self.done}/{self.all}] {verdict} {unit.name} {seconds:.1f} s, CPU {cpu:.1f} s", flush=True)
            self.rows[unit.name] = (seconds, cpu)
            for name, took in re.findall(r"^test (\S+)(?: - should panic)? \.\.\. ok <([0-9.]+)s>$", text, re.M):
                if unit.name.endswith(" (the rest)") and float(took) >= SHORTEST:
                    self.rows[f"{unit.name.removesuffix(' (the rest)')}::{name}"] = (float(took), None)
            if code != 0:
                self.failed.append(unit.name)
                print(text, flush=True)
            elif "\n*** " in text:
                # What a test wants to be read although it passed.
                print("\n".join(line for line in text.splitlines() if line.startswith("*** ")), flush=True)
            self.lock.notify_all()


def select(arguments, programs, tiers, times):
    """The units to run, and what is said about them."""
    units, said, everything = [], [], []
    parts = {}
    for binary, (program, package) in programs.items():
        names = [f"{binary}::{name}" for name in tests_of(program, package)]
        alone = [name for name in names if belongs(name, tiers.alone)]
        parts[binary] = (program, [name for name in names if name not in set(alone)], alone)
        everything += alone
    rest_words = ["-Z", "unstable-options", "--report-time"]
    groups = []
    if arguments.tier == "gate":
        groups, said = tiers.sample(everything, times)
    patterns = arguments.patterns
    for binary, (program, rest, alone) in parts.items():
        if arguments.tier == "only":
            named = {f"group {pattern}" for pattern in patterns}
            alone = [name for name in alone if tiers.tier(name) in named or any(pattern in name for pattern in patterns)]
            short = [name for name in rest if any(pattern in name for pattern in patterns)]
            words = [program, "--exact", *[name.removeprefix(f"{binary}::") for name in short], *rest_words] if short else None
        else:
            words = [program, *[word for prefix in tiers.alone if prefix.startswith(f"{binary}::")
                                for word in ("--skip", prefix.removeprefix(f"{binary}::"))], *rest_words] if rest else None
        if arguments.tier == "fast":
            alone = []
        if arguments.tier == "gate":
            alone = [name for name in alone if tiers.tier(name) in ["gate", *[f"group {name}" for name in groups]]]
        if words:
            units.append((Unit(f"{binary} (the rest)", words, times.get(f"{binary} (the rest)")), binary))
        for name in alone:
            units.append((Unit(name, [program, "--exact", name.removeprefix(f"{binary}::")], times.get(name)), binary))
    said.insert(0, f"{arguments.tier}: {sum(1 for unit, _ in units if not unit.name.endswith(' (the rest)'))} end-to-end tests of "
                   f"{len(everything)}, and {sum(len(rest) for _, rest, _ in parts.values())} others")
    return units, said


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tier", choices=["fast", "gate", "long", "only"])
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--binaries", required=True)
    parser.add_argument("--began", type=float, default=time.time(), help="when the whole began, in seconds since 1970")
    parser.add_argument("--list", action="store_true", help="only say what would be run")
    arguments = parser.parse_args()
    programs = binaries(arguments.binaries)
    tiers, times = Tiers(), read_times()
    units, said = select(arguments, programs, tiers, times)
    if not units:
        sys.exit(f"tests/run: no test has {' or '.join(arguments.patterns)} in its name")
    for line in said:
        print(f"tests/run: {line}", flush=True)
    if arguments.list:
        for unit, _ in units:
            print(unit.name)
        return
    package = {unit.name: programs[binary][1] for unit, binary in units}
    before = time.time()
    run = Run([unit for unit, _ in units], lambda unit: package[unit.name], program_of(arguments.binaries))
    run.work()
    rows = dict(times)
    slower = []
    for name, (seconds, cpu) in run.rows.items():
        tier = "unit" if name.endswith(" (the rest)") or cpu is None else tiers.tier(name)
        known = times.get(name)
        rows[name] = (seconds, cpu, tier)
        # Of processor time, where it is known: a loaded machine makes everything slower by the clock.
        was, now = (known[1], cpu) if known and known[1] is not None and cpu is not None else (known[0] if known else 0, seconds)
        if known and now > 3 * was and now > was + 5:
            slower.append(f"{name}: {was:.1f} s, now {now:.1f} s")
    write_times(rows)
    took = sorted(run.rows.items(), key=lambda row: -row[1][0])
    print(f"tests/run: {time.time() - before:.0f} s of tests, {sum(cpu or 0 for _, cpu in run.rows.values()):.0f} s of processor time; "
          f"{time.time() - arguments.began:.0f} s in all. The longest (all: tests/times.new.tsv):")
    for name, (seconds, cpu) in took[:12]:
        print(f"  {seconds:7.1f} s  CPU {'-' if cpu is None else f'{cpu:7.1f} s'}  {name}")
    if slower:
        print("tests/run: slower than three times what tests/times.tsv says:")
        print("\n".join(f"  {line}" for line in slower))
    for line in said:
        print(f"tests/run: {line}")
    if run.failed:
        print(f"tests/run: {len(run.failed)} FAILED: {', '.join(run.failed)}")
        sys.exit(1)
    print("tests/run: all passed")


if __name__ == "__main__":
    main()
