//! A disk whose power can be cut: a file that this process serves by FUSE, below a loop device. Each write and each flush of the file
//! system on it is noted; what was written after the last flush is on the disk, is not, or is torn, as chance has it.
//!
//! Source of the messages: Linux's include/uapi/linux/fuse.h, protocol 7.31.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;
const LARGEST: u32 = 128 << 10;
/// Number of the only file; the directory's is 1.
const FILE: u64 = 2;

/// Numbers of which a seed gives always the same (SplitMix64).
pub struct Chance(pub u64);

impl Chance {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, count: u64) -> u64 {
        self.next() % count
    }
}

/// What the file system asked of the disk.
#[derive(Clone, Copy)]
enum Event {
    /// Bytes for a place on the disk, and where the log has them.
    Write { offset: u64, at: u64, length: usize },
    /// All that was written is to be there from now on.
    Flush,
}

struct Served {
    image: File,
    size: u64,
    /// What was written since the disk is looked at, and what for.
    log: Option<File>,
    end: u64,
    events: Vec<Event>,
}

/// The disk and the file system on it, mounted.
pub struct Disk {
    place: PathBuf,
    served: Arc<Mutex<Served>>,
    server: JoinHandle<()>,
}

fn ran(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

pub fn mounted(image: &Path, at: &Path) {
    std::fs::create_dir_all(at).unwrap();
    ran(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at));
}

pub fn unmounted(at: &Path) {
    let output = Command::new("umount").arg(at).output().unwrap();
    if !output.status.success() {
        let _ = unmount(at, UnmountFlags::DETACH);
    }
}

impl Disk {
    /// Makes a file system and mounts it at `PLACE/files`.
    pub fn make(place: &Path, size: u64, maker: &[&str]) -> Self {
        let path = place.join("image");
        let image = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        image.set_len(size).unwrap();
        ran(Command::new(maker[0]).args(&maker[1..]).arg(&path));
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let folder = place.join("disk");
        std::fs::create_dir(&folder).unwrap();
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount("disk", &folder, "fuse", MountFlags::empty(), CString::new(options).unwrap().as_c_str()).unwrap();
        let served = Arc::new(Mutex::new(Served { image, size, log: None, end: 0, events: Vec::new() }));
        let own = Arc::clone(&served);
        let server = std::thread::spawn(move || serve(device, &own));
        let disk = Self { place: place.to_owned(), served, server };
        mounted(&folder.join("image"), &disk.files());
        disk
    }

    pub fn files(&self) -> PathBuf {
        self.place.join("files")
    }

    /// Remembers what the disk holds: from here on it is noted what happens.
    pub fn note(&self) {
        ran(Command::new("sync").arg("-f").arg(self.files()));
        let mut served = self.served.lock().unwrap();
        ran(Command::new("cp").arg("--sparse=always").arg(self.place.join("image")).arg(self.place.join("before")));
        served.log =
            Some(File::options().read(true).write(true).create_new(true).open(self.place.join("log")).unwrap());
    }

    /// Takes the file system away; what happened stays known. Some kinds are not mounted twice.
    pub fn unmount(&self) {
        unmounted(&self.files());
    }

    /// How much has happened.
    pub fn count(&self) -> usize {
        self.served.lock().unwrap().events.len()
    }

    /// How often the disk was flushed among what happened.
    pub fn flushes(&self) -> usize {
        self.served.lock().unwrap().events.iter().filter(|event| matches!(event, Event::Flush)).count()
    }

