//! Package files as rpm itself makes and signs them.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use archive::Extractor;
use packages::rpm::{Candidate, Evr, Package, RepositorySource, VerifiedBy, fetch_repository, scan_directory, unpack};
use packages::{Fetcher, Keyring};
use store::Store;

use super::closure::Silent;

const SPEC: &str = r#"
Name: sample
Epoch: 2
Version: 1.0~rc1
Release: 3
Summary: A sample
License: MIT
Requires: (bash or dash)
Requires(pre): /usr/sbin/useradd
Requires: other >= 1:2.0-1
Provides: virtual(sample) = 4
Conflicts: enemy < 3
Obsoletes: ancient <= 1
Recommends: nice
%description
A sample.
%install
mkdir -p %{buildroot}/usr/bin %{buildroot}/etc %{buildroot}/usr/lib/modules/6.1.0-1/kernel %{buildroot}/var/log
printf 'sample program' > %{buildroot}/usr/bin/sample
ln %{buildroot}/usr/bin/sample %{buildroot}/usr/bin/sample-also
ln %{buildroot}/usr/bin/sample %{buildroot}/usr/bin/sample-too
ln -s sample %{buildroot}/usr/bin/sample-link
seq 1 20000 > %{buildroot}/usr/lib/modules/6.1.0-1/kernel/x.ko
: > %{buildroot}/etc/sample.conf
: > %{buildroot}/var/log/sample.log
%post
true
%files
%attr(4755,root,root) /usr/bin/sample
/usr/bin/sample-also
/usr/bin/sample-too
/usr/bin/sample-link
%config(noreplace) /etc/sample.conf
%dir %attr(0750,root,root) /usr/lib/modules/6.1.0-1
/usr/lib/modules/6.1.0-1/kernel
%ghost /var/log/sample.log
"#;

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn build(place: &Path, payload: &str) -> PathBuf {
    let spec = place.join("sample.spec");
    std::fs::write(&spec, SPEC).unwrap();
    let top = place.join(payload);
    run(Command::new("rpmbuild")
        .args(["-bb", "--quiet", "--target", "x86_64"])
        .args(["--define", &format!("_topdir {}", top.display())])
        .args(["--define", &format!("_binary_payload {payload}")])
        .args(["--define", "__os_install_post %{nil}", "--define", "debug_package %{nil}"])
        .arg(&spec));
    top.join("RPMS/x86_64/sample-1.0~rc1-3.x86_64.rpm")
}

fn query(package: &Path, what: &[&str]) -> BTreeSet<String> {
    let text = run(Command::new("rpm").arg("-qp").args(what).arg(package).env("LC_ALL", "C"));
    text.lines().map(|line| line.trim().to_owned()).collect()
}

#[test]
fn packages_of_rpm_are_read_and_unpacked_whatever_their_compression() {
    let place = tempfile::tempdir().unwrap();
    for payload in ["w9.gzdio", "w6.xzdio", "w3.zstdio", "w6.lzdio", "w9.bzdio", "w.ufdio"] {
        let path = build(place.path(), payload);
        let package = Package::read(&path).unwrap();
        let candidate = &package.candidate;
        assert_eq!(candidate.nevra(), "sample-2:1.0~rc1-3.x86_64");
        let ours: BTreeSet<String> = candidate.requires.iter().map(|one| one.capability.to_string()).collect();
        assert_eq!(ours, query(&path, &["--requires"]), "{payload}");
        let ours: BTreeSet<String> = candidate.provides.iter().map(ToString::to_string).collect();
        assert_eq!(ours, query(&path, &["--provides"]), "{payload}");
        let files: BTreeSet<String> = package.files.iter().map(|file| file.path.clone()).collect();
        assert_eq!(files, query(&path, &["-l"]), "{payload}");
        let listed: BTreeSet<String> = package
            .files
            .iter()
            .map(|file| format!("{} {:o} {}", file.path, file.mode, file.digest).trim().to_owned())
            .collect();
        assert_eq!(listed, query(&path, &["--qf", "[%{FILENAMES} %{FILEMODES:octal} %{FILEDIGESTS}\\n]"]), "{payload}");
        assert!(candidate.requires.iter().any(|one| one.pre && &*one.capability.name == "/usr/sbin/useradd"));
        assert_eq!(package.kernel_releases(), ["6.1.0-1"]);
        assert_eq!(package.scriptlets.len(), 1);

        let root = tempfile::tempdir().unwrap();
        let mut extractor = Extractor::new(root.path().to_str().unwrap()).unwrap();
        unpack(&mut extractor, std::fs::File::open(&path).unwrap()).unwrap();
        let at = |name: &str| std::fs::symlink_metadata(root.path().join(name)).unwrap();
        let names = ["usr/bin/sample", "usr/bin/sample-also", "usr/bin/sample-too"];
        assert_eq!(at(names[0]).nlink(), 3, "{payload}");
        assert!(names.iter().all(|name| at(name).ino() == at(names[0]).ino()), "{payload}");
        assert_eq!(std::fs::read_to_string(root.path().join("usr/bin/sample-link")).unwrap(), "sample program");
        assert_eq!(at("usr/lib/modules/6.1.0-1").mode() & 0o7777, 0o750);
        assert_eq!(std::fs::read(root.path().join("usr/lib/modules/6.1.0-1/kernel/x.ko")).unwrap().len(), 108_894);
        assert!(!root.path().join("var/log/sample.log").exists());
    }
}

