//! Commands that build, or take a build elsewhere, each killed ten times at moments of its whole time: the next one does all of its
//! work, and no file is there that one run alone does not leave. Commands that build nothing are in `ended.rs`, named places of
//! builds in `kills.rs`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use boot::FileServer;

use super::kills::forget_if_there;
use super::offline::{assert_same, vendored, warm};
use crate::support::Space;

/// Names of all files below a space. Those of roots and of histories are made of the recipe's path, those of logs of the process; what
/// plans remember may go at any time. A tree that `publish nfs:` keeps is the one of a run that came to its end before its kill.
fn names(space: &Space) -> BTreeSet<String> {
    let walk = walkdir::WalkDir::new(space.path()).into_iter().flatten();
    let below = walk.filter_map(|entry| {
        let name = entry.path().strip_prefix(space.path()).unwrap().to_str().unwrap().to_owned();
        let inner: Vec<&str> = name.strip_prefix(".store/v1/").unwrap_or_default().split('/').collect();
        match inner[..] {
            ["logs" | "memos", _, ..] => None,
            _ if name.starts_with("nfs/.before-") => None,
            ["roots" | "history" | "earlier", _, ..] => {
                Some(format!("{} {}", inner[0], Path::new(inner[1]).extension().is_some()))
            }
            _ => Some(name),
        }
    });
    below.collect()
}

/// Fails unless a space in which a command was killed has the files of another one. What a helper of a dead command removes, it removes
/// soon.
pub fn assert_same_names(clean: &Space, space: &Space, what: &str) {
    let expected = names(clean);
    let until = Instant::now() + Duration::from_secs(20);
    while names(space) != expected && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
    }
    let now = names(space);
    let (more, less): (Vec<_>, Vec<_>) = (now.difference(&expected).collect(), expected.difference(&now).collect());
    assert!(more.is_empty() && less.is_empty(), "{what}: more {more:?}, less {less:?}");
}

/// A command of a space, with a directory of temporary files of its own.
fn command(space: &Space, words: &[&str]) -> Command {
    let temporary = space.path().join("temporary");
    std::fs::create_dir_all(&temporary).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(words);
    command.env("TMPDIR", temporary).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Fails unless a space in which a command was killed ten times becomes, by one more run, what another one is after one run. `before`
/// makes each run work. Paths of words that begin with `./` are the space's.
fn killed_ten_times((clean, space): &(Space, Space), words: &[&str], before: impl Fn(&Space)) {
    let run = |space: &Space| {
        let placed: Vec<String> =
            words.iter().map(|word| word.replace("./", &format!("{}/", space.path().display()))).collect();
        command(space, &placed.iter().map(String::as_str).collect::<Vec<_>>())
    };
    before(clean);
    let began = Instant::now();
    let ran = run(clean).output().unwrap();
    assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    let took = began.elapsed();
    let mut killed = 0;
    for number in 0..10 {
        before(space);
        let mut child = run(space).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(took * number / 10);
        killed += u32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed >= 3, "{words:?}: {killed} were there to be killed, of {took:?}");
    let ran = run(space).output().unwrap();
    assert!(ran.status.success(), "{words:?}: {}", String::from_utf8_lossy(&ran.stderr));
    assert_same_names(clean, space, &format!("{words:?}"));
    assert_same(clean, space, "tiny");
}

/// Two spaces in which the image is built, with a synced file, and published.
fn two() -> (Space, Space) {
    let one = || {
        let space = warm();
        space.write("motd", "a node\n").write("a.synclist", "motd -> /etc/motd\n");
        space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
        space.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()]).good();
        space
    };
    (one(), one())
}

/// Takes actions out of the store: they run again, with the same results.
fn forgotten<'a>(actions: &'a [&str]) -> impl Fn(&Space) + 'a {
    |space| actions.iter().for_each(|action| _ = forget_if_there(space, action))
}

#[test]
fn ten_kills_of_each_command_that_builds_leave_what_one_run_leaves() {
    let spaces = two();
    let build = ["build", "--locked", "--vendor", vendored().to_str().unwrap()];
    let all = ["rootfs/postinstall", "rootfs/sync", "initrd/stateless", "pack/rootimg"];
    killed_ten_times(&spaces, &build, forgotten(&all));
    killed_ten_times(&spaces, &["build", "--locked", "--only", "pack/rootimg"], forgotten(&["pack/rootimg"]));
    killed_ten_times(&spaces, &[&build[..], &["--cache", "./cache"]].concat(), |space| {
        let _ = std::fs::remove_dir_all(space.path().join("cache"));
        std::fs::create_dir(space.path().join("cache")).unwrap();
    });
    killed_ten_times(&spaces, &[&build[..], &["--publish", "xcat:./install"]].concat(), |space| {
        let _ = std::fs::remove_dir_all(space.path().join("install"));
    });
    let again = ["shell", "--action", "rootfs/postinstall", "--", "/bin/true"];
    killed_ten_times(&spaces, &again, |_| {});
}

#[test]
fn ten_kills_of_the_kernels_pass_leave_what_one_run_leaves() {
    let build = ["build", "--locked", "--vendor", vendored().to_str().unwrap()];
    killed_ten_times(&two(), &build, forgotten(&["kernel/payload", "rootfs/kernel"]));
}

#[test]
fn ten_kills_of_each_command_that_takes_a_build_elsewhere_leave_what_one_run_leaves() {
    let spaces = two();
    let publish = ["publish", "nfs:./nfs"];
    killed_ten_times(&spaces, &publish, |space| _ = std::fs::remove_dir_all(space.path().join("nfs")));
    let gone = |name: &'static str| {
        move |space: &Space| {
            let path = space.path().join(name);
            let _ = std::fs::remove_dir_all(&path);
            let _ = std::fs::remove_file(&path);
        }
    };
    killed_ten_times(&spaces, &["push", "oci-layout:./layout:a"], gone("layout"));
    killed_ten_times(&spaces, &["pull", "oci-layout:./layout:a", "./pulled"], gone("pulled"));
    killed_ten_times(&spaces, &["push", "--as-container", "oci-archive:./c.tar"], gone("c.tar"));
    let server = FileServer::start(&spaces.0.artefact("tiny", ".").canonicalize().unwrap()).unwrap();
    let url = format!("http://127.0.0.1:{}", server.port());
    killed_ten_times(&spaces, &["fetch", &url, "./fetched"], gone("fetched"));
    for space in [&spaces.0, &spaces.1] {
        let to = format!("xcat:{}/install", space.path().display());
        space.run(&["build", "--locked", "--publish", &to]).good();
    }
    let export = ["export", "bundle", ".", "--from", "./install", "-o", "./b.tgz"];
    killed_ten_times(&spaces, &export, gone("b.tgz"));
    killed_ten_times(&spaces, &["store", "save", "./saved"], gone("saved"));
    killed_ten_times(&spaces, &["vendor", "./vendored"], gone("vendored"));
}
