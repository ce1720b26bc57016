//! `build --on`: a real sshd on loopback is the other machine, with directories of its own.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::offline::{assert_same, fresh, warm};
use crate::support::{Ran, Space, project};

pub struct Machine {
    sshd: Child,
    /// Where its users keep caches.
    pub home: PathBuf,
    ssh: String,
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.sshd.kill();
        let _ = self.sshd.wait();
    }
}

impl Machine {
    pub fn start(space: &Space) -> Self {
        let directory = space.path().join(".machine");
        let home = directory.join("home");
        std::fs::create_dir_all(&home).unwrap();
        let at = |name: &str| directory.join(name).display().to_string();
        for key in ["host", "admin"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).status();
            assert!(made.unwrap().success());
        }
        std::fs::create_dir_all("/run/sshd").unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\n\
             PermitRootLogin yes\nSetEnv XDG_CACHE_HOME={}\n",
            at("host"),
            at("admin.pub"),
            home.display()
        );
        std::fs::write(directory.join("sshd_config"), config).unwrap();
        let config = format!(
            "Host builder\n  HostName 127.0.0.1\n  Port {port}\n  User root\n  IdentityFile {}\n  IdentitiesOnly yes\n  \
             StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  ControlMaster auto\n  ControlPersist 5m\n  ControlPath {}\n",
            at("admin"),
            at("c")
        );
        std::fs::write(directory.join("ssh_config"), config).unwrap();
        let log = std::fs::File::create(directory.join("log")).unwrap();
        let sshd = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &at("sshd_config")])
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "sshd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        let ssh = format!("ssh -F {}", at("ssh_config"));
        Self { sshd, home, ssh }
    }

    pub fn command(&self, space: &Space, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(arguments);
        command.env("NO_COLOR", "1").env("IMGBUILD_SSH", &self.ssh);
        command
    }

    fn run(&self, space: &Space, arguments: &[&str]) -> Ran {
        self.command(space, arguments).output().unwrap().into()
    }

    fn left(&self) -> Vec<PathBuf> {
        walkdir::WalkDir::new(&self.home).min_depth(1).into_iter().flatten().map(walkdir::DirEntry::into_path).collect()
    }

    pub fn processes(&self) -> Vec<String> {
        let home = self.home.display().to_string();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
        lines.filter(|line| line.contains(&home) && line.contains("imgbuild-")).collect()
    }

    pub fn assert_clean(&self) {
        wait_until("it is left as it was", || self.left().is_empty() && self.processes().is_empty());
    }
}

pub fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(90);
    while !is_so() {
        assert!(Instant::now() < until, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A file in the image that is not in the recipe's folder, and one that is.
fn with_files(space: &Space, outside: &Path) {
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"tiny.synclist\"]\n\n[exclude]");
    space.edit("image.toml", "[image]", &format!("[workspace]\nallow = [\"{}/**\"]\n\n[image]", outside.display()));
    space.write("motd", "welcome\n");
    std::fs::set_permissions(space.path().join("motd"), PermissionsExt::from_mode(0o640)).unwrap();
    let _ = symlink(outside.join("issue"), space.path().join("linked"));
    let list = format!("motd -> /etc/motd\nlinked -> /etc/issue\n{}/hosts -> /etc/hosts.more\n", outside.display());
    space.write("tiny.synclist", &list);
}

/// One run of a script takes so many seconds.
fn slow(space: &Space, seconds: u32) {
    let script = space.path().join("tiny.postinstall");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, format!("{text}\nsleep {seconds}\n")).unwrap();
}

/// Another recipe that something is missing of.
fn slower() -> Space {
    let space = warm();
    slow(&space, 59);
    space
}

