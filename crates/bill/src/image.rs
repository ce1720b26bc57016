//! build.json, as far as bills need it. It may come from elsewhere: names are plain names of files, and nothing else is believed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use base::digest::Sha256;
use base::format::Version;
use node_words::name::shown;

/// Name of the file that says what was built.
pub const BUILD: &str = "build.json";
/// Name of the file with the digests of all artefacts.
pub const SUMS: &str = "SHA256SUMS";
/// Names of bills beside the artefacts. Source: SPDX's and CycloneDX's recommended endings.
pub const SPDX: &str = "sbom.spdx.json";
pub const CYCLONEDX: &str = "sbom.cdx.json";
/// Name of the signed statement beside the artefacts. Source: in-toto's attestation bundles.
pub const PROVENANCE: &str = "provenance.intoto.jsonl";

/// Bytes of build.json, an index or a statement at most.
pub const TEXT_LIMIT: u64 = 64 << 20;

/// The last second of the year 9999, which a lock's epoch cannot be after either. Source: RFC 3339 has four digits.
const LAST_EPOCH: i64 = 253_402_300_799;

/// The form of build.json that is read.
const FORMAT: Version = Version::new(1, 0);

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Artefact {
    pub name: String,
    /// Bytes.
    pub size: u64,
    pub sha256: Sha256,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Form {
    rootimg: String,
    cmdline: Vec<String>,
}

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Image {
    format_version: String,
    pub name: String,
    /// Distribution, release and architecture.
    pub target: String,
    /// No time in the image is later, in seconds since 1970.
    pub epoch: i64,
    /// What `uname -r` prints on the node.
    pub kernel_release: String,
    /// Words for the kernel's command line.
    pub cmdline: Vec<String>,
    pub artefacts: Vec<Artefact>,
    /// Layers, lowest first: name and digest.
    pub layers: Vec<(String, String)>,
    /// Drivers that the recipe brings itself, by where they come from.
    #[serde(default)]
    pub own_drivers: Vec<String>,
    #[serde(default)]
    also: Vec<Form>,
}

impl Image {
    /// Reads build.json.
    /// Errors: What is wrong with it; a later format, a name that no image has or that is not a plain name of a file, a time that is
    /// not between 1970 and 9999.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let image: Self = serde_json::from_slice(text).map_err(|error| format!("{BUILD}: {error}"))?;
        if Version::parse(&image.format_version).is_none_or(|found| FORMAT.reads(BUILD, found, None).is_err()) {
            let format = image.format_version.escape_default();
            return Err(format!("{BUILD} has the format {format}; only {}.x is supported", FORMAT.major));
        }
        if !recipe::is_image_name(&image.name) {
            return Err(format!("{BUILD} has the name `{}`, which no image can have", image.name.escape_default()));
        }
        let is_odd =
            |one: char| one.is_control() || matches!(one, '/' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        let mut seen = BTreeSet::new();
        for Artefact { name, .. } in &image.artefacts {
            let is_plain = !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(is_odd);
            if !is_plain && !fault::planted("bill-any-name")
                || [BUILD, SUMS].contains(&name.as_str())
                || !seen.insert(name)
            {
                return Err(format!("{BUILD} names the unknown artefact `{}`", name.escape_default()));
            }
        }
        if !(0..=LAST_EPOCH).contains(&image.epoch) {
            return Err(format!("{BUILD} has the epoch {}, which is not a time from 1970 to 9999", image.epoch));
        }
        Ok(image)
    }

    /// The epoch as documents have it. Source: RFC 3339.
    pub fn time(&self) -> String {
        jiff::Timestamp::from_second(self.epoch).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
    }

    /// Artefacts by name: for those who look up many.
    pub fn by_name(&self) -> BTreeMap<&str, &Artefact> {
        self.artefacts.iter().map(|one| (one.name.as_str(), one)).collect()
    }

    /// Packed images with their indices, the one first that nodes boot.
    pub fn packed(&self) -> Vec<(&Artefact, &Artefact)> {
        let first = self.cmdline.iter().find_map(|word| word.strip_prefix("imgurl={url}/"));
        let named = self.by_name();
        let mut all: Vec<(&Artefact, &Artefact)> = Vec::new();
        for index in &self.artefacts {
            if let Some(image) = index.name.strip_suffix(".index").and_then(|name| named.get(name).copied()) {
                all.push((image, index));
            }
        }
        all.sort_by_key(|(image, _)| Some(image.name.as_str()) != first);
        all
    }

    /// Artefacts that are part of the image: all but the bills.
    pub fn parts(&self) -> impl Iterator<Item = &Artefact> {
        self.artefacts.iter().filter(|one| ![SPDX, CYCLONEDX].contains(&one.name.as_str()))
    }

    /// What names this build, however it is described: a digest of what the node gets.
    pub fn identity(&self) -> Sha256 {
        let mut text =
            format!("imgbuild image\n{}\n{}\n{}\n{}\n", self.name, self.target, self.epoch, self.kernel_release);
        for one in self.parts() {
            text.push_str(&format!("{}  {}\n", one.sha256, one.name));
        }
        for words in self.command_lines() {
            text.push_str(&format!("{}\n", words.join(" ")));
        }
        Sha256::of(text.as_bytes())
    }

    fn command_lines(&self) -> impl Iterator<Item = &[String]> {
        std::iter::once(&self.cmdline[..]).chain(self.also.iter().map(|form| &form.cmdline[..]))
    }

    /// Digests of artefacts in the kernels' command lines that are not those of the artefacts: nodes would refuse them.
    pub fn wrong_words(&self) -> Vec<String> {
        let rootimgs: Vec<Option<&str>> =
            std::iter::once(self.cmdline.iter().find_map(|word| word.strip_prefix("imgurl={url}/")))
                .chain(self.also.iter().map(|form| Some(form.rootimg.as_str())))
                .collect();
        let artefacts = self.by_name();
        let mut wrong = Vec::new();
        for (words, rootimg) in self.command_lines().zip(rootimgs) {
            let index = rootimg.map(|rootimg| format!("{rootimg}.index"));
            let named = [
                ("imgdigest=sha256:", index.as_deref()),
                ("imgbuild.statelite=sha256:", Some("statelite.json")),
                ("imgbuild.kdump=sha256:", Some("kdump.json")),
            ];
            for (start, name) in named {
                let Some(digest) = words.iter().find_map(|word| word.strip_prefix(start)) else { continue };
                let artefact = name.and_then(|name| artefacts.get(name));
                if artefact.is_none_or(|one| one.sha256.to_string() != digest) {
                    let name = name.unwrap_or("an index");
                    wrong.push(format!("the word `{start}{}` is not the digest of `{}`", shown(digest), shown(name)));
                }
            }
        }
        wrong
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An image of a kernel and a packed image.
    pub(crate) fn sample() -> serde_json::Value {
        let digest = |text: &str| Sha256::of(text.as_bytes()).to_string();
        serde_json::json!({
            "format_version": "1.0", "name": "compute", "target": "debian 12 x86_64", "epoch": 1_793_491_200,
            "kernel_release": "6.1.0-31-amd64",
            "cmdline": ["imgurl={url}/rootimg.cpio.zst", format!("imgdigest=sha256:{}", digest("index"))], "memory": 1,
            "artefacts": [
                {"name": "kernel", "size": 6, "sha256": digest("kernel")},
                {"name": "rootimg.cpio.zst", "size": 3, "sha256": digest("img")},
                {"name": "rootimg.cpio.zst.index", "size": 5, "sha256": digest("index")},
            ],
            "layers": [["rootfs/base", digest("layer")]], "not_reproducible": [], "own_drivers": ["drivers/mlx"],
        })
    }

    pub(crate) fn read(value: &serde_json::Value) -> Result<Image, String> {
        Image::read(value.to_string().as_bytes())
    }

    #[test]
    fn names_stay_in_the_directory_and_later_forms_are_refused() {
        assert_eq!(read(&sample()).unwrap().time(), "2026-11-01T00:00:00Z");
        for name in
            ["../kernel", "/etc/passwd", ".hidden", "", "a\nb", "a\u{202e}b", "build.json", "SHA256SUMS", "kernel"]
        {
            let mut value = sample();
            value["artefacts"][1]["name"] = name.into();
            assert!(read(&value).unwrap_err().contains("unknown artefact"), "{name:?}");
        }
        let with = |key: &str, value: serde_json::Value| {
            let mut all = sample();
            all[key] = value;
            read(&all)
        };
        assert!(with("format_version", "2.0".into()).unwrap_err().contains("format 2.0"));
        assert!(with("format_version", "1.9".into()).is_ok());
        for epoch in [i64::MAX, LAST_EPOCH + 1, -1] {
            assert!(with("epoch", epoch.into()).unwrap_err().contains("not a time"), "{epoch}");
        }
        let long = "x".repeat(101);
        for name in ["", "../x", ".x", "a b", "a\n", "a\u{202e}b", long.as_str()] {
            assert!(with("name", name.into()).unwrap_err().contains("no image can have"), "{name:?}");
        }
        assert!(Image::read(b"{").is_err() && Image::read(b"\xff").is_err());
    }

    #[test]
    fn what_nodes_get_names_the_build_and_bills_do_not() {
        let image = read(&sample()).unwrap();
        let identity = image.identity();
        for (path, value) in
            [("/artefacts/0/sha256", "0".repeat(64)), ("/cmdline/1", "quiet".to_owned()), ("/name", "x".to_owned())]
        {
            let mut other = sample();
            *other.pointer_mut(path).unwrap() = value.into();
            assert_ne!(read(&other).unwrap().identity(), identity, "{path}");
        }
        let mut with_bill = sample();
        let row = serde_json::json!({"name": SPDX, "size": 1, "sha256": "0".repeat(64)});
        with_bill["artefacts"].as_array_mut().unwrap().push(row);
        assert_eq!(read(&with_bill).unwrap().identity(), identity);
    }

    #[test]
    fn words_that_name_other_digests_are_named() {
        assert!(read(&sample()).unwrap().wrong_words().is_empty());
        for word in ["imgdigest=sha256:00", "imgbuild.kdump=sha256:00", "imgbuild.statelite=sha256:00"] {
            let mut other = sample();
            other["cmdline"][1] = word.into();
            assert_eq!(read(&other).unwrap().wrong_words().len(), 1, "{word}");
        }
    }
}
