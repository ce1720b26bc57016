"""What a group of tests is made of, as a digest of content: the group is due when it differs from the one that it last passed with.

It needs no remote, no base commit and no times of files: the files of the work tree (those that git knows or would add), the group's
own entry in tiers.toml, the locked crates that its tests reach, and the compiler.
"""

import functools
import hashlib
import json
import os
import pathlib
import re
import stat
import subprocess
import tomllib

PROJECT = pathlib.Path(__file__).resolve().parent.parent.parent
# Modules are declared there and nowhere else: a module more changes no test of another.
DECLARING = ("tests/it/main.rs", "tests/it/e2e/mod.rs")
# What lints are told there, with the comment above it.
LINTS = re.compile(rb"(?m)^// [^\n]*\n#!\[allow\([a-z_:, ]+\)\]\n\n")
# The same of a package of the tests.
OWN_LINTS = re.compile(rb"(?m)^\[lints[^\]\n]*\]\n(?:[^\[\n][^\n]*\n)*")
DECLARES = re.compile(rb"^(?:#\[cfg\([^\n]*\)\]\n)?(?:pub )?mod \w+;\n", re.M)
TESTS = "tests/it/"
# The crates whose packages of others count for each group, with the program's own: what builds, serves, boots. A new crate beside them
# brings packages that no group's tests reach, and makes none due.
REACHED = ("boot", "build", "embedded", "imgbuild-init", "remote", "serve", "site")
# A test as rustfmt leaves it, with its attributes.
TEST = re.compile(r"^#\[test\]\n(?:#\[[^\n]*\]\n)*fn \w+\(\)[^\n]*\{\n.*?^\}\n", re.M | re.S)


# Code of the program, whose comments, visibility and unit tests are nothing that a test with a group sees.
PROGRAM = ("crates/", "imgbuild-init/", "src/")
UNIT_TESTS = re.compile(r"^#\[cfg\(test\)\]\n(?:#\[[^\n]*\]\n)*mod \w+ \{\n.*?^\}\n", re.M | re.S)
TOKEN = re.compile(
    r"//[^\n]*|/\*.*?\*/|r(?P<fence>#*)\".*?\"(?P=fence)|\"(?:\\.|[^\"\\])*\"|'(?:\\(?:u\{\w+\}|x\w\w|.)|[^'\\\n])'|\w+"
    r"|<<=|>>=|\.\.=|\.\.\.|&&|\|\||::|->|=>|==|!=|<=|>=|[-+*/%^&|]=|<<|>>|\.\.|\S", re.S)
VISIBILITY = re.compile(r"\bpub(?: \( (?:crate|super|self|in (?:\w+|::| )+) \))? ")


def git(*words):
    """What git says, in bytes, or None. A checkout may belong to another user."""
    try:
        ran = subprocess.run(["git", "-c", "safe.directory=*", "-C", PROJECT, *words], capture_output=True)
    except FileNotFoundError:
        return None
    return ran.stdout if ran.returncode == 0 else None


@functools.cache
def files():
    """Paths of the repository's files, relative and sorted; without git, all that builds do not leave."""
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if listed is not None:
        names = {os.fsdecode(name) for name in listed.split(b"\0") if name}
    else:
        names = set()
        for folder, below, here in os.walk(PROJECT):
            relative = pathlib.Path(folder).relative_to(PROJECT)
            skipped = {"target", ".git"} if folder == str(PROJECT) else {"out"}
            below[:] = [name for name in below if name not in skipped]
            names |= {str(relative / name) for name in here if not re.fullmatch(r"image\.(.*\.)?lock|.*\.snap\.new|times\.new\.tsv", name)}
    return sorted(name for name in names if os.path.lexists(PROJECT / name))


@functools.cache
def content(name):
    """Content and kind of a file, in bytes."""
    path = PROJECT / name
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return b"link " + os.fsencode(os.readlink(path))
    data = path.read_bytes()
    if name in DECLARING:
        data = DECLARES.sub(b"", LINTS.sub(b"", data))
    if name.startswith("tests/fixtures/") and name.endswith("/Cargo.toml"):
        data = OWN_LINTS.sub(b"[lints]\nworkspace = true\n", data)
    if name == "Cargo.lock":
        data = json.dumps(reached(data.decode())).encode()
    if name == "Cargo.toml":
        data = json.dumps(settings(tomllib.loads(data.decode())), sort_keys=True).encode()
    return (b"program " if mode & 0o100 else b"file ") + data


