//! A node that goes over to another build without a new kernel: what it says and leaves when it cannot, in namespaces, and a machine
//! whose user space is another build's afterwards.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use boot::Machine;

use super::machine::{Node as Machined, expect, free_port, start};
use super::namespaced::{Lan, MAC, Node};
use super::netboot::PATIENCE;
use super::{built, example, locked_copy};
use crate::support::Space;
use crate::support::server::{Running as Serving, started};

/// The builds, in the order in which they are published.
const BUILDS: [&str; 3] = ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc"];

/// A management node: what it publishes, and what its nodes reported.
struct Site {
    space: Space,
    image: &'static str,
}

impl Site {
    fn new(image: &'static str, node: &str) -> Self {
        let space = Space::new();
        space.write("imgbuild.toml", "out = \"out\"\nimages = []\n");
        space.write("nodes.toml", &format!("[node.cn1]\nmac = \"{MAC}\"\nimage = \"{image}\"\n{node}"));
        Self { space, image }
    }

    /// Publishes what a workspace has built, as a build of this name.
    fn publish(&self, from: &Space, build: &str) {
        let built = from.artefact(self.image, ".").canonicalize().unwrap();
        let out = self.space.path().join("out");
        let place = out.join(".builds").join(self.image).join(build);
        std::fs::create_dir_all(&place).unwrap();
        for entry in std::fs::read_dir(&built).unwrap().flatten() {
            std::fs::copy(entry.path(), place.join(entry.file_name())).unwrap();
        }
        let link = out.join(self.image);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(format!(".builds/{}/{build}", self.image), link).unwrap();
    }

    fn serve(&self, mut command: Command, listen: &str) -> Serving {
        command.args(["serve", "--listen", listen]).current_dir(self.space.path());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        started(command)
    }

    /// `IMAGE@BUILD sha256:DIGEST`, as `soft-reboot` takes it.
    fn target(&self, build: &str) -> String {
        let place = self.space.path().join("out/.builds").join(self.image).join(build);
        let info: serde_json::Value =
            serde_json::from_slice(&std::fs::read(place.join("build.json")).unwrap()).unwrap();
        let mut words = info["cmdline"].as_array().unwrap().iter().filter_map(|word| word.as_str());
        let digest = words.find_map(|word| word.strip_prefix("imgdigest=")).unwrap();
        format!("{}@{build} {digest}", self.image)
    }

    /// State and build of the last report.
    fn report(&self) -> (String, String) {
        let text = std::fs::read(self.space.path().join(".imgbuild/nodes/reports/cn1.json")).unwrap_or_default();
        let report: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
        let text = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
        (text("state"), text("build"))
    }
}

/// The words that the node's loader would give it, without the loader's own.
fn words(stream: &mut TcpStream, host: &str) -> String {
    write!(stream, "GET /-/boot/ipxe?mac={MAC} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut script = String::new();
    stream.read_to_string(&mut script).unwrap();
    let line = script.lines().find_map(|line| line.strip_prefix("kernel ")).unwrap_or_else(|| panic!("{script}"));
    line.split(' ').skip(2).filter(|word| !word.contains("${")).collect::<Vec<_>>().join(" ")
}

/// An init that runs what it is sent, one script after the other, and says what came of each.
const INIT: &str = r#"#!/bin/bash
echo "NODE IS UP"
number=0
while :; do
    script=$(bash -c 'cat </dev/tcp/10.0.2.2/8000' 2>/dev/null)
    if [ -z "$script" ]; then sleep 0.1; continue; fi
    number=$((number + 1))
    echo "BEGIN $number"
    bash -c "$script" 2>&1
    echo "END $number $?"
done
"#;

/// What the node has for systemd: it notes an order, or refuses it.
const SYSTEMCTL: &str = r#"#!/bin/sh
case "$1" in
list-units) echo "broken.service loaded failed failed A unit that is broken" ;;
soft-reboot) if [ -e /run/refuse ]; then echo "no such order" >&2; exit 1; fi; echo ordered >>/run/orders ;;
esac
"#;

