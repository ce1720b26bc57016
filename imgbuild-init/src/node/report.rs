//! Reports of this node to the server: `imgbuild.report=`, an address that only this node knows.
//!
//! A report never holds up a boot: it has seconds, and its loss is worth a line. That the image is up is reported by the image itself: this
//! program lies in its /run, with a unit that runs it when the services are there.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use super::host_keys;
use crate::cmdline::Parameters;
use crate::image::fetch;
use crate::image::root;
use crate::scripts::{failed, server};
use crate::{Pause, say, sys};

/// How far this node is. The words are those of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The initrd runs, and has an address.
    Booting,
    /// The image is on its way.
    Image,
    /// Its services are there.
    Up,
    /// It did not work; it is tried again.
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Booting => "booting",
            Self::Image => "image",
            Self::Up => "up",
            Self::Failed => "failed",
        }
    }
}

/// How much of a root that is read over the network is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RootState {
    /// The node needs its servers.
    Lazy,
    /// All of it.
    Hydrated,
}

impl RootState {
    fn name(self) -> &'static str {
        match self {
            Self::Lazy => "lazy",
            Self::Hydrated => "hydrated",
        }
    }
}

/// Tells the first server that takes it, if the command line names one, and goes on until one does.
pub(crate) fn tell_of_root(urls: &[String], state: RootState) {
    let mut pause = Pause::up_to(LONGEST_PAUSE);
    while !urls.is_empty() {
        let is_sent = urls.iter().any(|url| match fetch::post(url, &format!("root={}", state.name())) {
            // A server of an earlier imgbuild does not know the word.
            Err(problem) => problem.ends_with(" 400"),
            Ok(()) => true,
        });
        if is_sent {
            return;
        }
        pause.wait();
    }
}

/// Where the image finds what it needs to report.
const DIRECTORY: &str = "/run/imgbuild";

/// The address to which this node reports, with its token; below the root.
pub(crate) const ADDRESS: &str = "run/imgbuild/report";
/// The same at other servers.
const OTHERS: &str = "run/imgbuild/report.others";
/// Longest pause between two attempts, in seconds: thousands of nodes may wait for a server.
const LONGEST_PAUSE: f64 = 300.0;

/// What was booted, as the command line says it; below the root. Who goes over to another build replaces both files.
const BOOTED: &str = "booted";

/// The unit: behind all services of the usual target and the last scripts, and nothing waits for it. It runs until the server has the
/// report, so it is a service and no step of the boot.
const UNIT: &str = "[Unit]\nDescription=Tell the boot server that this node is up\nDefaultDependencies=no\n\
    After=multi-user.target graphical.target imgbuild-postbootscripts.service\nConflicts=shutdown.target\nBefore=shutdown.target\nConditionPathExists=/run/imgbuild/report\n\n\
    [Service]\nType=simple\nExecStart=/run/imgbuild/init report up\n";

/// Tells the first server that takes it, if the command line names one.
pub(crate) fn tell(urls: &[String], state: State, reason: Option<&str>) {
    let mut problem = None;
    for url in urls {
        match fetch::post(url, &form(state, reason)) {
            Ok(()) => return,
            Err(error) => problem = Some(error),
        }
    }
    if let Some(problem) = problem {
        say!("the server did not get `{}`: {problem}", state.name());
    }
}

/// The same beside what is done meanwhile, and behind what is still to be reported.
pub(crate) fn tell_beside(urls: Vec<String>, state: State, before: Option<JoinHandle<()>>) -> Option<JoinHandle<()>> {
    if urls.is_empty() {
        return before;
    }
    Some(std::thread::spawn(move || {
        let _ = before.map(JoinHandle::join);
        tell(&urls, state, None);
    }))
}

fn form(state: State, reason: Option<&str>) -> String {
    let mut text = format!("state={}", state.name());
    if let Some(reason) = reason {
        text += &format!("&reason={}", encoded(&reason.as_bytes()[..reason.len().min(400)]));
    }
    text
}

/// The same with the node's host keys, if it has some.
fn with_keys(form: &str, keys: &str) -> String {
    if keys.is_empty() { form.to_owned() } else { format!("{form}&host_keys={}", encoded(keys.as_bytes())) }
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    for byte in bytes {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => text.push(char::from(*byte)),
            byte => text += &format!("%{byte:02X}"),
        }
    }
    text
}

/// Leaves in /run what was booted, and what the image needs to report that it is up; the address is a secret of root's.
pub(crate) fn leave_for_the_image(parameters: &Parameters, urls: &[String]) {
    if let Err(error) =
        make_directory().and_then(|()| std::fs::write(Path::new(DIRECTORY).join(BOOTED), booted(parameters)))
    {
        say!("what was booted cannot be noted: {error}");
    }
    let Some((url, others)) = urls.split_first() else { return };
    if !Path::new(root()).join("usr/lib/systemd/systemd").exists() {
        return;
    }
    if let Err(error) = leave(url, others) {
        say!("the image will not report that it is up: {error}");
    }
}

/// `NAME=VALUE` lines: the image and the build where the address of the image names them, and the digest of its index.
fn booted(parameters: &Parameters) -> String {
    let mut text = String::new();
    let place = parameters.url.as_deref().and_then(|url| url.rsplit_once("/.builds/"));
    let mut parts = place.map_or("", |(_, rest)| rest).split('/');
    if let (Some(image), Some(build), Some(_)) = (parts.next(), parts.next(), parts.next()) {
        text += &format!("image={image}\nbuild={build}\n");
    }
    if let Some(digest) = &parameters.digest {
        text += &format!("digest=sha256:{digest}\n");
    }
    text
}

