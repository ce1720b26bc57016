//! The site's own lines, loaders/dnsmasq.conf. dnsmasq reads a copy of those that it accepted, so that a mistake in them takes no
//! node's address away: not when the nodes change, and not when dnsmasq has to be started again.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::process::{cannot_write, check, write_aside};
use super::{Places, Plan, problem_of};
use crate::error::ServeError;

const MOST_BYTES: u64 = 1 << 20;

/// What tells one state of a file from another: size, inode, and the times of its last changes.
type Stamp = (u64, u64, [i64; 4]);

#[derive(Debug)]
pub(super) struct OwnLines {
    path: PathBuf,
    /// As dnsmasq has them; none: it has none.
    given: Option<Vec<u8>>,
    /// What it had before, until it has started with others.
    before: Option<Option<Vec<u8>>>,
    /// The file when it was looked at last; none: it is looked at again.
    seen: Option<Option<Stamp>>,
    /// Why it is not used as it is now, as it was said.
    trouble: Option<String>,
}

/// What became of the site's own lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Other,
    Gone,
}

impl OwnLines {
    /// The lines as they are.
    /// Errors: They cannot be read.
    pub(super) fn read(path: PathBuf) -> Result<Self, ServeError> {
        let seen = stamp(&path);
        let given = read(&path).map_err(|error| {
            ServeError::dhcp_input(
                format!("cannot read `{}`: {error}", path.display()),
                "it is a file with lines of dnsmasq's configuration, and the server's account has to be able to read it",
            )
        })?;
        Ok(Self { path, given, before: None, seen: Some(seen), trouble: None })
    }

    /// Where the site has them, if it has any.
    pub(super) fn path(&self) -> Option<&Path> {
        self.given.is_some().then_some(&*self.path)
    }

    /// Whether they may have ranges of other networks than the card's.
    pub(super) fn may_have_ranges(&self) -> bool {
        let words = ["dhcp-range", "conf-file", "conf-dir"];
        let text = String::from_utf8_lossy(self.given.as_deref().unwrap_or_default());
        text.lines().any(|line| words.iter().any(|word| line.trim_start().starts_with(word)))
    }

    /// Writes the configuration with the lines, once dnsmasq has accepted it.
    /// Errors: It refuses it, with the line; or it cannot be written.
    pub(super) fn install(&self, plan: &Plan, places: &Places) -> Result<(), ServeError> {
        self.put(self.given.as_deref(), plan, places)
    }

    fn put(&self, lines: Option<&[u8]>, plan: &Plan, places: &Places) -> Result<(), ServeError> {
        let cannot = |error: io::Error| cannot_write("its configuration", &error);
        let (conf, own) = (places.home.join("candidate.conf"), places.home.join("candidate-own.conf"));
        let tested = || {
            if let Some(lines) = lines {
                write_aside(&own, lines).map_err(cannot)?;
            }
            let text = plan.text(places, None, lines.is_some().then_some(&*own));
            write_aside(&conf, text.as_bytes()).map_err(cannot)?;
            match fault::planted("dnsmasq-own-lines-unchecked") {
                true => Ok(()),
                false => check(&conf, &own, Some(&self.path)),
            }
        };
        let is_good = tested();
        let _ = (fs::remove_file(&conf), fs::remove_file(&own));
        is_good?;
        let own = places.own_lines();
        if let Some(lines) = lines {
            write_aside(&own, lines).map_err(cannot)?;
        }
        let text = plan.text(places, None, lines.is_some().then_some(&*own));
        write_aside(&places.conf(), text.as_bytes()).map_err(cannot)?;
        if lines.is_none() {
            let _ = fs::remove_file(&own);
        }
        Ok(())
    }

    /// Looks whether the file has changed, and writes the configuration with it.
    /// Errors: A sentence why it stays as it was, once.
    pub(super) fn renew(&mut self, plan: &Plan, places: &Places) -> Result<Change, String> {
        let now = stamp(&self.path);
        if self.seen == Some(now) {
            return Ok(Change::None);
        }
        self.seen = Some(now);
        let why = match read(&self.path) {
            Ok(lines) if lines == self.given => {
                self.trouble = None;
                return Ok(Change::None);
            }
            Ok(lines) => match self.put(lines.as_deref(), plan, places) {
                Ok(()) => {
                    let change = if lines.is_none() { Change::Gone } else { Change::Other };
                    self.before = Some(std::mem::replace(&mut self.given, lines));
                    self.trouble = None;
                    return Ok(change);
                }
                Err(error) => {
                    if !matches!(&error, ServeError::Dhcp { is_machine: false, .. }) {
                        // There may be room for it in a moment.
                        self.seen = None;
                    }
                    problem_of(&error)
                }
            },
            Err(error) => format!("it cannot be read: {error}"),
        };
        let why = self.refusal(&why);
        if self.trouble.as_ref() == Some(&why) {
            return Ok(Change::None);
        }
        self.trouble = Some(why.clone());
        Err(why)
    }

    /// dnsmasq runs with them.
    pub(super) fn have_started(&mut self) {
        self.before = None;
    }

    /// dnsmasq does not start: whether it had other lines before, which it has again now.
    /// Errors: They cannot be written.
    pub(super) fn go_back(&mut self, plan: &Plan, places: &Places) -> Result<bool, ServeError> {
        let Some(before) = self.before.take() else { return Ok(false) };
        if let Err(error) = self.put(before.as_deref(), plan, places) {
            self.before = Some(before);
            return Err(error);
        }
        self.given = before;
        Ok(true)
    }

    /// The file was not at fault: it is tried again.
    pub(super) fn try_again(&mut self) {
        self.seen = None;
    }

    /// A sentence for who runs the server.
    pub(super) fn refusal(&self, why: &str) -> String {
        let kept = match self.given {
            Some(_) => "what it said before is used further",
            None => "dnsmasq goes on without it",
        };
        format!("loaders/dnsmasq.conf is not used as it is now: {why}; {kept}")
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.size(), found.ino(), [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()]))
}

/// A file's bytes; none where there is no file.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    // A pipe is not waited for.
    let file = match fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(io::Error::other("it has more than 1 MiB"));
    }
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_of_lines_is_refused_and_none_is_none() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("dnsmasq.conf");
        let lines = || OwnLines::read(path.clone());
        assert_eq!((lines().unwrap().path(), lines().unwrap().may_have_ranges()), (None, false));
        for (text, has_ranges) in
            [("", false), ("dhcp-option=3\n# dhcp-range=x\n", false), ("\n dhcp-range=10.0.0.0,static\n", true)]
        {
            fs::write(&path, text).unwrap();
            let own = lines().unwrap();
            assert_eq!((own.path(), own.may_have_ranges()), (Some(&*path), has_ranges), "{text}");
        }
        fs::write(&path, vec![b'#'; MOST_BYTES as usize + 1]).unwrap();
        assert!(lines().unwrap_err().to_string().contains("more than 1 MiB"));
        fs::remove_file(&path).unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(lines().unwrap_err().to_string().contains("not a regular file"));
    }
}
