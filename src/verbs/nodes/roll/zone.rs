//! Local time: the zone of TZ, or of this machine. None is ever guessed.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Longest file of a zone that is read, in bytes.
const LONGEST: u64 = 1 << 20;
const OF_MACHINE: &str = "/etc/localtime";
const ZONES: &str = "/usr/share/zoneinfo";

/// The zone that local times are in.
/// Errors: As text: it cannot be read.
pub(super) fn local() -> Result<TimeZone, String> {
    named(std::env::var("TZ").ok().as_deref(), Path::new(OF_MACHINE), Path::new(ZONES))
}

fn named(variable: Option<&str>, of_machine: &Path, zones: &Path) -> Result<TimeZone, String> {
    let Some(name) = variable.map(|text| text.trim_start_matches(':')).filter(|name| !name.is_empty()) else {
        return of_file(of_machine);
    };
    if name.starts_with('/') {
        return of_file(Path::new(name));
    }
    let file: PathBuf = zones.join(name);
    match file.is_file() && !name.split('/').any(|part| part == "..") {
        true => of_file(&file),
        // Source: POSIX, environment variable TZ.
        false => TimeZone::posix(name)
            .map_err(|_| format!("TZ is `{}`, but {} does not exist", name.escape_debug(), file.display())),
    }
}

fn of_file(path: &Path) -> Result<TimeZone, String> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut bytes));
    read.map_err(|error| format!("`{}`: {error}", path.display()))?;
    TimeZone::tzif("local", &bytes).map_err(|error| format!("`{}` is not a time zone: {error}", path.display()))
}

/// The minute of the day.
pub(super) fn minute(zone: &TimeZone) -> u16 {
    let time = Timestamp::now().to_zoned(zone.clone());
    u16::from(time.hour().unsigned_abs()) * 60 + u16::from(time.minute().unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (none, bad) = (folder.path().join("localtime"), folder.path().join("bad"));
        std::fs::write(&bad, "text").unwrap();
        assert!(named(None, &none, folder.path()).unwrap_err().contains("localtime"));
        assert!(named(Some(""), &none, folder.path()).is_err());
        assert!(named(Some(":bad"), &none, folder.path()).unwrap_err().contains("is not a time zone"));
        assert!(named(Some("Europe/Nowhere"), &none, folder.path()).is_err());
        let zone = named(Some("CET-1CEST,M3.5.0,M10.5.0/3"), &none, folder.path()).unwrap();
        let noon: Timestamp = "2026-07-01T12:00:00Z".parse().unwrap();
        assert_eq!(noon.to_zoned(zone).hour(), 14);
    }
}
