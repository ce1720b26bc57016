//! The distributions' own keys: which can be used, and what rpm says of them.

use std::fmt::Write as _;

use packages::Keyring;

use super::packages::{assert_table, key_files};
use crate::support::collected;

#[test]
fn every_real_key_file_has_its_result() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let mut text = String::from(
        "# Written by the test `every_real_key_file_has_its_result`: certificates of each file of keys, or why it is refused.\n",
    );
    for (name, path) in key_files() {
        let result = match Keyring::parse(&std::fs::read(&path).unwrap()) {
            Ok(ring) => format!("{} certificates", ring.len()),
            Err(problem) => format!("refused: {problem}"),
        };
        let _ = writeln!(text, "{name}\t{result}");
    }
    assert_table("rpm-keys.tsv", &text);
}

/// Files that rpm 4.18 does not load and that are loaded here. The first is a key of 1024 bits: its signatures count with
/// weak-signatures alone. In the second rpm's own parser stumbles over the features of the key; GnuPG and rpm-sequoia read it.
#[cfg(feature = "e2e")]
const NOT_BY_RPM: [&str; 2] = ["keys/centos/RPM-GPG-KEY-CentOS-5", "keys/rocky/RPM-GPG-KEY-Rocky-9-Testing"];

/// rpm loads a file where it can use a key of it.
#[test]
#[cfg(feature = "e2e")]
fn rpm_loads_what_is_loaded_here() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let mut differ = Vec::new();
    for (name, path) in key_files() {
        let database = tempfile::tempdir().unwrap();
        let ran = std::process::Command::new("rpmkeys")
            .arg("--dbpath")
            .arg(database.path())
            .arg("--import")
            .arg(&path)
            .output();
        let ran = ran.expect("rpm is installed by tests/run");
        // Of keys of version 6, as RHEL has them since 9.7 and 10.1, no rpm before 5 knows anything.
        if String::from_utf8_lossy(&ran.stderr).contains("Unsupported version of key: V6") {
            continue;
        }
        let own = Keyring::parse(&std::fs::read(&path).unwrap());
        let is_known = NOT_BY_RPM.contains(&name.as_str());
        if (ran.status.success() || is_known) != own.is_ok() || is_known && ran.status.success() {
            differ.push(format!("{name}: rpm {}, here {:?}", String::from_utf8_lossy(&ran.stderr).trim(), own.err()));
        }
    }
    assert!(differ.is_empty(), "{}", differ.join("\n"));
}

#[test]
fn built_in_keys_are_those_that_signed_real_packages() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    use packages::rpm::{Package, VerifiedBy};
    let centos = Keyring::built_in("centos", &["6341AB2753D78A78A7C27BB124C6A8A7F4A80EB5"]).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(super::corpus().join("rpms/centos7.6-minimal-iso")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "rpm") {
            assert_eq!(Package::verify(&path, &centos), Ok(VerifiedBy::Signature), "{}", path.display());
            count += 1;
        }
    }
    assert_eq!(count, 170);
    // Another release's key is another one.
    let stream = Keyring::built_in("centos", &["99DB70FAE1D7CE227FB6488205B555B38483C65D"]).unwrap();
    let bash = super::corpus().join("rpms/centos7.6-minimal-iso/bash-4.2.46-31.el7.x86_64.rpm");
    assert!(Package::verify(&bash, &stream).unwrap_err().contains("is not in the keyring"));
}
