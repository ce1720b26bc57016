//! Nodes whose kernel crashes: a second one writes their memory to a disk, over NFS, and over ssh.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boot::{FileServer, Running};

use super::cache::disk;
use super::machine::{Server, cmdline, expect, free_port, start};
use super::namespaced::Lan;
use super::offline::vendored;
use super::statelite::Ganesha;
use super::{Built, store, tiny};
use crate::support::{Space, copy_locked, copy_tree, project};

/// What the image's init does: it says what it finds, and its kernel crashes.
const INIT: &str = r#"echo "LOADED $(cat /sys/kernel/kexec_crash_loaded): $(cat /run/imgbuild/kdump)"
echo "RESERVED $(cat /sys/kernel/kexec_crash_size) $(cat /proc/sys/kernel/panic_on_oops)"
sync
echo c >/proc/sysrq-trigger
while :;"#;

/// The tiny image with an init that crashes, and more packages: for machines alone, as in namespaces it would be this one.
fn image(packages: &str, table: &str) -> Built {
    let space = Space::new().with_store(&store());
    match packages {
        "" => {
            copy_locked(tiny().space.path(), space.path());
        }
        packages => {
            copy_tree(&project().join("tests/fixtures/tiny"), space.path());
            std::fs::create_dir_all(space.path().join("keys")).unwrap();
            std::fs::copy(tiny().key.with_extension("pub"), space.path().join("keys/admin.pub")).unwrap();
            space.edit("image.toml", "base = \"essential\"", &format!("base = \"essential\"\ninstall = [{packages}]"));
        }
    }
    space.edit("tiny.postinstall", "while :;", INIT);
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n{table}"));
    Built { space, key: tiny().key.clone() }
}

fn build(built: &Built, is_vendored: bool) -> String {
    let vendored = if is_vendored { vec!["--locked", "--vendor", vendored().to_str().unwrap()] } else { Vec::new() };
    built.space.run(&[&["build"], &vendored[..]].concat()).good().err
}

fn directory(built: &Built) -> PathBuf {
    built.space.artefact("tiny", ".").canonicalize().unwrap()
}

/// Boots it, and waits until its kernel has crashed and the second one is done.
fn crash(built: &Built, more: &str, change: impl FnOnce(&mut boot::Machine)) -> Running {
    let server = FileServer::start(&directory(built)).unwrap();
    let words = cmdline(built, "tiny", &format!("http://10.0.2.2:{}", server.port()));
    assert!(words.contains("crashkernel=") && words.contains("imgbuild.kdump=sha256:"), "{words}");
    let began = Instant::now();
    let running = start(built, "tiny", format!("{words} NODE=n01 {more}"), change);
    expect(&running, "LOADED 1: loaded");
    let up = began.elapsed();
    expect(&running, "the kernel crashed: its memory is written to");
    let crashed = began.elapsed();
    expect(&running, "imgbuild: rebooting");
    println!("up after {up:?}, the second kernel after {crashed:?}, done after {:?}", began.elapsed());
    running
}

/// The kernel's last messages, as makedumpfile of this machine reads them from a dump.
fn messages(space: &Space, dump: &Path) -> String {
    let to = space.path().join("messages");
    let _ = std::fs::remove_file(&to);
    let ran = Command::new("makedumpfile").arg("--dump-dmesg").arg(dump).arg(&to).output().unwrap();
    assert!(ran.status.success(), "{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    std::fs::read_to_string(to).unwrap()
}

/// The one dump below a directory, with its files.
fn dump_in(directory: &Path) -> PathBuf {
    let found: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    let name = found[0].file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("n01-20"), "{name}");
    found[0].clone()
}

fn size(path: &Path) -> u64 {
    let size = std::fs::metadata(path).unwrap().len();
    println!("{}: {size}", path.display());
    size
}

const CRASHED: &str = "sysrq: Trigger a crash";

