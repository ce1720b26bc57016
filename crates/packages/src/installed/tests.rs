use super::*;

fn one(path: &str, bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    BTreeMap::from([(path.to_owned(), bytes.to_vec())])
}

const STATUS_TEXT: &str = "Package: a\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:2-3\nConffiles:\n /etc/a 0123456789abcdef0123456789abcdef\n /etc/gone 0123456789abcdef0123456789abcdef obsolete\nDescription: x\n y\n\nPackage: b\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n";

#[test]
fn dpkg_says_what_is_installed_and_what_its_files_are() {
    let mut files = one("var/lib/dpkg/status", STATUS_TEXT.as_bytes());
    let info = |name: &str| format!("var/lib/dpkg/info/{name}");
    files.insert(info("a:amd64.list"), b"/.\n/etc\n/etc/a\n/usr/bin/a\n/usr/bin/b\n".to_vec());
    files.insert(info("a:amd64.md5sums"), b"aa  usr/bin/a\n".to_vec());
    files.insert("var/lib/dpkg/diversions".into(), b"/usr/bin/b\n/usr/bin/b.real\nother\n".to_vec());
    files.insert("var/lib/dpkg/statoverride".into(), b"root adm 4750 /usr/bin/a b\n".to_vec());
    files
        .insert("var/lib/apt/extended_states".into(), b"Package: a\nArchitecture: amd64\nAuto-Installed: 1\n".to_vec());
    assert!(files.keys().all(|path| is_database_file(path)));
    let found = read(&files).unwrap().unwrap();
    assert_eq!(
        (found.kind, found.packages.len(), found.overridden),
        (DatabaseKind::Dpkg, 1, vec!["usr/bin/a b".into()])
    );
    let package = &found.packages[0];
    assert_eq!((package.name.as_str(), package.version.as_str(), package.automatic), ("a", "1:2-3", true));
    let list: Vec<(&str, Option<&str>)> =
        package.files.iter().map(|file| (file.path.as_str(), file.digest.as_deref())).collect();
    let digest = Some("0123456789abcdef0123456789abcdef");
    assert_eq!(list, [("etc", None), ("etc/a", digest), ("usr/bin/a", Some("aa")), ("usr/bin/b.real", None)]);
}

#[test]
fn what_is_no_database_is_an_error_with_its_name() {
    assert_eq!(read(&BTreeMap::new()).unwrap(), None);
    assert_eq!(read(&one("var/lib/dpkg/status", b"")).unwrap(), None);
    for path in ["var/lib/rpm/Packages", "var/lib/rpm/Packages.db", "usr/lib/sysimage/rpm/rpmdb.sqlite"] {
        let problem = read(&one(path, &[7; 5000])).unwrap_err();
        assert!(problem.contains(path), "{problem}");
    }
}

proptest::proptest! {
    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(0u8..=255, 0..3000), form in 0usize..4, page in 9u32..17) {
        let path = ["var/lib/rpm/Packages", "var/lib/rpm/Packages.db", "var/lib/rpm/rpmdb.sqlite", "var/lib/dpkg/status"][form];
        let _ = read(&one(path, &bytes));
        bytes.resize(4096 * 3, 7);
        match form {
            0 => {
                bytes[12..16].copy_from_slice(&0x0006_1561u32.to_le_bytes());
                bytes[20..24].copy_from_slice(&(1u32 << page).to_le_bytes());
                bytes[24] = 0;
                bytes[32..36].copy_from_slice(&2u32.to_le_bytes());
                for at in [(1usize << page) + 25, (2usize << page) + 25] {
                    if let Some(byte) = bytes.get_mut(at) { *byte = if *byte & 1 == 0 { 13 } else { 7 } }
                }
            }
            1 => {
                bytes[..8].copy_from_slice(b"RpmP\0\0\0\0");
                bytes[12..16].copy_from_slice(&1u32.to_le_bytes());
                for slot in bytes[32..4096].chunks_exact_mut(16) {
                    slot[..4].copy_from_slice(b"Slot");
                    slot[9] &= 3;
                    slot[10] = 0;
                    slot[11] = 0;
                }
            }
            _ => {}
        }
        let _ = read(&one(path, &bytes));
    }
}