def reached(lock):
    """Of the text of Cargo.lock the packages of others that the crates of REACHED need, with versions and checksums."""
    named = {}
    for package in tomllib.loads(lock)["package"]:
        named.setdefault(package["name"], []).append(package)
    todo, found = list(REACHED), {}
    while todo:
        # "name", or "name version" where there are several.
        name, _, version = todo.pop().partition(" ")
        for package in named[name]:
            key = f"{name} {package['version']}"
            if key in found or version and package["version"] != version.split(" ")[0]:
                continue
            found[key] = package.get("checksum", "")
            todo += package.get("dependencies", [])
    return sorted(found.items())


def settings(manifest):
    """What Cargo.toml says of how the crates of REACHED are compiled: profiles, and what each takes of others' crates."""
    lock = (PROJECT / "Cargo.lock").read_text()
    needed = {key.split(" ")[0] for key, _ in reached(lock)}
    workspace = manifest["workspace"]
    others = {name: it for name, it in workspace["dependencies"].items() if name in needed}
    profiles = manifest.get("profile", {})
    for profile in profiles.values():
        profile["package"] = {name: it for name, it in profile.get("package", {}).items() if name in needed}
    return [profiles, manifest.get("features"), workspace.get("package"), others]


@functools.cache
def file_digest(name):
    return hashlib.sha256(content(name)).hexdigest()


def code(text):
    """Rust's tokens without what changes no behaviour: comments but those of `///`, which are help and schemas, visibility, unit tests, and
    how lines are broken."""
    tokens = [match.group() for match in TOKEN.finditer(UNIT_TESTS.sub("", text))]
    kept = [token for token in tokens if token.startswith("///") or not token.startswith(("//", "/*"))]
    # A comma at the end comes and goes with a line's length.
    kept = [token for token, after in zip(kept, [*kept[1:], ""]) if token != "," or after not in (")", "]", "}", ">")]
    return VISIBILITY.sub("", " ".join(kept))


def misread():
    """What `code` takes for the same and is not, or the other way round."""
    same = [("pub(crate) fn f(a: u8,) {} // why", "fn f(\n    a: u8\n) {}"), ("#[cfg(test)]\nmod tests {\n    x\n}\nf", "f"), ("pub(in crate::a) x", "x")]
    other = [('"a  b"', '"a b"'), ('"// a"', '"// b"'), ("'\\'' a", "'\\'' b"), ("a && b", "a & &b"), ("/// A", "/// B"), ('r#"a"b"#', 'r#"a"c"#')]
    return [f"{a} is not {b}" for a, b in same if code(a) != code(b)] + [f"{a} is {b}" for a, b in other if code(a) == code(b)]


@functools.cache
def source_digest(name):
    """The digest of a group's source: of code of the program what it does."""
    if not (name.startswith(PROGRAM) and name.endswith(".rs")):
        return file_digest(name)
    text = "" if name.endswith(("/tests.rs", "/samples.rs")) else code(content(name).decode(errors="replace"))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def below(path):
    """Files of a path: a folder ends with `/`."""
    return [name for name in files() if name == path or path.endswith("/") and name.startswith(path)]


def module(path):
    """Files of a module of `it`: `e2e/dracut` is a file or a folder; none if there is no such module."""
    return below(f"{TESTS}{path}.rs") or below(f"{TESTS}{path}/")


@functools.cache
def offered(name):
    """What a file of tests offers to others: all but the tests themselves."""
    return TEST.sub("", content(name).decode(errors="replace"))


@functools.cache
def named_modules(name, is_own):
    """Modules of `it` that a file of tests names by `super::`, `crate::`, also in braces."""
    text = content(name).decode(errors="replace") if is_own else offered(name)
    here = pathlib.PurePosixPath(name.removeprefix(TESTS))
    folder = here.parent if here.name != "mod.rs" else here.parent.parent
    own = here.parent if here.name == "mod.rs" else here.with_suffix("")
    found = set()
    for match in re.finditer(r"\b((?:super::)+|crate::|self::)((?:\w+::)*)(\w+|\{[^;]*?\})", text):
        start, path, last = match.groups()
        base = {"crate::": pathlib.PurePosixPath("."), "self::": own}.get(start)
        if base is None:
            base = folder
            for _ in range(start.count("super::") - 1):
                base = base.parent
        words = re.findall(r"\w+", last)
        steps = [part for part in path.split("::") if part]
        # Each beginning of the path may be a module, the last word too.
        for count in range(1, len(steps) + 1):
            found.add(str(base.joinpath(*steps[:count])))
        # On the way to one of its modules the folder of all end-to-end tests is its mod.rs, which each group has.
        found.discard("e2e")
        found |= {str(base.joinpath(*steps, word)) for word in words}
    return sorted({file for path in found for file in module(path)} - {name})


