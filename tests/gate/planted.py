#!/usr/bin/env python3
"""Plants faults, one at a time, and says whether the test that holds the broken promise notices.

    tests/gate/planted.py [NAME..] [--rotate N] --binaries FILE

tests/planted/faults.toml has the faults. Each is a switch in what the tests compile (`fault::planted`), turned by the environment:
nothing is compiled. `plant` and `rotate` are for run.py, which runs some in every gate.
"""

import argparse
import hashlib
import os
import pathlib
import re
import shutil
import sys
import tempfile
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from content import git
from units import measured

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
FAULTS = PROJECT / "tests/planted/faults.toml"
TIMES = PROJECT / "tests/planted/times.tsv"
# A test that hangs because of its fault has noticed nothing. The longest takes a quarter of that.
LIMIT = 900


def read_faults():
    """Each fault of the table, by its name."""
    return {fault["name"]: fault for fault in tomllib.loads(FAULTS.read_text())["fault"]}


def read_times():
    """What each fault took: name -> (seconds, CPU seconds)."""
    lines = TIMES.read_text().splitlines()[1:] if TIMES.exists() else []
    return {name: (float(seconds), float(cpu)) for name, seconds, cpu in (line.split("\t") for line in lines)}


def write_times(times):
    lines = [f"{name}\t{seconds:.1f}\t{cpu:.1f}" for name, (seconds, cpu) in sorted(times.items())]
    TIMES.write_text("\n".join(["fault\tseconds\tCPU seconds", *lines]) + "\n")


def rotate(count, cpu_seconds):
    """Names of faults for one gate: in the order that HEAD gives, as far as count and processor time go. One that never ran has no time
    yet, and waits for `tests/planted/run`."""
    seed = (git("rev-parse", "HEAD") or b"").decode().strip()
    times = read_times()
    names = [name for name, fault in read_faults().items() if fault.get("gate", True) and name in times]
    names.sort(key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    taken, spent = [], 0.0
    for name in names:
        if len(taken) < count and spent + times[name][1] <= cpu_seconds:
            taken.append(name)
            spent += times[name][1]
    return taken


class Planted:
    """How a planted fault ended: a verdict, what was said, what it took."""

    def __init__(self, name, verdict, text, seconds, cpu):
        self.name, self.verdict, self.text, self.seconds, self.cpu = name, verdict, text, seconds, cpu

    @property
    def is_found(self):
        return self.verdict == "found"


def judge(fault, code, text, noted):
    """What a test's end says of the fault."""
    ran = re.search(r"^test result: \w+\. (\d+) passed; (\d+) failed;", text, re.M)
    if not ran or int(ran[1]) + int(ran[2]) == 0:
        return "NOT RUN"
    # On a node it stands on the console, which a test that fails shows.
    reached = noted or f"the planted fault {fault['name']} is reached" in text
    if code == 0:
        return "MISSED" if reached else "MISSED, not reached"
    return "found" if reached or "unseen" in fault else "NOT REACHED, failed otherwise"


def one(fault, programs):
    """Runs a fault's test with the fault, in directories that only this run sees: wrong results lie there under right keys."""
    binary, _, test = fault["test"].partition("::")
    program, package = programs[binary]
    room = tempfile.mkdtemp(prefix="p")
    os.chmod(room, 0o1777)
    note = pathlib.Path(room) / "reached"
    for name in ["s", "t", "x"]:
        (pathlib.Path(room) / name).mkdir()
        os.chmod(pathlib.Path(room) / name, 0o1777)
    note.touch()
    # The sandbox's users write there.
    os.chmod(note, 0o666)
    variables = {"INSTA_UPDATE": "no", "PROPTEST_CASES": "64", "IMGBUILD_TESTS_SHARED": f"{room}/s", "CARGO_TARGET_TMPDIR": f"{room}/t",
                 "TMPDIR": f"{room}/x", "IMGBUILD_PLANTED": fault["name"], "IMGBUILD_PLANTED_REACHED": str(note)}
    try:
        code, seconds, cpu, text = measured([program, "--exact", test], package, LIMIT, variables)
        return Planted(fault["name"], judge(fault, code, text, note.stat().st_size > 0), text, seconds, cpu)
    finally:
        shutil.rmtree(room, ignore_errors=True)


def plant(names, programs, beside=2, note=False):
    """Plants these faults, two side by side; gives what each came to. `programs` is what `binaries` of run.py gives.

    The tests must pass without the fault: that is not tried here. With `note`, tests/planted/times.tsv gets what it took.
    """
    faults = read_faults()
    said = threading.Lock()

    def run(name):
        came = one(faults[name], programs)
        with said:
            print(f"planted: {came.verdict}: {name}: {faults[name]['test']} {came.seconds:.1f} s, CPU {came.cpu:.1f} s", flush=True)
            if not came.is_found:
                print("\n".join(came.text.splitlines()[-40:]), flush=True)
            elif note:
                known = {name: took for name, took in read_times().items() if name in faults}
                write_times(known | {name: (came.seconds, came.cpu)})
        return came

    with ThreadPoolExecutor(beside) as pool:
        return list(pool.map(run, names))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*")
    parser.add_argument("--rotate", type=int, help="so many, chosen by HEAD")
    parser.add_argument("--binaries", required=True)
    arguments = parser.parse_args()
    from run import binaries
    names = arguments.names or list(read_faults())
    if arguments.rotate:
        names = rotate(arguments.rotate, float("inf"))
    if unknown := sorted(set(names) - set(read_faults())):
        sys.exit(f"tests/planted: tests/planted/faults.toml has no {', '.join(unknown)}")
    began = time.monotonic()
    came = plant(names, binaries(arguments.binaries), note=True)
    missed = [f"{one.name} ({one.verdict})" for one in came if not one.is_found]
    print(f"tests/planted: {len(came) - len(missed)} of {len(came)} found in {time.monotonic() - began:.0f} s, "
          f"CPU {sum(one.cpu for one in came):.0f} s")
    if missed:
        sys.exit(f"tests/planted: no test noticed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
