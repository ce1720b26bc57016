#!/usr/bin/env python3
"""Runs compiled tests by tier, and says what was run, what is due, and how long each took.

    tests/gate/run.py choose fast|gate|long|only [PATTERN..]            before compiling: which groups, and what they need
    tests/gate/run.py fast|gate|long|only [PATTERN..] --binaries FILE   runs them
    tests/gate/run.py untested                                          files that no test asks for, tests whose time is not known

`tests/run` calls it with what cargo printed of the binaries (`--message-format=json`). tests/gate/tiers.toml says which test is
in which tier, tests/gate/passed.tsv what passed with which sources, tests/times.tsv how long each took; docs/testing.md explains
them. Each end-to-end test is a process of its own, so that its processor time is known (wait4(2): with all that it waited for); the
tests of a binary that are none of those share one.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import content
import planted
from tiers import Selection, Tiers, belongs, passed
from units import PROJECT, Run, Unit, fed, readers

TIMES = PROJECT / "tests/times.tsv"
NEW_TIMES = PROJECT / "tests/times.new.tsv"
CHOSEN = PROJECT / "target/chosen.json"
# Planted faults of a gate: how many, and their processor time together.
PLANTED, PLANTED_CPU_SECONDS = 10, 60
# With this variable all that can be tested is tested, and what is left out is a failure.
IS_CI = "CI" in os.environ


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


def artifacts(file):
    """What cargo printed of what it compiled."""
    for line in pathlib.Path(file).read_text().splitlines():
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if message.get("reason") == "compiler-artifact" and message["executable"]:
            yield message


def binaries(file):
    """Name and path of each test program."""
    found = {}
    for message in artifacts(file):
        target = message["target"]
        # A library and its program have one name, and whichever was linked last would be all that is run: the tests are the library's.
        if message["profile"]["test"] and (target["name"] not in found or "lib" in target["kind"]):
            found[target["name"]] = (message["executable"], pathlib.Path(message["manifest_path"]).parent)
    return found


def program_of(file):
    """Path of `imgbuild` itself."""
    return next((message["executable"] for message in artifacts(file)
                 if not message["profile"]["test"] and message["target"]["name"] == "imgbuild"), None)


def tests_of(program, package):
    """Names of all tests of a program."""
    listed = subprocess.run([program, "--list", "--format", "terse"], capture_output=True, text=True, cwd=package, check=True)
    return [line.removesuffix(": test") for line in listed.stdout.splitlines() if line.endswith(": test")]


def select(arguments, programs, tiers, chosen, times):
    """The units to run with their programs, names of all tests that are processes, and what is said about them."""
    units, everything, count = [], [], 0
    words = ["-Z", "unstable-options", "--report-time"]
    for binary, (program, package) in programs.items():
        names = [f"{binary}::{name}" for name in tests_of(program, package)]
        alone = [name for name in names if belongs(name, tiers.alone)]
        rest = [name for name in names if not belongs(name, tiers.alone)]
        everything += alone
        count += len(rest)
        if arguments.tier == "only":
            groups = {f"group {pattern}" for pattern in arguments.patterns}
            parts = [pattern for pattern in arguments.patterns if pattern not in tiers.groups]
            named = lambda name: any(part in name for part in parts)
            alone = [name for name in alone if tiers.tier(name) in groups or named(name)]
            rest = [name for name in rest if named(name)]
            started = [program, "--exact", *[name.removeprefix(f"{binary}::") for name in rest], *words]
        else:
            skipped = [prefix.removeprefix(f"{binary}::") for prefix in tiers.alone if prefix.startswith(f"{binary}::")]
            started = [program, *[word for prefix in skipped for word in ("--skip", prefix)], *words]
        if arguments.tier == "fast":
            alone = []
        if arguments.tier == "gate":
            alone = [name for name in alone if tiers.group_of(name) is None or tiers.group_of(name) in chosen.why]
        if rest:
            units.append((Unit(f"{binary} (the rest)", started, times.get(f"{binary} (the rest)")), binary))
        for name in alone:
            units.append((Unit(name, [program, "--exact", name.removeprefix(f"{binary}::"), *words], times.get(name)), binary))
    processes = sum(1 for unit, _ in units if not unit.name.endswith(" (the rest)"))
    return units, everything, f"{arguments.tier}: {processes} end-to-end tests of {len(everything)}, and {count} others"


def fuzzed(count):
    """How long the readers take that are fed for as long as the run says, as an estimate."""
    if not fed() or not count:
        return []
    cores = os.cpu_count() or 1
    return [f"{count} readers of what others wrote are fed for {fed():.0f} s each (IMGBUILD_FUZZ_SECONDS), {min(cores, count)} at a time, after all "
            f"other tests: about {-(-count // cores) * fed() / 60:.0f} minutes"]


def choose(arguments):
    """Before compiling: says which groups are run, and prints what they need as the last line."""
    tiers = Tiers()
    chosen = Selection(tiers, arguments.tier, arguments.patterns)
    for line in [*chosen.said(), *(fuzzed(len(readers())) if arguments.tier == "long" else [])]:
        print(f"tests/run: {line}", file=sys.stderr)
    CHOSEN.parent.mkdir(exist_ok=True)
    CHOSEN.write_text(json.dumps(chosen.kept()))
    seconds = chosen.too_much()
    if IS_CI and arguments.tier == "gate" and seconds:
        print(f"tests/run: about {seconds / 60:.0f} minutes of processor time are due, more than a landing may leave to others "
              f"({tiers.limits['landing_cpu_seconds'] // 60}): run the groups in several runs, and commit tests/gate/passed.tsv with the work:\n"
              f"  tests/run only {' '.join(chosen.due)}", file=sys.stderr)
        sys.exit(1)
    print(" ".join(chosen.needs()))


def untested():
    """What a change would not ask a test for, one per line: the tests of the house call it."""
    tiers = Tiers()
    for name in content.unheld(tiers.data):
        print(f"{name} belongs to no group, and not to the gate")
    for line in [*content.untimed(tiers.data, read_times(), passed()), *content.misread()]:
        print(line)


def plant(arguments, programs):
    """Plants faults, all of them or as many as a gate has time for; those that no test noticed."""
    before = time.time()
    names = sorted(planted.read_faults()) if arguments.tier == "long" else planted.rotate(PLANTED, PLANTED_CPU_SECONDS)
    came = planted.plant(names, programs, note=arguments.tier == "long")
    missed = [f"{one.name} ({one.verdict})" for one in came if not one.is_found]
    print(f"tests/run: planted faults: {len(came) - len(missed)} of {len(came)} found in {time.time() - before:.0f} s, "
          f"{sum(one.cpu for one in came):.0f} s of processor time: {', '.join(names)}")
    return missed


def passed_groups(run, everything, tiers):
    """Groups of which each test there is passed here, none was skipped, and their CPU seconds."""
    ran = {}
    for name in tiers.groups:
        tests = [test for test in everything if tiers.group_of(test) == name]
        if tests and all(test in run.rows and test not in run.failed and test not in run.skipped for test in tests):
            ran[name] = sum(run.rows[test][1] for test in tests)
    return ran


def slower(rows, times):
    """Lines about tests that took more than three times what their row says."""
    for name, (seconds, cpu, _) in rows.items():
        if name not in times:
            continue
        # Of processor time, where it is known: a loaded machine makes everything slower by the clock.
        known = times[name][1] is not None and cpu is not None
        was, now = (times[name][1], cpu) if known else (times[name][0], seconds)
        if now > 3 * was and now > was + 5:
            yield f"{name}: {was:.1f} s, now {now:.1f} s"


def report(run, before, began, rows, times):
    took = sorted(run.rows.items(), key=lambda row: -row[1][0])
    print(f"tests/run: {time.time() - before:.0f} s of tests, {sum(cpu or 0 for _, cpu in run.rows.values()):.0f} s of processor time; "
          f"{time.time() - began:.0f} s in all. The longest (all: tests/times.new.tsv):")
    for name, (seconds, cpu) in took[:12]:
        print(f"  {seconds:7.1f} s  CPU {'-' if cpu is None else f'{cpu:7.1f} s'}  {name}")
    for line in slower({name: row for name, row in rows.items() if name in run.rows}, times):
        print(f"tests/run: slower than three times what tests/times.tsv says: {line}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tier", choices=["choose", "untested", "fast", "gate", "long", "only"])
    parser.add_argument("patterns", nargs="*")
    parser.add_argument("--binaries")
    parser.add_argument("--began", type=float, default=time.time(), help="when the whole began, in seconds since 1970")
    parser.add_argument("--list", action="store_true", help="only say what would be run")
    arguments = parser.parse_args()
    if arguments.tier == "choose":
        arguments.tier, *arguments.patterns = arguments.patterns
        return choose(arguments)
    if arguments.tier == "untested":
        return untested()
    programs = binaries(arguments.binaries)
    tiers, times = Tiers(), read_times()
    kept = json.loads(CHOSEN.read_text()) if CHOSEN.exists() else None
    # `only` may be called by itself, with what was compiled before.
    if arguments.tier == "gate" and (not kept or kept["tier"] != "gate"):
        sys.exit("tests/run: what the gate runs is chosen before compiling: tests/run")
    is_kept = kept and kept["tier"] == arguments.tier and arguments.tier != "only"
    chosen = Selection.of_kept(tiers, kept) if is_kept else Selection(tiers, arguments.tier, arguments.patterns)
    units, everything, line = select(arguments, programs, tiers, chosen, times)
    if not units:
        sys.exit(f"tests/run: no test has {' or '.join(arguments.patterns)} in its name")
    said = [line, *chosen.said(), *fuzzed(sum(unit.is_reader for unit, _ in units))]
    for line in said:
        print(f"tests/run: {line}", flush=True)
    if arguments.list:
        for unit, _ in units:
            print(unit.name)
        return None
    package = {unit.name: programs[binary][1] for unit, binary in units}
    before = time.time()
    noted = set()

    def ended(run):
        """What passed is written at once: a run that is ended has not run for nothing."""
        new = {name: cpu for name, cpu in passed_groups(run, everything, tiers).items() if name not in noted}
        noted.update(new)
        if new:
            chosen.note(new)

    run = Run([unit for unit, _ in units], lambda unit: package[unit.name], program_of(arguments.binaries), ended)
    run.work()
    tier_of = lambda name, cpu: "unit" if name.endswith(" (the rest)") or cpu is None else tiers.tier(name)
    # How long a reader was fed says nothing of what it takes in a gate.
    is_fed = lambda name: fed() > 0 and name in readers()
    rows = dict(times) | {name: (seconds, cpu, tier_of(name, cpu)) for name, (seconds, cpu) in run.rows.items() if not is_fed(name)}
    write_times(rows)
    report(run, before, arguments.began, rows, times)
    # Whether a test notices a fault means something where it passes without.
    missed = plant(arguments, programs) if arguments.tier in ["gate", "long"] and not run.failed else []
    return verdict(arguments, run, tiers, chosen, said, missed)


def verdict(arguments, run, tiers, chosen, said, missed):
    """The last lines, and exit code 1 if a test failed, was skipped that CI has to run, or did not notice a fault."""
    for line in said:
        print(f"tests/run: {line}")
    wrong = []
    for name, reasons in sorted(run.skipped.items()):
        allowed = tiers.may_skip.get(name)
        print(f"tests/run: skipped: {name}: {'; '.join(reasons)}" + (f" (allowed: {allowed})" if allowed else ""))
        wrong += [name] if IS_CI and not allowed else []
    if run.failed:
        print(f"tests/run: {len(run.failed)} FAILED: {', '.join(run.failed)}")
    if wrong:
        print(f"tests/run: {len(wrong)} SKIPPED, and with CI set nothing may be that tiers.toml does not name: {', '.join(wrong)}")
    if missed:
        print(f"tests/run: {len(missed)} planted faults that no test noticed: {', '.join(missed)}")
    failed = bool(run.failed or wrong or missed)
    if not failed:
        print(f"tests/run: all passed, {len(run.skipped)} skipped")
    if arguments.tier in ["gate", "long"]:
        print(f"tests/run: {chosen.last_line()}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
