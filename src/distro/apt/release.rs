//! InRelease: fetched, its signature checked, its digests taken.

use std::collections::BTreeMap;

use super::Source;
use crate::digest::Sha256;
use crate::distro::{DistroError, Download, Fetcher, Keyring, verify_clear_signed};
use crate::store::Store;

/// Largest InRelease that is read; Debian's are about 150 KB.
const RELEASE_LIMIT: u64 = 16 << 20;

/// A suite whose Release file was checked.
#[derive(Debug, Clone)]
pub struct SuiteRelease {
    /// Suite as asked for.
    pub suite: String,
    /// Root of the archive.
    pub uri: String,
    /// The file as it came.
    pub signed: Vec<u8>,
    /// The signed text.
    pub text: String,
    /// Digest of the signed text; what the lock keeps.
    pub digest: Sha256,
    /// The index of each component that has one: digest and path below the suite.
    pub indices: Vec<(String, Sha256, String)>,
}

/// Fetches and checks a suite's Release file; gives the downloads of its indices beside it.
///
/// # Errors
/// [`DistroError::NoSuite`] when the archive does not have the suite; [`DistroError`] for a file that cannot be had, is not signed well, is too old, or lacks a component.
pub fn fetch_suite(
    fetcher: &Fetcher,
    store: &Store,
    source: &Source,
    suite: &str,
    architecture: &str,
    keyring: &Keyring,
) -> Result<(SuiteRelease, Vec<Download>), DistroError> {
    let base = format!("{}/dists/{suite}", source.uri);
    let data = fetcher.read(&format!("{base}/InRelease"), RELEASE_LIMIT).map_err(|error| match error {
        DistroError::NotThere { answer: problem, .. } => {
            DistroError::NoSuite { uri: source.uri.clone(), suite: suite.to_owned(), problem }
        }
        other => other,
    })?;
    let text = verify_clear_signed(&data, keyring).map_err(|problem| DistroError::Signature {
        file: "InRelease".to_owned(),
        place: base.clone(),
        problem,
        help: "if this archive is signed with a key of its own, name it: [[repo]] signed-by = \"keys/site.gpg\""
            .to_owned(),
    })?;
    let wrong = |problem: String| DistroError::Format { file: format!("{base}/InRelease"), problem };
    let fields = deb822_fast::borrowed::parse_borrowed(&text)
        .map_err(|error| wrong(error.to_string()))?
        .into_iter()
        .next()
        .ok_or_else(|| wrong("is empty".to_owned()))?;
    if source.check_valid_until
        && let Some(until) = fields.get_single("Valid-Until")
        && is_past(until)
    {
        return Err(DistroError::Expired { file: "InRelease".to_owned(), place: base, until: until.trim().to_owned() });
    }
    let named = [fields.get_single("Suite"), fields.get_single("Codename")];
    let known = named.iter().flatten().any(|name| name.trim() == suite);
    if !known {
        return Err(wrong(format!(
            "says that it is `{}`, not `{suite}`",
            named.iter().flatten().next().map_or("nothing", |name| name.trim())
        )));
    }
    let mut listed = BTreeMap::new();
    for line in fields.get_field("SHA256").map(|field| field.lines().to_vec()).unwrap_or_default() {
        let mut words = line.split_whitespace();
        if let (Some(digest), Some(size), Some(path)) = (words.next(), words.next(), words.next())
            && let (Ok(digest), Ok(size)) = (Sha256::parse(digest), size.parse::<u64>())
        {
            listed.insert(path.to_owned(), (digest, size));
        }
    }
    let by_hash = fields.get_single("Acquire-By-Hash").is_some_and(|word| word.trim() == "yes");
    let mut indices = Vec::new();
    let mut downloads = Vec::new();
    for component in &source.components {
        let stem = format!("{component}/binary-{architecture}/Packages");
        let Some((path, (digest, size))) =
            ["xz", "gz"].iter().find_map(|ending| listed.get_key_value(&format!("{stem}.{ending}")))
        else {
            return Err(wrong(format!("has no packages of component `{component}` for {architecture}")));
        };
        if !listed.contains_key(&stem) {
            return Err(wrong(format!("lists `{path}` but not `{stem}`, without which apt does not read it")));
        }
        if *size > super::index::INDEX_LIMIT {
            return Err(wrong(format!("announces an index of {size} bytes; no index is that large")));
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let url = if by_hash { format!("{base}/{folder}/by-hash/SHA256/{digest}") } else { format!("{base}/{path}") };
        downloads.push(Download { urls: vec![url], size: *size, sha256: *digest, destination: store.index(digest) });
        indices.push((component.clone(), *digest, path.clone()));
    }
    let digest = Sha256::of(text.as_bytes());
    Ok((
        SuiteRelease { suite: suite.to_owned(), uri: source.uri.clone(), signed: data, text, digest, indices },
        downloads,
    ))
}

/// Whether a Release file's date lies in the past; a date that cannot be read does.
fn is_past(date: &str) -> bool {
    let date = date.trim().replace(" UTC", " +0000");
    match jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_zoned(&date) {
        Ok(until) => until.timestamp() < jiff::Timestamp::now(),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::is_past;

    #[test]
    fn dates_of_release_files_are_understood() {
        assert!(is_past("Sat, 17 May 2025 09:45:39 UTC"));
        assert!(!is_past("Sat, 17 May 2625 09:45:39 UTC"));
        assert!(is_past("tomorrow"));
    }
}
