"""Which groups a run takes: tests/gate/tiers.toml says what there is, tests/gate/passed.tsv what passed last and with which sources.

Chosen before anything is compiled. docs/testing.md says why it is so.
"""

import datetime
import hashlib
import os
import tomllib

import content

PROJECT = content.PROJECT
TIERS = PROJECT / "tests/gate/tiers.toml"
PASSED = PROJECT / "tests/gate/passed.tsv"
# A group of which no run is known.
UNKNOWN = 60.0


def belongs(name, prefixes):
    return any(name == prefix or (prefix.endswith("::") and name.startswith(prefix)) for prefix in prefixes)


class Row:
    """When a group passed last: digest of its sources, date, CPU seconds."""

    def __init__(self, digest, date, cpu):
        self.digest, self.date, self.cpu = digest, date, float(cpu)


def rows_of(text):
    rows = {}
    for line in text.splitlines()[1:]:
        name, *row = line.split("\t")
        rows[name] = Row(*row)
    return rows


def passed():
    return rows_of(PASSED.read_text()) if PASSED.exists() else {}


def write_passed(rows):
    lines = ["group\tsources\tpassed\tCPU seconds"]
    lines += [f"{name}\t{row.digest}\t{row.date}\t{row.cpu:.1f}" for name, row in sorted(rows.items())]
    new = PASSED.with_suffix(".new")
    new.write_text("\n".join(lines) + "\n")
    new.replace(PASSED)


def now():
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%MZ")


def a_day_ago():
    """The rows before the commits of the last day; None where there were none, or the clone has no older commit."""
    date = content.git("log", "-1", "--format=%ct", "HEAD")
    base = date and content.git("log", "-1", "--format=%H", f"--before={int(date) - 24 * 3600}", "HEAD")
    text = base and content.git("show", f"{base.decode().strip()}:tests/gate/passed.tsv")
    return rows_of(text.decode()) if text else None


def newly_claimed():
    """Groups whose rows the commits of the last day changed: what they claim is tried again where it is to land."""
    head = content.git("show", "HEAD:tests/gate/passed.tsv")
    if head is None:
        return set()
    rows, before = rows_of(head.decode()), a_day_ago() or {}
    return {name for name, row in rows.items() if name not in before or before[name].digest != row.digest}


class Tiers:
    """What tests/gate/tiers.toml says."""

    def __init__(self):
        self.data = tomllib.loads(TIERS.read_text())
        self.alone = self.data["alone"]
        self.groups = {group["name"]: group for group in self.data["group"]}
        self.may_skip = {row["test"]: row["reason"] for row in self.data.get("may_skip", [])}
        self.limits = self.data["limits"]

    def group_of(self, name):
        return next((group["name"] for group in self.groups.values() if belongs(name, group["tests"])), None)

    def tier(self, name):
        """The tier of a test that is a process: gate, or its group."""
        group = self.group_of(name)
        return f"group {group}" if group else "gate"

    def digest(self, name):
        return content.digest(self.groups[name], self.data)


