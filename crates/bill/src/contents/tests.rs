//! Contents of made-up trees.

use super::*;

fn listed(path: &str, mode: u32, size: usize) -> Listed {
    Listed { path: path.to_owned(), mode, size: size as u64, ..Listed::default() }
}

/// A tree of dpkg's: two packages, one of which has a file changed, and files of no package.
fn reading() -> Reading {
    let status = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u9\nSource: glibc\n\
                  Maintainer: GNU Libc Maintainers <debian-glibc@lists.test>\n\n\
                  Package: python3\nStatus: install ok installed\nArchitecture: amd64\nVersion: 3.11.2-1+b1\n\
                  Source: python3-defaults (3.11.2-1)\nConffiles:\n /etc/python.conf 900150983cd24fb0d6963f7d28e17f72\n\n\
                  Package: gone\nStatus: deinstall ok config-files\nArchitecture: amd64\nVersion: 1\n";
    let mut reading = Reading { most: 1 << 20, ..Reading::default() };
    let files: [(&str, &str); 12] = [
        ("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nNAME='Debian GNU/Linux'\n"),
        ("var/lib/dpkg/status", status),
        ("var/lib/dpkg/info/libc6:amd64.list", "/.\n/lib\n/lib/libc.so.6\n"),
        ("var/lib/dpkg/info/libc6:amd64.md5sums", "900150983cd24fb0d6963f7d28e17f72  lib/libc.so.6\n"),
        ("var/lib/dpkg/info/python3.list", "/etc/python.conf\n/usr/lib/a.py\n"),
        ("usr/lib/libc.so.6", "abc"),
        ("etc/python.conf", "edited"),
        ("usr/lib/a.py", "a"),
        ("usr/lib/__pycache__/a.cpython-311.pyc", "compiled"),
        ("opt/__pycache__/b.cpython-311.pyc", "compiled"),
        ("opt/tool", "a tool"),
        ("var/cache/apt/x", "x"),
    ];
    for (path, text) in files {
        reading.take(&listed(path, 0o100_644, text.len()), &mut text.as_bytes()).unwrap();
    }
    reading.take(&listed("lib", 0o120_777, 7), &mut &b"usr/lib"[..]).unwrap();
    // Names of one file: the last has the content.
    for (path, text) in [("opt/one", ""), ("opt/two", "two names")] {
        let listed = Listed { file: Some((7, 2)), ..listed(path, 0o100_755, text.len()) };
        reading.take(&listed, &mut text.as_bytes()).unwrap();
    }
    let same = Listed { same_as: Some("opt/tool".to_owned()), ..listed("opt/same", 0o100_644, 0) };
    reading.take(&same, &mut io::empty()).unwrap();
    reading.join_names();
    reading
}

pub(crate) fn contents() -> Contents {
    Contents::of(&reading()).unwrap()
}

#[test]
fn files_that_no_package_brought_as_they_are_are_listed_and_no_others() {
    let found = contents();
    let files = found.files.unwrap();
    let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "etc/os-release",
            "etc/python.conf",
            "opt/__pycache__/b.cpython-311.pyc",
            "opt/one",
            "opt/same",
            "opt/tool",
            "opt/two"
        ]
    );
    assert_eq!(files[1].changed.as_deref(), Some("python3"));
    assert_eq!((files[3].size, files[3].sha256), (9, Sha256::of(b"two names")));
    assert_eq!((files[4].sha256, files[5].changed.as_ref()), (Sha256::of(b"a tool"), None));
}

#[test]
fn packages_have_their_sources_with_versions_of_their_own() {
    let found = contents();
    let all: Vec<(String, Option<Source>, Option<String>)> =
        found.packages.unwrap().into_iter().map(|one| (one.name, one.source, one.supplier)).collect();
    let source = |name: &str, version: &str| {
        Some(Source { name: name.to_owned(), version: version.to_owned(), file: String::new() })
    };
    assert_eq!(
        all,
        [
            ("libc6".to_owned(), source("glibc", "2.36-9+deb12u9"), Some("GNU Libc Maintainers".to_owned())),
            ("python3".to_owned(), source("python3-defaults", "3.11.2-1"), None),
        ]
    );
    assert_eq!(found.release["VERSION_ID"], "12");
}

#[test]
fn a_byte_that_is_not_utf_8_spoils_no_other_package() {
    let mut reading = reading();
    let status = reading.databases.get_mut("var/lib/dpkg/status").unwrap();
    status.extend(b"\nPackage: odd\nStatus: install ok installed\nArchitecture: all\nVersion: 1\nMaintainer: J\xf6rg <j@lists.test>\n");
    let found = Contents::of(&reading).unwrap().packages.unwrap();
    let of = |name: &str| found.iter().find(|one| one.name == name).unwrap();
    assert_eq!(of("libc6").source.as_ref().unwrap().name, "glibc");
    assert_eq!(of("libc6").supplier.as_deref(), Some("GNU Libc Maintainers"));
    assert_eq!(of("odd").supplier.as_deref(), Some("J\u{fffd}rg"));
}

