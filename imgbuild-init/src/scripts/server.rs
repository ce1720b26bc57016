//! The server's part: which scripts this node has there, their files, and what became of them.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sha2::Digest;

use super::one::ScriptResult;
use super::phase::Phase;
use super::plan::{FileOfServer, NodePlan};
use crate::image::fetch;
use crate::node::report;
use crate::sys;

/// Longest list, and longest script, in bytes.
const LONGEST: u64 = 4 << 20;
/// How often the server is asked before the scripts of the image run without it.
const ATTEMPTS: u32 = 8;
/// How often the results are sent before they are left for later: the boot goes on.
const SHORT_ATTEMPTS: u32 = 3;
/// Where that is left, a file a list; below the root.
const LEFT: &str = "run/imgbuild/results";

/// The server that this node reports to. Its address has the node's token: it is in no message.
pub(crate) struct Server {
    url: String,
}

/// What the server gets.
#[derive(Serialize)]
struct Outcomes<'a> {
    phase: &'static str,
    /// Whether the node has failed.
    fails: bool,
    results: &'a [ScriptResult],
}

impl Server {
    /// The server that the initrd left an address of, if it did.
    pub(crate) fn of_this_node(root: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(root.join(report::ADDRESS)).ok()?;
        Self::of_report(text.trim())
    }

    /// `/-/report/NODE/TOKEN` is where it reports, `/-/scripts/NODE/TOKEN` what this is about.
    fn of_report(address: &str) -> Option<Self> {
        let (before, behind) = address.split_once("/-/report/")?;
        Some(Self { url: format!("{before}/-/scripts/{behind}") })
    }

    /// Its host and port.
    pub(crate) fn address(&self) -> (String, String) {
        let (scheme, rest) = self.url.split_once("://").unwrap_or(("http", &self.url));
        let authority = rest.split('/').next().unwrap_or_default();
        let usual = if scheme == "https" { "443" } else { "80" };
        match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host.trim_matches(['[', ']']).to_owned(), port.to_owned()),
            _ => (authority.trim_matches(['[', ']']).to_owned(), usual.to_owned()),
        }
    }

    fn hidden(&self, problem: &str) -> String {
        problem.replace(&self.url, "the server's list")
    }

    /// What it has for this node; nothing where it knows of no scripts.
    pub(crate) fn scripts(&self) -> Result<NodePlan, String> {
        let bytes = self.patiently(|client| client.read_if_there(&self.url, LONGEST))?;
        let Some(bytes) = bytes else { return Ok(NodePlan::default()) };
        serde_json::from_slice(&bytes).map_err(|error| format!("the server's list cannot be read: {error}"))
    }

    /// Brings a script into a directory of root's.
    pub(crate) fn bring(&self, name: &str, file: &FileOfServer, directory: &Path) -> Result<PathBuf, String> {
        let bytes = self.patiently(|client| client.read(&format!("{}/{}", self.url, file.sha256), LONGEST))?;
        let digest: String = sha2::Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        if digest != file.sha256 {
            return Err("what the server gave is not the script that its list names".to_owned());
        }
        let path = directory.join(name);
        let folder = path.parent().unwrap_or(directory);
        let written = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).and_then(|()| {
            let _ = std::fs::remove_file(&path);
            let mut file = std::fs::File::options().write(true).create_new(true).mode(0o700).open(&path)?;
            file.write_all(&bytes)
        });
        written.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        Ok(path)
    }

    /// Tells it what became of the scripts. Where it does not answer, `report up` tells it later.
    pub(crate) fn tell(&self, root: &Path, phase: Phase, fails: bool, results: &[ScriptResult]) -> Result<(), String> {
        let report = Outcomes { phase: phase.name(), fails, results };
        let text = serde_json::to_string(&report).map_err(|error| error.to_string())?;
        let sent = tried(SHORT_ATTEMPTS, |_| fetch::post_json(&self.url, &text));
        if sent.is_err() {
            let directory = root.join(LEFT);
            let left = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
            let left = left.and_then(|()| std::fs::write(directory.join(phase.name()), &text));
            left.map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        sent.map_err(|problem| self.hidden(&problem))
    }

    fn patiently<T>(&self, ask: impl Fn(&fetch::Client) -> Result<T, String>) -> Result<T, String> {
        tried(ATTEMPTS, ask).map_err(|problem| self.hidden(&problem))
    }
}

/// Tells the server behind a report's address what it did not get of the scripts.
pub(crate) fn tell_what_was_left(root: &Path, report: &str) -> Result<(), String> {
    for phase in [Phase::Postscripts, Phase::Postbootscripts] {
        let path = root.join(LEFT).join(phase.name());
        let (Ok(text), Some(server)) = (std::fs::read_to_string(&path), Server::of_report(report)) else { continue };
        match fetch::post_json(&server.url, &text) {
            // What it will never take is no reason to be silent about the rest.
            Err(problem) if !problem.ends_with(" 400") && !problem.ends_with(" 413") => {
                return Err(server.hidden(&problem));
            }
            _ => drop(std::fs::remove_file(&path)),
        }
    }
    Ok(())
}

/// Tries some times; nodes that come up together do not all come at the same moment.
fn tried<T>(attempts: u32, ask: impl Fn(&fetch::Client) -> Result<T, String>) -> Result<T, String> {
    let client = fetch::Client::new();
    let mut problem = String::new();
    for attempt in 0..attempts {
        if attempt > 0 {
            let jitter = u64::from(sys::random_u32()) % 500;
            std::thread::sleep(Duration::from_millis(u64::from(attempt) * 1000 + jitter));
        }
        match ask(&client) {
            Ok(answer) => return Ok(answer),
            Err(error) => problem = error,
        }
        // It knows this node, and has nothing more to say.
        if problem.contains("the server answers 4") {
            break;
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_taken_apart() {
        for (url, host, port) in [
            ("http://10.0.0.1/-/scripts/cn1/abc", "10.0.0.1", "80"),
            ("https://boot.site:8443/-/scripts/cn1/abc", "boot.site", "8443"),
            ("http://[fd00::1]:81/-/scripts/cn1/abc", "fd00::1", "81"),
            ("https://[fd00::1]/-/scripts/cn1/abc", "fd00::1", "443"),
        ] {
            assert_eq!(Server { url: url.to_owned() }.address(), (host.to_owned(), port.to_owned()), "{url}");
        }
        let server = Server { url: "http://a/-/scripts/cn1/secret".to_owned() };
        assert!(!server.hidden("http://a/-/scripts/cn1/secret: no").contains("secret"));
    }
}