class Selection:
    """The groups of a run, why each, and what is due and does not fit."""

    def __init__(self, tiers, tier, patterns=()):
        self.tiers, self.rows, self.tier = tiers, passed(), tier
        self.digests = {name: tiers.digest(name) for name in tiers.groups}
        self.due = [name for name, digest in self.digests.items() if name not in self.rows or self.rows[name].digest != digest]
        self.due.sort(key=lambda name: (self.rows[name].date if name in self.rows else "", name))
        self.why = {}
        if tier == "long":
            self.why = {name: "all" for name in tiers.groups}
        elif tier == "only":
            # Also a part of a test's name asks for what its group needs.
            asked = lambda group: group["name"] in patterns or any(
                pattern in test or test in pattern for pattern in patterns if pattern not in tiers.groups for test in group["tests"])
            self.why = {name: "named" for name, group in tiers.groups.items() if asked(group)}
        elif tier == "gate":
            self.gate()
        self.left = [name for name in self.due if name not in self.why]

    def cost(self, name):
        return self.rows[name].cpu if name in self.rows else UNKNOWN

    def take(self, names, seconds, why):
        """Takes groups in this order as far as the seconds go; the first in any case."""
        spent = 0.0
        for name in names:
            if name in self.why or self.tiers.groups[name].get("long"):
                continue
            if not spent or spent + self.cost(name) <= seconds:
                self.why[name] = why
                spent += self.cost(name)
        return spent

    def gate(self):
        limits = self.tiers.limits
        head = (content.git("rev-parse", "HEAD") or b"").decode().strip()
        by_head = lambda name: hashlib.sha256(f"{head} {name}".encode()).digest()
        spent = 0.0
        if "CI" in os.environ:
            claimed = sorted(newly_claimed() & set(self.digests) - set(self.due), key=by_head)
            spent = self.take(claimed, limits["due_cpu_seconds"] / 2, "claimed by the last commits")
        due = [name for name in self.due if not self.tiers.groups[name].get("long")]
        spent += self.take(due, limits["due_cpu_seconds"] - spent, "due") if spent < limits["due_cpu_seconds"] else 0.0
        if spent < limits["rotation_cpu_seconds"]:
            rest = sorted(set(self.digests) - set(self.due), key=lambda name: (self.rows[name].date, by_head(name)))
            self.take(rest, limits["rotation_cpu_seconds"] - spent, "in turn")

    def kept(self):
        """For the run after compiling: what was chosen, with the digests of before."""
        return {"tier": self.tier, "digests": self.digests, "due": self.due, "why": self.why, "left": self.left}

    @classmethod
    def of_kept(cls, tiers, kept):
        chosen = cls.__new__(cls)
        chosen.tiers, chosen.rows = tiers, passed()
        chosen.tier, chosen.digests, chosen.due, chosen.why, chosen.left = (kept[key] for key in ["tier", "digests", "due", "why", "left"])
        return chosen

    def needs(self):
        """What the chosen groups need besides: words of tiers.toml."""
        return sorted({need for name in self.why for need in self.tiers.groups[name].get("needs", [])})

    def too_much(self):
        """CPU seconds of what is due and is not long, if they are more than a landing may leave to others.

        A group that has no row yet counts as soon as there have been rows for a day: who begins them has not run everything.
        """
        has_begun = a_day_ago() is not None
        due = [name for name in self.due if not self.tiers.groups[name].get("long") and (has_begun or name in self.rows)]
        seconds = sum(self.cost(name) for name in due)
        return seconds if seconds > self.tiers.limits["landing_cpu_seconds"] else None

    def said(self):
        """The lines before the run."""
        lines = []
        for why in sorted(set(self.why.values())):
            names = sorted(name for name, reason in self.why.items() if reason == why)
            lines.append(f"groups, {why}: {', '.join(names)}")
        rest = sorted(set(self.digests) - set(self.why) - set(self.left))
        if rest:
            lines.append(f"not run, and their sources are those that they passed with: {', '.join(rest)}")
        return lines

    def last_line(self):
        """What is due and was not run."""
        if not self.left:
            return "due and not run: none"
        seconds = sum(self.cost(name) for name in self.left)
        return (f"DUE AND NOT RUN: {', '.join(self.left)} (about {seconds / 60:.0f} minutes of processor time): "
                f"tests/run only {' '.join(self.left)}")

    def note(self, ran):
        """Writes the rows of groups of which all tests passed, none was skipped, and the sources are still the same."""
        rows = passed()
        content.forget()
        for name, cpu in ran.items():
            if name in self.tiers.groups and self.digests[name] == self.tiers.digest(name):
                rows[name] = Row(self.digests[name], now(), cpu)
        write_passed({name: row for name, row in rows.items() if name in self.tiers.groups})
