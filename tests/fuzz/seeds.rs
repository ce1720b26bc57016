//! Inputs that are whole: made here, of the fixtures, of the corpus where it lies beside the checkout, and those that were found once.

use std::path::{Path, PathBuf};

use crate::targets::Target;

const LARGEST: u64 = 256 << 10;
const MOST: usize = 60;

fn project() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn of(target: &Target, place: &Path) -> Vec<Vec<u8>> {
    let mut seeds = (target.made)(place);
    // What was found once is read by each run.
    for path in files(&project().join("tests/fixtures/hostile"), &|name| name.starts_with(&format!("{}-", target.name)))
    {
        seeds.extend(std::fs::read(path).ok());
    }
    for (folder, ending) in target.folders {
        let mut found = files(&project().join(folder), &|name| name.ends_with(ending));
        found.truncate(MOST);
        seeds.extend(found.into_iter().filter_map(|path| std::fs::read(path).ok()));
    }
    seeds
}

fn files(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    walkdir::WalkDir::new(folder)
        .sort_by_file_name()
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file() && wanted(&entry.file_name().to_string_lossy()))
        .filter(|entry| entry.metadata().is_ok_and(|found| found.len() <= LARGEST))
        .map(walkdir::DirEntry::into_path)
        .collect()
}

/// A tar archive with one entry of each kind.
pub fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |kind: tar::EntryType, path: &str, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("var/lib/dpkg/status").unwrap();
        }
        builder.append_data(&mut header, path, content).unwrap();
    };
    add(tar::EntryType::Directory, "./etc/", b"");
    add(tar::EntryType::Regular, "etc/os-release", b"ID=debian\nVERSION_ID=12\n");
    add(tar::EntryType::Regular, "var/lib/dpkg/status", STATUS.as_bytes());
    add(tar::EntryType::Regular, "control", CONTROL.as_bytes());
    add(tar::EntryType::Symlink, "a-link", b"");
    add(tar::EntryType::Link, "another", b"");
    add(tar::EntryType::Regular, &"long/".repeat(60), b"x");
    builder.append_pax_extensions([("SCHILY.xattr.user.a", &b"value"[..]), ("size", &b"3"[..])]).unwrap();
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(7);
    header.set_path("after-records").unwrap();
    header.set_cksum();
    builder.append(&header, &b"abc"[..]).unwrap();
    builder.into_inner().unwrap()
}

pub const STATUS: &str = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nConffiles:\n /etc/a 0123456789abcdef0123456789abcdef\n /etc/b 0 obsolete\n\n";
const CONTROL: &str = "Package: a\nVersion: 1\nArchitecture: amd64\nDepends: b (>= 1) | c, d\nDescription: x\n y\n";

/// A Debian package whose members are not compressed.
pub fn deb() -> Vec<u8> {
    let mut bytes = b"!<arch>\n".to_vec();
    for (name, content) in [("debian-binary", b"2.0\n".to_vec()), ("control.tar", tar()), ("data.tar", tar())] {
        bytes.extend_from_slice(
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).as_bytes(),
        );
        bytes.extend_from_slice(&content);
        bytes.resize(bytes.len().next_multiple_of(2), b'\n');
    }
    bytes
}

pub fn cpio() -> Vec<u8> {
    use archive::{Body, Head, write_entry, write_trailer};
    let mut out = Vec::new();
    let head = |inode, links, mode| Head { inode, links, mode, uid: 7, gid: 8, mtime: 9 };
    write_entry(&mut out, "etc", head(1, 2, 0o755), Body::Directory).unwrap();
    write_entry(&mut out, "etc/a", head(2, 2, 0o644), Body::File(0, Some(Box::new(&b""[..])))).unwrap();
    write_entry(&mut out, "etc/b", head(2, 2, 0o644), Body::File(4, Some(Box::new(&b"text"[..])))).unwrap();
    let status = STATUS.as_bytes();
    let body = Body::File(status.len() as u64, Some(Box::new(status)));
    write_entry(&mut out, "var/lib/dpkg/status", head(3, 1, 0o644), body).unwrap();
    write_entry(&mut out, "link", head(4, 1, 0o777), Body::Symlink("etc/a")).unwrap();
    write_trailer(&mut out).unwrap();
    out
}
