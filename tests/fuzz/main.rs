//! Readers of what others wrote, fed with damaged inputs: no input makes one panic, hang, or take more than 512 MB.
//!
//! A test for each reader. It starts a process of this program (`worker`) that changes seeds at random, by a generator whose seed is
//! known, and reads them, one after the other; each input is written to a file first. Where the process dies, or takes ten seconds of
//! processor time for one input, that file is the finding: it is kept below `target/fuzz`, and the test fails.
//!
//! `IMGBUILD_FUZZ_SECONDS`: how long each reader is fed; a third of a second where nothing is said, twenty minutes in `tests/run
//! long`.
//! `IMGBUILD_FUZZ_SEED`: another seed than 1.

// One program: whether others reach a helper says nothing.
#![allow(unreachable_pub)]

mod mutate;
mod node;
mod seeds;
mod targets;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

// The node's own files name them so.
use node_words::{name, network as words};

use self::mutate::Random;
use self::targets::{TARGETS, Target};

/// What the node's own files print.
macro_rules! say {
    ($($part:tt)*) => { println!($($part)*) };
}
use say;

#[path = "../../imgbuild-init/src/sys"]
#[allow(dead_code, unreachable_pub, unsafe_code, reason = "the node's own files, of which only what unpacks is fed")]
mod sys {
    use std::ffi::CString;
    use std::io;

    mod below;
    mod tree;

    pub(crate) use below::*;
    pub(crate) use tree::*;

    fn c(text: &str) -> io::Result<CString> {
        Ok(CString::new(crate::name::bytes_of(text).into_owned())?)
    }

    fn check(result: libc::c_int) -> io::Result<libc::c_int> {
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }
}
#[path = "../../imgbuild-init/src/image"]
#[allow(dead_code, unreachable_pub, reason = "the node's own files, of which only the readers are fed")]
mod image {
    pub mod cpio;
    pub mod tar;
    pub mod unpack;
}

/// Memory of the process that reads, in KiB.
const MEMORY: u64 = 512 << 10;
/// How long one input may take, of processor time; by the clock six times that, for what waits, and for machines that do other things.
const PATIENCE: Duration = Duration::from_secs(10);

const TARGET: &str = "IMGBUILD_FUZZ_TARGET";
const PLACE: &str = "IMGBUILD_FUZZ_PLACE";
const START: &str = "IMGBUILD_FUZZ_START";

fn number(name: &str) -> Option<f64> {
    std::env::var(name).ok()?.parse().ok()
}

fn target(name: &str) -> &'static Target {
    TARGETS.iter().find(|target| target.name == name).unwrap_or_else(|| panic!("there is no target {name}"))
}

/// The process that reads; by itself it is no test.
#[test]
fn worker() {
    let (Ok(name), Ok(place)) = (std::env::var(TARGET), std::env::var(PLACE)) else { return };
    let target = target(&name);
    let place = PathBuf::from(place);
    let seeds = seeds::of(target, &place);
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let mut count = number(START).unwrap_or(0.0) as u64;
    let until = Instant::now() + Duration::from_secs_f64(number("IMGBUILD_FUZZ_SECONDS").unwrap_or(0.3));
    let seed = number("IMGBUILD_FUZZ_SEED").unwrap_or(1.0) as u64;
    // All seeds as they are first.
    while Instant::now() < until || count < seeds.len() as u64 {
        let mut random = Random::of(seed, count);
        let input = match seeds.get(count as usize) {
            Some(seed) => seed.clone(),
            None => mutate::mutated(&seeds, target.form, &mut random),
        };
        std::fs::write(place.join("input"), &input).unwrap();
        std::fs::write(place.join("count"), count.to_string()).unwrap();
        (target.read)(&input, &place);
        count += 1;
    }
    std::fs::write(place.join("done"), count.to_string()).unwrap();
}

/// The processor time of a process. Source: proc_pid_stat(5); a tick is a hundredth of a second on Linux.
fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    Duration::from_millis(fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum::<u64>() * 10)
}

/// Feeds a reader for as long as it is said.
fn feed(name: &str) {
    let place = tempfile::tempdir().unwrap();
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    let began = Instant::now();
    let seconds = number("IMGBUILD_FUZZ_SECONDS").unwrap_or(0.3);
    let mut findings = Vec::new();
    let mut start = 0u64;
    loop {
        let left = (seconds - began.elapsed().as_secs_f64()).max(0.1);
        // That of the process before would look like one that takes long.
        let _ = std::fs::remove_file(place.path().join("input"));
        let log = std::fs::File::create(place.path().join("log")).unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -d {MEMORY}; ulimit -c 0; exec \"$0\" \"$@\"")])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "worker", "--test-threads", "1", "--nocapture"])
            .env(TARGET, name)
            .env(PLACE, place.path())
            .env(START, start.to_string())
            .env("IMGBUILD_FUZZ_SECONDS", left.to_string())
            .env("RAYON_NUM_THREADS", "1")
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let input = place.path().join("input");
        let mut hangs = false;
        // The input that is read, and the processor time at its beginning.
        let mut reading = (None, Duration::ZERO);
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            let written = input.metadata().and_then(|found| found.modified()).ok();
            let waits = written.and_then(|time| SystemTime::now().duration_since(time).ok()).unwrap_or_default();
            let spent = processor_time(child.id());
            if reading.0 != written {
                reading = (written, spent);
            }
            if spent.saturating_sub(reading.1) > PATIENCE || waits > PATIENCE * 6 {
                hangs = true;
                let _ = child.kill();
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let text = |file: &str| std::fs::read_to_string(place.path().join(file)).unwrap_or_default();
        let at: u64 = text("count").parse().unwrap_or(start);
        if status.success() {
            eprintln!("{name}: {at} inputs in {:.1} s, {} findings", began.elapsed().as_secs_f64(), findings.len());
            break;
        }
        let how = match (hangs, status.signal()) {
            (true, _) => "hangs".to_owned(),
            (false, Some(signal)) => format!("ended by signal {signal}"),
            (false, None) => "panics".to_owned(),
        };
        std::fs::create_dir_all(&kept).unwrap();
        let to = kept.join(format!("{name}-{at}"));
        std::fs::copy(&input, &to).unwrap();
        let log = text("log");
        let lines: Vec<&str> = log
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with("running") && !line.starts_with("test "))
            .take(4)
            .collect();
        findings.push(format!("{}: {how}: {}", to.display(), lines.join(" / ")));
        start = at + 1;
        if findings.len() >= 5 || began.elapsed().as_secs_f64() > seconds {
            break;
        }
    }
    assert!(findings.is_empty(), "{name}:\n{}", findings.join("\n"));
}

macro_rules! fed {
    ($($name:ident)*) => {
        $(#[test] fn $name() { feed(stringify!($name)); })*

        #[test]
        fn each_reader_has_a_test() {
            let mut tests = vec![$(stringify!($name)),*];
            let mut readers: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
            tests.sort();
            readers.sort();
            assert_eq!(tests, readers);
        }
    };
}

fed! {
    bundle build_json cmdline comps control cpio csv deb dhcp dhcp6 dpkg erofs exlist index_json inrelease iso kdl lock manifest_xml
    metalink modules node_cpio node_frames node_tar noderange otherpkgs packed pkglist primary repofile repomd router rpm rpm_header rpmdb saved sources sqlite squashfs stanzas
    synclist tar toml
}
