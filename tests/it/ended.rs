//! Commands that write into a workspace or beside a name, ended by SIGKILL, Ctrl-C or SIGTERM, at named places and at any moment: the
//! same command once more gives what it gives in one run, and nothing else is there.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::support::{Space, imgbuild};

const SIGNALS: [Signal; 3] = [Signal::KILL, Signal::INT, Signal::TERM];

const COMPUTE: &str = "debian12-x86_64-netboot-compute";

/// All below a directory: what files hold, and where links lead.
fn tree(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let walk = walkdir::WalkDir::new(directory).into_iter().flatten();
    let content = |path: &Path| match std::fs::read_link(path) {
        Ok(to) => to.into_os_string().into_encoded_bytes(),
        Err(_) => std::fs::read(path).unwrap_or_default(),
    };
    walk.map(|one| (one.path().strip_prefix(directory).unwrap().to_owned(), content(one.path()))).collect()
}

/// When a command is ended.
#[derive(Debug, Clone, Copy)]
enum Moment<'a> {
    At(&'a str),
    After(Duration),
}

/// Runs a command up to a moment and ends it, as Ctrl-C does: all of its group. Whether it was there still.
fn end(space: &Space, command: &[&str], moment: Moment<'_>, signal: Signal) -> bool {
    let reached = space.path().join("reached");
    let mut program = imgbuild();
    program.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(command);
    if let Moment::At(place) = moment {
        program.env("IMGBUILD_FAULT", place).env("IMGBUILD_FAULT_FILE", &reached);
    }
    program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut child = program.spawn().unwrap();
    let began = Instant::now();
    match moment {
        Moment::At(place) => {
            while !reached.exists() {
                let ended = child.try_wait().unwrap();
                assert!(ended.is_none(), "{command:?} ended with {ended:?} before it came to {place}");
                assert!(began.elapsed().as_secs() < 60, "{command:?} did not come to {place}");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Moment::After(time) => std::thread::sleep(time),
    }
    let pid = Pid::from_child(&child);
    let is_there = child.try_wait().unwrap().is_none();
    // A program alone is killed, all of a group hear Ctrl-C.
    let _ = match signal {
        Signal::KILL => kill_process(pid, signal),
        _ => kill_process_group(pid, signal),
    };
    let status = child.wait().unwrap();
    if let (Moment::At(_), Signal::INT) = (moment, signal) {
        use std::os::unix::process::ExitStatusExt;
        assert!(status.code() == Some(130) || status.signal() == Some(2), "{command:?}: {status:?}");
    }
    let _ = std::fs::remove_file(reached);
    is_there
}

/// What a helper of a dead command removes, it removes soon.
#[track_caller]
fn becomes(directory: &Path, expected: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let began = Instant::now();
    loop {
        let now = tree(directory);
        if now == *expected {
            return;
        }
        if began.elapsed().as_secs() > 10 {
            let more: Vec<_> = now.keys().filter(|path| !expected.contains_key(*path)).collect();
            let less: Vec<_> = expected.keys().filter(|path| !now.contains_key(*path)).collect();
            let is_other = |(path, bytes): &(&PathBuf, &Vec<u8>)| expected.get(*path).is_some_and(|one| one != *bytes);
            let other: Vec<_> = now.iter().filter(is_other).map(|(path, _)| path).collect();
            panic!("{what}: more {more:?}, less {less:?}, other {other:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Ends a command that makes a folder, at each place by each signal and at moments of its whole time, and runs it again.
pub fn each_time(space: &Space, command: &[&str], folder: &str, places: &[&str], moments: u32) {
    let directory = space.path().join(folder);
    // A helper of the command before may still be at work in it.
    let fresh = || {
        let began = Instant::now();
        while directory.symlink_metadata().is_ok() && began.elapsed().as_secs() < 10 {
            let _ = std::fs::remove_dir_all(&directory);
            let _ = std::fs::remove_file(&directory);
        }
    };
    fresh();
    let began = Instant::now();
    space.run(command).good();
    let took = began.elapsed();
    let expected = tree(&directory);
    let all = tree(space.path());
    let try_one = |moment: Moment<'_>, signal: Signal| {
        fresh();
        let was_there = end(space, command, moment, signal);
        let what = format!("{command:?} {moment:?} {signal:?}");
        // The end of one that was faster is its own.
        if was_there || !directory.exists() {
            let ran = space.run(command);
            // What was done before the end is there, and said to be.
            let is_done = ran.err.contains("already exists") && tree(&directory) == expected;
            assert!(ran.code == 0 || is_done, "{what}: {} {}", ran.out, ran.err);
        }
        becomes(&directory, &expected, &what);
    };
    for place in places {
        SIGNALS.into_iter().for_each(|signal| try_one(Moment::At(place), signal));
    }
    for number in 0..moments {
        try_one(Moment::After(took * number / moments), SIGNALS[number as usize % 3]);
    }
    let store = |path: &&PathBuf| !path.starts_with(".store");
    let now = tree(space.path());
    let left: Vec<_> = now.keys().filter(|path| !all.contains_key(*path)).filter(store).collect();
    assert!(left.is_empty(), "{command:?} leaves {left:?}");
}

fn site() -> Space {
    let space = Space::example("xcat-site");
    std::fs::create_dir_all(space.path().join("install/post/otherpkgs/debian12/x86_64")).unwrap();
    space
}

#[test]
fn an_ended_import_of_definitions_is_repeated_whole() {
    let places = ["import.writing", "import.workspace", "import.stanza", "import.recipe"];
    each_time(&site(), &["import", "xcat", ".", "--into", "new", "--copy"], "new", &places, 9);
    each_time(&site(), &["import", "xcat", ".", "--into", "new"], "new", &places[..2], 3);
}

#[test]
fn an_ended_import_of_a_bundle_is_repeated_whole() {
    let space = site();
    space.run(&["import", "xcat", ".", "--into", "from", "--copy"]).good();
    for name in ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz", "rootimg.cpio.gz.index"] {
        space.write(&format!("boot/{name}"), &format!("made up: {name}\n"));
    }
    let at = |name: &str| space.path().join(name).display().to_string();
    let (from, bundle) = (at("boot"), at("b.tgz"));
    let workspace = at("from");
    let words = ["-C", &workspace, "export", "bundle", COMPUTE, "--from", &from, "-o", &bundle];
    let ran: crate::support::Ran = imgbuild().args(words).output().unwrap().into();
    ran.good();
    let places =
        ["bundle.unpacked", "import.writing", "import.recipe", "bundle.imported", "bundle.files", "bundle.own"];
    each_time(&space, &["import", "bundle", "b.tgz", "--into", "new"], "new", &places, 9);
}

#[test]
fn an_ended_import_of_a_medium_is_repeated_whole() {
    let space = Space::new();
    space
        .write(
            "disc/.disk/info",
            "Debian GNU/Linux 12.5.0 \"Bookworm\" - Official amd64 DVD Binary-1 with firmware 20240210-11:28",
        )
        .write("disc/dists/bookworm/main/binary-amd64/Packages", "Package: a\n")
        .write("disc/dists/bookworm/Release", "Codename: bookworm\n");
    for number in 0..40 {
        space.write(&format!("disc/pool/{number}.deb"), &number.to_string().repeat(10_000));
    }
    let places = ["media.writing", "media.copied", "import.writing"];
    each_time(&space, &["import", "media", "disc", "--into", "new"], "new", &places, 9);
}

#[test]
fn an_ended_capture_is_repeated_whole() {
    let space = Space::new();
    crate::planted_links::node(&space, "node");
    for number in 0..200 {
        space.write(&format!("node/srv/{number}"), &number.to_string().repeat(1000));
    }
    let places = ["capture.written", "import.writing", "capture.placed"];
    each_time(&space, &["capture", "node", "--into", "new", "--name", "n"], "new", &places, 9);
}

#[test]
fn an_ended_save_is_repeated_whole() {
    let space = Space::new();
    let to = space.path().join("new/saved");
    std::fs::create_dir(space.path().join("new")).unwrap();
    let command = ["store", "save", to.to_str().unwrap()];
    space.run(&command).good();
    let expected = tree(&space.path().join("new"));
    for signal in SIGNALS {
        for moment in [Moment::At("save.written"), Moment::After(Duration::from_millis(30))] {
            let _ = std::fs::remove_file(&to);
            end(&space, &command, moment, signal);
            space.run(&command).good();
            becomes(&space.path().join("new"), &expected, &format!("{moment:?} {signal:?}"));
        }
    }
}

/// Killed ten times at moments of its whole time, each command does its work once more as if it had not been, and neither the
/// workspace nor the folder of temporary files has more in it than after a run that no one ended.
#[test]
fn nothing_is_left_of_what_was_killed() {
    use crate::all_or_nothing::{placed, space, tree, verbs};
    let more = [vec!["check"], vec!["export", "bundle", "compute", "--records", "-o", "b.tgz"], vec!["list", "-l"]];
    for command in verbs().into_iter().chain(more) {
        let (clean, space) = (space(), space());
        let run = |space: &Space, time: Option<Duration>| {
            let temporary = space.path().join("temporary");
            std::fs::create_dir_all(&temporary).unwrap();
            let mut program = imgbuild();
            program.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(placed(space, &command));
            program.env("TMPDIR", temporary).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
            let mut child = program.spawn().unwrap();
            if let Some(time) = time {
                std::thread::sleep(time);
                let _ = child.kill();
            }
            let ended = child.wait_with_output().unwrap();
            (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
        };
        let began = Instant::now();
        let (code, _) = run(&clean, None);
        let took = began.elapsed();
        for number in 0..10 {
            run(&space, Some(took * number / 10));
        }
        let (last, said) = run(&space, None);
        // A run that was faster than its end did all.
        let did_all = last == Some(1) || said.contains("File exists");
        assert!(last == code || did_all, "{command:?}: {last:?}, not {code:?}: {said}");
        // Names of keys and of generations differ from run to run.
        let names = |space: &Space| {
            let shown = |path: PathBuf| path.display().to_string();
            tree(space.path()).into_keys().map(shown).filter(|name| !is_generation(name)).collect::<Vec<_>>()
        };
        let began = Instant::now();
        while names(&space) != names(&clean) && began.elapsed().as_secs() < 10 {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(names(&space), names(&clean), "{command:?}: {said}");
    }
}

/// Whether a name is of one of the last generations of what nodes boot, of which a killed command leaves one more whole.
fn is_generation(name: &str) -> bool {
    name.starts_with("tftpboot/.imgbuild-nodes/") || name.contains("/.pins-")
}

/// What an ended run wrote is no reason to refuse the next one.
#[test]
fn an_ended_init_and_convert_go_on() {
    let space = Space::new();
    let ended = |place: &str, command: &[&str]| assert!(end(&space, command, Moment::At(place), Signal::KILL));
    ended("init.writing", &["init", "compute"]);
    space.run(&["init", "compute"]).good();
    assert!(space.path().join("image.toml").is_file() && !space.path().join("compute").exists());
    for file in ["image.toml", "image.kdl"] {
        ended("convert.written", &["convert", "--replace"]);
        space.run(&["convert", "--replace"]).good();
        assert!(!space.path().join(file).exists(), "{file}");
        space.run(&["check"]).good();
        // As if it had been long ago.
        std::thread::sleep(Duration::from_millis(20));
    }
    // A list of someone else's is no such thing: the image gets a directory of its own.
    let space = Space::new();
    space.write("compute.pkglist", "vim\n");
    space.run(&["init", "compute"]).good();
    assert!(space.path().join("compute/image.toml").is_file());
}

/// Runs a command that has a minute for its end.
fn soon(command: &mut std::process::Command) -> crate::support::Ran {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() && began.elapsed().as_secs() < 60 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = child.kill();
    child.wait_with_output().unwrap().into()
}

/// What a bundle takes along is written into a temporary directory, by a command that makes one of its own in it.
#[test]
fn a_bundle_with_records_waits_for_no_lock_of_its_own() {
    let space = Space::new();
    space.write("image.toml", "[image]\nname = \"alone\"\nrelease = \"bookworm\"\n");
    let mut command = imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store());
    let ran = soon(command.args(["export", "bundle", ".", "--records", "-o", "b.tgz"]));
    assert!(ran.code == 1 && ran.err.contains("no build of `alone` is in the store"), "{} {}", ran.code, ran.err);
}

/// Several at once, in a folder of all users as in one of this user: each has its own, and what a dead one left goes.
#[test]
fn temporary_directories_are_made_side_by_side() {
    for mode in [0o1777, 0o700] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        let dead = folder.path().join("x-dead");
        std::fs::create_dir(&dead).unwrap();
        let start = || {
            let mut sweeper = imgbuild();
            sweeper.args([files::sweep::ARGUMENT, folder.path().to_str().unwrap(), "x-"]);
            sweeper.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
        };
        let mut all: Vec<_> = (0..16).map(|_| start()).collect();
        let paths: std::collections::BTreeSet<String> =
            all.iter_mut().map(|one| std::io::read_to_string(one.stdout.take().unwrap()).unwrap()).collect();
        assert!(paths.len() == all.len() && paths.iter().all(|path| Path::new(path).is_dir()), "{paths:?}");
        assert!(!dead.exists(), "{mode:o}");
        for mut one in all {
            drop(one.stdin.take());
            one.wait().unwrap();
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