#[test]
fn privileged_what_is_missing_is_built_by_another_machine() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("issue"), "Tiny\n").unwrap();
    std::fs::write(outside.path().join("hosts"), "10.0.0.1 cn1\n").unwrap();
    let outside = outside.path().canonicalize().unwrap();
    let (local, space) = (warm(), warm());
    with_files(&local, &outside);
    with_files(&space, &outside);
    let machine = Machine::start(&space);
    local.run(&["build", "--locked"]).good();

    let ran = machine.run(&space, &["build", "--locked", "--on", "ssh://builder"]).good();
    assert!(ran.err.contains("sending imgbuild to ssh://builder") && ran.err.contains("brought "), "{}", ran.err);
    assert!(ran.err.contains("ran rootfs/sync, ") && ran.err.contains("ran nothing; kept "), "{}", ran.err);
    assert_same(&local, &space, "tiny");
    machine.assert_clean();
    space.run(&["store", "verify"]).good();
    assert!(space.to_do().is_empty(), "{:?}", space.to_do());
    // Nothing is missing: nobody is asked, not even one who cannot be reached.
    let ran = machine.run(&space, &["build", "--on", "ssh://nowhere.invalid"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);

    // A directory that is named keeps what the next build needs.
    let kept = space.path().join(".machine/kept");
    let address = format!("ssh://root@builder{}", kept.display());
    for (number, is_first) in [(1, true), (2, false)] {
        space.write("motd", &format!("welcome {number}\n"));
        let ran = machine.run(&space, &["build", "--locked", "--on", &address]).good();
        assert_eq!(ran.err.contains("sending imgbuild"), is_first, "{}", ran.err);
        assert_eq!(ran.err.contains("sent 1 files"), !is_first, "{}", ran.err);
        let motd = space.run(&["shell", "--", "cat", "/etc/motd"]);
        assert!(motd.out.contains(&format!("welcome {number}")), "{} {}", motd.out, motd.err);
    }
    assert!(!kept.join("ws").exists() && !kept.join("log").exists() && kept.join("store/v1").is_dir());
    let ran = space.run(&["build", "--locked", "--thorough"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
}

#[test]
fn network_privileged_what_is_here_counts_by_the_new_lock_of_an_edit() {
    let space = warm();
    space.edit("image.toml", "base = \"essential\"", "base = \"essential\"\ninstall = [\"ncal\"]");
    let machine = Machine::start(&space);
    let before = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    let ran = machine.run(&space, &["build", "--locked", "--on", "ssh://builder"]);
    assert_ne!(ran.code, 0, "{}", ran.err);
    assert_eq!(std::fs::read_to_string(space.path().join("image.lock")).unwrap(), before);
    let ran = machine.run(&space, &["build", "--on", "ssh://builder"]).good();
    assert!(ran.err.contains("makes the lock first"), "{}", ran.err);
    // The base, its kernel and its tools are here, and nobody makes them again.
    let built: Vec<&str> = ran.err.lines().filter(|line| line.contains("ran rootfs/")).collect();
    assert!(built.iter().any(|line| line.contains("rootfs/packages")), "{}", ran.err);
    assert!(!built.iter().any(|line| line.contains("rootfs/base")), "{}", ran.err);
    assert!(std::fs::read_to_string(space.path().join("image.lock")).unwrap().contains("name = \"ncal\""));
    machine.assert_clean();
    assert!(space.to_do().is_empty(), "{:?}", space.to_do());
    let there = space.run(&["shell", "--", "test", "-e", "/usr/bin/ncal"]);
    assert_eq!(there.code, 0, "{}", there.err);
}

#[test]
fn privileged_a_connection_that_breaks_is_made_again() {
    let space = warm();
    slow(&space, 6);
    let machine = Machine::start(&space);
    // The first that follows is cut off after a second.
    let cut = space.path().join(".machine/cut");
    space.write(
        ".machine/ssh",
        &format!(
            "#!/bin/sh\ncase \"$*\" in\n*'away follow'*)\n    if [ ! -e {0} ]; then\n        touch {0}\n        timeout -s KILL 1 {1} \"$@\"\n        exit 255\n    fi ;;\nesac\nexec {1} \"$@\"\n",
            cut.display(),
            machine.ssh
        ),
    );
    let script = space.path().join(".machine/ssh");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = machine.command(&space, &["build", "--locked", "--on", "ssh://builder"]);
    let ran: Ran = command.env("IMGBUILD_SSH", &script).output().unwrap().into();
    let ran = ran.good();
    assert_eq!(ran.err.matches("is lost").count(), 1, "{}", ran.err);
    assert_eq!(ran.err.matches("postinstall: started").count(), 1, "{}", ran.err);
    machine.assert_clean();

    // Killed here: the other machine goes on, and the next command finds that.
    slow(&space, 1);
    let mut child = machine.command(&space, &["build", "--locked", "--on", "ssh://builder"]);
    let mut child = child.stderr(Stdio::null()).spawn().unwrap();
    wait_until("it runs there", || !machine.processes().is_empty());
    wait_until("it is told", || machine.left().iter().any(|path| path.ends_with("asked")));
    child.kill().unwrap();
    child.wait().unwrap();
    let ran = machine.run(&space, &["build", "--locked", "--on", "ssh://builder"]).good();
    assert!(ran.err.contains("is at it already"), "{}", ran.err);
    machine.assert_clean();

    // Killed for good: it goes by itself.
    slow(&space, 60);
    let mut child = machine.command(&space, &["build", "--locked", "--on", "ssh://builder"]);
    let mut child = child.env("IMGBUILD_ON_PATIENCE", "3").stderr(Stdio::null()).spawn().unwrap();
    wait_until("it is told", || machine.left().iter().any(|path| path.ends_with("log")));
    child.kill().unwrap();
    child.wait().unwrap();
    machine.assert_clean();
}

#[test]
fn privileged_ctrl_c_and_failures_leave_nothing_on_the_other_machine() {
    let space = warm();
    let machine = Machine::start(&space);
    slow(&space, 60);
    let kept = space.path().join(".machine/kept");
    let address = format!("ssh://builder{}", kept.display());
    let log = std::fs::File::create(space.path().join("said")).unwrap();
    let mut child = machine.command(&space, &["build", "--locked", "--on", &address]).stderr(log).spawn().unwrap();
    let said = || std::fs::read_to_string(space.path().join("said")).unwrap();
    wait_until("the script runs", || said().contains("postinstall: started"));
    // A directory is for one build at a time.
    let other = machine.run(&slower(), &["build", "--locked", "--on", &address]);
    assert!(other.code == 3 && other.err.contains("another build is at work in"), "{} {}", other.code, other.err);
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130), "{}", said());
    assert!(said().contains("interrupted: nothing was published"), "{}", said());
    wait_until("the build is gone", || !kept.join("ws").exists() && !kept.join("log").exists());
    machine.assert_clean();

    // What fails there fails here as it would here: the same code, the place in the recipe's folder, a log that is here.
    space.write("tiny.postinstall", "#!/bin/sh\necho \"the license server is down\" >&2\nexit 3\n");
    let here = space.run(&["build", "--locked"]);
    let there = machine.run(&space, &["build", "--locked", "--on", "ssh://builder"]);
    assert_eq!((here.code, there.code), (4, 4), "{}", there.err);
    assert!(
        there.err.contains("the license server is down") && there.err.contains("tiny.postinstall"),
        "{}",
        there.err
    );
    assert!(!there.err.contains("imgbuild-on/"), "{}", there.err);
    machine.assert_clean();
    let logs = std::fs::read_dir(space.store().join("v1/logs")).unwrap().flatten();
    let logs: Vec<String> = logs.map(|log| std::fs::read_to_string(log.path()).unwrap_or_default()).collect();
    assert!(logs.iter().filter(|log| log.contains("the license server is down")).count() >= 2, "{logs:?}");

    // A machine that keeps results back: what is missing is named, it is not built here, and nothing is published.
    let own = std::fs::read_to_string(project().join("tests/fixtures/tiny/tiny.postinstall")).unwrap();
    space.write("tiny.postinstall", &format!("{own}\ntouch \"$1/made-there\"\n"));
    let before = std::fs::read_link(space.path().join("out/tiny")).ok();
    let (script, home) = (space.path().join(".machine/ssh"), machine.home.display());
    space.write(
        ".machine/ssh",
        &format!(
            "#!/bin/sh\ncase \"$*\" in\n*'away results'*) rm -r {home}/imgbuild-on/*/out/v1/actions ;;\nesac\nexec {} \"$@\"\n",
            machine.ssh
        ),
    );
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let mut command = machine.command(&space, &["build", "--locked", "--on", "ssh://builder"]);
    let ran: Ran = command.env("IMGBUILD_SSH", &script).output().unwrap().into();
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("on::other") && ran.err.contains("the result of rootfs/postinstall"), "{}", ran.err);
    assert_eq!(std::fs::read_link(space.path().join("out/tiny")).ok(), before);
    machine.assert_clean();
}