/// Makes the directory that the image finds; root's alone.
pub(super) fn make_directory() -> std::io::Result<()> {
    let directory = Path::new(DIRECTORY);
    std::fs::create_dir_all(directory)?;
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
}

/// What was booted and where this node reports: files with their texts, for a build that takes the place of the one that runs.
pub(super) fn files_of(parameters: &Parameters, urls: &[String]) -> Vec<(PathBuf, String)> {
    let directory = Path::new(DIRECTORY);
    let (first, others) = urls.split_at(urls.len().min(1));
    vec![
        (directory.join("report.others"), lines(others)),
        (directory.join("report"), lines(first)),
        (directory.join(BOOTED), booted(parameters)),
    ]
}

/// The addresses to which this node reports, the one of its own server first.
pub(super) fn addresses() -> Vec<String> {
    let texts = [ADDRESS, OTHERS].map(|path| std::fs::read_to_string(Path::new("/").join(path)).unwrap_or_default());
    texts.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
}

/// Tells that this node runs what it ran before.
pub(super) fn tell_again(urls: &[String]) {
    let _ = urls.iter().any(|url| told_all(Path::new("/"), url).is_ok());
}

fn lines(texts: &[String]) -> String {
    texts.iter().map(|text| format!("{text}\n")).collect()
}

fn leave(url: &str, others: &[String]) -> std::io::Result<()> {
    let directory = Path::new(DIRECTORY);
    std::fs::write(directory.join("report"), format!("{url}\n"))?;
    std::fs::write(directory.join("report.others"), lines(others))?;
    let _ = std::fs::copy(fetch::EXTRA_CERTIFICATES, directory.join("ca.pem"));
    std::fs::copy("/proc/self/exe", directory.join("init"))?;
    std::fs::set_permissions(directory.join("init"), std::fs::Permissions::from_mode(0o700))?;
    let units = Path::new("/run/systemd/system");
    let wants = units.join("multi-user.target.wants");
    std::fs::create_dir_all(&wants)?;
    std::fs::write(units.join("imgbuild-report.service"), UNIT)?;
    let _ = std::fs::remove_file(wants.join("imgbuild-report.service"));
    symlink("../imgbuild-report.service", wants.join("imgbuild-report.service"))
}

/// `report up`, run by the image: goes on for as long as the node lives, with pauses that grow. What became of scripts goes before, where
/// the server did not get it then.
pub(crate) fn from_the_image(root: &Path) -> Result<(), String> {
    // Nodes that come up together do not all come at the same moment.
    std::thread::sleep(Duration::from_millis(u64::from(sys::random_u32()) % 1000));
    let (mut pause, mut said) = (Pause::up_to(LONGEST_PAUSE), String::new());
    loop {
        // Read again: going over to another build replaces it.
        let path = root.join(ADDRESS);
        let url = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        // What took its place while it booted may be gone in its turn.
        let others = std::fs::read_to_string(root.join(OTHERS)).unwrap_or_default();
        let mut problem = String::new();
        for url in std::iter::once(url.trim()).chain(others.lines()) {
            match told_all(root, url) {
                Ok(()) => return Ok(()),
                Err(error) => problem = error,
            }
        }
        if problem != said {
            say!("the server did not get how far this node is, and is tried again: {problem}");
            said = problem;
        }
        pause.wait();
    }
}

/// Tells a server what became of scripts, and how far this node is.
fn told_all(root: &Path, url: &str) -> Result<(), String> {
    server::tell_what_was_left(root, url)?;
    // A script that may not fail has failed: the server knows, and must not hear the opposite.
    let failure = failed::failure(root);
    let state = if failure.is_some() { State::Failed } else { State::Up };
    let form = form(state, failure.as_deref());
    let with_keys = with_keys(&form, &host_keys::of(root));
    match fetch::post(url, &with_keys) {
        // A server from before nodes reported keys takes less at once.
        Err(problem) if problem.ends_with(" 413") && with_keys != form => fetch::post(url, &form),
        sent => sent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_booted_is_what_the_command_line_says() {
        let of = |text: &str| booted(&Parameters::parse(text));
        assert_eq!(
            of("imgurl=http://a/x/.builds/com.pute/0123456789ab/rootimg.cpio.zst,http://b/rootimg imgdigest=sha256:AB"),
            "image=com.pute\nbuild=0123456789ab\ndigest=sha256:ab\n"
        );
        assert_eq!(of("imgurl=http://a/compute/rootimg.cpio.zst"), "");
        assert_eq!(of("root=nfs:server:/dir"), "");
    }

    #[test]
    fn a_report_is_a_form() {
        assert_eq!(form(State::Up, None), "state=up");
        assert_eq!(
            form(State::Failed, Some("no space: 5 & 6\n")),
            "state=failed&reason=no%20space%3A%205%20%26%206%0A"
        );
        assert_eq!(with_keys("state=up", ""), "state=up");
        let keys = "ssh-rsa A+/=\nssh-ed25519 B";
        assert_eq!(with_keys("state=up", keys), "state=up&host_keys=ssh-rsa%20A%2B%2F%3D%0Assh-ed25519%20B");
    }
}
