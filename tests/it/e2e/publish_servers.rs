//! Images published to servers: the real Cobbler, and OpenCHAMI's layout in a real server of buckets.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::built_copy;
use crate::support::{Ran, Space, imgbuild, needed, project};

/// A program that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn listening(running: &mut Running, port: u16) {
    for _ in 0..1200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return;
        }
        if let Some(status) = running.0.try_wait().unwrap() {
            panic!("the server ended: {status}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("nothing listens at port {port}")
}

fn run(space: &Space, words: &[&str], variables: &[(&str, &str)]) -> Ran {
    let mut command = imgbuild();
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(words);
    command.envs(variables.iter().copied()).env("HOME", space.path());
    let mut ran: Ran = command.output().unwrap().into();
    ran.err = ran.err.replace("\n  │ ", " ").replace('\n', " ");
    ran
}

/// Cobbler's answer to a call, as Python's own client prints it.
fn asked(python: &Path, port: u16, call: &str) -> String {
    let script = format!("import xmlrpc.client as x; s = x.ServerProxy('http://127.0.0.1:{port}'); print({call})");
    let ran: Ran = Command::new(python).args(["-c", &script]).output().unwrap().into();
    ran.good().out
}

#[test]
fn privileged_cobbler_boots_nodes_from_what_is_published() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/cobbler");
    let Some(python) = needed(target.join("bin/python"), "tests/run installs it") else { return };
    let (place, port) = (tempfile::tempdir().unwrap(), free_port());
    let script: PathBuf = project().join("tests/fixtures/cobbler/run");
    let child = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--kill-child"])
        .arg(script)
        .arg(&target)
        .arg(port.to_string())
        .arg(place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    listening(&mut running, port);

    let space = built_copy();
    let url = format!("http://127.0.0.1:{port}");
    let credentials = space.path().join("credentials.toml");
    let text = format!("[[credentials]]\nurl = \"{url}\"\nuser = \"cobbler\"\npassword = \"cobbler\"\n");
    std::fs::write(&credentials, text).unwrap();
    std::fs::set_permissions(&credentials, std::fs::Permissions::from_mode(0o600)).unwrap();
    let variables = [("IMGBUILD_CREDENTIALS", credentials.to_str().unwrap())];
    space.write(
        "nodes.toml",
        "[node.n01]\nmac = \"aa:bb:cc:00:00:01\"\nip = \"10.0.0.11\"\nimage = \"tiny\"\nkernel_args = [\"console=ttyS1\"]\n",
    );
    let files = space.path().join("served");
    let to = format!("cobbler:{url}?dir={}&files=http://10.0.0.5/images", files.display());
    let publish = ["publish", to.as_str()];
    let ran = run(&space, &publish, &[("IMGBUILD_CREDENTIALS", "/dev/null")]);
    assert!(ran.code != 0 && ran.err.contains("Cobbler wants a user and a password"), "{}", ran.err);
    run(&space, &publish, &variables).good();
    let system = asked(&python, port, "s.get_item('system', 'n01')");
    assert!(system.contains("'netboot_enabled': True") && system.contains("aa:bb:cc:00:00:01"), "{system}");
    // What a node gets: the distro's words and its own, both consoles, the kernel's copy.
    let script = asked(&python, port, "s.generate_ipxe('', '', 'n01')");
    for wanted in
        ["imgurl=http://10.0.0.5/images/tiny/", "imgdigest=sha256:", "console=ttyS1", "BOOTIF=01-aa-bb-cc-00-00-01"]
    {
        assert!(script.contains(wanted), "{wanted}: {script}");
    }
    let ran = run(&space, &["publish", to.as_str(), "--dry-run"], &variables).good();
    assert!(ran.err.contains("unchanged") && !ran.err.contains("  ~ ") && !ran.err.contains("  + "), "{}", ran.err);
    // By hand.
    let edit = "s.xapi_object_edit('system', 'n01', 'edit', {'netboot_enabled': False}, s.login('cobbler', 'cobbler'))";
    asked(&python, port, edit);
    let ran = run(&space, &publish, &variables).good();
    assert!(ran.err.contains("by hand"), "{}", ran.err);
    assert!(asked(&python, port, "s.get_item('system', 'n01')['netboot_enabled']").starts_with("True"));
    // The site's.
    let comment = "s.xapi_object_edit('profile', 'tiny', 'edit', {'comment': 'ours'}, s.login('cobbler', 'cobbler'))";
    asked(&python, port, comment);
    let ran = run(&space, &publish, &variables);
    assert!(ran.code != 0 && ran.err.contains("the profile `tiny` was not written by imgbuild"), "{}", ran.err);
}

#[test]
fn a_bucket_gets_the_files_in_the_layout_of_openchamis_builder() {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let Some(program) = needed(target.join("s3rver/node_modules/.bin/s3rver"), "tests/run installs it") else { return };
    let (place, port) = (tempfile::tempdir().unwrap(), free_port());
    let child = Command::new(program)
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "--configure-bucket", "images", "-d"])
        .arg(place.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    listening(&mut running, port);
    let space = built_copy();
    let endpoint = format!("http://127.0.0.1:{port}");
    let variables = [
        ("AWS_ACCESS_KEY_ID", "S3RVER"),
        ("AWS_SECRET_ACCESS_KEY", "S3RVER"),
        ("AWS_REGION", "us-east-1"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
    ];
    let publish = ["publish", "openchami:s3://images/site"];
    let ran = run(&space, &publish, &variables).good();
    assert!(
        ran.err.contains("ochami bss boot params set") || ran.out.contains("ochami bss boot params set"),
        "{}",
        ran.err
    );
    assert!(!ran.err.contains("X-Amz") && !ran.out.contains("X-Amz"), "{}", ran.err);
    let entries = walkdir::WalkDir::new(place.path().join("images/site/tiny")).into_iter().flatten();
    let names: Vec<String> = entries.map(|entry| entry.path().display().to_string()).collect();
    for wanted in ["/x86_64/vmlinuz", "/x86_64/initramfs.img", "/x86_64/imgbuild.json"] {
        assert!(names.iter().any(|name| name.contains(wanted)), "{wanted}: {names:?}");
    }
}