#[test]
fn machines_that_cannot_build_are_refused_with_the_remedy() {
    let space = fresh();
    space.write(".fake/answer", "");
    let count = std::cell::Cell::new(0);
    let fake = |body: &str| {
        count.set(count.get() + 1);
        let path = space.path().join(format!(".fake/ssh{}", count.get()));
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let run = |ssh: &str, on: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
        command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(["build", "--locked", "--on", on]);
        Ran::from(command.env("NO_COLOR", "1").env("IMGBUILD_SSH", ssh).output().unwrap())
    };
    for (ssh, said) in [
        (fake("echo 'Permission denied (publickey).' >&2; exit 255"), "must work without a question"),
        ("/no/such/ssh".to_owned(), "install openssh-client"),
        (fake("echo 'imgbuild-on Linux aarch64 no /tmp/x'"), "IMGBUILD_PROGRAM_AARCH64=FILE"),
        (fake("echo 'imgbuild-on Darwin arm64 no /tmp/x'"), "another CPU (arm64)"),
        (fake("echo 'imgbuild-on Linux x86_64 no /tmp/two words'"), "has other letters than"),
        (fake("echo 'mkdir: cannot create directory: Read-only file system' >&2; exit 9"), "Read-only file system"),
        (fake("echo Welcome"), "does not answer"),
    ] {
        let ran = run(&ssh, "ssh://builder");
        assert_eq!(ran.code, 3, "{said}: {}", ran.err);
        assert!(ran.err.contains(said), "{said}: {}", ran.err);
    }
    for odd in ["builder", "ssh://", "ssh://-oProxyCommand=x", "ssh://a/b;c"] {
        assert_eq!(run("ssh", odd).code, 64, "{odd}");
    }
}
