//! Packages indices, kept as text and looked up by name.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::ops::Range;

use deb822_fast::borrowed::{BorrowedParagraph, BorrowedParser};

use crate::DistroError;
use crate::apt::{PinnedPackage, SuiteRelease};
use base::digest::Sha256;
use store::Store;

/// Largest index, in bytes, before and after decompression: Debian's `main` has about 60 MB unpacked.
pub(in crate::apt) const INDEX_LIMIT: u64 = 512 << 20;

/// Memory that an xz stream may ask for, in bytes; `xz -9` needs 65 MiB.
const XZ_MEMORY_LIMIT: u64 = 512 << 20;

#[derive(Debug, Clone)]
pub struct SuiteIndex {
    /// The suite's name, or a local directory's.
    pub origin: String,
    pub base_url: String,
    text: String,
    by_name: HashMap<String, Vec<Range<usize>>>,
}

#[derive(Debug, Clone)]
pub struct Candidate<'a> {
    pub fields: BorrowedParagraph<'a>,
    pub stanza: &'a str,
    pub index: &'a SuiteIndex,
}

impl SuiteIndex {
    pub fn new(origin: String, base_url: String, text: String) -> Self {
        let mut by_name: HashMap<String, Vec<Range<usize>>> = HashMap::new();
        let mut start = 0;
        while start < text.len() {
            let end = text[start..].find("\n\n").map_or(text.len(), |at| start + at);
            let stanza = &text[start..end];
            if let Some(name) = stanza.lines().find_map(|line| line.strip_prefix("Package:")) {
                by_name.entry(name.trim().to_owned()).or_default().push(start..end);
            }
            start = end + 2;
        }
        Self { origin, base_url, text, by_name }
    }

    /// Reads an index of a checked suite from the store.
    /// Errors: [`DistroError::Format`] when it cannot be read.
    pub fn read(store: &Store, release: &SuiteRelease, digest: &Sha256, path: &str) -> Result<Self, DistroError> {
        let wrong = |problem: String| DistroError::Format { file: format!("{}/{path}", release.suite), problem };
        let file = std::fs::File::open(store.index(digest)).map_err(|error| wrong(error.to_string()))?;
        let mut text = String::new();
        let mut reader: Box<dyn Read> = if path.ends_with(".xz") {
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_LIMIT, liblzma::stream::CONCATENATED)
                .map_err(|error| wrong(error.to_string()))?;
            Box::new(liblzma::read::XzDecoder::new_stream(file, stream))
        } else if path.ends_with(".gz") {
            Box::new(flate2::read::MultiGzDecoder::new(file))
        } else if path.ends_with(".bz2") {
            Box::new(bzip2::read::MultiBzDecoder::new(file))
        } else if path.ends_with(".lzma") {
            let stream =
                liblzma::stream::Stream::new_lzma_decoder(XZ_MEMORY_LIMIT).map_err(|error| wrong(error.to_string()))?;
            Box::new(liblzma::read::XzDecoder::new_stream(file, stream))
        } else if path.ends_with(".zst") {
            Box::new(zstd::Decoder::new(file).map_err(|error| wrong(error.to_string()))?)
        } else {
            Box::new(file)
        };
        let read = reader.by_ref().take(INDEX_LIMIT + 1).read_to_string(&mut text);
        if text.len() as u64 > INDEX_LIMIT {
            return Err(wrong(format!("decompresses to more than {} MiB, too large for an index", INDEX_LIMIT >> 20)));
        }
        read.map_err(|error| wrong(format!("cannot be unpacked: {error}")))?;
        Ok(Self::new(release.origin.clone(), release.uri.clone(), text))
    }

    fn candidate(&self, range: &Range<usize>) -> Option<Candidate<'_>> {
        let stanza = &self.text[range.clone()];
        let fields = BorrowedParser::new(stanza).parse_all().ok()?.into_iter().next()?;
        Some(Candidate { fields, stanza, index: self })
    }

    /// All stanzas, in the file's order.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Candidate<'_> {
    /// A field's value on one line.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get_single(name).map(str::trim)
    }

    /// Pins it.
    /// Errors: [`DistroError::Format`] when the stanza lacks what is needed.
    pub fn pin(&self, automatic: bool) -> Result<PinnedPackage, DistroError> {
        let need = |field: &str| {
            self.field(field).map(str::to_owned).ok_or_else(|| DistroError::Format {
                file: format!("the index of {}", self.index.origin),
                problem: format!("has a stanza without {field}: {}", self.stanza.lines().next().unwrap_or_default()),
            })
        };
        let wrong = |field: &str| DistroError::Format {
            file: format!("the index of {}", self.index.origin),
            problem: format!(
                "has a bad {field} for `{}`: `{}`",
                self.field("Package").unwrap_or("?"),
                self.field(field).unwrap_or("").escape_default()
            ),
        };
        let file = need("Filename")?.trim_start_matches("./").to_owned();
        if !fault::planted("apt-file-leads-out") && (file.starts_with('/') || file.split('/').any(|part| part == ".."))
        {
            return Err(wrong("Filename"));
        }
        // They become file names.
        let word = |field: &'static str, more: &str| {
            let text = need(field)?;
            let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
            let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c));
            if first && rest { Ok(text) } else { Err(wrong(field)) }
        };
        Ok(PinnedPackage {
            // As dpkg has it (lib/dpkg/parsehelp.c), which is laxer than Debian's policy.
            name: word("Package", "-+._")?,
            version: word("Version", ".+-:~_")?,
            architecture: word("Architecture", "-")?,
            size: need("Size")?.parse().map_err(|_| wrong("Size"))?,
            sha256: Sha256::parse(&need("SHA256")?).map_err(|_| wrong("SHA256"))?,
            origin: self.index.origin.clone(),
            file,
            automatic,
            beside: false,
        })
    }

    /// The package's version for comparison.
    pub fn version(&self) -> Option<debversion::Version> {
        self.field("Version")?.parse().ok()
    }
}

