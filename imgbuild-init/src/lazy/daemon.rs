//! The process that serves the root.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::device::{self, Device};
use super::frames::Frames;
use super::source::{self, Source};
use super::{Answer, LOG, OWN_ROOT, Order, STAY, log, nbd};
use crate::cmdline::Parameters;
use crate::image::cache::{self, Cache};
use crate::image::fetch::{self, Client};
use crate::image::index::{Index, check_index};
use crate::image::servers::Servers;
use crate::modules::Modules;
use crate::network::RESOLV_CONF;
use crate::node::report;
use crate::sys;

/// The background waits until no read had to wait for so long: the boot is over then.
const QUIET: Duration = Duration::from_secs(10);
/// And no longer than this.
const LATEST: Duration = Duration::from_secs(300);
/// Longest pause between two rounds of all servers, in seconds.
const LONGEST_PAUSE: f64 = 30.0;

/// Serves the root; gives the exit status. The order comes on standard input, and the answer goes there.
pub(crate) fn run() -> i32 {
    let control = match std::io::stdin().as_fd().try_clone_to_owned() {
        Ok(own) => UnixStream::from(own),
        Err(_) => return 2,
    };
    let answer = |answer: &Answer| {
        let mut line = serde_json::to_vec(answer).unwrap_or_default();
        line.push(b'\n');
        (&control).write_all(&line).is_ok()
    };
    let mut lines = BufReader::new(&control);
    let mut text = String::new();
    let order = match lines.read_line(&mut text).ok().and_then(|_| serde_json::from_str::<Order>(&text).ok()) {
        Some(order) => order,
        None => return 2,
    };
    drop(text);
    let source = match prepare(order) {
        Ok(prepared) => prepared,
        Err(problem) => {
            answer(&Answer::Problem(problem));
            end();
        }
    };
    let path = DEVICE.get().map(|device| device.path.clone()).unwrap_or_default();
    let mut word = String::new();
    if answer(&Answer::Device(path)) && lines.read_line(&mut word).is_ok() && word.trim() == STAY {
        source.is_root_now();
        stay(&source);
    }
    // The attempt came to nothing, or its process ended.
    end()
}

/// The device that this process serves.
static DEVICE: OnceLock<Device> = OnceLock::new();

/// Ends the device and this process: what waits for a block has an error now, and not a device that never answers.
fn end() -> ! {
    if let Some(device) = DEVICE.get() {
        device.disconnect();
    }
    std::process::exit(1)
}

/// Prepares all that is needed of the initrd, and leaves it.
fn prepare(order: Order) -> Result<Arc<Source>, String> {
    let Order { index, digest, keep } = order;
    let index = Index { digest, ..index };
    check_index(&index)?;
    let said = |error: std::io::Error| format!("the process that serves the root cannot be prepared: {error}");
    sys::outlive_all().map_err(said)?;
    sys::leave_control_group();
    if let Ok(file) = File::options().write(true).open("/dev/kmsg") {
        let _ = LOG.set(file);
    }
    let parameters = Parameters::read();
    let cache = parameters.cache.as_deref().and_then(|words| Cache::open(words, &index, false, &Modules::read()));
    let has_cache = cache.is_some();
    let client = Client::new();
    let ask: Box<source::Ask> = Box::new(move |url, frame| source::ask(&client, url, frame));
    let frames = Frames::new(index.frames, keep);
    let source = Arc::new(Source::new(frames, cache, Servers::of(&parameters), ask, LONGEST_PAUSE));
    if !source.begin() {
        return Err("no server gives the first frame of the image: the lines above say why".to_owned());
    }
    let (own, its) = UnixStream::pair().map_err(said)?;
    let served = Arc::clone(&source);
    let size = device::size_for(index.size);
    std::thread::spawn(move || {
        if let Err(error) = nbd::serve(&own, &served, size) {
            log(&format!("the root is no longer served: {error}"));
        }
        end()
    });
    let no_device = |error: std::io::Error| {
        format!("the kernel gives no block device for a lazy root: {error}; does this kernel have nbd?")
    };
    let device = device::attach(&its, index.size).map_err(no_device)?;
    // The kernel holds its end; a copy here would keep this one from hearing that it is gone.
    drop(its);
    let device = DEVICE.get_or_init(|| device);
    let opened = device.open().map_err(no_device)?;
    // Open as long as this process lives.
    std::mem::forget(opened);
    move_out(has_cache).map_err(said)?;
    Ok(source)
}

/// Goes into a root of its own, with what names and certificates are looked up by, and the disk of the node.
fn move_out(has_cache: bool) -> std::io::Result<()> {
    sys::mount_root(OWN_ROOT, "16m", None)?;
    for path in [RESOLV_CONF, "/etc/hosts", fetch::EXTRA_CERTIFICATES] {
        let own = Path::new(OWN_ROOT).join(path.trim_start_matches('/'));
        if let Some(parent) = own.parent().filter(|_| Path::new(path).exists()) {
            std::fs::create_dir_all(parent)?;
            std::fs::copy(path, own)?;
        }
    }
    if has_cache {
        sys::show_tree(cache::PLACE, &format!("{OWN_ROOT}{}", cache::PLACE))?;
        // It is still there where mounts cannot be moved.
        sys::unmount(cache::PLACE);
    }
    sys::move_into(OWN_ROOT)
}

/// Fetches the rest in the background, reports, and serves as long as the machine runs.
fn stay(source: &Source) -> ! {
    sys::lower_priority();
    let reports = source.reports();
    let (hydrated, waited) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        // One behind the other: the first may wait for a server until the second is true.
        report::tell_of_root(&reports, report::RootState::Lazy);
        if waited.recv().is_ok() {
            report::tell_of_root(&reports, report::RootState::Hydrated);
        }
    });
    if source.hydrate(QUIET, LATEST) {
        let (frames, bytes, sent) = source.figures();
        source.leave_cache();
        log(&format!(
            "all {frames} frames of the root are in memory, {} MiB, of which servers sent {} MiB: they are no longer needed",
            bytes >> 20,
            sent >> 20
        ));
        let _ = hydrated.send(());
    }
    sys::stop_here()
}
