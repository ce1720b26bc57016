//! A bucket as a cache, on a server that checks signatures.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::offline::{assert_same, fresh, vendored, warm};
use crate::support::{Ran, Space, imgbuild, needed};

/// s3rver on loopback, with a bucket `images`, and before it what looks at signatures.
struct Server {
    children: Vec<Child>,
    directory: PathBuf,
    address: String,
    region: &'static str,
}

/// Waits until someone listens.
fn listening(port: u16) -> String {
    let address = format!("127.0.0.1:{port}");
    for _ in 0..600 {
        if std::net::TcpStream::connect(&address).is_ok() {
            return address;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("nothing listens at {address}")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts it; none where it is not there.
    fn start(directory: &Path) -> Option<Self> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
        let program = needed(target.join("s3rver/node_modules/.bin/s3rver"), "tests/run installs it")?;
        let python = needed(target.join("check-tools/bin/python"), "tests/run installs it")?;
        let (behind, before) = (free_port().to_string(), free_port());
        let started = |command: &mut Command| command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let files = started(
            Command::new(program)
                .args(["-a", "127.0.0.1", "-p", &behind, "--configure-bucket", "images", "-d"])
                .arg(directory),
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/s3/verify.py");
        let mut children = vec![files];
        children.push(started(Command::new(python).arg(script).args([
            &before.to_string(),
            &behind,
            "S3RVER",
            "S3RVER",
            "eu-central-1",
        ])));
        listening(behind.parse().unwrap());
        Some(Self { children, directory: directory.to_owned(), address: listening(before), region: "eu-central-1" })
    }

    /// Runs the program with what opens the bucket.
    fn run(&self, space: &Space, secret: &str, words: &[&str]) -> Ran {
        let mut command = imgbuild();
        command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(words);
        command.env("AWS_ACCESS_KEY_ID", "S3RVER").env("AWS_SECRET_ACCESS_KEY", secret);
        command.env("AWS_REGION", self.region);
        command.env("AWS_ENDPOINT_URL", format!("http://{}", self.address)).env("HOME", space.path());
        let mut ran: Ran = command.output().unwrap().into();
        ran.err = ran.err.replace("\n  │ ", " ").replace('\n', " ");
        // What opens it gets into no message.
        assert!(!ran.err.contains("X-Amz") && !ran.err.contains("Signature"), "{}", ran.err);
        ran
    }

    fn files(&self, below: &str) -> Vec<PathBuf> {
        let entries = walkdir::WalkDir::new(self.directory.join("images").join(below)).into_iter().flatten();
        let files = entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
        files.filter(|path| path.to_string_lossy().ends_with("object")).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
            let _ = child.wait();
        }
    }
}

#[test]
fn what_one_machine_put_into_a_bucket_nobody_builds_again() {
    let directory = tempfile::tempdir().unwrap();
    let Some(mut server) = Server::start(directory.path()) else { return };
    let first = warm();
    let url = "s3://images/site/one";
    let key = first.path().join("site.key");
    let public = first.run(&["cache", "key", key.to_str().unwrap()]).good().out;
    let (key, public) = (key.to_str().unwrap(), public.trim());
    // What is not known is said before anything is done.
    let mut bare = imgbuild();
    bare.arg("-C").arg(first.path()).args(["build", "--cache", url]).env("HOME", "/nowhere");
    for name in ["AWS_ACCESS_KEY_ID", "AWS_PROFILE"] {
        bare.env_remove(name);
    }
    let ran: Ran = bare.output().unwrap().into();
    assert!(ran.code == 1 && ran.err.contains("cache::server") && ran.err.contains("no credentials"), "{}", ran.err);
    let ran = server.run(&first, "S3RVER", &["build", "--cache", url]);
    assert!(ran.code == 1 && ran.err.contains("cache::no_key"), "{}", ran.err);

    let ran = server.run(&first, "S3RVER", &["build", "--cache", url, "--cache-key", key]).good();
    assert!(ran.err.contains("were written to the cache"), "{}", ran.err);
    let ran = server.run(&first, "S3RVER", &["build", "--cache", url, "--cache-key", key]).good();
    assert!(!ran.err.contains("were written") && !ran.err.contains("warning"), "{}", ran.err);
    let trusting = ["build", "--locked", "--cache", url, "--cache-trust", public];
    let second = fresh();
    let ran = server.run(&second, "S3RVER", &trusting).good();
    assert!(ran.err.contains("ran nothing") && ran.err.contains("are from the cache"), "{}", ran.err);
    assert_same(&first, &second, "tiny");

    // A server that refuses, one that has no such bucket: each is said once, and the build is what it is without.
    let ran = server.run(&first, "wrong", &["build", "--cache", url, "--cache-key", key]).good();
    assert_eq!(ran.err.matches("is not used").count(), 1, "{}", ran.err);
    assert!(ran.err.contains("s3:ListBucket") && ran.err.contains(url), "{}", ran.err);
    server.region = "us-east-1";
    let ran = server.run(&first, "S3RVER", &["build", "--cache", url, "--cache-key", key]).good();
    assert!(ran.err.contains("is not used") && ran.err.contains("AWS_REGION names it"), "{}", ran.err);
    server.region = "eu-central-1";
    let ran = server.run(&first, "S3RVER", &["build", "--cache", "s3://nowhere/x", "--cache-key", key]).good();
    assert_eq!(ran.err.matches("nothing more is written to the cache s3://nowhere/x").count(), 1, "{}", ran.err);

    // A damaged file is found by its digest, and what needs it is built.
    let largest = server.files("site/one/v1/objects").into_iter().max_by_key(|path| path.metadata().unwrap().len());
    let largest = largest.expect("files are there");
    let mut bytes = std::fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x20;
    std::fs::write(&largest, &bytes).unwrap();
    let third = fresh();
    let vendor = ["--vendor", vendored().to_str().unwrap()];
    let ran = server.run(&third, "S3RVER", &[&trusting[..], &vendor].concat()).good();
    assert!(
        ran.err.contains("are missing or damaged in the cache") && ran.err.contains("are from the cache"),
        "{}",
        ran.err
    );
    assert_same(&first, &third, "tiny");

    // `verify` finds it by the bucket's list, and removes it and what names it; who has it writes it again.
    let verify = ["cache", "verify", url];
    let ran = server.run(&first, "S3RVER", &verify);
    assert!(ran.code == 5 && ran.err.contains("files are damaged"), "{} {}", ran.code, ran.err);
    let ran = server.run(&first, "S3RVER", &[&verify[..], &["--repair"]].concat()).good();
    assert!(ran.err.contains("removed"), "{}", ran.err);
    let ran = server.run(&first, "S3RVER", &["build", "--cache", url, "--cache-key", key]).good();
    assert!(ran.err.contains("were written to the cache"), "{}", ran.err);
    let ran = server.run(&first, "S3RVER", &verify).good();
    assert!(ran.err.contains("all of it is as it was written") && !ran.err.contains(" 0 actions"), "{}", ran.err);

    // Nobody listens any longer.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let gone = Server { address, directory: PathBuf::new(), children: Vec::new(), region: "x" };
    let began = std::time::Instant::now();
    let ran = gone.run(&first, "S3RVER", &["build", "--cache", url, "--cache-key", key]).good();
    assert_eq!(ran.err.matches("is not used").count(), 1, "{}", ran.err);
    assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
}