    /// Writes what is on the disk when the power goes after so much has happened. A disk that lies has forgotten what was flushed.
    pub fn cut(&self, after: usize, lies: bool, chance: &mut Chance, to: &Path) {
        ran(Command::new("cp").arg("--sparse=always").arg(self.place.join("before")).arg(to));
        let target = File::options().write(true).open(to).unwrap();
        let served = self.served.lock().unwrap();
        let log = served.log.as_ref().unwrap();
        let events = &served.events[..after];
        let sure = events.iter().rposition(|event| matches!(event, Event::Flush) && !lies).unwrap_or(0);
        for (number, event) in events.iter().enumerate() {
            let Event::Write { offset, at, length } = *event else { continue };
            let mut bytes = vec![0; length];
            let fate = if number < sure { 0 } else { chance.below(3) };
            if fate == 1 {
                continue;
            }
            log.read_exact_at(&mut bytes, at).unwrap();
            for (sector, bytes) in bytes.chunks(if fate == 0 { length } else { SECTOR }).enumerate() {
                if fate == 0 || chance.below(2) == 0 {
                    target.write_all_at(bytes, offset + (sector * SECTOR) as u64).unwrap();
                }
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmounted(&self.files());
        let _ = unmount(self.place.join("disk"), UnmountFlags::DETACH);
        // The loop device lets go of the file soon.
        let began = Instant::now();
        while !self.server.is_finished() && began.elapsed().as_secs() < 10 {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A number of a message.
fn number<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().unwrap()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(number(bytes, at))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(number(bytes, at))
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

/// `struct fuse_attr` of the directory or the file.
fn attributes(node: u64, size: u64) -> Vec<u8> {
    let (mode, size) = if node == FILE { (0o100_600, size) } else { (0o040_700, 0) };
    let times = [0; 3];
    [longs(&[node, size, size / 512]), longs(&times), words(&[0, 0, 0, mode, 1, 0, 0, 0, 4096, 0])].concat()
}

/// Answers until the file system is unmounted.
fn serve(mut device: File, served: &Mutex<Served>) {
    let mut buffer = vec![0; (LARGEST as usize) + (64 << 10)];
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            // It was unmounted. Others: an interrupted request.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error()) => return,
            Err(_) => continue,
        };
        let request = &buffer[..length];
        let unique = u64_at(request, 8);
        let (error, body) = match answer(request, &mut served.lock().unwrap()) {
            None => continue,
            Some(Ok(body)) => (0, body),
            Some(Err(error)) => (-error.raw_os_error(), Vec::new()),
        };
        let head = [((body.len() + 16) as u32).to_ne_bytes(), error.to_ne_bytes()].concat();
        // One that was interrupted is not asked for any longer.
        let _ = device.write(&[head, longs(&[unique]), body].concat());
    }
}

/// What one request gets; nothing where none is waited for.
fn answer(request: &[u8], served: &mut Served) -> Option<Result<Vec<u8>, rustix::io::Errno>> {
    let (opcode, node, body) = (u32_at(request, 4), u64_at(request, 16), &request[40..]);
    Some(Ok(match opcode {
        // FORGET, INTERRUPT, BATCH_FORGET
        2 | 36 | 42 => return None,
        // LOOKUP
        1 if body == b"image\0" => [longs(&[FILE, 0, 3600, 3600, 0]), attributes(FILE, served.size)].concat(),
        1 => return Some(Err(rustix::io::Errno::NOENT)),
        // GETATTR, SETATTR
        3 | 4 => [longs(&[3600, 0]), attributes(node, served.size)].concat(),
        // OPEN, OPENDIR
        14 | 27 => longs(&[0, 0]),
        // READ
        15 => {
            let mut bytes = vec![0; u32_at(body, 16) as usize];
            let got = served.image.read_at(&mut bytes, u64_at(body, 8)).unwrap();
            bytes.truncate(got);
            bytes
        }
        // WRITE
        16 => {
            let (offset, length) = (u64_at(body, 8), u32_at(body, 16) as usize);
            let bytes = &body[40..40 + length];
            served.image.write_all_at(bytes, offset).unwrap();
            if let Some(log) = &served.log {
                log.write_all_at(bytes, served.end).unwrap();
                served.events.push(Event::Write { offset, at: served.end, length });
                served.end += length as u64;
            }
            words(&[length as u32, 0])
        }
        // FSYNC
        20 => {
            if served.log.is_some() {
                served.events.push(Event::Flush);
            }
            Vec::new()
        }
        // RELEASE, FLUSH, RELEASEDIR, DESTROY
        18 | 25 | 29 | 38 => Vec::new(),
        // STATFS
        17 => vec![0; 80],
        // INIT: big writes.
        26 => [words(&[7, 31, 0, 1 << 5]), words(&[0, LARGEST, 1]), vec![0; 36]].concat(),
        _ => return Some(Err(rustix::io::Errno::NOSYS)),
    }))
}
