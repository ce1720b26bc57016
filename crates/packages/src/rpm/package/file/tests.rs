use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::rpm::scan_directory;

/// A package as the `rpm` crate makes it.
pub(in crate::rpm) fn write(
    directory: &Path,
    name: &str,
    change: impl FnOnce(&mut rpm::PackageBuilder),
) -> std::path::PathBuf {
    let config = rpm::BuildConfig::default().compression(rpm::CompressionType::Zstd);
    let mut builder = rpm::PackageBuilder::new(name, "1.5", "MIT", "x86_64", "a test");
    builder.using_config(config).release("2").epoch(1);
    change(&mut builder);
    let path = directory.join(format!("{name}.rpm"));
    builder.build().unwrap().write_file(&path).unwrap();
    path
}

fn sample(directory: &Path) -> std::path::PathBuf {
    write(directory, "sample", |builder| {
        builder
            .requires(rpm::Dependency::greater_eq("libfoo", "2:3.0-1"))
            .requires(rpm::Dependency::any("(a or b)"))
            .provides(rpm::Dependency::eq("virtual(x)", "1"))
            .conflicts(rpm::Dependency::any("old"))
            .obsoletes(rpm::Dependency::less("older", "9"))
            .recommends(rpm::Dependency::any("nice"))
            .post_install_script("true")
            .with_file_contents(
                "content",
                rpm::FileOptions::new("/usr/bin/sample")
                    .mode(rpm::FileMode::regular(0o4755))
                    .caps("cap_net_raw=ep")
                    .unwrap(),
            )
            .unwrap()
            .with_file_contents("x=1", rpm::FileOptions::new("/etc/sample.conf").config())
            .unwrap()
            .with_dir_entry(rpm::FileOptions::dir("/var/lib/sample"))
            .unwrap()
            .with_symlink(rpm::FileOptions::symlink("/usr/bin/other", "sample"))
            .unwrap()
            .with_ghost(rpm::FileOptions::ghost("/var/log/sample"))
            .unwrap();
    })
}

#[test]
fn a_header_says_what_a_repository_would() {
    let place = tempfile::tempdir().unwrap();
    sample(place.path());
    let package = Package::read(&place.path().join("sample.rpm")).unwrap();
    let candidate = &package.candidate;
    assert_eq!(candidate.nevra(), "sample-1:1.5-2.x86_64");
    let requires: Vec<String> = candidate.requires.iter().map(|one| one.capability.to_string()).collect();
    assert!(requires.contains(&"libfoo >= 2:3.0-1".to_owned()), "{requires:?}");
    assert!(requires.contains(&"(a or b)".to_owned()));
    assert!(candidate.provides.iter().any(|one| one.to_string() == "sample = 1:1.5-2"), "{:?}", candidate.provides);
    assert_eq!(candidate.conflicts[0].to_string(), "old");
    assert_eq!(candidate.obsoletes[0].to_string(), "older < 9");
    assert_eq!(candidate.weak.recommends[0].to_string(), "nice");
    assert_eq!(package.scriptlets.iter().map(|one| one.kind).collect::<Vec<_>>(), ["post"]);
    let file = |path: &str| package.files.iter().find(|file| file.path == path).unwrap();
    assert_eq!(file("/usr/bin/sample").mode, 0o104_755);
    assert_eq!(file("/usr/bin/sample").capabilities, "cap_net_raw=ep");
    assert!(file("/etc/sample.conf").config && file("/var/log/sample").ghost && file("/var/lib/sample").is_directory());
    assert_eq!(file("/usr/bin/other").link, "sample");
    let (scanned, _) = scan_directory(place.path()).unwrap();
    assert_eq!(scanned.len(), 1);
    assert_eq!(scanned[0], package.candidate);
    let bytes = std::fs::read(place.path().join("sample.rpm")).unwrap();
    assert_eq!(scanned[0].checksum.sha256(), Some(base::digest::Sha256::of(&bytes)));
}

#[test]
fn kernels_are_found_by_their_modules_and_images() {
    let place = tempfile::tempdir().unwrap();
    let path = write(place.path(), "kernel", |builder| {
        for path in [
            "/lib/modules/5.14.0-1.el9.x86_64/vmlinuz",
            "/usr/lib/modules/5.14.0-2.el9.x86_64/kernel/fs/xfs.ko.xz",
            "/boot/vmlinuz-6.4.0-150600.23-default",
            "/lib/modules/6.1-extra/weak-updates/x.ko",
            "/boot/config-7",
        ] {
            builder.with_file_contents("", rpm::FileOptions::new(path)).unwrap();
        }
    });
    let found = Package::read(&path).unwrap().kernel_releases();
    assert_eq!(found, ["5.14.0-1.el9.x86_64", "5.14.0-2.el9.x86_64", "6.4.0-150600.23-default"]);
}

#[test]
fn damage_is_seen_wherever_it_is() {
    let place = tempfile::tempdir().unwrap();
    let path = sample(place.path());
    let bytes = std::fs::read(&path).unwrap();
    let headers = Headers::read(&mut &bytes[..]).unwrap();
    let said = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        Package::read(&path).unwrap_err()
    };
    let mut header = bytes.clone();
    header[headers.range.1 as usize - 20] ^= 1;
    assert!(said(&header).contains("its header does not match"), "{}", said(&header));
    let mut payload = bytes.clone();
    payload[headers.range.1 as usize + 10] ^= 1;
    assert!(said(&payload).contains("its payload does not match"));
    assert!(said(&bytes[..bytes.len() - 1]).contains("damaged"));
    assert!(said(&bytes[..200]).contains("truncated"));
    assert!(said(b"no package").contains("not an RPM package"));
}

fn sample_bytes() -> &'static [u8] {
    static BYTES: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
        let place = tempfile::tempdir().unwrap();
        std::fs::read(sample(place.path())).unwrap()
    });
    &BYTES
}

proptest! {
    #[test]
    fn changed_bytes_never_panic(changes in proptest::collection::vec((0usize..12_000, any::<u8>()), 1..20), cut in 0usize..12_000) {
        let mut bytes = sample_bytes().to_vec();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        if cut % 4 == 0 {
            bytes.truncate(cut % bytes.len());
        }
        if let Ok(headers) = Headers::read(&mut &bytes[..]) {
            let checksum = Checksum::Sha256(Sha256::of(b""));
            if let Ok(package) = Package::of(&headers, checksum, 0, String::new()) {
                let _ = package.kernel_releases();
            }
        }
        let place = tempfile::tempdir().unwrap();
        let mut extractor = archive::Extractor::new(place.path().to_str().unwrap()).unwrap();
        let _ = crate::rpm::unpack(&mut extractor, &bytes[..]);
    }
}