#[test]
fn files_of_packages_are_found_through_links_below_the_top() {
    let mut reading = Reading { most: 1 << 20, ..Reading::default() };
    let status = "Package: tools\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n";
    let files = [
        ("var/lib/dpkg/status", status),
        ("var/lib/dpkg/info/tools.list", "/etc/init.d/functions\n/usr/sbin/ip\n/sbin/ss\n"),
        ("etc/rc.d/init.d/functions", "f"),
        ("usr/bin/ip", "i"),
        ("usr/bin/ss", "s"),
        ("usr/bin/own", "o"),
    ];
    for (path, text) in files {
        reading.take(&listed(path, 0o100_644, text.len()), &mut text.as_bytes()).unwrap();
    }
    for (path, target) in [("etc/init.d", "rc.d/init.d"), ("usr/sbin", "bin"), ("sbin", "/usr/sbin\0")] {
        reading.take(&listed(path, 0o120_777, target.len()), &mut target.as_bytes()).unwrap();
    }
    let paths: Vec<String> = Contents::of(&reading).unwrap().files.unwrap().into_iter().map(|file| file.path).collect();
    assert_eq!(paths, ["usr/bin/own"]);
    reading.most = 10;
    let error = reading.take(&listed("a/long/link", 0o120_777, 1), &mut &b"x"[..]).unwrap_err();
    assert!(error.to_string().contains("bytes of links"), "{error}");
}

#[test]
fn a_large_image_may_not_have_a_database_without_end() {
    assert_eq!(most_kept(&Budget::of(1 << 40)), installed::LONGEST_DATABASE);
    assert!(most_kept(&Budget::of(0)) < installed::LONGEST_DATABASE);
}

#[test]
fn a_tree_without_a_database_has_neither_packages_nor_files_of_no_package() {
    let mut reading = Reading { most: 10, ..Reading::default() };
    reading.take(&listed("a", 0o100_644, 1), &mut &b"a"[..]).unwrap();
    let found = Contents::of(&reading).unwrap();
    assert!(found.packages.is_none() && found.files.is_none());
    let large = listed("var/lib/dpkg/status", 0o100_644, 11);
    assert!(reading.take(&large, &mut io::empty()).unwrap_err().to_string().contains("package databases"));
}

proptest::proptest! {
    #[test]
    fn no_bytes_of_an_image_end_the_program(bytes: Vec<u8>) {
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let _ = Contents::of_image(&file);
        let _ = fields(&bytes);
        let _ = supplier(&String::from_utf8_lossy(&bytes));
        let _ = Source::of_debian(&String::from_utf8_lossy(&bytes), "1");
    }
}

/// An entry of cpio's `newc` form. Source: cpio(5).
fn newc(name: &str, content: &str) -> Vec<u8> {
    let fields = [1, 0o100_644, 0, 0, 1, 0, content.len(), 0, 0, 0, 0, name.len() + 1, 0];
    let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
    let mut bytes = format!("070701{fields}{name}\0").into_bytes();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A packed image with a package of Python that no package of the distribution brings, twice, and one that is brought.
pub(crate) fn packed() -> Contents {
    let status = "Package: python3-brought\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0-1\n";
    let metadata = "Metadata-Version: 2.1\nName: Jinja2\nVersion: 3.1.2\n\nText\n";
    let files = [
        ("opt/a/Jinja2-3.1.2.dist-info/METADATA", metadata),
        ("opt/b/Jinja2-3.1.2.dist-info/METADATA", metadata),
        ("opt/tool", "a tool"),
        ("usr/lib/brought-1.0.dist-info/METADATA", "Name: brought\nVersion: 1.0\n"),
        ("usr/lib/os-release", "ID=debian\nVERSION_ID=12\n"),
        ("var/lib/dpkg/info/python3-brought.list", "/usr/lib/brought-1.0.dist-info/METADATA\n/usr/lib/os-release\n"),
        ("var/lib/dpkg/status", status),
        ("TRAILER!!!", ""),
    ];
    let mut file = tempfile::tempfile().unwrap();
    for (name, content) in files {
        io::Write::write_all(&mut file, &newc(name, content)).unwrap();
    }
    file.seek(SeekFrom::Start(0)).unwrap();
    Contents::of_image(&file).unwrap()
}

#[test]
fn files_of_no_package_say_what_they_are_made_of() {
    let files = packed().files.unwrap();
    let parts = |path: &str| {
        let file = files.iter().find(|file| file.path == path).unwrap();
        file.parts.iter().map(|part| (part.name.clone(), part.version.clone())).collect::<Vec<_>>()
    };
    let expected = [("jinja2".to_owned(), "3.1.2".to_owned())];
    for place in ["a", "b"] {
        assert_eq!(parts(&format!("opt/{place}/Jinja2-3.1.2.dist-info/METADATA")), expected);
    }
    assert_eq!(parts("opt/tool"), []);
    assert!(files.iter().all(|file| !file.path.contains("brought")));
}