#[test]
fn boot_a_crash_is_written_to_a_disk_of_the_node() {
    let table = "[kdump]\nto = \"LABEL=nodecache:/var/crash\"\nreserve = \"256M\"\nlevel = 31\n";
    let built = image("\"makedumpfile\"", table);
    // With another reserve it is compared again.
    built.space.edit("image.toml", "reserve = \"256M\"", "reserve = \"64M\"");
    let said = build(&built, false);
    assert!(said.contains("`64M` is too small for the kernel that writes dumps"), "{said}");
    built.space.edit("image.toml", "reserve = \"64M\"", "reserve = \"256M\"");
    let said = build(&built, false);
    assert!(!said.contains("is too small") && said.contains("initrd/kdump"), "{said}");
    println!("initrd-kdump: {}", size(&directory(&built).join("initrd-kdump")));
    let place = disk(&built.space, "crash", 256);
    let running = crash(&built, "", |machine| {
        machine.memory_mib = 1280;
        machine.disks = vec![place.clone()];
    });
    let console = running.console();
    assert!(console.contains("RESERVED 268435456 1"), "{console}");
    assert!(console.contains("its dump is LABEL=nodecache:/var/crash/n01-20"), "{console}");
    drop(running);
    let out = built.space.path().join("dumps");
    std::fs::create_dir(&out).unwrap();
    let request = format!("rdump /var/crash {}", out.display());
    assert!(Command::new("debugfs").args(["-R", &request]).arg(&place).status().unwrap().success());
    let dump = dump_in(&out.join("crash"));
    let text = std::fs::read_to_string(dump.join("vmcore-dmesg.txt")).unwrap();
    assert!(text.contains(CRASHED), "{text}");
    assert!(!dump.join("vmcore-incomplete").exists());
    // What is left out of it is most.
    assert!(size(&dump.join("vmcore")) < 200 << 20);
    let bytes = std::fs::read(dump.join("vmcore")).unwrap();
    assert_eq!(&bytes[..8], b"KDUMP   ");
    assert!(messages(&built.space, &dump.join("vmcore")).contains(CRASHED));
}

#[test]
fn privileged_boot_a_crash_is_written_over_nfs_and_without_makedumpfile_all_of_it() {
    let table = "[kdump]\nto = \"nfs:///state/dumps\"\noptions = \"nfsvers=4.1,soft,timeo=100,port=PORT\"\n";
    let built = image("", &table.replace("PORT", "1"));
    let (tree, state) = (built.space.path().join("tree"), built.space.path().join("state"));
    std::fs::create_dir(&tree).unwrap();
    std::fs::create_dir_all(state.join("dumps")).unwrap();
    let ganesha = Ganesha::start(&built.space, &tree, &state);
    built.space.edit("image.toml", "port=1\"", &format!("port={}\"", ganesha.port));
    let said = build(&built, true);
    assert!(said.contains("the image has no makedumpfile: dumps contain all memory"), "{said}");
    // The server of the image is that of dumps.
    let running = crash(&built, "", |machine| machine.memory_mib = 1024);
    let console = running.console();
    assert!(console.contains("its dump is nfs://10.0.2.2/state/dumps/n01-20"), "{console}");
    drop(running);
    let dump = dump_in(&state.join("dumps"));
    assert!(!dump.join("vmcore-dmesg.txt").exists());
    let bytes = size(&dump.join("vmcore"));
    assert!(bytes > 600 << 20, "{bytes}");
    let head = Command::new("readelf").arg("-h").arg(dump.join("vmcore")).output().unwrap();
    let head = String::from_utf8_lossy(&head.stdout).into_owned();
    assert!(head.contains("CORE (Core file)"), "{head}");
    assert!(messages(&built.space, &dump.join("vmcore")).contains(CRASHED));
}

