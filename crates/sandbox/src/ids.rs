//! Which host ids stand for the ids inside: always a shifted range, for root as well (D1).

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::SandboxError;

/// How many ids an image has at least: 0 to 65535.
pub const ID_COUNT: u32 = 65_536;

/// Where root's range starts when /etc/subuid names none: above systemd's container range, which ends at
/// 1879048191 (systemd, docs/UIDS-GIDS.md), and below 2^31, where old software goes wrong.
pub const BUILT_IN_BASE: u32 = 2_013_265_920;

/// How many ids root's range has then: up to 2^31. Sites with a directory service have accounts far above 65535.
const BUILT_IN_COUNT: u32 = (1 << 31) - BUILT_IN_BASE;

/// First host id and count.
type Range = (u32, u32);

/// The maps for one namespace: lines of (inside, outside, count), as /proc/PID/uid_map has them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    pub uids: Vec<(u32, u32, u32)>,
    pub gids: Vec<(u32, u32, u32)>,
}

impl IdMap {
    /// Chooses the map for the calling user.
    ///
    /// Root takes its ranges in /etc/subuid or else [`BUILT_IN_BASE`] and what follows; an ordinary user maps its own id to root's
    /// and its subordinate ranges to the rest. All that there is is mapped, one range behind the other: ids of a directory
    /// service are above 65535.
    /// Errors: [`SandboxError::NoSubordinateIds`] for an ordinary user without a range that is large enough.
    pub fn for_current_user() -> Result<Self, SandboxError> {
        let uid = rustix::process::getuid().as_raw();
        let gid = rustix::process::getgid().as_raw();
        let names = user_names(uid);
        let uids = subordinate_ranges(Path::new("/etc/subuid"), &names);
        let gids = subordinate_ranges(Path::new("/etc/subgid"), &names);
        if uid == 0 {
            let (uids, gids) = match (uids, gids) {
                (Some(uids), Some(gids)) => (uids, gids),
                _ => (vec![(BUILT_IN_BASE, BUILT_IN_COUNT)], vec![(BUILT_IN_BASE, BUILT_IN_COUNT)]),
            };
            return Ok(Self { uids: here("/proc/self/uid_map", uids)?, gids: here("/proc/self/gid_map", gids)? });
        }
        let missing = |file: &str| SandboxError::NoSubordinateIds {
            user: names.first().cloned().unwrap_or_else(|| uid.to_string()),
            file: PathBuf::from(file),
            wanted: ID_COUNT,
        };
        let uids = uids.ok_or_else(|| missing("/etc/subuid"))?;
        let gids = gids.ok_or_else(|| missing("/etc/subgid"))?;
        let all = |own: u32, ranges: Vec<Range>| lines([(own, 1)].into_iter().chain(ranges));
        Ok(Self { uids: all(uid, uids), gids: all(gid, gids) })
    }

    /// All ids that there are, each for itself: for what is to belong to ids of this machine. Only root can have it.
    pub fn of_itself() -> Self {
        let of = |file: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let line = |line: &str| {
                let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().ok());
                let first = numbers.next()??;
                Some((first, first, numbers.nth(1)??))
            };
            let all: Vec<_> = text.lines().filter_map(line).collect();
            if all.is_empty() { vec![(0, 0, u32::MAX)] } else { all }
        };
        Self { uids: of("/proc/self/uid_map"), gids: of("/proc/self/gid_map") }
    }

    /// How many ids stand for an image's, users and groups alike.
    pub fn count(&self) -> u32 {
        let of = |map: &[(u32, u32, u32)]| map.iter().fold(0u32, |sum, line| sum.saturating_add(line.2));
        of(&self.uids).min(of(&self.gids))
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

/// Ranges one behind the other, as lines of a map.
fn lines(ranges: impl Iterator<Item = Range>) -> Vec<(u32, u32, u32)> {
    let mut next = 0u32;
    let mut all = Vec::new();
    for (start, count) in ranges {
        let count = count.min(u32::MAX - next);
        if count > 0 {
            all.push((next, start, count));
        }
        next += count;
    }
    all
}

/// Root's ranges, as far as they exist where this process runs: in a container there may be fewer ids.
fn here(file: &str, ranges: Vec<Range>) -> Result<Vec<(u32, u32, u32)>, SandboxError> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let mut found: Vec<Range> = Vec::new();
    for (index, (start, count)) in ranges.into_iter().enumerate() {
        if is_mapped(&text, start, count) {
            found.push((start, count));
            continue;
        }
        if index == 0 {
            if !is_mapped(&text, start, ID_COUNT) {
                return Err(SandboxError::RangeNotHere { start, last: start + (ID_COUNT - 1), map: text });
            }
            found.push((start, ID_COUNT));
        }
        break;
    }
    Ok(lines(found.into_iter()))
}