/// All indices that a recipe's repositories offer.
#[derive(Debug, Clone, Default)]
pub struct Archive {
    /// In the order of the recipe.
    pub indices: Vec<SuiteIndex>,
}

impl Archive {
    pub fn candidates(&self, name: &str) -> Vec<Candidate<'_>> {
        self.indices
            .iter()
            .flat_map(|index| index.by_name.get(name).into_iter().flatten().filter_map(|range| index.candidate(range)))
            .collect()
    }

    pub fn newest(&self, name: &str) -> Option<Candidate<'_>> {
        let mut best: Option<(debversion::Version, Candidate<'_>)> = None;
        for candidate in self.candidates(name) {
            let Some(version) = candidate.version() else { continue };
            if best.as_ref().is_none_or(|(known, _)| version > *known && !fault::planted("apt-first-version")) {
                best = Some((version, candidate));
            }
        }
        best.map(|(_, candidate)| candidate)
    }

    /// The package of exactly a name, version and architecture (`all` counts for each).
    pub fn exact(&self, name: &str, version: &str) -> Option<Candidate<'_>> {
        self.candidates(name).into_iter().find(|candidate| candidate.field("Version") == Some(version))
    }

    /// All names, sorted.
    pub fn names(&self) -> BTreeSet<&str> {
        self.indices.iter().flat_map(|index| index.by_name.keys().map(String::as_str)).collect()
    }

    /// Names of the packages that have a line in their stanza, sorted.
    pub fn names_with_line(&self, line: &str) -> Vec<String> {
        let mut found = BTreeSet::new();
        for index in &self.indices {
            for (name, ranges) in &index.by_name {
                if ranges.iter().any(|range| index.text[range.clone()].lines().any(|text| text == line)) {
                    found.insert(name.clone());
                }
            }
        }
        found.into_iter().collect()
    }

    /// Which packages provide each virtual name.
    pub fn providers(&self) -> HashMap<String, BTreeSet<String>> {
        let mut found: HashMap<String, BTreeSet<String>> = HashMap::new();
        for index in &self.indices {
            for (name, ranges) in &index.by_name {
                for range in ranges {
                    let provides = index.text[range.clone()].lines().find_map(|line| line.strip_prefix("Provides:"));
                    for item in provides.into_iter().flat_map(|list| list.split(',')) {
                        let provided = item.split_whitespace().next().unwrap_or_default();
                        found.entry(provided.to_owned()).or_default().insert(name.clone());
                    }
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_lead_elsewhere_as_a_file_name_is_not_pinned() {
        let pin = |name: &str, version: &str, architecture: &str, file: &str| {
            let text = format!(
                "Package: {name}\nVersion: {version}\nArchitecture: {architecture}\nFilename: {file}\nSize: 1\nSHA256: {}\n",
                Sha256::of(b"x")
            );
            let archive = Archive { indices: vec![SuiteIndex::new("a".into(), "u".into(), text)] };
            archive.newest(name).or_else(|| archive.candidates(name).into_iter().next()).unwrap().pin(false).is_ok()
        };
        assert!(pin("libstdc++6", "1:12.2.0-14+deb12u1~x", "amd64", "./pool/l/x.deb"));
        for (name, version, architecture, file) in [
            ("../x", "1", "all", "x.deb"),
            ("a/b", "1", "all", "x.deb"),
            ("-x", "1", "all", "x.deb"),
            ("x", "1/../../y", "all", "x.deb"),
            ("x", "1", "../all", "x.deb"),
            ("x", "1", "all", "a/../../x.deb"),
            ("x", "1", "all", "/etc/passwd"),
        ] {
            assert!(!pin(name, version, architecture, file), "{name} {version} {architecture} {file}");
        }
    }

    #[test]
    fn the_highest_version_of_all_suites_is_found() {
        let one = SuiteIndex::new(
            "a".into(),
            "u".into(),
            "Package: x\nVersion: 1.0-9\n\nPackage: y\nVersion: 1\nProvides: z (= 1), w\n".into(),
        );
        let two = SuiteIndex::new("b".into(), "u".into(), "Package: x\nVersion: 1.0-10\n".into());
        let archive = Archive { indices: vec![one, two] };
        assert_eq!(archive.newest("x").unwrap().field("Version"), Some("1.0-10"));
        assert_eq!(archive.newest("x").unwrap().index.origin, "b");
        assert!(archive.exact("x", "1.0-9").is_some());
        assert!(archive.providers()["z"].contains("y"));
        assert!(archive.newest("nothing").is_none());
    }
}