/// sshd on the loopback, which lets a key in.
struct Sshd(Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Sshd {
    fn start(space: &Space, port: u16) -> Self {
        let at = |name: &str| space.path().join(name).display().to_string();
        for key in ["host", "dump"] {
            let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f", &at(key)]).status();
            assert!(made.unwrap().success());
        }
        std::fs::create_dir_all("/run/sshd").unwrap();
        let public = std::fs::read_to_string(at("host.pub")).unwrap();
        space.write("known_hosts", &format!("[10.0.2.2]:{port} {public}"));
        let config = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n",
            at("host"),
            at("dump.pub")
        );
        space.write("sshd_config", &config);
        let log = std::fs::File::create(at("sshd.log")).unwrap();
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f", &at("sshd_config")]).stdin(Stdio::null()).stderr(log);
        let sshd = Self(sshd.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(20);
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < until, "sshd does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        sshd
    }
}

#[test]
fn privileged_boot_a_crash_is_sent_by_ssh_to_a_server_whose_key_is_known() {
    let port = free_port();
    let space = Space::new();
    let dumps = space.path().join("dumps");
    let table = format!(
        "[kdump]\nto = \"ssh://root@10.0.2.2:{port}{}\"\nssh_key = \"dump\"\nknown_hosts = \"known_hosts\"\ncompress = \"zstd\"\nafterwards = \"reboot\"\n",
        dumps.display()
    );
    let built = image("\"makedumpfile\", \"openssh-client\"", &table);
    let _sshd = Sshd::start(&built.space, port);
    // Debian's makedumpfile takes the option, and compresses nothing.
    let ran = built.space.run(&["build"]);
    assert!(ran.code != 0 && ran.err.contains("was built without libzstd"), "{}", ran.err);
    built.space.edit("image.toml", "compress = \"zstd\"\n", "");
    build(&built, false);
    let running = crash(&built, "", |machine| machine.memory_mib = 1280);
    let console = running.console();
    assert!(console.contains("/vmcore.flat, "), "{console}");
    drop(running);
    let dump = dump_in(&dumps);
    let text = std::fs::read_to_string(dump.join("vmcore-dmesg.txt")).unwrap();
    assert!(text.contains(CRASHED), "{text}");
    // What came in a stream is put into order by makedumpfile.
    let whole = built.space.path().join("vmcore");
    let flat = std::fs::File::open(dump.join("vmcore.flat")).unwrap();
    size(&dump.join("vmcore.flat"));
    let made = Command::new("makedumpfile").arg("-R").arg(&whole).stdin(flat).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert!(messages(&built.space, &whole).contains(CRASHED));
}

#[test]
fn boot_a_dump_that_cannot_be_written_is_reported_and_the_node_starts_again() {
    let table = "[kdump]\nto = \"LABEL=none:/var/crash\"\nafterwards = \"poweroff\"\n";
    let built = image("", table);
    build(&built, true);
    let server = FileServer::start(&directory(&built)).unwrap();
    let words = cmdline(&built, "tiny", &format!("http://10.0.2.2:{}", server.port()));
    let (port, reports) = reports();
    let report = format!("imgbuild.report=http://10.0.2.2:{port}/-/report/n01/token");
    let running = start(&built, "tiny", format!("{words} NODE=n01 {report}"), |_| {});
    expect(&running, "attempt 3 of 3: LABEL=none: no ext4, xfs or btrfs disk has that name");
    expect(&running, "the kernel crashed, but no dump was written: LABEL=none");
    expect(&running, "imgbuild: switching off");
    let said: Vec<String> = reports.try_iter().collect();
    let is_of_dump = |one: &String| one.starts_with("state=failed&reason=the%20kernel%20crashed%2C%20but%20no%20dump");
    assert!(said.iter().any(is_of_dump), "{said:?}");
}

/// A server that takes reports: its port, and what came.
fn reports() -> (u16, std::sync::mpsc::Receiver<String>) {
    use std::io::{BufRead, BufReader, Read, Write};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut input = BufReader::new(stream.try_clone().unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while input.read_line(&mut line).is_ok_and(|read| read > 2) {
                let field = line.to_ascii_lowercase();
                length = field.strip_prefix("content-length:").map_or(length, |text| text.trim().parse().unwrap());
                line.clear();
            }
            let mut body = vec![0; length];
            if input.read_exact(&mut body).is_ok() {
                let _ = sender.send(String::from_utf8_lossy(&body).into_owned());
            }
            let _ = write!(stream, "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    });
    (port, receiver)
}

#[test]
fn privileged_a_node_that_cannot_write_a_dump_says_so_and_boots() {
    let space = Space::new().with_store(&store());
    copy_locked(tiny().space.path(), space.path());
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n[kdump]\nto = \"nfs:///dumps\"\n"));
    let built = Built { space, key: tiny().key.clone() };
    build(&built, true);
    let lan = Lan::new();
    let server = Server::start_in(&lan, &directory(&built), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let words = cmdline(&built, "tiny", &format!("http://10.0.2.2:{}", server.port));
    let words = words.replace(" crashkernel=256M", "");
    let mut node = lan.start(&directory(&built).join("initrd-stateless"), &words, 1024);
    node.expect("this node will not write a dump when its kernel crashes:");
    node.expect("NODE IS UP");
}

#[test]
fn an_image_that_cannot_send_its_dumps_is_refused() {
    let table = "[kdump]\nto = \"ssh://kdump@head/srv\"\nssh_key = \"dump\"\nknown_hosts = \"known_hosts\"\n";
    let built = image("", table);
    let at = |name: &str| built.space.path().join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(at("dump")).status();
    assert!(made.unwrap().success());
    std::fs::write(at("known_hosts"), format!("head {}", std::fs::read_to_string(at("dump.pub")).unwrap())).unwrap();
    let said = built.space.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()]);
    assert!(said.code != 0 && said.err.contains("the image has no ssh, which sends its dumps"), "{}", said.err);
    assert!(said.err.contains("image.toml:") && said.err.contains("install = [\"openssh-client\"]"), "{}", said.err);
}