#[test]
fn signatures_of_rpm_are_checked_against_the_keys_given() {
    let place = tempfile::tempdir().unwrap();
    let path = build(place.path(), "w3.zstdio");
    let home = place.path().join("gnupg");
    std::fs::create_dir(&home).unwrap();
    std::fs::set_permissions(&home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let gpg = |arguments: &[&str]| {
        run(Command::new("gpg")
            .args(["--batch", "--quiet", "--passphrase", ""])
            .args(arguments)
            .env("GNUPGHOME", &home))
    };
    for (name, kind) in [("site@example.invalid", "rsa2048"), ("other@example.invalid", "rsa4096")] {
        gpg(&["--quick-generate-key", name, kind, "sign", "never"]);
    }
    let key = |name: &str| Keyring::parse(gpg(&["--armor", "--export", name]).as_bytes()).unwrap();
    let (site, other) = (key("site"), key("other"));
    assert_eq!(Package::verify(&path, &site).unwrap_err(), "is not signed");
    run(Command::new("rpmsign")
        .args(["--addsign", "--define", "_gpg_name site@example.invalid", "--define", "__gpg /usr/bin/gpg"])
        .arg(&path)
        .env("GNUPGHOME", &home));
    Package::read(&path).unwrap();
    assert_eq!(Package::verify(&path, &site).unwrap(), VerifiedBy::Signature);
    assert!(Package::verify(&path, &other).unwrap_err().contains("is not in the keyring"));
    let mut both = other.clone();
    both.extend(site.clone());
    assert_eq!(Package::verify(&path, &both).unwrap(), VerifiedBy::Signature);
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    assert!(Package::verify(&path, &site).unwrap_err().contains("payload does not match"));
    let _ = Command::new("gpgconf").args(["--kill", "all"]).env("GNUPGHOME", &home).status();
}

#[test]
fn what_rpm_refuses_of_a_package_is_refused_when_its_directory_is_read() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("packages");
    std::fs::create_dir(&directory).unwrap();
    let file = directory.join("sample.rpm");
    let mut both_refuse = 0;
    for payload in ["w.ufdio", "w9.gzdio", "w3.zstdio"] {
        let whole = std::fs::read(build(place.path(), payload)).unwrap();
        let changed = |at: usize, bits: u8| {
            let mut bytes = whole.clone();
            bytes[at] ^= bits;
            bytes
        };
        let length = whole.len();
        // The lead has 96 bytes, and then come the two headers. Source: rpm's docs/manual/format_v4.md.
        let mut cases: Vec<(String, Vec<u8>)> =
            [0, 50, 96, 104, 400, length / 3, length / 2, length - 1000, length - 1]
                .map(|at| (format!("cut at {at} of {length}"), whole[..at].to_vec()))
                .into();
        for at in [96, 99, 105, 110, 200, 1500, 3000, length / 2, length - 400, length - 1] {
            cases.push((format!("other bits at {at} of {length}"), changed(at, 0x55)));
        }
        // A header that claims two billion entries, and one of two billion bytes.
        cases.push(("many entries".to_owned(), changed(96 + 8, 0x7f)));
        cases.push(("many bytes".to_owned(), changed(96 + 12, 0x7f)));
        cases.push(("something behind it".to_owned(), [&whole[..], &b"x".repeat(512)].concat()));
        cases.push(("a text".to_owned(), b"text\n".repeat(100)));
        for (what, bytes) in cases {
            std::fs::write(&file, bytes).unwrap();
            let rpm = Command::new("rpmkeys").args(["--checksig", "--nosignature", "-v"]).arg(&file).output().unwrap();
            let (packages, damaged) = scan_directory(&directory).unwrap();
            assert_eq!(packages.len() + damaged.len(), 1, "{payload}, {what}");
            let refuses = !rpm.status.success();
            assert!(
                !refuses || packages.is_empty(),
                "{payload}, {what}: rpm says {}",
                String::from_utf8_lossy(&rpm.stdout)
            );
            for file in damaged {
                assert_eq!(file.place, "sample.rpm", "{payload}, {what}: {}", file.problem);
                both_refuse += usize::from(refuses);
            }
        }
        std::fs::write(&file, &whole).unwrap();
        assert_eq!(scan_directory(&directory).unwrap().0.len(), 1, "{payload}");
    }
    assert!(both_refuse >= 50, "{both_refuse}");
}

