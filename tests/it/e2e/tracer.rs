//! What builds really open, seen by strace: each action's sandbox only what the action declares, and the host process
//! nothing of the host but what is listed here.
//!
//! With `-j1` one action runs at a time, between taking and removing the lock that is named by its key; the record of that
//! key has the declared inputs. What a sandbox is made of are the mounts of its helper process: layers, packages and files
//! of the store. Inside of it a path can lead nowhere else, so that what a package's script opens need not be followed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use super::offline::{fresh, vendored};
use crate::support::Space;

/// One line of the trace: process, call, its arguments.
struct Call<'a> {
    process: u32,
    name: &'a str,
    rest: String,
    /// The process that it made.
    child: Option<u32>,
}

/// Numbers of processes are used again: each life of one has a number of its own. Source: proc(5), pid_max is at most this.
const PIDS: u32 = 1 << 22;

fn calls(text: &str) -> Vec<Call<'_>> {
    let mut calls: Vec<Call<'_>> = Vec::new();
    let mut unfinished: BTreeMap<u32, usize> = BTreeMap::new();
    let mut lives: BTreeMap<u32, u32> = BTreeMap::new();
    let makes = |name: &str| matches!(name, "clone" | "clone3" | "fork" | "vfork");
    for line in text.lines() {
        let Some((process, line)) = line.split_once(' ') else { continue };
        let (Ok(number), line) = (process.parse::<u32>(), line.trim_start()) else { continue };
        let numbered = |number: u32| number + lives.get(&number).map_or(0, |life| life * PIDS);
        let process = numbered(number);
        if let Some(rest) = line.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            if let Some(at) = unfinished.remove(&process) {
                calls[at].rest.push_str(rest.1);
                calls[at].child = made(&calls[at].rest).filter(|_| makes(calls[at].name)).map(numbered);
            }
            continue;
        }
        let Some((name, rest)) = line.split_once('(') else { continue };
        if matches!(name, "exit" | "exit_group") {
            *lives.entry(number).or_default() += 1;
            continue;
        }
        if rest.ends_with("<unfinished ...>") {
            unfinished.insert(process, calls.len());
        }
        let child = made(rest).filter(|_| makes(name)).map(numbered);
        calls.push(Call { process, name, rest: rest.to_owned(), child });
    }
    calls
}

/// The process that a call made, in the numbers that strace uses.
fn made(rest: &str) -> Option<u32> {
    let result = rest.rsplit_once(" = ")?.1;
    let own = result.split_once("/* ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
    own.or_else(|| result.split(' ').next()?.parse().ok()).filter(|process| *process > 0)
}

/// Absolute path that a call names, by the directory that strace says it starts in.
fn path_of(call: &Call<'_>) -> Option<String> {
    let (before, rest) = call.rest.split_once('"')?;
    let path = rest.split('"').next()?;
    if path.starts_with('/') {
        return Some(path.to_owned());
    }
    let start = before.split_once('<')?.1.rsplit_once('>')?.0;
    Some(if path.is_empty() { start.to_owned() } else { format!("{start}/{path}") })
}

/// Digests that stand behind a word in a line, for instance `trees/`.
fn digests(text: &str) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    for (word, skip) in [("trees/", 0), ("manifests/", 0), ("blobs/", 3), ("packages/", 3), ("frames/", 3)] {
        for (at, _) in text.match_indices(word) {
            let hex: String = text[at + word.len()..].chars().skip(skip).take(64).collect();
            if hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                found.push((word, hex));
            }
        }
    }
    found
}

/// The operation that makes packages ready: it reads packages alone.
const READY: &str = "apt-plain";