/// The tiny image with that init, a program in the place of systemd, modules of the kernel of this machine, and a file.
fn image(space: &Space, second: &str, has_modules: bool) {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let modules = match has_modules {
        true => format!("mkdir -p \"$1/usr/lib/modules/{}\"\n", kernel.trim()),
        false => String::new(),
    };
    let script = format!(
        "#!/bin/sh\nset -e\ncat >\"$1/sbin/init\" <<'INIT'\n{INIT}INIT\ncat >\"$1/usr/bin/systemctl\" <<'CTL'\n{SYSTEMCTL}CTL\n\
         chmod 755 \"$1/sbin/init\" \"$1/usr/bin/systemctl\"\nmkdir -p \"$1/usr/lib/systemd/system\" \"$1/etc/ssh\"\n\
         echo '#!/bin/sh' >\"$1/usr/lib/systemd/systemd\"\n: >\"$1/usr/lib/systemd/system/soft-reboot.target\"\n\
         echo {second} >\"$1/etc/site-version\"\n{modules}"
    );
    space.write("tiny.postinstall", &script);
    space.run(&["build", "--locked"]).good();
}

/// Sends scripts to a node whose init is [`INIT`].
struct Shell<'n> {
    listener: TcpListener,
    node: &'n mut Node,
    count: usize,
}