#[test]
fn createrepo_lists_packages_as_they_are_read_here() {
    let place = tempfile::tempdir().unwrap();
    let built = build(place.path(), "w6.xzdio");
    let directory = place.path().join("repository");
    std::fs::create_dir(&directory).unwrap();
    std::fs::copy(&built, directory.join("sample.rpm")).unwrap();
    for packing in ["gz", "xz", "bz2"] {
        run(Command::new("createrepo_c").args(["--quiet", "--general-compress-type", packing]).arg(&directory));
        let store = Store::open(&place.path().join(format!("store-{packing}")), "", (0, 0)).unwrap();
        let source = RepositorySource {
            id: "site".to_owned(),
            base: vec![format!("file:{}", directory.display())],
            ..RepositorySource::default()
        };
        let repository = fetch_repository(&Fetcher::new(), &store, &source, &Silent).unwrap();
        let [theirs] = &repository.candidates[..] else { panic!("{}", repository.candidates.len()) };
        let mut scanned = scan_directory(&directory).unwrap();
        let mut ours = scanned.0.pop().unwrap();
        // primary names some files only, and leaves out what rpm or the package itself provides.
        assert!(theirs.files.iter().all(|path| ours.files.contains(path)));
        ours.files.clone_from(&theirs.files);
        let sorted = |candidate: &Candidate| {
            let mut candidate = candidate.clone();
            candidate
                .requires
                .retain(|one| !["rpmlib(", "config("].iter().any(|own| one.capability.name.starts_with(own)));
            candidate.requires.sort_by_key(|one| (one.capability.to_string(), one.pre));
            candidate.requires.dedup();
            candidate.provides.sort_by_key(ToString::to_string);
            candidate
        };
        assert_eq!(sorted(&ours), sorted(theirs), "{packing}");
    }
}

#[test]
fn versions_compare_as_rpm_does() {
    let parts = ["1", "01", "10", "2", "a", "b", "rc1", "~", "^", ".", "_", "+", "0", "git"];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut word = || {
        (0..1 + state % 6)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                parts[(state % parts.len() as u64) as usize]
            })
            .collect::<String>()
    };
    let pairs: Vec<(String, String)> = (0..2000).map(|_| (word(), word())).collect();
    let calls: String =
        pairs.iter().map(|(one, two)| format!("print(rpm.vercmp('{one}', '{two}') .. '\\n')\n")).collect();
    let place = tempfile::tempdir().unwrap();
    let script = place.path().join("compare.lua");
    std::fs::write(&script, calls).unwrap();
    let told = run(Command::new("rpm").arg("--eval").arg(format!("%{{lua:dofile('{}')}}", script.display())));
    let told: Vec<i32> = told.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!(told.len(), pairs.len());
    for ((one, two), told) in pairs.iter().zip(told) {
        let evr = |version: &str| Evr { epoch: 0, version: version.to_owned(), release: String::new() };
        assert_eq!(evr(one).cmp(&evr(two)) as i32, told, "{one} {two}");
    }
}
