//! Tests on samples of metadata in the shapes of several distributions; see tests/fixtures/rpm-metadata.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use crate::rpm::*;
use crate::{DistroError, Fetcher, Progress};
use base::digest::Sha256;
use store::Store;

struct Silent;

impl Progress for Silent {
    fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/rpm-metadata")
}

fn packed(bytes: &[u8], packing: &str) -> Vec<u8> {
    match packing {
        "none" => bytes.to_vec(),
        "gz" => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        "xz" => {
            let mut out = liblzma::write::XzEncoder::new(Vec::new(), 6);
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        "zst" => zstd::encode_all(bytes, 3).unwrap(),
        other => panic!("{other}"),
    }
}

fn digest(bytes: &[u8], kind: &str) -> String {
    use sha2::Digest as _;
    match kind {
        "sha256" => Sha256::of(bytes).to_string(),
        _ => sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Writes a sample as a repository.
fn publish(name: &str, to: &Path) {
    let from = fixtures().join(name);
    let mut repomd = std::fs::read_to_string(from.join("repomd.xml.in")).unwrap();
    let mut files = Vec::new();
    for line in std::fs::read_to_string(from.join("layout.tsv")).unwrap().lines() {
        let [kind, source, file, packing, sums] = line.split('\t').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let plain = std::fs::read(from.join(source)).unwrap();
        let bytes = packed(&plain, packing);
        let sum = digest(&bytes, sums);
        files.push((file.replace(&format!("@sum:{kind}@"), &sum), bytes.clone()));
        for (what, value) in [
            ("sum", sum),
            ("size", bytes.len().to_string()),
            ("open-sum", digest(&plain, sums)),
            ("open-size", plain.len().to_string()),
        ] {
            repomd = repomd.replace(&format!("@{what}:{kind}@"), &value);
        }
    }
    assert!(!repomd.contains('@'), "{repomd}");
    std::fs::create_dir_all(to.join("repodata")).unwrap();
    std::fs::write(to.join("repodata/repomd.xml"), repomd).unwrap();
    for (name, bytes) in files {
        std::fs::write(to.join("repodata").join(name), bytes).unwrap();
    }
}

fn fetched(directory: &Path) -> Result<Repository, DistroError> {
    let store = Store::open(&directory.join("store"), "", (0, 0)).unwrap();
    let source = RepositorySource {
        id: "sample".to_owned(),
        base: vec![format!("file:{}/", directory.display())],
        ..RepositorySource::default()
    };
    let repository = fetch_repository(&Fetcher::new(), &store, &source, &Silent)?;
    // What is in the store gives the same without any repository.
    let again = read_repository(&store, &source, &repository.bases, &repository.repomd).unwrap();
    assert_eq!((&again.candidates, &again.metadata), (&repository.candidates, &repository.metadata));
    Ok(repository)
}

fn sample(name: &str) -> Repository {
    let place = tempfile::tempdir().unwrap();
    publish(name, place.path());
    let repository = fetched(place.path()).unwrap();
    // The closure needs filelists, for a path that primary does not name.
    let chosen = closure(std::slice::from_ref(&repository), &["bash".to_owned()], "x86_64").unwrap();
    let names: Vec<&str> = chosen.iter().map(|(_, index)| repository.candidates[*index].name.as_str()).collect();
    assert_eq!(names, ["bash", "glibc", "filesystem"]);
    repository
}

fn kinds(repository: &Repository) -> Vec<&str> {
    repository.metadata.iter().map(|file| file.kind.as_str()).collect()
}

#[test]
fn samples_of_all_distributions_are_read() {
    for (name, expected) in [
        ("rhel-7", "primary filelists group group_gz updateinfo"),
        ("rhel-8", "primary filelists group group_xz modules"),
        ("rhel-9", "primary filelists group group_xz"),
        ("rhel-10", "primary filelists group updateinfo"),
        ("sles-12", "primary filelists updateinfo susedata"),
        ("sles-15", "primary filelists updateinfo susedata"),
        ("leap", "primary filelists updateinfo susedata"),
        ("fedora", "primary filelists group group_zst"),
    ] {
        let repository = sample(name);
        assert_eq!(kinds(&repository).join(" "), expected, "{name}");
        assert_eq!(repository.comps.is_some(), expected.contains("group"), "{name}");
        let bash = &repository.candidates[0];
        assert_eq!((bash.name.as_str(), bash.size, bash.installed_size), ("bash", 1234, 5678), "{name}");
        assert_eq!(bash.header_range, Some((4504, 9000)));
        assert!(bash.files.contains(&"/usr/bin/bash".to_owned()), "{name}");
        assert!(bash.requires.iter().any(|one| one.pre && &*one.capability.name == "/usr/sbin/ldconfig"), "{name}");
        assert!(bash.provides.iter().any(|one| one.met_by(&Capability::parse("bash"))), "{name}");
    }
}

#[test]
fn what_is_special_to_a_distribution_is_read() {
    let rhel = sample("rhel-10");
    assert_eq!(rhel.candidates[3].nevra(), "dnf-data-4.20.0~rc1-14.el10^1.noarch");
    let rhel = sample("rhel-8");
    let dnf = rhel.candidates.iter().find(|one| one.name == "dnf").unwrap();
    assert_eq!(&*dnf.weak.recommends[0].name, "(python3-dbus if NetworkManager)");
    assert_eq!(&*dnf.weak.supplements[0].name, "bash");
    let leap = sample("leap");
    assert!(leap.candidates[0].checksum.sha256().is_none() && leap.metadata[0].checksum.sha256().is_none());
    assert!(leap.download(&Store::existing(Path::new("/store")), &leap.candidates[0]).is_none());
    assert!(leap.candidates[3].provides.iter().any(|one| one.to_string() == "pattern() = base"));
    let fedora = sample("fedora");
    let release = &fedora.candidates[3];
    let urls = fedora.urls(release);
    assert_eq!(urls, ["https://elsewhere.example.invalid/fedora/Packages/f/fedora-release-39-30.noarch.rpm"]);
    let text = String::from_utf8(fedora.repomd.clone()).unwrap();
    assert!(text.contains("primary_zck") && text.contains("primary_db"));
}

#[test]
fn groups_and_environments_are_read() {
    let comps = sample("rhel-9").comps.unwrap();
    let core = comps.group("core").unwrap();
    assert_eq!((core.name.as_str(), core.default, core.visible), ("Core", true, false));
    let packages: Vec<(&str, PackageKind)> = core.packages.iter().map(|one| (one.name.as_str(), one.kind)).collect();
    assert_eq!(
        packages,
        [
            ("bash", PackageKind::Mandatory),
            ("dnf", PackageKind::Default),
            ("dracut-network", PackageKind::Optional),
            ("bash-completion", PackageKind::Conditional),
        ]
    );
    assert_eq!(core.packages[3].requires.as_deref(), Some("bash"));
    assert_eq!(comps.group("Debugging Tools").unwrap().id, "debugging");
    let minimal = comps.environment("Minimal Install").unwrap();
    assert_eq!(minimal.groups, ["core"]);
    assert_eq!(minimal.options, [("debugging".to_owned(), true), ("standard".to_owned(), false)]);
    assert_eq!(comps.environments.len(), 1);
}

#[test]
fn modules_hide_what_is_not_active() {
    let repository = sample("rhel-8");
    let modules = repository.modules.clone().unwrap();
    assert_eq!(modules.streams.len(), 2);
    assert_eq!(modules.defaults["nodejs"], "18");
    assert_eq!(modules.default_profiles["nodejs"]["20"], ["common"]);
    let first = &modules.streams[0];
    assert_eq!((first.version, first.context.as_str()), (8_080_020_230_301_081_258, "rhel8"));
    assert_eq!(first.profiles["common"], ["nodejs", "npm"]);
    assert_eq!(first.requires[0]["platform"], ["el8"]);
    let shown = |choices: &[StreamChoice]| {
        let mut all = [repository.clone()];
        hide_modular(&mut all, choices).unwrap();
        let visible = all[0].candidates.iter().enumerate().filter(|(index, _)| !all[0].hidden.contains(index));
        let names: BTreeSet<String> =
            visible.map(|(_, one)| one.nevra()).filter(|name| name.starts_with('n')).collect();
        names.into_iter().collect::<Vec<_>>().join(" ")
    };
    let choice =
        |stream: Option<&str>| [StreamChoice { module: "nodejs".to_owned(), stream: stream.map(str::to_owned) }];
    let default = "nodejs-1:18.14.2-2.module+el8.8.0.x86_64 npm-1:9.5.0-1.18.14.2.2.module+el8.8.0.x86_64";
    assert_eq!(shown(&[]), default);
    assert_eq!(shown(&choice(Some("18"))), default);
    assert_eq!(shown(&choice(Some("20"))), "nodejs-1:20.8.1-1.module+el8.9.0.x86_64");
    // A disabled module hides its own packages; those of no module are seen again.
    assert_eq!(shown(&choice(None)), "nodejs-1:21.0.0-1.el8.x86_64");
    let said = hide_modular(&mut [repository.clone()], &choice(Some("19"))).unwrap_err();
    assert_eq!(said, "the module `nodejs` has no stream `19`: it has 18, 20");
}

#[test]
fn a_metalink_says_which_repomd_counts() {
    let place = tempfile::tempdir().unwrap();
    publish("fedora", place.path());
    let repomd = std::fs::read(place.path().join("repodata/repomd.xml")).unwrap();
    let text = std::fs::read_to_string(fixtures().join("fedora/metalink.xml.in")).unwrap();
    let text = text
        .replace("@size:repomd@", &repomd.len().to_string())
        .replace("@sum:repomd@", &digest(&repomd, "sha256"))
        .replace("@sum:older@", &digest(b"older", "sha256"));
    let metalink = read_metalink(text.as_bytes()).unwrap();
    let mirrors = ["https://fast.example.invalid/fedora", "https://slow.example.invalid/fedora"];
    assert_eq!(metalink.mirrors, mirrors);
    assert!(metalink.accepts(&repomd) && metalink.accepts(b"older") && !metalink.accepts(b"other"));
    let weak = text.replace("sha256", "sha1");
    assert!(read_metalink(weak.as_bytes()).unwrap_err().contains("no trustworthy digest"));
    // A repository behind a metalink is checked against it.
    std::fs::write(place.path().join("metalink"), &text).unwrap();
    let store = Store::open(&place.path().join("store"), "", (0, 0)).unwrap();
    let source = |text: &str| {
        std::fs::write(place.path().join("metalink"), text).unwrap();
        RepositorySource {
            id: "sample".to_owned(),
            base: vec![format!("file:{}", place.path().display())],
            metalink: Some(format!("file:{}/metalink", place.path().display())),
            ..RepositorySource::default()
        }
    };
    fetch_repository(&Fetcher::new(), &store, &source(&text), &Silent).unwrap();
    let other = text.replace(&digest(&repomd, "sha256"), &digest(b"x", "sha256"));
    let said = fetch_repository(&Fetcher::new(), &store, &source(&other), &Silent).unwrap_err().to_string();
    assert!(said.contains("matches no digest in the metalink"), "{said}");
}

#[test]
fn mirror_lists_are_read() {
    let text = "# repo = x\nhttp://one.example/x/\n\nftp://two.example/\nhttps://three.example/y\n";
    assert_eq!(read_mirrorlist(text).unwrap(), ["http://one.example/x", "https://three.example/y"]);
    assert!(read_mirrorlist("# none\nfile:///etc\n").is_err());
}

#[test]
fn what_is_altered_or_too_weak_is_refused() {
    let place = tempfile::tempdir().unwrap();
    publish("sles-12", place.path());
    let repomd = place.path().join("repodata/repomd.xml");
    let good = std::fs::read_to_string(&repomd).unwrap();
    let said = |text: &str| {
        std::fs::write(&repomd, text).unwrap();
        std::fs::remove_dir_all(place.path().join("store")).ok();
        fetched(place.path()).unwrap_err().to_string()
    };
    let weak = good.replace("type=\"sha256\"", "type=\"sha\"");
    assert!(said(&weak).contains("too weak to be trusted for `primary`"), "{}", said(&weak));
    assert!(said(&good.replace("href=\"repodata/primary", "href=\"../primary")).contains("outside the repository"));
    assert!(said(&good.replace("type=\"primary\"", "type=\"x\"")).contains("lists no `primary`"));
    assert!(said("<html/>").contains("contains `html` instead of `repomd`"));
    assert!(said(&good[..good.len() / 2]).contains("not well-formed XML"));
    std::fs::write(&repomd, &good).unwrap();
    let mut bytes = std::fs::read(place.path().join("repodata/primary.xml.gz")).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(place.path().join("repodata/primary.xml.gz"), bytes).unwrap();
    assert!(matches!(fetched(place.path()).unwrap_err(), DistroError::Digest { .. }));
}

#[test]
fn a_repository_that_must_be_signed_and_is_not_is_refused() {
    let place = tempfile::tempdir().unwrap();
    publish("sles-15", place.path());
    let store = Store::open(&place.path().join("store"), "", (0, 0)).unwrap();
    let source = RepositorySource {
        base: vec![format!("file:{}", place.path().display())],
        repo_gpgcheck: true,
        keys: Some(crate::Keyring::debian().unwrap()),
        ..RepositorySource::default()
    };
    let said =
        |source: &RepositorySource| fetch_repository(&Fetcher::new(), &store, source, &Silent).unwrap_err().to_string();
    assert!(said(&source).contains("there is no repomd.xml.asc next to it"), "{}", said(&source));
    std::fs::write(place.path().join("repodata/repomd.xml.asc"), "no signature").unwrap();
    assert!(said(&source).contains("it is not a signature"), "{}", said(&source));
    assert!(said(&RepositorySource { keys: None, ..source }).contains("no key is given"));
}

#[test]
fn packages_beside_a_repository_are_fetched_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().canonicalize().unwrap();
    let store = Store::open(&root.join("store"), "", (0, 0)).unwrap();
    std::fs::create_dir_all(root.join("mirror/pool/x")).unwrap();
    std::fs::create_dir_all(root.join("mirror/os/9/x86_64")).unwrap();
    let own = format!("file:{}/mirror/os/9/x86_64", root.display());
    let repository = |base: &str| Repository { bases: vec![base.to_owned()], ..Repository::default() };
    let bytes = b"a package";
    std::fs::write(root.join("mirror/pool/x/x.rpm"), bytes).unwrap();
    std::fs::write(root.join("mirror/os/9/x86_64/x.rpm"), bytes).unwrap();
    let candidate = |base: Option<&str>, location: &str| Candidate {
        location: location.to_owned(),
        base: base.map(str::to_owned),
        checksum: Checksum::parse("sha256", &digest(bytes, "sha256")).unwrap(),
        size: bytes.len() as u64,
        ..Candidate::nothing()
    };
    let beside = "%2e%2e/%2e%2e/%2e%2e/pool/x/x.rpm";
    let place = format!("file://{}/mirror/pool", root.display());
    for (base, location, expected) in [
        (None, "../../../pool/x/x.rpm", beside),
        (None, "Packages/../../../../pool/./x/x.rpm", beside),
        (Some("../../../pool"), "x/x.rpm", beside),
        (Some(place.as_str()), "x/x.rpm", beside),
        (Some(own.as_str()), "x.rpm", "x.rpm"),
        (Some(own.as_str()), "../../../pool/x/x.rpm", beside),
    ] {
        let (repository, candidate) = (repository(&own), candidate(base, location));
        assert_eq!(repository.place(&candidate).as_deref(), Ok(expected), "{base:?} {location}");
        let sha256 = super::fetch::fetch_package(&Fetcher::new(), &store, &repository, &candidate, &Silent).unwrap();
        assert!(store.package(&sha256).is_file());
        std::fs::remove_file(store.package(&sha256)).unwrap();
    }
    // As mirrors have it: the same place of each.
    let http = |base: Option<&str>, location: &str| repository("http://h/centos/os").place(&candidate(base, location));
    assert_eq!(http(Some("http://H/centos/os/"), "x.rpm").as_deref(), Ok("x.rpm"));
    assert_eq!(http(Some("http://h/centos/pool"), "x.rpm").as_deref(), Ok("%2e%2e/pool/x.rpm"));
    let urls = repository("http://h/centos/os").urls(&candidate(None, "../pool/x.rpm"));
    assert_eq!(urls, ["http://h/centos/pool/x.rpm"]);
    // Another server, and what is above all.
    for (base, location) in [
        (Some("http://other/centos/os"), "x.rpm"),
        (Some("https://h/centos/os"), "x.rpm"),
        (None, "../../../x.rpm"),
        (None, "../../x/.."),
        (None, "%2e%2e/x.rpm"),
        (Some("media://1234#2"), "x.rpm"),
    ] {
        http(base, location).unwrap_err();
    }
}

#[test]
fn a_medium_of_several_products_is_refused_with_their_names() {
    let place = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(place.path().join("media.1")).unwrap();
    let products = "/Module-Basesystem sle-module-basesystem 15.4-0\n/Product-SLES SLES 15.4-0\n/../evil x 1\n";
    std::fs::write(place.path().join("media.1/products"), products).unwrap();
    let text = match fetched(place.path()).unwrap_err() {
        DistroError::NoSource { problem, help } => format!("{problem}: {help}"),
        other => panic!("{other}"),
    };
    let uri = format!("uri = \"file:{}/Module-Basesystem\"", place.path().display());
    assert!(text.contains(&uri) && text.contains("it has Module-Basesystem, Product-SLES"), "{text}");
    assert!(!text.contains("evil"), "{text}");
}

/// A sample's file with some bytes changed.
fn changed(file: &str, changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = std::fs::read(fixtures().join(file)).unwrap();
    for (at, value) in changes {
        let at = at % bytes.len();
        bytes[at] = *value;
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn changed_metadata_never_panic(
        changes in proptest::collection::vec((0usize..20_000, prop_oneof![any::<u8>(), Just(b'<'), Just(b'"'), Just(b'&')]), 1..12)
    ) {
        let _ = super::primary::read_primary(&changed("rhel-8/primary.xml", &changes)[..]);
        let _ = Repomd::parse(&changed("fedora/repomd.xml.in", &changes));
        let _ = Comps::parse(&changed("rhel-9/comps.xml", &changes)[..]);
        let _ = Modules::parse(&String::from_utf8_lossy(&changed("rhel-8/modules.yaml", &changes)));
        let _ = read_metalink(&changed("fedora/metalink.xml.in", &changes));
    }
}
