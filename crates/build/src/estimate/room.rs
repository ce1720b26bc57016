//! Whether what a build writes has room on the store's file system, before anything is written.

use super::{Estimate, Workload};
use crate::StageError;
use base::source::{Finding, Severity};
use store::Store;

/// Bytes that are free for the user who builds.
fn free(store: &Store) -> Option<u64> {
    let found = rustix::fs::statvfs(store.directory()).ok()?;
    Some(found.f_bavail.saturating_mul(found.f_frsize))
}

/// Compares what is known to the byte, packages to fetch and files to sync, with what is free; what is only guessed is a warning.
/// Errors: [`StageError::NoRoom`] where it surely has none.
pub(crate) fn check(store: &Store, work: &Workload, estimate: &Estimate) -> Result<Option<Finding>, StageError> {
    let Some(free) = free(store) else { return Ok(None) };
    let download = estimate.download_bytes.map_or(0, |range| range.least);
    compare(&store.directory().display().to_string(), free, (work.synced, download), estimate)
}

fn compare(
    directory: &str,
    free: u64,
    (synced, download): (u64, u64),
    estimate: &Estimate,
) -> Result<Option<Finding>, StageError> {
    let said = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    if synced.saturating_add(download) > free {
        let (synced, download, free) = (said(synced), said(download), said(free));
        return Err(StageError::NoRoom { directory: directory.to_owned(), synced, download, free });
    }
    let guess = estimate.written_bytes.map_or(0, |range| range.least).saturating_add(download);
    if guess <= free {
        return Ok(None);
    }
    let text = format!(
        "the build will write about {}, but the file system of {directory} has only {} free",
        said(guess),
        said(free)
    );
    let help = "free some space there, run `imgbuild gc`, or use a store on another file system: --store DIR, or IMGBUILD_STORE=DIR in the environment";
    Ok(Some(Finding::nowhere(Severity::Warning, "store::room", text).help(help)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Range;

    #[test]
    fn what_surely_has_no_room_is_refused_and_a_guess_is_told() {
        let range = |bytes| Some(Range { least: bytes, most: bytes });
        let guess = |bytes| Estimate { written_bytes: range(bytes), ..Estimate::of(&Workload::default(), 1) };
        assert_eq!(compare("/s", 100, (60, 40), &guess(60)).unwrap(), None);
        let error = compare("/s", 100, (60, 41), &guess(60)).unwrap_err().to_string();
        assert!(error.contains("/s") && error.contains("synced"), "{error}");
        let finding = compare("/s", 100, (60, 40), &guess(61)).unwrap().unwrap();
        assert!(finding.message.contains("about"), "{finding:?}");
    }
}
