//! A soft reboot of the node that runs: the root of another build is made beside the running one, as the initrd makes it, and systemd
//! goes over to it (`/run/nextroot`). Kernel, drivers and /run stay. Source: systemd-soft-reboot.service(8).
//!
//! What runs stays as it is until systemd takes the order: all that is mounted meanwhile is below one private mount, and goes with it;
//! files in /run are replaced last, and put back where the order fails. What a killed program left, the next one takes away first.
//!
//! The interface (docs/restart.md): `soft-reboot IMAGE@BUILD [sha256:DIGEST]`; 0: systemd has the order; 1: it cannot be, one line on
//! standard error says why; 2: the words are no such command.

mod checks;
mod leave;
mod next;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use super::handover::{self, Given};
use super::report::{self, State};
use super::{selinux, switch};
use crate::image::cache::{Cache, running};
use crate::image::download::Download;
use crate::image::fetch::Client;
use crate::image::index::{Index, fetch_index};
use crate::image::servers::Servers;
use crate::image::{make_all_below, packed, root, unpacked};
use crate::modules::Modules;
use crate::{say, sys};

use leave::Left;
use next::{Next, Target};

/// A private mount; all that is made is below it.
const BESIDE: &str = "/run/imgbuild/next";
/// Where systemd looks for the root that it goes over to.
const NEXT_ROOT: &str = "/run/nextroot";
/// Held by the one that works.
const LOCK: &str = "/run/imgbuild/soft-reboot.lock";
/// Most mounts that are taken away from a place.
const MOST: usize = 16;
/// Units that had failed before, a name a line.
const FAILED_BEFORE: &str = "/run/imgbuild/failed-before";

/// Runs it; gives the exit status.
pub(crate) fn run(words: &[String]) -> i32 {
    let target = match Target::read(words) {
        Ok(target) => target,
        Err(problem) => {
            complain(&problem);
            return 2;
        }
    };
    match go(&target) {
        Ok(()) => 0,
        Err(problem) => {
            complain(&problem);
            1
        }
    }
}

/// One line on standard error; who reads it may be gone.
fn complain(problem: &str) {
    let line = crate::words_of(problem).replace('\n', "; ");
    let _ = writeln!(std::io::stderr(), "imgbuild: {line}");
}

fn go(target: &Target) -> Result<(), String> {
    // Where it cannot be at all, nothing is asked.
    checks::this_process()?;
    let given = handover::given()?;
    let _held = lock()?;
    checks::running_system()?;
    take_away()?;
    make_all_below(BESIDE);
    let next = next::ask(target)?;
    let outcome = prepare(&next, &given).and_then(|()| go_over(&next));
    if outcome.is_err() && !fault::planted("node-soft-reboot-leaves-mounts") {
        // The first problem is what counts.
        let _ = take_away();
    }
    outcome
}

/// The lock, as long as the file is open: it goes with the process, however that ends.
fn lock() -> Result<File, String> {
    let file = File::options().write(true).create(true).truncate(false).open(LOCK);
    let file = file.map_err(|error| format!("{LOCK}: {error}"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err("another soft reboot of this node is under way".to_owned()),
        Err(std::fs::TryLockError::Error(error)) => Err(format!("{LOCK}: {error}")),
    }
}

/// Takes away what an attempt made, this one or one that was killed.
///
/// # Errors
/// There is something else where systemd would go.
fn take_away() -> Result<(), String> {
    for place in [NEXT_ROOT, BESIDE] {
        // One lies over another where two were killed.
        for _ in 0..MOST {
            if checks::is_ours(place) {
                sys::unmount(place);
            }
        }
        checks::nothing_at(place)?;
        let _ = std::fs::remove_dir(place);
    }
    Ok(())
}

/// Makes the new root, out of sight.
fn prepare(next: &Next, given: &Given) -> Result<(), String> {
    let Next { parameters, digest, .. } = next;
    let (client, servers) = (Client::new(), Servers::of(parameters));
    let index = servers.ask(|url| fetch_index(&client, url, digest.as_deref()))?;
    unpacked::check_frames(&index)?;
    unpacked::check_memory(&index)?;
    sys::mount_root(BESIDE, "90%", None)
        .and_then(|()| sys::make_private(BESIDE))
        .map_err(|error| format!("{BESIDE} cannot be mounted: {error}"))?;
    fault::point("node-soft-reboot-mounted");
    let mut cache = frames_that_run(&client, &servers, &index);
    let server = packed::Server { client: &client, servers: &servers, index: &index, moved: &|_| {} };
    if index.stays_packed() {
        load_modules(&index.archive);
        packed::mount(&server, parameters, &Modules::read(), cache.as_mut())?;
    } else {
        unpacked::unpack_all(Download::new(&server, cache.as_mut()), parameters)?;
    }
    say!("the image is complete: {} entries in {} frames", index.inodes, index.frames.len());
    switch::find_init()?;
    checks::new_root()?;
    handover::hand_over_again(given)?;
    leave::host_keys(Path::new("/"), Path::new(root()))?;
    selinux::apply(&index.labels, &parameters.text)?;
    fault::point("node-soft-reboot-prepared");
    Ok(())
}

/// The frames of the image that runs, if it is packed and its server still has its index.
fn frames_that_run(client: &Client, servers: &Servers, index: &Index) -> Option<Cache> {
    if !index.stays_packed() {
        return None;
    }
    let booted = std::fs::read_to_string("/run/imgbuild/booted").unwrap_or_default();
    let (url, digest) = next::of_running(&booted, servers.url())?;
    let running = fetch_index(client, &url, Some(&digest)).and_then(|running| {
        let device = running::device(&running)?;
        Ok(Cache::of_running(&device, &running, index))
    });
    running.inspect_err(|problem| say!("all of the image is fetched: {problem}")).ok()
}

/// By the system's own program: its modules may be compressed in ways that the initrd's are not.
fn load_modules(archive: &str) {
    let mut modprobe = Command::new("/sbin/modprobe");
    modprobe.args(["-q", "-a", "loop", "overlay", archive]).stdin(Stdio::null()).stderr(Stdio::null());
    // What is built in is no module, and what is missing is said by the mount.
    let _ = modprobe.status();
}

/// Shows the new root to systemd, and gives it the order.
fn go_over(next: &Next) -> Result<(), String> {
    let before = report::addresses();
    leave::failed_units(FAILED_BEFORE);
    report::tell(&next.reports, State::Booting, None);
    let mut left = Left::default();
    let outcome = left.replace_all(&next.parameters, &next.reports).and_then(|()| {
        fault::point("node-soft-reboot-replaced");
        std::fs::create_dir_all(NEXT_ROOT)
            .and_then(|()| sys::bind(root(), NEXT_ROOT, false))
            .map_err(|error| format!("{NEXT_ROOT} cannot be mounted: {error}"))?;
        // What is shown there holds it.
        sys::unmount(BESIDE);
        order()
    });
    match outcome {
        Ok(()) => {
            left.stay();
            say!("{} starts as the root of this node", next.name);
            Ok(())
        }
        Err(problem) => {
            drop(left);
            // It runs what it ran before.
            report::tell_again(&before);
            Err(problem)
        }
    }
}

/// Gives systemd the order; when it has it, this process is as good as ended.
fn order() -> Result<(), String> {
    let given = Command::new(checks::SYSTEMCTL).arg("soft-reboot").stdin(Stdio::null()).output();
    let output = given.map_err(|error| format!("{}: {error}", checks::SYSTEMCTL))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let text = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(format!("systemd refuses the soft reboot ({}): {text}", output.status))
        }
    }
}