/// How many ids stand for an image's in this process's namespace: inside, where commands run.
pub fn ids_here() -> u32 {
    let of = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let counts = text.lines().filter_map(|line| line.split_whitespace().nth(2)?.parse::<u32>().ok());
        counts.fold(0u32, u32::saturating_add)
    };
    of("/proc/self/uid_map").min(of("/proc/self/gid_map"))
}

fn subordinate_ranges(file: &Path, names: &[String]) -> Option<Vec<Range>> {
    let text = std::fs::read_to_string(file).ok()?;
    parse_subordinate(&text, names)
}

/// The ranges for one of the names: first one of at least [`ID_COUNT`] ids, then all others. Source: subuid(5).
fn parse_subordinate(text: &str, names: &[String]) -> Option<Vec<Range>> {
    let of_line = |line: &str| -> Option<Range> {
        let mut fields = line.trim().split(':');
        let name = fields.next()?;
        let start: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.trim().parse().ok()?;
        let fits = count > 0 && start.checked_add(count).is_some() && start > 0;
        (names.iter().any(|wanted| wanted == name) && fits).then_some((start, count))
    };
    let mut ranges: Vec<Range> = Vec::new();
    for range in text.lines().filter_map(of_line) {
        let overlaps = |other: &Range| range.0 < other.0 + other.1 && other.0 < range.0 + range.1;
        if !ranges.iter().any(overlaps) {
            ranges.push(range);
        }
    }
    let first = ranges.iter().position(|range| range.1 >= ID_COUNT)?;
    let first = ranges.remove(first);
    ranges.insert(0, first);
    Some(ranges)
}

/// Whether ids exist where this process runs. A map that cannot be read counts as a whole one.
fn is_mapped(map: &str, start: u32, count: u32) -> bool {
    let last = u64::from(start) + u64::from(count) - 1;
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
        assert!(is_mapped("         0          0 4294967295\n", BUILT_IN_BASE, BUILT_IN_COUNT));
        assert!(!is_mapped("0 100000 65536\n", BUILT_IN_BASE, ID_COUNT));
        assert!(is_mapped("0 1000 1\n1 100000 400000\n", 100_000, ID_COUNT));
        assert!(!is_mapped("0 1000 1\n1 100000 400000\n", 100_000, 500_000));
        assert!(is_mapped("", 1, ID_COUNT));
    }

    #[test]
    fn the_first_range_that_is_large_enough_comes_first_and_all_others_follow() {
        let names = vec!["eva".to_owned(), "1000".to_owned()];
        let text = "bob:100000:65536\neva:1:10\n# eva:5:65536\n1000:200000:165536\neva:200001:7\n";
        assert_eq!(parse_subordinate(text, &names), Some(vec![(200_000, 165_536), (1, 10)]));
        assert_eq!(parse_subordinate("eva:4294967295:65536\n", &names), None);
        assert_eq!(parse_subordinate("eva:x\n:::\n", &names), None);
        assert_eq!(lines([(1000, 1), (200_000, 10), (7, 3)].into_iter()), [(0, 1000, 1), (1, 200_000, 10), (11, 7, 3)]);
    }
}