def of_tests(tests, shared):
    """Files of tests by their names, with their digests: modules, what these use of others, fixtures, examples and snapshots."""
    todo = []
    for test in tests:
        binary, _, path = test.partition("::")
        if binary != "it":
            todo += below(f"tests/{binary}/") or below(f"tests/{binary}.rs")
            continue
        parts = path.removesuffix("::").split("::")
        while parts and not module("/".join(parts)):
            parts.pop()
        todo += module("/".join(parts)) if parts else []
        folder = "/".join([TESTS.removesuffix("/"), *parts[:-1], "snapshots"])
        todo += [name for name in files() if name.startswith(f"{folder}/it__{'__'.join(parts)}__")]
    own, used = set(todo), {}
    while todo:
        name = todo.pop()
        if name in used:
            continue
        is_text = name.endswith(".rs") and name not in DECLARING
        text = (content(name).decode(errors="replace") if name in own else offered(name)) if is_text else ""
        used[name] = hashlib.sha256(text.encode()).hexdigest() if is_text else file_digest(name)
        if not is_text:
            continue
        todo += named_modules(name, name in own)
        named = re.findall(r"tests/(?:fixtures|snapshots)/[\w.-]+", text) + re.findall(r"\bexamples/[\w.-]+", text)
        named += [f"examples/{example}" for example in re.findall(r"\bexample\(\"([\w.-]+)\"", text)]
        named += [path.removesuffix("/") for word, path in shared.items() if re.search(rf"\b{word}\(", text)]
        for file in {file for path in named for file in below(f"{path}/") + below(path)}:
            used.setdefault(file, file_digest(file))
    return used


@functools.cache
def compiler():
    try:
        return subprocess.run(["rustc", "--version"], capture_output=True, text=True, cwd=PROJECT).stdout.strip()
    except FileNotFoundError:
        return ""


def of_group(group, tiers):
    """All files of a group, with their digests."""
    found = of_tests(group["tests"], tiers["shared"])
    for path in [*group["sources"], *tiers["every"]["sources"]]:
        found |= {name: source_digest(name) for name in below(path)}
    return found


def digest(group, tiers):
    """The digest of a group's sources, 16 hexadecimal digits."""
    whole = hashlib.sha256()
    whole.update(json.dumps([compiler(), group], sort_keys=True).encode())
    for name, its in sorted(of_group(group, tiers).items()):
        whole.update(f"{name}\0{its}\n".encode())
    return whole.hexdigest()[:16]


def tests_of(name):
    """Names of the tests of a file of `it`, as a test program lists them; those that a macro makes are not among them."""
    path = pathlib.PurePosixPath(name.removeprefix(TESTS)).with_suffix("")
    parts = [part for part in path.parts if part not in ("mod", "main")]
    return ["::".join(["it", *parts, test]) for test in re.findall(r"^#\[test\]\n(?:#\[[^\n]*\]\n)*fn (\w+)\(", content(name).decode(), re.M)]


def unheld(tiers):
    """Files of the repository whose change asks for no test: neither the gate's, nor a group's, nor such that change no behaviour."""
    held = {name for part in ["gate", "every", "free"] for path in tiers[part]["sources"] for name in below(path)}
    grouped = [test for group in tiers["group"] for test in group["tests"]]
    in_group = lambda test: any(test == one or one.endswith("::") and test.startswith(one) for one in grouped)
    every_gate = [test for name in below(TESTS) if name.endswith(".rs") for test in tests_of(name) if not in_group(test)]
    held |= set(of_tests(every_gate, tiers["shared"]))
    for group in tiers["group"]:
        held |= set(of_group(group, tiers))
    return [name for name in files() if name not in held]


def untimed(tiers, times, passed):
    """Tests that are processes and have no row in times.tsv although they passed in the gate or with their group, and rows of tests that
    there are not; macros' tests are not looked at."""
    alone = [test for name in below(TESTS) if name.endswith(".rs") for test in tests_of(name)
             if any(test.startswith(prefix) for prefix in tiers["alone"])]
    never = [test for group in tiers["group"] if group["name"] not in passed for test in group["tests"]]
    is_due = lambda test: any(test == one or one.endswith("::") and test.startswith(one) for one in never)
    known = [test for test in times if test.startswith(("it::e2e::", "it::corpus_rpm::")) and times[test][1] is not None]
    made = [test for group in tiers["group"] for test in group["tests"]]
    return [f"{test} has no row" for test in alone if test not in times and not is_due(test)] + [
        f"there is no test {test}" for test in known if test not in alone and test not in made]


def forget():
    """What was read is read again: tests and their authors may have changed it meanwhile."""
    for cached in [files, content, file_digest, source_digest, below, offered, named_modules]:
        cached.cache_clear()
