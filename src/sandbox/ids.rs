//! Which host ids stand for the ids inside: always a shifted range, for root as well (D1).

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SandboxError;

/// How many ids an image has: 0 to 65535.
pub const ID_COUNT: u32 = 65_536;

/// Where root's range starts when /etc/subuid names none: above systemd's container range, which ends at
/// 1879048191 (systemd, docs/UIDS-GIDS.md), and below 2^31, where old software goes wrong.
pub const BUILT_IN_BASE: u32 = 2_013_265_920;

/// The maps for one namespace: lines of (inside, outside, count), as /proc/PID/uid_map has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// User ids.
    pub uids: Vec<(u32, u32, u32)>,
    /// Group ids.
    pub gids: Vec<(u32, u32, u32)>,
}

impl IdMap {
    /// Chooses the map for the calling user.
    ///
    /// Root takes its range in /etc/subuid or else [`BUILT_IN_BASE`]; an ordinary user maps its own id to root's
    /// and its subordinate range to the rest.
    ///
    /// # Errors
    /// [`SandboxError::NoSubordinateIds`] for an ordinary user without a range that is large enough.
    pub fn for_current_user() -> Result<Self, SandboxError> {
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let names = user_names(uid);
        let uids = subordinate_start(Path::new("/etc/subuid"), &names);
        let gids = subordinate_start(Path::new("/etc/subgid"), &names);
        if uid == 0 {
            let (uids, gids) = match (uids, gids) {
                (Some(uids), Some(gids)) => (uids, gids),
                _ => (BUILT_IN_BASE, BUILT_IN_BASE),
            };
            for (file, start) in [("/proc/self/uid_map", uids), ("/proc/self/gid_map", gids)] {
                let text = std::fs::read_to_string(file).unwrap_or_default();
                if !is_mapped(&text, start) {
                    return Err(SandboxError::RangeNotHere { start, last: start + (ID_COUNT - 1), map: text });
                }
            }
            return Ok(Self { uids: vec![(0, uids, ID_COUNT)], gids: vec![(0, gids, ID_COUNT)] });
        }
        let missing = |file: &str| SandboxError::NoSubordinateIds {
            user: names.first().cloned().unwrap_or_else(|| uid.to_string()),
            file: PathBuf::from(file),
            wanted: ID_COUNT,
        };
        let uids = uids.ok_or_else(|| missing("/etc/subuid"))?;
        let gids = gids.ok_or_else(|| missing("/etc/subgid"))?;
        Ok(Self { uids: vec![(0, uid, 1), (1, uids, ID_COUNT - 1)], gids: vec![(0, gid, 1), (1, gids, ID_COUNT - 1)] })
    }

    /// The host ids of root inside.
    pub fn root(&self) -> (u32, u32) {
        let of = |map: &[(u32, u32, u32)]| map.iter().find(|line| line.0 == 0).map_or(0, |line| line.1);
        (of(&self.uids), of(&self.gids))
    }
}

impl fmt::Display for IdMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, map) in [("uid", &self.uids), (" gid", &self.gids)] {
            write!(f, "{kind}")?;
            for (inside, outside, count) in map {
                write!(f, " {inside}:{outside}:{count}")?;
            }
        }
        Ok(())
    }
}

/// The names under which /etc/subuid may list the user: login name, then the number.
///
/// Read from /etc/passwd and not through NSS, so that the program can be linked statically (D39); users known only
/// to a directory service are found by $USER, and newuidmap checks the claim.
fn user_names(uid: u32) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(passwd) = std::fs::read_to_string("/etc/passwd") {
        for line in passwd.lines() {
            let mut fields = line.split(':');
            if let (Some(name), _, Some(number)) = (fields.next(), fields.next(), fields.next())
                && number.parse() == Ok(uid)
            {
                names.push(name.to_owned());
            }
        }
    }
    if names.is_empty()
        && uid != 0
        && let Ok(name) = std::env::var("USER")
    {
        names.push(name);
    }
    names.push(uid.to_string());
    names
}

fn subordinate_start(file: &Path, names: &[String]) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    parse_subordinate(&text, names)
}

/// First range of at least [`ID_COUNT`] ids for one of the names. Source: subuid(5).
fn parse_subordinate(text: &str, names: &[String]) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let start: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let fits = count >= ID_COUNT && start.checked_add(ID_COUNT).is_some() && start > 0;
        (names.iter().any(|wanted| wanted == name) && fits).then_some(start)
    })
}

/// Whether the ids from `start` on exist where this process runs: in a container there may be fewer. A map that cannot be
/// read counts as a whole one.
fn is_mapped(map: &str, start: u32) -> bool {
    let last = u64::from(start) + u64::from(ID_COUNT) - 1;
    let mut lines = map.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(|word| word.parse::<u64>().ok());
        Some((numbers.next()??, numbers.nth(1)??))
    });
    map.is_empty() || lines.any(|(first, count)| first <= u64::from(start) && last < first + count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_may_lack_the_range() {
        assert!(is_mapped("         0          0 4294967295\n", BUILT_IN_BASE));
        assert!(!is_mapped("0 100000 65536\n", BUILT_IN_BASE));
        assert!(is_mapped("0 1000 1\n1 100000 400000\n", 100_000));
        assert!(is_mapped("", 1));
    }

    #[test]
    fn the_first_range_that_is_large_enough_counts() {
        let names = vec!["eva".to_owned(), "1000".to_owned()];
        let text = "bob:100000:65536\neva:1:10\n# eva:5:65536\n1000:200000:65536\n";
        assert_eq!(parse_subordinate(text, &names), Some(200_000));
        assert_eq!(parse_subordinate("eva:4294967295:65536\n", &names), None);
        assert_eq!(parse_subordinate("eva:x\n:::\n", &names), None);
    }
}
