//! A network of nodes: a namespace with a bridge, `head` at 10.0.0.1 (or another address), and taps for machines on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

#[track_caller]
pub fn run(words: &[&str]) {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{words:?}: {error}"));
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A network namespace with a bridge, as the network of the nodes.
pub struct Net {
    pub name: String,
    children: Vec<Child>,
}

impl Net {
    pub fn new(address: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ibnet-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        run(&["ip", "netns", "add", &name]);
        let net = Self { name, children: Vec::new() };
        for words in ["link set lo up", "link add head type bridge", "link set head up"] {
            net.ip(words);
        }
        net.ip(&format!("address add {address} dev head"));
        net
    }

    pub fn ip(&self, words: &str) {
        run(&[&["ip", "-n", &self.name], &words.split(' ').collect::<Vec<_>>()[..]].concat());
    }

    /// A socket for a machine's cable.
    pub fn tap(&self, name: &str) {
        self.ip(&format!("tuntap add {name} mode tap"));
        self.ip(&format!("link set {name} master head"));
        self.ip(&format!("link set {name} up"));
    }

    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, program]);
        command
    }

    /// Starts a program that ends with the network; its number.
    pub fn start(&mut self, words: &[&str]) -> usize {
        let mut command = self.command(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.children.push(command.spawn().unwrap_or_else(|error| panic!("{words:?}: {error}")));
        self.children.len() - 1
    }

    pub fn end(&mut self, number: usize) {
        let _ = self.children[number].kill();
        let _ = self.children[number].wait();
    }

    /// `imgbuild serve` in a workspace, on port 80; what it says goes to a file.
    pub fn serve(&self, space: &Path, more: &[&str]) -> Serving {
        self.serve_by(None, space, more)
    }

    /// The same with programs of another directory before the host's.
    pub fn serve_by(&self, programs: Option<&Path>, space: &Path, more: &[&str]) -> Serving {
        let log = space.join("serve.log");
        let said = File::create(&log).unwrap();
        let mut command = self.command(env!("CARGO_BIN_EXE_imgbuild"));
        if let Some(programs) = programs {
            command.env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default()));
        }
        command.env("NO_COLOR", "1").arg("-C").arg(space).arg("serve").args(more);
        command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said);
        let mut serving = Serving { child: command.spawn().unwrap(), log };
        serving.wait_for("serving ");
        serving
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

pub struct Serving {
    child: Child,
    log: PathBuf,
}

impl Serving {
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until it has said something.
    #[track_caller]
    pub fn wait_for(&mut self, text: &str) {
        let began = std::time::Instant::now();
        while !self.said().contains(text) {
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}\n{}", self.said());
            assert!(began.elapsed().as_secs() < 60, "`{text}` does not come:\n{}", self.said());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it ends; its exit code.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    pub fn signal(&self, name: &str) {
        run(&["kill", "-s", name, &self.child.id().to_string()]);
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // As a service manager ends it: dnsmasq goes with it.
        let _ = Command::new("kill").args(["-s", "TERM", &self.child.id().to_string()]).status();
        let began = std::time::Instant::now();
        while self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            if began.elapsed().as_secs() > 20 {
                let _ = self.child.kill();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
