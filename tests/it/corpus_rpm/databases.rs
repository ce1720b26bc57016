//! Package databases of real images, in each form that rpm has had.

use std::collections::BTreeSet;
use std::process::Command;

use super::corpus;
use crate::support::{Space, collected};

/// Database, where rpm has it in a tree, how many packages it has, and one of them.
const DATABASES: [(&str, &str, usize, &str); 4] = [
    ("amazonlinux2023-plain/rpmdb.sqlite", "var/lib/rpm", 102, "audit-libs 3.0.6-1.amzn2023.0.2 x86_64"),
    ("scancode/rpmdb.sqlite", "usr/lib/sysimage/rpm", 2, "libgcc 13.1.1-2.fc38 x86_64"),
    ("sle15-bci/Packages.db", "usr/lib/sysimage/rpm", 35, "bash 4.4-19.6.1 x86_64"),
    ("libuuid/Packages", "var/lib/rpm", 1, "libuuid 2.32.1-42.el8_8 x86_64"),
];

#[test]
fn databases_of_real_images_are_read() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let space = Space::new();
    space.write("none/x", "");
    for (file, place, count, one) in DATABASES {
        let tree = file.split('/').next().unwrap();
        let folder = space.path().join(tree).join(place);
        std::fs::create_dir_all(&folder).unwrap();
        let copy = folder.join(file.rsplit('/').next().unwrap());
        std::fs::write(&copy, std::fs::read(corpus().join("rpmdb").join(file)).unwrap()).unwrap();
        space.write(
            "none/var/lib/dpkg/status",
            "Package: x\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n",
        );
        let ran = space.run(&[
            "diff",
            space.path().join(tree).to_str().unwrap(),
            space.path().join("none").to_str().unwrap(),
            "--json",
        ]);
        let found: serde_json::Value = serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("{file}: {}", ran.err));
        let text = |one: &serde_json::Value, key: &str| one[key].as_str().unwrap().to_owned();
        let packages: BTreeSet<String> = found["packages"]["removed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| format!("{} {} {}", text(one, "name"), text(one, "version"), text(one, "arch")))
            .collect();
        assert!(packages.len() == count && packages.contains(one), "{file}: {} {packages:#?}", packages.len());
        assert_eq!(said_by_rpm(&folder, file).unwrap_or_else(|| packages.clone()), packages, "{file}");
    }
}

/// What rpm itself says, where it is here and has the form: Debian's has no ndb.
fn said_by_rpm(folder: &std::path::Path, file: &str) -> Option<BTreeSet<String>> {
    if cfg!(not(feature = "e2e")) || file.ends_with(".db") {
        return None;
    }
    let ran = Command::new("rpm")
        .args(["-qa", "--qf", "%{NAME} %{EVR} %{ARCH}\\n", "--dbpath"])
        .arg(folder)
        .output()
        .expect("rpm is installed by tests/run");
    let lines = String::from_utf8(ran.stdout).unwrap();
    let lines: BTreeSet<String> = lines
        .lines()
        .filter(|line| !line.starts_with("gpg-pubkey "))
        .map(|line| line.replacen(" 0:", " ", 1))
        .collect();
    assert!(!lines.is_empty(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(lines)
}

#[test]
#[cfg(feature = "e2e")]
fn berkeley_db_of_another_writer_is_read() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    // Oracle's own loader writes a hash with small pages, so that headers lie on pages of their own.
    let space = Space::new();
    let tree = space.path().join("tree/var/lib/rpm");
    std::fs::create_dir_all(&tree).unwrap();
    let bytes = std::fs::read(corpus().join("rpmdb/scancode/rpmdb.sqlite")).unwrap();
    std::fs::write(space.path().join("source.sqlite"), bytes).unwrap();
    let database = rusqlite::Connection::open(space.path().join("source.sqlite")).unwrap();
    let mut query = database.prepare("select hnum, blob from Packages").unwrap();
    let rows: Vec<(u32, Vec<u8>)> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    for (page, order) in [(512, 1234), (4096, 1234), (512, 4321)] {
        let mut dump =
            format!("VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize={page}\ndb_lorder={order}\nHEADER=END\n");
        dump.push_str(&format!(" {}\n {}\n", hex(&[0; 4]), hex(&2u32.to_le_bytes())));
        for (number, blob) in &rows {
            dump.push_str(&format!(" {}\n {}\n", hex(&number.to_le_bytes()), hex(blob)));
        }
        dump.push_str("DATA=END\n");
        std::fs::write(space.path().join("dump"), dump).unwrap();
        let _ = std::fs::remove_file(tree.join("Packages"));
        let ran =
            Command::new("db5.3_load").arg("-f").arg(space.path().join("dump")).arg(tree.join("Packages")).output();
        let ran = ran.expect("db5.3-util is installed by tests/run");
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let files = std::collections::BTreeMap::from([(
            "var/lib/rpm/Packages".to_owned(),
            std::fs::read(tree.join("Packages")).unwrap(),
        )]);
        let found = packages::installed::read(&files).unwrap().unwrap();
        let names: Vec<_> = found.packages.iter().map(|one| (one.name.as_str(), one.files.len())).collect();
        assert!(
            names.len() == 2 && names[0].0 == "coreutils" && names[0].1 > 100 && names[1].0 == "libgcc",
            "{names:?}"
        );
    }
}
