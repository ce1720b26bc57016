//! What lies beside an image and is about it: bills of materials and the statement of provenance. They are no artefacts: build.json does
//! not name them, and what nodes boot does not change with them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL, BASE64URL_NOPAD};
use serde::Deserialize;

use super::origin::{BUILD, TEXT_LIMIT};
use crate::published::artefacts::BuildInfo;
use base::digest::Sha256;

/// Their names. Source: docs/sbom.md.
pub(crate) const SPDX: &str = "sbom.spdx.json";
pub(crate) const CYCLONEDX: &str = "sbom.cdx.json";
pub(crate) const PROVENANCE: &str = "provenance.intoto.jsonl";
pub(crate) const BESIDE: [&str; 3] = [SPDX, CYCLONEDX, PROVENANCE];

/// Reads a file of a bounded size that is no link, no pipe and no device; none where it is anything else.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).ok()?;
    let file = File::options().read(true).custom_flags(flags).open(path).ok()?;
    let found = file.metadata().ok()?;
    let mut text = Vec::new();
    (found.is_file() && found.len() <= TEXT_LIMIT).then_some(())?;
    file.take(TEXT_LIMIT).read_to_end(&mut text).ok()?;
    Some(text)
}

#[derive(Deserialize)]
struct Envelope {
    payload: Option<String>,
    #[serde(default)]
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Statement {
    #[serde(default)]
    subject: Vec<Subject>,
}

#[derive(Deserialize)]
struct Subject {
    name: Option<String>,
    digest: Option<std::collections::BTreeMap<String, serde_json::Value>>,
}

fn decoded(text: &str) -> Option<Vec<u8>> {
    let all = [BASE64, BASE64URL, BASE64_NOPAD, BASE64URL_NOPAD];
    all.iter().find_map(|one| one.decode(text.trim().as_bytes()).ok())
}

/// Whether the first line of a bundle is in an envelope, signed or not.
pub(crate) fn is_signed(text: &[u8]) -> bool {
    let mut all = serde_json::Deserializer::from_slice(text).into_iter::<Envelope>();
    matches!(all.next(), Some(Ok(Envelope { payload: Some(_), .. })))
}

/// What a statement is about: files by name. It says nothing of signatures, which `verify` checks.
fn subjects(text: &[u8]) -> Option<Vec<Subject>> {
    let envelope = serde_json::Deserializer::from_slice(text).into_iter::<Envelope>().next()?.ok()?;
    match envelope.payload {
        Some(payload) => Some(serde_json::from_slice::<Statement>(&decoded(&payload)?).ok()?.subject),
        None => Some(envelope.subject),
    }
}

/// Whether a text is about this build: a statement names its build.json, a bill the digests of all artefacts. `build` is that of build.json.
pub(crate) fn is_about(name: &str, text: &[u8], info: &BuildInfo, build: &Sha256) -> bool {
    if name == PROVENANCE {
        let is_build = |one: &Subject| {
            let digest = one.digest.as_ref().and_then(|digest| digest.get("sha256")).and_then(|one| one.as_str());
            one.name.as_deref() == Some(BUILD) && digest == Some(&build.to_string())
        };
        return subjects(text).is_some_and(|all| all.iter().any(is_build)) || fault::planted("beside-any-statement");
    }
    let has = |digest: &Sha256| memchr::memmem::find(text, digest.to_string().as_bytes()).is_some();
    info.artefacts.iter().filter(|one| !BESIDE.contains(&one.name.as_str())).all(|one| has(&one.sha256))
}

/// What there is beside an image that is about it, by name, as of a directory.
pub(crate) fn about(directory: &Path, info: &BuildInfo, build: &Sha256) -> Vec<(&'static str, Vec<u8>)> {
    let is_artefact = |name: &str| info.artefacts.iter().any(|one| one.name == name);
    let all = BESIDE.into_iter().filter(|name| !is_artefact(name));
    all.filter_map(|name| Some((name, read(&directory.join(name))?)))
        .filter(|(name, text)| is_about(name, text, info, build))
        .collect()
}

/// Gives a directory that takes the place of one of the same build what lies beside the other.
pub(crate) fn carry_over(from: &Path, to: &Path) {
    for name in BESIDE {
        let (old, new) = (from.join(name), to.join(name));
        // One that is there is newer.
        if new.exists() || !std::fs::symlink_metadata(&old).is_ok_and(|found| found.is_file()) {
            continue;
        }
        // Another user's file cannot be linked.
        if std::fs::hard_link(&old, &new).is_err()
            && let Some(text) = read(&old)
        {
            let _ = files::replace(&new, &text, 0o644, files::Durability::Kill);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn info() -> BuildInfo {
        serde_json::from_value(serde_json::json!({
            "format_version": "1.0", "name": "x", "target": "debian 12 x86_64", "epoch": 1, "kernel_release": "6.1",
            "cmdline": [], "memory": 1, "layers": [], "not_reproducible": [],
            "artefacts": [{"name": "kernel", "size": 6, "sha256": Sha256::of(b"kernel").to_string()}],
        }))
        .unwrap()
    }

    fn statement(build: &Sha256) -> String {
        serde_json::json!({"subject": [{"digest": null}, {"name": "build.json", "digest": {"sha256": build.to_string()}}]})
            .to_string()
    }

    #[test]
    fn a_statement_is_about_the_build_that_it_names() {
        let build = Sha256::of(b"build");
        let info = info();
        let plain = statement(&build);
        let signed = serde_json::json!({"payload": BASE64.encode(plain.as_bytes()), "signatures": []}).to_string();
        let url = serde_json::json!({"payload": BASE64URL_NOPAD.encode(plain.as_bytes())}).to_string();
        for text in [&plain, &signed, &url, &format!("{signed}\n{{\"another\": 1}}\n")] {
            assert!(is_about(PROVENANCE, text.as_bytes(), &info, &build), "{text}");
            assert!(!is_about(PROVENANCE, text.as_bytes(), &info, &Sha256::of(b"other")), "{text}");
        }
        assert!(is_signed(signed.as_bytes()) && !is_signed(plain.as_bytes()) && !is_signed(b""));
        for odd in ["", "{", "[]", "{}", r#"{"payload": "%"}"#, r#"{"payload": "e30="}"#, r#"{"payload": 7}"#] {
            assert!(!is_about(PROVENANCE, odd.as_bytes(), &info, &build), "{odd}");
        }
    }

    #[test]
    fn a_bill_is_about_the_build_whose_artefacts_it_lists() {
        let (info, build) = (info(), Sha256::of(b"build"));
        let bill = format!("{{\"checksum\": \"{}\"}}", Sha256::of(b"kernel"));
        assert!(is_about(SPDX, bill.as_bytes(), &info, &build));
        assert!(!is_about(CYCLONEDX, b"{}", &info, &build));
    }

    #[test]
    fn links_and_devices_are_not_read_and_a_later_file_stays() {
        let space = tempfile::tempdir().unwrap();
        let (from, to) = (space.path().join("from"), space.path().join("to"));
        std::fs::create_dir(&from).unwrap();
        std::fs::create_dir(&to).unwrap();
        std::fs::write(from.join(PROVENANCE), statement(&Sha256::of(b"build"))).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", from.join(SPDX)).unwrap();
        std::fs::write(from.join(CYCLONEDX), "old").unwrap();
        std::fs::write(to.join(CYCLONEDX), "new").unwrap();
        assert_eq!((read(&from.join(SPDX)), read(Path::new("/dev/zero"))), (None, None));
        let names: Vec<&str> = about(&from, &info(), &Sha256::of(b"build")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, [PROVENANCE]);
        carry_over(&from, &to);
        assert!(to.join(PROVENANCE).exists() && !to.join(SPDX).exists());
        assert_eq!(std::fs::read_to_string(to.join(CYCLONEDX)).unwrap(), "new");
    }
}
