//! What is written: the kernel's messages, and its memory; by the image's makedumpfile, or as it is.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use super::dump::Moved;
use crate::kdump::{LIBRARIES, MAKEDUMPFILE, Order, PROGRAMS};
use crate::say;

/// The crashed kernel's memory, as ELF. Source: Linux, fs/proc/vmcore.c.
pub(super) const VMCORE: &str = "/proc/vmcore";
/// Name of the kernel's messages beside a dump, as other tools call it.
pub(super) const MESSAGES: &str = "vmcore-dmesg.txt";
/// Name of a dump that is not whole.
pub(super) const UNFINISHED: &str = "vmcore-incomplete";
/// How much of the processor counts as progress, in ticks: an hour. A program that turns in a circle is given up then.
const MOST_TICKS: u64 = 3600 * 100;
/// What is read at once; blocks of zeros are left out page by page.
const CHUNK: usize = 1 << 20;
const PAGE: usize = 4096;

/// The image's programs, as the initrd has them.
pub(super) struct Programs {
    makedumpfile: Option<PathBuf>,
    filter: Vec<String>,
}

/// A program of the image with its own libraries.
pub(super) fn command(name: &str) -> Command {
    let mut command = Command::new(Path::new("/").join(PROGRAMS).join(name));
    command.env("LD_LIBRARY_PATH", format!("/{LIBRARIES}")).env("PATH", format!("/{PROGRAMS}")).env("HOME", "/");
    command.env("LC_ALL", "C").current_dir("/");
    command
}

impl Programs {
    /// What there is of them.
    pub(super) fn find(order: &Order) -> Self {
        let path = Path::new("/").join(PROGRAMS).join(MAKEDUMPFILE);
        Self { makedumpfile: path.exists().then_some(path), filter: order.filter.clone() }
    }

    /// Whether pages can be left out.
    pub(super) fn has_filter(&self) -> bool {
        self.makedumpfile.is_some()
    }

    /// Writes the kernel's messages into a file, if there is what reads them; whether they are there.
    pub(super) fn messages(&self, to: &Path) -> bool {
        if self.makedumpfile.is_none() {
            return false;
        }
        let mut command = command(MAKEDUMPFILE);
        command.args(["-f", "--message-level", "4", "--dump-dmesg", VMCORE]).arg(to);
        match finish(&mut command) {
            Ok(()) => true,
            Err(problem) => {
                say!("the kernel's messages cannot be read: {problem}");
                false
            }
        }
    }

    /// What writes a dump to its standard output, in makedumpfile's flattened form.
    pub(super) fn stream(&self) -> Result<Child, String> {
        let mut command = command(MAKEDUMPFILE);
        command.args(["--message-level", "4", "-F"]).args(&self.filter).arg(VMCORE);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().map_err(|error| format!("{MAKEDUMPFILE} cannot be started: {error}"))
    }

    fn write(&self, to: &Path, moved: Moved<'_>) -> Result<(), String> {
        let mut command = command(MAKEDUMPFILE);
        command.args(["-f", "--message-level", "4"]).args(&self.filter).arg(VMCORE).arg(to);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("{MAKEDUMPFILE} cannot be started: {error}"))?;
        let errors = errors_of(&mut child);
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(error) => return Err(format!("{MAKEDUMPFILE} cannot be waited for: {error}")),
            }
            // It looks at all of memory before it writes, and that may take minutes: its work counts as well.
            moved(std::fs::metadata(to).map_or(0, |found| found.len()) + processor_time(child.id()));
            std::thread::sleep(Duration::from_millis(500));
        };
        let said = errors.join().unwrap_or_default();
        ended(MAKEDUMPFILE, status, &said)
    }
}

/// How much of the processor a process has had, as progress, in ticks. Source: proc(5), stat.
pub(super) fn processor_time(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>().min(MOST_TICKS)
}

/// Reads what a program says besides, without holding it up.
pub(super) fn errors_of(child: &mut Child) -> std::thread::JoinHandle<String> {
    let stream = child.stderr.take();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut text);
        }
        String::from_utf8_lossy(&text).into_owned()
    })
}

/// How a program ended: what it said last, if it failed.
pub(super) fn ended(name: &str, status: std::process::ExitStatus, said: &str) -> Result<(), String> {
    if status.success() {
        return Ok(());
    }
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(format!("{name} ended with {status}: {}", said[said.len().saturating_sub(3)..].join("; ")))
}

/// Runs a program to its end.
pub(super) fn finish(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().rsplit('/').next().unwrap_or_default().to_owned();
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{name} cannot be started: {error}"))?;
    let errors = errors_of(&mut child);
    let status = child.wait().map_err(|error| format!("{name} cannot be waited for: {error}"))?;
    ended(&name, status, &errors.join().unwrap_or_default())
}

/// Name of a dump's directory: the node's, and the time by the machine's clock.
pub(super) fn name(node: Option<&str>) -> String {
    let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    format!("{}-{}", node.unwrap_or("node"), stamp(seconds))
}

/// `2026-11-28-001233`, UTC.
fn stamp(seconds: u64) -> String {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, years that end with February. Source: Howard Hinnant, chrono-compatible date algorithms, civil_from_days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}-{:02}{:02}{:02}", time / 3600, time / 60 % 60, time % 60)
}

