//! Whether a bill that lies beside an image is about this image: it is compared, entry by entry, with the one that is written now.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::model::{Bill, Format};

/// What is read of a bill, of either form.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Document {
    spdx_version: String,
    packages: Vec<SpdxPackage>,
    files: Vec<SpdxFile>,
    bom_format: String,
    metadata: Metadata,
    components: Vec<Component>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SpdxPackage {
    name: String,
    version_info: String,
    primary_package_purpose: String,
    checksums: Vec<Checksum>,
    external_refs: Vec<Reference>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct SpdxFile {
    file_name: String,
    checksums: Vec<Checksum>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Checksum {
    algorithm: String,
    checksum_value: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reference {
    reference_type: String,
    reference_locator: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    component: Option<Component>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Component {
    #[serde(rename = "type")]
    kind: String,
    name: String,
    version: String,
    purl: Option<String>,
    hashes: Vec<Hash>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Hash {
    alg: String,
    content: String,
}

/// What a bill says of something.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    version: String,
    sha256: Option<String>,
}

/// What a bill lists: packages by their URLs, all else by kind and name.
#[derive(Debug, Default)]
struct Listed {
    all: BTreeMap<String, Entry>,
    twice: BTreeSet<String>,
}

impl Listed {
    fn add(&mut self, key: String, entry: Entry) {
        if self.all.insert(key.clone(), entry).is_some() {
            self.twice.insert(key);
        }
    }
}

fn sha256_of(checksums: Vec<Checksum>) -> Option<String> {
    checksums.into_iter().find(|one| one.algorithm == "SHA256").map(|one| one.checksum_value)
}

/// Reads a bill.
/// Errors: What is wrong with it.
fn listed(document: &[u8]) -> Result<(Format, Listed), String> {
    let document: Document = serde_json::from_slice(document).map_err(|error| error.to_string())?;
    let mut found = Listed::default();
    let format = match (document.spdx_version.is_empty(), document.bom_format.is_empty()) {
        (false, true) => Format::Spdx,
        (true, false) => Format::CycloneDx,
        _ => return Err("it is neither in SPDX nor in CycloneDX".to_owned()),
    };
    if format == Format::Spdx {
        for one in document.packages {
            let mut urls = one.external_refs.into_iter().filter(|one| one.reference_type == "purl");
            let url = urls.next().map(|one| one.reference_locator);
            let key = url.unwrap_or_else(|| format!("{} {}", one.primary_package_purpose, one.name));
            let sha256 = sha256_of(one.checksums);
            found.add(key, Entry { name: one.name, version: one.version_info, sha256 });
        }
        for SpdxFile { file_name, checksums } in document.files {
            let entry = Entry { name: file_name.clone(), version: String::new(), sha256: sha256_of(checksums) };
            found.add(format!("file {file_name}"), entry);
        }
        return Ok((format, found));
    }
    for one in document.metadata.component.into_iter().chain(document.components) {
        let key = one.purl.unwrap_or_else(|| format!("{} {}", one.kind, one.name));
        let sha256 = one.hashes.into_iter().find(|one| one.alg == "SHA-256").map(|one| one.content);
        found.add(key, Entry { name: one.name, version: one.version, sha256 });
    }
    Ok((format, found))
}

/// Whether it is there only if the bill was written with the lock of the build.
fn is_of_lock(key: &str) -> bool {
    key.split_once(' ').is_some_and(|(_, name)| name == recipe::LOCK_FILE)
}

impl Bill {
    /// Where a document differs from the image, for after `it`: `lacks ..`, `lists ..`, `gives ..`. Digests of packages and the lock's
    /// are known only with a lock: they are compared where both have them.
    /// Errors: What is wrong with the document.
    pub fn unlike(&self, document: &[u8]) -> Result<Vec<String>, String> {
        let (format, found) = listed(document)?;
        let (_, own) = listed(self.document(format).as_bytes())?;
        let mut wrong = Vec::new();
        for key in own.all.keys().filter(|key| !found.all.contains_key(*key) && !is_of_lock(key)) {
            wrong.push(format!("lacks {key}"));
        }
        for key in found.all.keys().filter(|key| !own.all.contains_key(*key) && !is_of_lock(key)) {
            wrong.push(format!("lists {key}, which is not in the image"));
        }
        for key in found.twice.difference(&own.twice) {
            wrong.push(format!("lists {key} twice"));
        }
        for (key, expected) in &own.all {
            let Some(entry) = found.all.get(key) else { continue };
            if (&entry.name, &entry.version) != (&expected.name, &expected.version) {
                wrong.push(format!("gives another name or version of {key}"));
            }
            let is_unknown = key.starts_with("pkg:") && (entry.sha256.is_none() || expected.sha256.is_none());
            if entry.sha256 != expected.sha256 && !is_unknown {
                wrong.push(format!("gives another digest of {key}"));
            }
        }
        Ok(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{INSTALLED, bill, lock};
    use base::digest::Sha256;

    #[test]
    fn a_document_that_is_not_the_image_s_is_noticed_in_both_forms() {
        let bill = bill(None);
        for format in [Format::Spdx, Format::CycloneDx] {
            let text = bill.document(format);
            assert_eq!(bill.unlike(text.as_bytes()).unwrap(), Vec::<String>::new());
            let other = bill.unlike(text.replace("libc6@2.36-9%2Bdeb12u9", "libc6@2.36-8").as_bytes()).unwrap();
            assert!(other.len() == 2 && other[0].starts_with("lacks ") && other[1].starts_with("lists "), "{other:?}");
            // A package cannot be called a source of another one.
            let other = text.replace("libc6@2.36-9%2Bdeb12u9?arch=amd64", "libc6@2.36-9%2Bdeb12u9?arch=source-amd64");
            assert_eq!(bill.unlike(other.as_bytes()).unwrap().len(), 2);
        }
        assert!(bill.unlike(b"{").is_err());
        assert!(bill.unlike(b"{}").unwrap_err().contains("neither"));
    }

    #[test]
    fn each_digest_name_and_version_of_a_document_counts() {
        let lock = lock(&INSTALLED);
        let own = bill(Some(&lock));
        let tool = own.files.iter().find(|file| file.path == "opt/tool").unwrap().sha256;
        let other = Sha256::of(b"other").to_string();
        for format in [Format::Spdx, Format::CycloneDx] {
            let text = own.document(format);
            assert_eq!(own.unlike(text.as_bytes()).unwrap(), Vec::<String>::new());
            // Two files with the same content: both are named.
            for (digest, count, name) in
                [(Sha256::of(b"libc6"), 1, "libc6@"), (Sha256::of(b"kernel"), 1, "kernel"), (tool, 2, "opt/")]
            {
                let wrong = own.unlike(text.replace(&digest.to_string(), &other).as_bytes()).unwrap();
                assert_eq!(wrong.len(), count, "{name}: {wrong:?}");
                assert!(wrong[0].starts_with("gives another digest of ") && wrong[0].contains(name), "{wrong:?}");
            }
            let wrong = own.unlike(text.replace("\"2.36-9+deb12u9\"", "\"2.36-10\"").as_bytes()).unwrap();
            assert!(wrong[0].contains("another name or version of "), "{wrong:?}");
            let wrong = own.unlike(text.replace("opt/tool", "opt/other").as_bytes()).unwrap();
            assert_eq!(wrong.len(), 2, "{wrong:?}");
            // Written with the lock, and compared without it; and the other way round.
            assert_eq!(bill(None).unlike(text.as_bytes()).unwrap(), Vec::<String>::new());
            assert_eq!(own.unlike(bill(None).document(format).as_bytes()).unwrap(), Vec::<String>::new());
            let mut twice: serde_json::Value = serde_json::from_str(&text).unwrap();
            let list = if format == Format::Spdx { "packages" } else { "components" };
            let all = twice[list].as_array_mut().unwrap();
            all.push(all[1].clone());
            let wrong = own.unlike(twice.to_string().as_bytes()).unwrap();
            assert!(wrong.len() == 1 && wrong[0].ends_with(" twice"), "{wrong:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_end_the_program(bytes: Vec<u8>) {
            let _ = listed(&bytes);
        }
    }
}