struct Trace {
    /// Digests of the store that sandboxes opened or mounted, by the key of the action that ran.
    by_action: BTreeMap<String, BTreeSet<(&'static str, String)>>,
    /// Paths of the host that helper processes opened before they had a root of their own.
    of_helpers: BTreeSet<String>,
    /// Paths that the host process opened.
    of_host: BTreeSet<String>,
}

fn read(text: &str, store: &Path) -> Trace {
    let calls = calls(text);
    let first = calls[0].process;
    let mut parent: BTreeMap<u32, u32> = BTreeMap::new();
    for call in &calls {
        if let Some(child) = call.child {
            parent.entry(child).or_insert(call.process);
        }
    }
    // Helpers, and processes that have a root of their own; both pass on to those that they make.
    let mut helpers: BTreeMap<u32, String> = BTreeMap::new();
    let mut pivoted: BTreeSet<u32> = BTreeSet::new();
    let mut seen: BTreeSet<u32> = BTreeSet::new();
    let mut trace = Trace { by_action: BTreeMap::new(), of_helpers: BTreeSet::new(), of_host: BTreeSet::new() };
    let mut action: Option<String> = None;
    let locks = store.join("v1/locks");
    for call in &calls {
        if seen.insert(call.process) && call.process != first {
            // One that ended before its parent went on counts there as the next life of its number.
            let above = parent.get(&call.process).or_else(|| parent.get(&(call.process + PIDS)));
            let above = above.unwrap_or_else(|| panic!("nobody made {}: {}", call.process, call.rest));
            if let Some(operation) = helpers.get(above).cloned() {
                helpers.insert(call.process, operation);
            }
            if pivoted.contains(above) {
                pivoted.insert(call.process);
            }
        }
        if call.name == "execve"
            && let Some((_, operation)) = call.rest.split_once("\"__sandbox\", \"")
        {
            helpers.insert(call.process, operation.split('"').next().unwrap_or_default().to_owned());
            continue;
        }
        if matches!(call.name, "pivot_root" | "chroot") {
            pivoted.insert(call.process);
        }
        let path = path_of(call);
        let Some(operation) = helpers.get(&call.process) else {
            if let Some(key) = path.as_deref().and_then(|path| Path::new(path).strip_prefix(&locks).ok()) {
                let key = key.to_str().unwrap();
                if key.len() == 64 {
                    action = match call.name {
                        "unlink" | "unlinkat" => None,
                        _ => Some(key.to_owned()),
                    };
                }
            }
            if matches!(call.name, "open" | "openat" | "openat2") && !call.rest.contains("= -1 ") {
                trace.of_host.extend(path);
            }
            continue;
        };
        if pivoted.contains(&call.process) {
            continue;
        }
        if matches!(call.name, "open" | "openat" | "openat2" | "mount" | "link" | "linkat" | "rename" | "execve")
            && !call.rest.contains("= -1 ")
        {
            // Packages are made ready ahead of need, for whichever action, while another one runs.
            if let Some(action) = action.as_ref().filter(|_| operation != READY) {
                trace.by_action.entry(action.clone()).or_default().extend(digests(&call.rest));
            }
            // What cannot leave the directory that it names opens nothing else: a rename's path, below the root of whoever renames.
            let is_held = ["RESOLVE_IN_ROOT", "RESOLVE_BENEATH"].iter().any(|flag| call.rest.contains(flag));
            if call.name.starts_with("open") && !is_held {
                trace.of_helpers.extend(path);
            }
        }
    }
    trace
}

/// A directory, or what starts like this, that may be opened; and why.
const OF_HELPERS: [(&str, &str); 6] = [
    ("/proc", "own processes, those of a script with their memory, and the id map"),
    ("/sys/fs/cgroup/", "how many CPUs there are to use"),
    ("/lib", "the program's own libraries"),
    ("/usr/lib", "the program's own libraries"),
    ("/etc/ld.so.cache", "the program's own libraries"),
    ("/dev/", "the devices that every root has"),
];

const OF_HOST: [(&str, &str); 13] = [
    ("/etc/passwd", "the name of who builds, by which /etc/subuid has the range"),
    ("/proc/", "own processes, and the id map"),
    ("/sys/fs/cgroup/", "how many CPUs there are to use"),
    ("/sys/devices/system/cpu/", "how many CPUs there are to use"),
    ("/lib", "the program's own libraries"),
    ("/usr/lib", "the program's own libraries"),
    ("/etc/ld.so.cache", "the program's own libraries"),
    ("/dev/null", "input of helpers"),
    ("/etc/subuid", "the range of ids"),
    ("/etc/subgid", "the range of ids"),
    ("/etc/apt/auth.conf", "credentials for archives that ask who comes (docs/security.md)"),
    ("/root/.netrc", "the same, of who builds"),
    ("/root/.config/imgbuild/", "the same, with tokens and certificates"),
];

fn foreign<'a>(opened: &'a BTreeSet<String>, own: &[&Path], reviewed: &[(&str, &str)]) -> Vec<&'a String> {
    let is_own = |path: &String| own.iter().any(|folder| Path::new(path).starts_with(folder));
    let known = |path: &String| reviewed.iter().any(|(start, _)| path.starts_with(start));
    opened.iter().filter(|path| !is_own(path) && !known(path) && !path.contains("<")).collect()
}

