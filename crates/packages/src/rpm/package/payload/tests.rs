use std::os::unix::fs::MetadataExt;

use super::*;
use crate::rpm::package::file::tests::write;

fn owners() -> Owners {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Owners { users: HashMap::from([("me".to_owned(), uid)]), groups: HashMap::from([("me".to_owned(), gid)]) }
}

/// A file as a header lists it.
fn file(path: &str, mode: u32, size: u64, inode: u32) -> FileEntry {
    FileEntry {
        path: path.to_owned(),
        mode,
        size,
        mtime: 1,
        user: "me".to_owned(),
        group: "me".to_owned(),
        capabilities: String::new(),
        digest: String::new(),
        link: String::new(),
        ghost: false,
        config: false,
        inode: (1, inode),
    }
}

fn package(files: Vec<FileEntry>) -> Package {
    let candidate = crate::rpm::Candidate::nothing();
    Package { candidate, scriptlets: Vec::new(), files, is_source: false }
}

fn newc(path: &str, content: &str) -> Vec<u8> {
    let name = format!("./{path}\0");
    let mut fields = [0u32; 13];
    (fields[6], fields[11]) = (content.len() as u32, name.len() as u32);
    let mut out = b"070701".to_vec();
    fields.iter().for_each(|field| out.extend(format!("{field:08x}").bytes()));
    out.extend(name.bytes());
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(content.bytes());
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn stripped(index: u32, content: &str) -> Vec<u8> {
    let mut out = format!("07070X{index:08x}\0\0").into_bytes();
    out.extend(content.bytes());
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn trailer() -> Vec<u8> {
    let mut out = newc("x", "");
    out.truncate(94);
    out.extend(b"0000000b00000000TRAILER!!!\0\0\0\0");
    out
}

fn extract(files: Vec<FileEntry>, archive: &[Vec<u8>]) -> Result<tempfile::TempDir, String> {
    let place = tempfile::tempdir().unwrap();
    let mut extractor = Extractor::new(place.path().to_str().unwrap()).unwrap();
    let mut bytes = archive.concat();
    bytes.extend(trailer());
    let opened = Opened { package: package(files), rest: &bytes[..] };
    skeleton(&mut extractor, &opened.package, &owners())?;
    opened.files(&mut extractor, &owners(), &|_| true)?;
    extractor.finish()?;
    Ok(place)
}

#[test]
fn both_forms_of_archives_give_files_with_their_links() {
    let files = || {
        vec![
            file("/d", 0o040_750, 0, 9),
            file("/d/a", 0o100_644, 3, 5),
            file("/d/b", 0o100_644, 3, 5),
            file("/d/c", 0o100_755, 2, 6),
        ]
    };
    let with_names = [newc("d", ""), newc("d/a", ""), newc("d/b", "abc"), newc("d/c", "cc")];
    let with_numbers = [stripped(0, ""), stripped(1, ""), stripped(2, "abc"), stripped(3, "cc")];
    for archive in [with_names, with_numbers] {
        let place = extract(files(), &archive).unwrap();
        let at = |name: &str| std::fs::metadata(place.path().join(name)).unwrap();
        assert_eq!(std::fs::read(place.path().join("d/a")).unwrap(), b"abc");
        assert_eq!(at("d/a").ino(), at("d/b").ino());
        assert_eq!((at("d").mode(), at("d/c").mode()), (0o040_750, 0o100_755));
    }
}

#[test]
fn hostile_payloads_are_refused() {
    let one = || vec![file("/a", 0o100_644, 3, 1)];
    let said = |files: Vec<FileEntry>, archive: &[Vec<u8>]| extract(files, archive).unwrap_err();
    assert!(said(one(), &[newc("b", "x")]).contains("not in its header"));
    assert!(said(one(), &[newc("../a", "x")]).contains("not in its header"));
    assert!(said(one(), &[]).contains("has no `/a`"));
    assert!(said(one(), &[stripped(7, "")]).contains("more files"));
    assert!(said(one(), &[b"garbage".to_vec()]).contains("not a cpio"));
    for path in ["/../a", "/x/../../a"] {
        assert!(check(&file(path, 0o100_644, 0, 1)).unwrap_err().contains("escapes"));
    }
    for mode in [0o020_644, 0o060_644, 0o010_644, 0o140_644] {
        assert!(check(&file("/dev/x", mode, 0, 1)).unwrap_err().contains("special file"));
    }
}

#[test]
fn what_nobody_owns_is_roots_without_its_powers() {
    let mut one = file("/a", 0o106_755, 0, 1);
    one.user = "no-such-user".to_owned();
    let meta = Owners::read("root:x:0:0:::\ndaemon:x:2:2:::\n", "me:x:77:\n").meta(&one).unwrap();
    assert_eq!((meta.uid, meta.gid, meta.mode), (0, 77, 0o2755));
}

#[test]
fn a_package_is_unpacked_and_listed() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let path = write(place.path(), "p", |builder| {
        builder
            .with_file_contents("content", rpm::FileOptions::new("/usr/bin/p").mode(rpm::FileMode::regular(0o755)))
            .unwrap()
            .with_symlink(rpm::FileOptions::symlink("/usr/bin/q", "p"))
            .unwrap();
    });
    let root = tempfile::tempdir().unwrap();
    let mut extractor = Extractor::new(root.path().to_str().unwrap()).unwrap();
    unpack(&mut extractor, std::fs::File::open(&path).unwrap()).unwrap();
    assert_eq!(std::fs::read_to_string(root.path().join("usr/bin/q")).unwrap(), "content");
    let mut listing = Vec::new();
    write_payload_listing(&mut listing, &Package::read(&path).unwrap()).unwrap();
    insta::assert_snapshot!(String::from_utf8(listing).unwrap(), @r"
    100755 root root 7 /usr/bin/p
    120777 root root 1 /usr/bin/q -> p
    ");
}