/// The first of `vmcore`, `vmcore.2` .. that does not exist: a machine without a clock gives directories the same name each time.
fn free_name(directory: &Path) -> String {
    let names = std::iter::once("vmcore".to_owned()).chain((2..).map(|number| format!("vmcore.{number}")));
    let free =
        |name: &String| directory.join(name).symlink_metadata().is_err() || fault::planted("node-dump-over-another");
    names.take(1000).find(free).unwrap_or_else(|| "vmcore".to_owned())
}

/// Writes messages and memory into a directory of their own; gives the dump's file name and size.
pub(super) fn write_into(
    base: &Path,
    name: &str,
    programs: &Programs,
    moved: Moved<'_>,
) -> Result<(String, u64), String> {
    let directory = base.join(name);
    let said = |what: &str, error: std::io::Error| format!("{what}: {error}");
    std::fs::create_dir_all(&directory).map_err(|error| said("its directory cannot be created", error))?;
    // First: they are small, and often enough.
    if programs.messages(&directory.join(MESSAGES)) {
        say!("the kernel's messages are in {name}/{MESSAGES}");
    }
    let unfinished = directory.join(UNFINISHED);
    match programs.has_filter() {
        true => programs.write(&unfinished, moved)?,
        false => copy(&unfinished, moved)?,
    }
    // What the disk or the server did not take is said here at the latest.
    let file = File::open(&unfinished).map_err(|error| said(UNFINISHED, error))?;
    file.sync_all().map_err(|error| said("the dump cannot be written out", error))?;
    let size = file.metadata().map_err(|error| said(UNFINISHED, error))?.len();
    let name = free_name(&directory);
    std::fs::rename(&unfinished, directory.join(&name)).map_err(|error| said("it cannot be renamed", error))?;
    Ok((name, size))
}

/// All of memory, pages of zeros as holes.
fn copy(to: &Path, moved: Moved<'_>) -> Result<(), String> {
    let mut from = File::open(VMCORE).map_err(|error| format!("{VMCORE}: {error}"))?;
    let mut file = File::create(to).map_err(|error| format!("{UNFINISHED}: {error}"))?;
    let mut buffer = vec![0; CHUNK];
    let mut total = 0u64;
    loop {
        let read = read_full(&mut from, &mut buffer).map_err(|error| format!("{VMCORE} at {total}: {error}"))?;
        if read == 0 {
            break;
        }
        let written = write_sparse(&mut file, &buffer[..read]);
        written.map_err(|error| format!("{UNFINISHED} at {total}: {error}"))?;
        total += read as u64;
        moved(total);
    }
    file.set_len(total).map_err(|error| format!("{UNFINISHED}: {error}"))
}

/// Reads until the buffer is full, or there is no more.
pub(super) fn read_full(from: &mut impl Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Writes bytes, and passes over pages of zeros.
fn write_sparse(file: &mut (impl Write + Seek), bytes: &[u8]) -> std::io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        let is_zero = |page: &&[u8]| page.iter().all(|byte| *byte == 0);
        let zeros: usize = rest.chunks(PAGE).take_while(is_zero).map(<[u8]>::len).sum();
        file.seek(SeekFrom::Current(i64::try_from(zeros).unwrap_or(0)))?;
        rest = &rest[zeros..];
        let data: usize = rest.chunks(PAGE).take_while(|page| !is_zero(page)).map(<[u8]>::len).sum();
        file.write_all(&rest[..data])?;
        rest = &rest[data..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01-000000"),
            (951_782_399, "2000-02-28-235959"),
            (951_782_400, "2000-02-29-000000"),
            (1_709_251_199, "2024-02-29-235959"),
            (1_795_824_753, "2026-11-28-001233"),
            (4_102_444_800, "2100-01-01-000000"),
        ] {
            assert_eq!(stamp(seconds), text);
        }
    }

    #[test]
    fn a_dump_that_is_there_is_not_written_over() {
        let place = std::env::temp_dir().join(format!("imgbuild-init-names-{}", std::process::id()));
        std::fs::create_dir_all(&place).unwrap();
        assert_eq!(free_name(&place), "vmcore");
        std::fs::write(place.join("vmcore"), "").unwrap();
        std::fs::write(place.join("vmcore.2"), "").unwrap();
        assert_eq!(free_name(&place), "vmcore.3");
        std::fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn pages_of_zeros_are_holes_and_all_bytes_are_kept() {
        let mut bytes = vec![0u8; 5 * PAGE + 100];
        bytes[PAGE] = 1;
        bytes[4 * PAGE - 1] = 2;
        bytes[5 * PAGE + 99] = 3;
        let mut file = std::io::Cursor::new(Vec::new());
        for part in bytes.chunks(2 * PAGE) {
            write_sparse(&mut file, part).unwrap();
        }
        assert_eq!(file.into_inner(), bytes);
        let mut from = std::io::Read::chain(&b"ab"[..], &b"cde"[..]);
        let mut buffer = [0; 4];
        assert_eq!((read_full(&mut from, &mut buffer).unwrap(), &buffer), (4, b"abcd"));
        assert_eq!(read_full(&mut from, &mut buffer).unwrap(), 1);
    }
}