fn traced_build(space: &Space) -> String {
    let log = tempfile::NamedTempFile::new().unwrap();
    let ran = Command::new("strace")
        .args(["-f", "-qq", "-y", "-s", "8192", "--decode-pids=pidns", "-e", "signal=none"])
        .args(["-e", "trace=open,openat,openat2,mount,pivot_root,chroot,execve,clone,clone3,fork,vfork,link,linkat,rename,unlink,unlinkat,exit,exit_group", "--seccomp-bpf", "-o"])
        .arg(log.path())
        .arg(env!("CARGO_BIN_EXE_imgbuild"))
        .arg("-C")
        .arg(space.path())
        .arg("--store")
        .arg(space.store())
        .args(["-j1", "build", "--locked", "--vendor", vendored().to_str().unwrap()])
        .output()
        .expect("strace is there: apt-get install strace");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&std::fs::read(log.path()).unwrap()).into_owned()
}

#[test]
fn each_sandbox_is_made_of_what_its_action_declares_and_nothing_of_the_host() {
    let space = fresh();
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"files.synclist\"]\n\n[exclude]");
    space.write("files.synclist", "motd -> /etc/motd\n").write("motd", "hello\n");
    let trace = read(&traced_build(&space), &space.store());
    let records: BTreeMap<String, serde_json::Value> = std::fs::read_dir(space.store().join("v1/actions"))
        .unwrap()
        .flatten()
        .map(|entry| serde_json::from_slice::<serde_json::Value>(&std::fs::read(entry.path()).unwrap()).unwrap())
        .map(|record| (record["key"].as_str().unwrap().to_owned(), record))
        .collect();
    let layer_of = |action: &str| -> Option<String> {
        let record = records.values().find(|record| record["action"] == action)?;
        record["outputs"]["layer"].as_str().map(str::to_owned)
    };
    let mut wrong = Vec::new();
    let mut looked_at = BTreeSet::new();
    for (key, used) in &trace.by_action {
        let Some(record) = records.get(key) else { panic!("no longer has a record of {key}, which ran") };
        let action = record["action"].as_str().unwrap();
        looked_at.insert(action.to_owned());
        // What it declares: every digest in its inputs, and what it gave itself.
        let mut declared: BTreeSet<String> = BTreeSet::new();
        for input in record["inputs"].as_array().unwrap() {
            let (name, value) = (input["name"].as_str().unwrap(), input["value"].as_str().unwrap());
            declared.extend(value.split(' ').filter(|word| word.len() == 64).map(str::to_owned));
            // Tools enter by what they are made of (D9): their layers are those of the actions that made them.
            // A projection of an upstream result is read from its layer.
            if let Some((_, upstream)) = name.strip_prefix("value ").and_then(|rest| rest.rsplit_once(' ')) {
                declared.extend(layer_of(upstream));
            }
            if let Some(tools) = name.strip_prefix("tools ") {
                declared.extend(layer_of(&format!("rootfs/{tools}")));
                if tools == "postinstall" {
                    declared.extend(["rootfs/tools-postinstall", "rootfs/base"].iter().filter_map(|one| layer_of(one)));
                }
            }
        }
        let outputs = record["outputs"].to_string();
        for (place, digest) in used {
            // A frame is named by what is in it: the layers below, which are declared.
            if !declared.contains(digest) && !outputs.contains(digest.as_str()) && *place != "frames/" {
                let owner = records.values().find(|record| record["outputs"].to_string().contains(digest.as_str()));
                wrong.push(format!("{action} used {place}{digest} of {:?}", owner.map(|one| &one["action"])));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for action in
        ["rootfs/base", "rootfs/kernel", "rootfs/postinstall", "rootfs/sync", "initrd/stateless", "pack/rootimg"]
    {
        assert!(looked_at.contains(action), "{action} was not seen: {looked_at:?}");
    }
    let (store, recipe) = (space.store(), space.path().canonicalize().unwrap());
    let program = Path::new(env!("CARGO_BIN_EXE_imgbuild"));
    let strange = foreign(&trace.of_helpers, &[&store, program], &OF_HELPERS);
    assert!(strange.is_empty(), "helpers opened: {strange:#?}");
    let strange = foreign(&trace.of_host, &[&store, &recipe, space.path(), vendored(), program], &OF_HOST);
    assert!(strange.is_empty(), "the host process opened: {strange:#?}");
}

#[test]
fn a_trace_with_an_undeclared_layer_or_a_file_of_the_host_is_noticed() {
    let (a, b) = ("a".repeat(64), "b".repeat(64));
    let text = format!(
        "1 openat(AT_FDCWD</w>, \"/s/v1/locks/{a}\", O_RDWR) = 3</s>\n\
         1 clone(flags=SIGCHLD) = 2\n\
         2 execve(\"/proc/self/exe\", [\"imgbuild\", \"__sandbox\", \"sync\"], 0x7) = 0\n\
         2 clone(flags=SIGCHLD <unfinished ...>\n\
         9 openat(AT_FDCWD</s/v1>, \"manifests/{b}\", O_RDONLY) = 4</x>\n\
         2 <... clone resumed>) = 1 /* 9 in strace's PID NS */\n\
         9 openat(AT_FDCWD</s/v1>, \"/etc/shadow\", O_RDONLY) = 4</etc/shadow>\n\
         9 mount(\"overlay\", \"root\", \"overlay\", 0, \"lowerdir=trees/{b},upperdir=u\") = 0\n\
         9 pivot_root(\".\", \".\") = 0\n\
         9 openat(AT_FDCWD</>, \"/etc/passwd\", O_RDONLY) = 4</etc/passwd>\n\
         1 openat(AT_FDCWD</w>, \"/root/.ssh/id\", O_RDONLY) = 4</root/.ssh/id>\n\
         1 unlink(\"/s/v1/locks/{a}\") = 0\n\
         9 exit_group(0) = ?\n\
         1 fork() = 9\n\
         9 openat(AT_FDCWD</w>, \"/root/.ssh/own\", O_RDONLY) = 4</x>\n"
    );
    let trace = read(&text, Path::new("/s"));
    assert_eq!(trace.by_action[&a], BTreeSet::from([("manifests/", b.clone()), ("trees/", b)]));
    let own = [Path::new("/s")];
    assert_eq!(foreign(&trace.of_helpers, &own, &OF_HELPERS), ["/etc/shadow"]);
    assert_eq!(foreign(&trace.of_host, &own, &OF_HOST), ["/root/.ssh/id", "/root/.ssh/own"]);
}