impl Shell<'_> {
    /// Runs a script; its exit code, and what it printed.
    #[track_caller]
    fn run(&mut self, script: &str) -> (i32, String) {
        self.listener.set_nonblocking(true).unwrap();
        let began = Instant::now();
        let mut stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) => assert!(began.elapsed() < Duration::from_secs(60), "{}", self.node.console()),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        stream.set_nonblocking(false).unwrap();
        stream.write_all(script.as_bytes()).unwrap();
        drop(stream);
        self.count += 1;
        let (begin, end) = (format!("BEGIN {}\n", self.count), format!("END {} ", self.count));
        self.node.expect(&end);
        // The rest of its line.
        let began = Instant::now();
        loop {
            let console = self.node.console();
            let rest = console.split_once(&begin).unwrap().1;
            let (text, rest) = rest.split_once(&end).unwrap();
            if let Some((code, _)) = rest.split_once('\n') {
                return (code.trim().parse().unwrap(), text.to_owned());
            }
            assert!(began.elapsed() < Duration::from_secs(10), "{console}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The same for what has to succeed.
    #[track_caller]
    fn good(&mut self, script: &str) -> String {
        let (code, text) = self.run(script);
        assert_eq!(code, 0, "{script}: {text}");
        text.trim().to_owned()
    }

    /// What is mounted for it, what was booted, where the node reports, and what else is there; but for a lock and a list that stay.
    #[track_caller]
    fn state(&mut self) -> String {
        self.good(
            "grep -c -e /run/nextroot -e /run/imgbuild/next /proc/self/mountinfo; cat /run/imgbuild/booted /run/imgbuild/report\n\
             ls /run/imgbuild | grep -vx -e soft-reboot.lock -e failed-before",
        )
    }
}

#[test]
fn privileged_a_node_that_cannot_go_over_is_as_it_was_and_a_killed_attempt_hinders_no_other() {
    let (space, site) = (
        locked_copy(),
        Site::new("tiny", "kernel_args = [\"ip=10.0.2.15::10.0.2.2:255.255.255.0:given:eth0:none\"]\n"),
    );
    image(&space, "first", true);
    site.publish(&space, BUILDS[0]);
    let lan = Lan::new();
    let server = site.serve(lan.command(env!("CARGO_BIN_EXE_imgbuild")), "0.0.0.0:80");
    let cmdline = lan.enter(|| words(&mut TcpStream::connect(("127.0.0.1", 80)).unwrap(), "10.0.2.2"));
    let listener = lan.enter(|| TcpListener::bind(("0.0.0.0", 8000)).unwrap());
    let initrd = space.artefact("tiny", "initrd-stateless").canonicalize().unwrap();
    let mut node = lan.start(&initrd, &cmdline, 1024);
    node.expect("NODE IS UP");
    let mut shell = Shell { listener, node: &mut node, count: 0 };
    let first = shell.good("echo key >/etc/ssh/ssh_host_ed25519_key; cat /etc/machine-id /etc/hostname");

    // Words that are none, and what the server does not give it.
    let call = |target: &str| format!("/run/imgbuild/init soft-reboot {target} 2>&1");
    assert_eq!(shell.run(&call("tiny")).0, 2);
    let (code, text) = shell.run(&call(&format!("tiny@{}", BUILDS[1])));
    assert!(code == 1 && text.contains("the server gives this node another build: tiny@aaaaaaaaaaaa"), "{text}");

    // Another kernel: a build that has no modules of this one.
    image(&space, "third", false);
    site.publish(&space, BUILDS[2]);
    let before = shell.state();
    assert!(before.starts_with("0\n") && before.contains(&format!("build={}", BUILDS[0])), "{before}");
    let (code, text) = shell.run(&call(&site.target(BUILDS[2])));
    assert!(code == 1 && text.contains("the new image has no modules of the running kernel"), "{text}");
    assert_eq!(shell.state(), before);

    image(&space, "second", true);
    site.publish(&space, BUILDS[1]);
    let target = site.target(BUILDS[1]);
    let before = shell.state();
    // Another digest than the caller's; too little memory; systemd refuses; something lies in the way.
    let wrong = format!("tiny@{} sha256:{}", BUILDS[1], "0".repeat(64));
    let low = "cat /proc/meminfo >/run/meminfo; echo 'MemAvailable: 1000 kB' >/proc/meminfo";
    for (prepare, ordered, problem, tidy) in [
        (":", wrong.as_str(), "wrong digest", ":"),
        (low, &target, "too little memory: ", "cat /run/meminfo >/proc/meminfo"),
        (
            ": >/run/refuse",
            &target,
            "systemd refuses the soft reboot (exit status: 1): no such order",
            "rm /run/refuse",
        ),
        ("mkdir -p /run/nextroot/x", &target, "/run/nextroot is not an empty directory", "rm -r /run/nextroot"),
    ] {
        shell.good(prepare);
        let (code, text) = shell.run(&call(ordered));
        assert!(code == 1 && text.contains(problem), "{problem}: {text}");
        shell.good(tidy);
        assert_eq!(shell.state(), before, "{problem}");
    }
    // The server heard that it would start, and that it did not.
    assert_eq!(site.report(), ("up".to_owned(), BUILDS[0].to_owned()));

    // Killed at some moments before it is done: the next one takes away what is left.
    for seconds in ["0.02", "0.1", "0.3"] {
        shell.good(&format!("{} & sleep {seconds}; kill -9 $!; ! wait $!", call(&target)));
    }
    let text = shell.good(&call(&target));
    assert!(text.contains(&format!("tiny@{} starts as the root of this node", BUILDS[1])), "{text}");
    let root =
        shell.good("cd /run/nextroot && cat etc/site-version etc/machine-id etc/hostname etc/ssh/ssh_host_ed25519_key");
    assert_eq!(root, format!("second\n{first}\nkey"));
    assert_eq!(shell.good("cat /run/orders /run/imgbuild/failed-before"), "ordered\nbroken.service");
    let after = shell.state();
    assert!(after.starts_with("1\n") && after.contains(&format!("build={}\n", BUILDS[1])), "{after}");
    assert!(after.contains(&format!("/-/report/cn1/tiny.{}.", BUILDS[1])), "{after}");
    assert_eq!(site.report(), ("booting".to_owned(), BUILDS[1].to_owned()));
    // As its unit does it when the services are back.
    shell.good("/run/imgbuild/init report up");
    assert_eq!(site.report(), ("up".to_owned(), BUILDS[1].to_owned()));
    drop(server);
}

/// `examples/mini` of Debian 13, which stays packed, with a file of a sync list.
fn mini() -> super::Built {
    let space = Space::new();
    example("mini", &space);
    space.edit("image.toml", "release = \"bookworm\"", "release = \"trixie\"");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n[pack]\narchive = \"squashfs\"\n"));
    space.write("a.synclist", "version -> /etc/site-version\n").write("version", "first\n");
    built(space)
}

/// Waits until the node has reported a state of a build.
#[track_caller]
fn reported(site: &Site, state: &str, build: &str, console: &dyn Fn() -> String) -> Duration {
    let began = Instant::now();
    while site.report() != (state.to_owned(), build.to_owned()) {
        assert!(began.elapsed() < PATIENCE, "{:?}, and not {state} of {build}:\n{}", site.report(), console());
        std::thread::sleep(Duration::from_millis(200));
    }
    began.elapsed()
}

fn log_in(port: u16, key: &Path, running: &boot::Running) -> Machined {
    let node = Machined::forwarded(port, key);
    node.wait(running);
    node
}

