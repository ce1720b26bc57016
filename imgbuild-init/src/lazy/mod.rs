//! A root that is read from servers while the node runs: the image's frames come when they are needed, and all others after the boot.
//!
//! The file system is that of an image that stays packed; below it is no file in memory but a block device of the kernel (NBD), whose
//! blocks come from a process of this program. It starts with the image and ends with the machine: it lies in memory with all that it
//! needs (mlockall), has nothing open of the root that it serves, a root of its own, and a name that systemd passes over when it ends all
//! others. Source: systemd.io/ROOT_STORAGE_DAEMONS.

mod daemon;
mod device;
mod frames;
mod nbd;
mod source;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

pub(crate) use daemon::run;

use crate::cmdline::Parameters;
use crate::image::cache::Cache;
use crate::image::index::Index;
use crate::image::{packed, place, root, unpacked};
use crate::modules::Modules;
use crate::{say, sys};

/// The word of the command by which this program is that process.
pub(crate) const COMMAND: &str = "lazy-root";
/// Its name, which systemd passes over.
const NAME: &str = "@imgbuild-root";
/// Its own root: a tmpfs, as the initrd's files go.
pub(crate) const OWN_ROOT: &str = "/imgbuild-own";
/// What it hears when the node's init is about to start.
const STAY: &str = "stay";

/// What the process is to serve; the servers stand on the kernel's command line.
#[derive(Serialize, Deserialize)]
struct Order {
    index: Index,
    /// SHA-256 of the index's own text.
    digest: String,
    /// Most bytes of frames that are kept.
    keep: Option<u64>,
}

/// What the process answers.
#[derive(Serialize, Deserialize)]
enum Answer {
    /// The device's path.
    Device(String),
    /// Why there is not one.
    Problem(String),
}

/// The process that serves the root. Without [`Daemon::stay`] it ends when this goes, or when this process ends.
pub(crate) struct Daemon {
    control: UnixStream,
}

impl Daemon {
    /// Says that the node's init starts from it: it serves as long as the machine runs.
    pub(crate) fn stay(self) {
        let _ = writeln!(&self.control, "{STAY}");
    }
}

/// Whether a node with this command line reads this image while it runs.
pub(crate) fn is_lazy(parameters: &Parameters, index: &Index) -> bool {
    parameters.root.is_lazy() && index.stays_packed()
}

/// Most bytes of an image's frames that are in memory in the end.
pub(crate) fn memory(parameters: &Parameters, index: &Index) -> u64 {
    parameters.root.keep().map_or(index.size, |keep| keep.min(index.size))
}

/// Mounts the image where the new root is made, with a file system above it that takes what is written.
///
/// # Errors
/// A text; nothing stays mounted, and the process ends.
pub(crate) fn mount(index: &Index, parameters: &Parameters, modules: &Modules) -> Result<Daemon, String> {
    // What is built in is not among a kernel's modules.
    for name in ["nbd", &index.archive, "overlay"] {
        modules.load(name);
    }
    sys::unmount(OWN_ROOT);
    let outcome = assemble(index, parameters, modules);
    for path in [packed::LOWER, packed::UPPER] {
        sys::unmount(&place(path));
    }
    if outcome.is_err() {
        sys::unmount(root());
    }
    outcome
}

fn assemble(index: &Index, parameters: &Parameters, modules: &Modules) -> Result<Daemon, String> {
    let (daemon, device) = start(index, parameters)?;
    // The process has mounted the disk too, for frames; it removes what earlier boots wrote, so it goes first.
    let words = parameters.cache.as_deref().filter(|_| parameters.writes_in_cache);
    let mut cache = words.and_then(|words| Cache::open(words, index, false, modules));
    let outcome = join(index, parameters, &device, cache.as_mut());
    if let Some(cache) = cache {
        cache.close(false);
    }
    outcome.map(|()| daemon)
}

/// Mounts the image from a device, and what is written above it.
fn join(index: &Index, parameters: &Parameters, device: &str, cache: Option<&mut Cache>) -> Result<(), String> {
    if parameters.image_in_cache {
        say!("imgbuild.image=cache is not for a root that is read over the network: the disk keeps frames");
    }
    sys::mount_image(device, &place(packed::LOWER), &index.archive).map_err(|error| {
        format!("the image cannot be mounted from {device}: {error}; does this kernel have {}?", index.archive)
    })?;
    let written = packed::join(parameters, cache)?;
    unpacked::set_attributes(index)?;
    match parameters.root.keep() {
        None => say!("the root is read over the network until all of it is here; what is written goes to {written}"),
        Some(keep) => say!(
            "the root is read over the network, and {} MiB of it are kept in memory; what is written goes to {written}",
            keep >> 20
        ),
    }
    Ok(())
}

/// Starts the process; gives the device whose blocks it serves.
fn start(index: &Index, parameters: &Parameters) -> Result<(Daemon, String), String> {
    let said = |error: std::io::Error| format!("the process that serves the root cannot be started: {error}");
    let (control, its) = UnixStream::pair().map_err(said)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0(NAME).arg(COMMAND).stdin(Stdio::from(OwnedFd::from(its)));
    // It is no child to wait for: it outlives this process.
    let child = command.spawn().map_err(said)?;
    drop(command);
    let order = Order { index: index.clone(), digest: index.digest.clone(), keep: parameters.root.keep() };
    let mut line = serde_json::to_vec(&order).map_err(|error| error.to_string())?;
    line.push(b'\n');
    (&control).write_all(&line).map_err(said)?;
    let mut answer = String::new();
    BufReader::new(&control).read_line(&mut answer).map_err(said)?;
    match serde_json::from_str(&answer) {
        Ok(Answer::Device(path)) => Ok((Daemon { control }, path)),
        Ok(Answer::Problem(problem)) => Err(problem),
        Err(_) => Err(format!("the process that serves the root ({}) ended early", child.id())),
    }
}

/// Where the kernel's log takes lines; it is open as long as the process lives.
static LOG: OnceLock<File> = OnceLock::new();

/// Writes a line into the kernel's log, which the node's journal has too; on the console where there is no such log.
fn log(text: &str) {
    let text = crate::words_of(text).replace('\n', "; ");
    // Source: Documentation/ABI/testing/dev-kmsg: the number is that of a warning.
    let line = format!("<4>imgbuild: {text}\n");
    if LOG.get().is_none_or(|mut log| log.write_all(line.as_bytes()).is_err()) {
        say!("{text}");
    }
}
