"""Processes of tests: how they are started, side by side, and what they took and printed."""

import functools
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
# A test that hangs must not take the whole run with it. The longest takes a quarter of that.
LIMIT = 1800
# The store that tests share, and how much of its disk stays free: what tests of before left there is removed in time.
STORE = PROJECT / "target/tmp/e2e-store"
FREE = 6 << 30
# How much memory there must be for one more beside those that run: a node takes two GiB or three.
NODE, MEMORY = 2 << 30, 3 << 30
# Rows of times.tsv for shorter tests of a shared process would only be noise.
SHORTEST = 0.5
# What a test prints that could not be run here: `support::skip` writes it past the test harness.
SKIPPED = re.compile(r"^\*\*\* SKIPPED (\S+): (.*)$", re.M)


def fed():
    """Seconds for which each reader of what others wrote is fed with damaged inputs, where the run says so."""
    return float(os.environ.get("IMGBUILD_FUZZ_SECONDS") or 0)


@functools.cache
def readers():
    """Names of the tests of tests/fuzz that feed a reader."""
    names = re.search(r"^fed! \{([^}]*)\}", (PROJECT / "tests/fuzz/main.rs").read_text(), re.M)
    return {f"fuzz::{name}" for name in names[1].split()}


class Unit:
    """What is one process: an end-to-end test, or all other tests of a binary."""

    def __init__(self, name, words, row):
        self.name, self.words = name, words
        # An unknown one is taken for long, so that it is started early.
        seconds, cpu, _ = row or (60.0, 60.0, "")
        self.is_reader = name in readers()
        if self.is_reader and fed():
            seconds = cpu = fed()
        self.seconds, self.began = seconds, 0.0
        # A reader looks at the last input for a minute at most, and at each of its seeds.
        self.limit = max(LIMIT, 1.5 * seconds + 600)
        self.load = min(max((cpu if cpu is not None else seconds) / max(seconds, 0.1), 0.05), 3.0)


def make_room(program):
    """Removes from the shared store what only tests that have ended needed, when the disk fills; others make it again."""
    if not program or not STORE.exists():
        return
    if shutil.disk_usage(STORE).free >= FREE:
        return
    ran = subprocess.run([program, "gc", "--store", STORE], capture_output=True, text=True, cwd=STORE)
    said = [line for line in (ran.stdout + ran.stderr).splitlines() if " removed with " in line] or [f"exit code {ran.returncode}"]
    print(f"tests/run: the disk fills; gc of the shared store: {said[0]}", flush=True)


def measured(words, package, limit, variables=None):
    """Runs a process to its end, with more variables: exit code, seconds, CPU seconds, output."""
    with tempfile.TemporaryFile() as output:
        began = time.monotonic()
        # A group of its own, so that nothing outlives a test that is ended.
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, cwd=package,
                                   env=environment(package) | (variables or {}), start_new_session=True)
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
    # Nothing of whoever runs the tests: no settings of git, ssh or containers, no imgbuild's, no language.
    own = ("IMGBUILD_FUZZ_", "IMGBUILD_INIT_", "IMGBUILD_LONG_TESTS", "IMGBUILD_MIRROR", "IMGBUILD_PLANTED", "IMGBUILD_POWER_SEED", "IMGBUILD_TESTS_")
    foreign = ("RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS", "LANG", "LC_", "XDG_", "GIT_", "COLUMNS", "LINES", "IMGBUILD_")
    variables = {name: value for name, value in os.environ.items() if name.startswith(own) or not name.startswith(foreign)}
    home = pathlib.Path(os.environ.get("HOME", "/root"))
    for name, folder in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")]:
        variables.setdefault(name, str(home / folder))
    if "IMGBUILD_TESTS_SHARED" in variables:
        empty = pathlib.Path(variables["IMGBUILD_TESTS_SHARED"]) / "home"
        empty.mkdir(mode=0o700, exist_ok=True)
        variables["HOME"] = str(empty)
    variables["LC_ALL"] = "C.UTF-8"
    # What cargo sets for a test that it starts. A stable Rust tells how long a test took only where it is told that it may.
    variables |= {"CARGO_MANIFEST_DIR": str(package), "INSTA_WORKSPACE_ROOT": str(PROJECT), "RUSTC_BOOTSTRAP": "1"}
    return variables


class Run:
    """Starts units side by side, as many as the processors bear by what is known of them."""

    def __init__(self, units, package_of, program, ended):
        """`ended` is called with this after each of them."""
        # Readers that are fed for long come last: what fails soon is known soon.
        self.waiting = sorted(units, key=lambda unit: (unit.is_reader and fed() > 0, -unit.seconds))
        self.package_of, self.program, self.ended = package_of, program, ended
        self.room = threading.Lock()
        self.running, self.failed, self.rows, self.skipped = [], [], {}, {}
        self.lock = threading.Condition()
        self.capacity = (os.cpu_count() or 1) + 0.6
        self.most = (os.cpu_count() or 1) * 2 + 2
        self.done, self.all = 0, len(units)

    def next(self):
        """The next that the processors and the memory bear; the longest first."""
        load = sum(unit.load for unit in self.running)
        # A node that was just started takes its memory in the next minute.
        starting = sum(1 for unit in self.running if "boot" in unit.name and time.monotonic() - unit.began < 90)
        if len(self.running) >= self.most or self.running and available() - starting * NODE < MEMORY:
            return None
        # None of them takes a processor from the other tests.
        others = [unit for unit in self.waiting if not (unit.is_reader and fed())]
        for unit in others or self.waiting:
            if not self.running or load + unit.load <= self.capacity:
                return unit
        return None

    def work(self):
        threads = []
        with self.lock:
            while self.waiting or self.running:
                unit = self.next() if self.waiting else None
                if unit is None:
                    # Memory becomes free without a word.
                    self.lock.wait(timeout=10)
                    continue
                self.waiting.remove(unit)
                unit.began = time.monotonic()
                self.running.append(unit)
                thread = threading.Thread(target=self.one, args=(unit,))
                thread.start()
                threads.append(thread)
        for thread in threads:
            thread.join()

    def one(self, unit):
        code, seconds, cpu, text = measured(unit.words, self.package_of(unit), unit.limit)
        with self.room:
            make_room(self.program)
        with self.lock:
            self.running.remove(unit)
            self.done += 1
            verdict = "ok" if code == 0 else "FAILED"
            print(f"[{self.done}/{self.all}] {verdict} {unit.name} {seconds:.1f} s, CPU {cpu:.1f} s", flush=True)
            self.rows[unit.name] = (seconds, cpu)
            shared = unit.name.removesuffix(" (the rest)")
            for name, took in re.findall(r"^test (\S+)(?: - should panic)? \.\.\. ok <([0-9.]+)s>$", text, re.M):
                if shared != unit.name and float(took) >= SHORTEST:
                    self.rows[f"{shared}::{name}"] = (float(took), None)
            for name, reason in SKIPPED.findall(text):
                # A test that is alone in its process may be on the first thread, which has another name.
                name = f"{shared}::{name}" if shared != unit.name else unit.name
                self.skipped.setdefault(name, []).append(reason)
                print(f"SKIPPED {name}: {reason}", flush=True)
            if code != 0:
                self.failed.append(unit.name)
                print(text, flush=True)
            self.ended(self)
            self.lock.notify_all()


def available():
    """Memory that is there for more processes, in bytes."""
    words = dict(line.split(":") for line in pathlib.Path("/proc/meminfo").read_text().splitlines())
    return int(words["MemAvailable"].split()[0]) << 10