#[test]
fn network_boot_a_changed_file_is_there_after_a_soft_reboot_and_the_kernel_is_the_same() {
    let image = mini();
    let site = Site::new("mini", "");
    site.publish(&image.space, BUILDS[0]);
    let server = site.serve(Command::new(env!("CARGO_BIN_EXE_imgbuild")), "127.0.0.1:0");
    let host = format!("10.0.2.2:{}", server.address.port());
    let (cmdline, port) = (words(&mut server.connect(), &host), free_port());
    let began = Instant::now();
    let running = start(&image, "mini", cmdline, |machine| {
        machine.network = vec![Machine::user_network(MAC, Some(port))];
        // Two images at the same time.
        machine.memory_mib = 2048;
    });
    expect(&running, "imgbuild: the image is complete");
    reported(&site, "up", BUILDS[0], &|| running.console());
    let by_firmware = began.elapsed();
    let node = log_in(port, &image.key, &running);
    let known =
        node.run("cat /proc/sys/kernel/random/boot_id /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; hostname");
    assert_eq!(node.run("cat /etc/site-version"), "first");
    node.run("echo mark >/run/mark");

    // Without the modules of the kernel that runs: as after an update of the kernel.
    let list = std::fs::read_to_string(image.space.path().join("mini.exlist")).unwrap();
    let bare: Vec<&str> = list.lines().filter(|line| !line.starts_with('+')).chain(["./usr/lib/modules*"]).collect();
    image.space.write("mini.exlist", &format!("{}\n", bare.join("\n")));
    image.space.run(&["build", "--locked"]).good();
    site.publish(&image.space, BUILDS[2]);
    let call = |build: &str| format!("/run/imgbuild/init soft-reboot {}", site.target(build));
    let refused = node.run(&format!("{} 2>&1; echo $?", call(BUILDS[2])));
    assert!(refused.contains("no modules of the running kernel") && refused.ends_with("\n1"), "{refused}");
    let left = node.run("grep -e nextroot -e imgbuild/next /proc/self/mountinfo; cat /run/imgbuild/booted");
    assert!(left.starts_with(&format!("image=mini\nbuild={}\n", BUILDS[0])), "{left}");

    // One file is another one.
    image.space.write("mini.exlist", &list).write("version", "second\n");
    image.space.run(&["build", "--locked"]).good();
    site.publish(&image.space, BUILDS[1]);
    // In the background: its connection ends with the user space that it belongs to.
    node.run(&format!("setsid sh -c '{} >/run/soft.log 2>&1' >/dev/null 2>&1 </dev/null &", call(BUILDS[1])));
    let began = Instant::now();
    reported(&site, "up", BUILDS[1], &|| {
        let log = Machined::forwarded(port, &image.key).try_run("cat /run/soft.log").unwrap_or_default();
        format!("{log}\n{}", running.console())
    });
    eprintln!("up after {} s by the firmware, {} s by a soft reboot", by_firmware.as_secs(), began.elapsed().as_secs());

    drop(node);
    let node = log_in(port, &image.key, &running);
    assert_eq!(node.run("cat /etc/site-version"), "second");
    let now =
        node.run("cat /proc/sys/kernel/random/boot_id /etc/machine-id /etc/ssh/ssh_host_ed25519_key.pub; hostname");
    assert_eq!(now, known, "kernel, machine-id, host key and name");
    assert_eq!(node.run("cat /run/mark"), "mark");
    assert!(node.run("cat /run/imgbuild/booted").contains(&format!("build={}", BUILDS[1])));
    // What both images have came from the running one.
    let log = node.run("cat /run/soft.log");
    let line = log.lines().find(|line| line.contains("KiB came from the server")).unwrap_or_else(|| panic!("{log}"));
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(numbers[0] < numbers[1] / 4, "{line}");
    // No unit fails that did not fail before, but for one: Debian's cloud kernel has no automounts.
    node.run("timeout 300 systemctl is-system-running --wait; true");
    let failed = "systemctl list-units --failed --plain --no-legend | cut -d' ' -f1 | grep -vxFf /run/imgbuild/failed-before | grep -vx proc-sys-fs-binfmt_misc.automount; true";
    assert_eq!(node.run(failed), "", "{}", running.console());
    drop(server);
}
