//! Images for tests.

use std::path::Path;

use base::digest::Sha256;

use super::image::{Arch, File, Form, Image, RootKind};
use super::node::Node;

fn file(directory: &Path, name: &str, bytes: &[u8]) -> File {
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    File { name: name.to_owned(), path, size: bytes.len() as u64, sha256: Sha256::of(bytes) }
}

const INDEX: &str = r#"{"format":1,"xattrs":[["usr/bin/ping","security.capability","0100000200200000"]],"labels":{}}"#;

/// A build with cpio and squashfs; `seed` is in its kernel.
pub(crate) fn image(directory: &Path, seed: &str) -> Image {
    std::fs::create_dir_all(directory).unwrap();
    let form = |kind, rootimg: &str, bytes: &[u8]| {
        let index = file(directory, &format!("{rootimg}.index"), INDEX.as_bytes());
        let words = vec![
            format!("imgurl={{url}}/{rootimg}"),
            format!("imgdigest=sha256:{}", index.sha256),
            "rootlimit=2G".to_owned(),
            "console=ttyS0".to_owned(),
        ];
        Form { kind, rootimg: file(directory, rootimg, bytes), index, words }
    };
    let cpio = zstd::stream::encode_all(&b"an archive"[..], 1).unwrap();
    let mut squashfs = b"hsqs".to_vec();
    squashfs.resize(4096, 7);
    Image {
        name: "compute".to_owned(),
        build: Sha256::of(seed.as_bytes()).short(),
        directory: directory.to_owned(),
        arch: Arch::X86_64,
        target: "debian 12 amd64".to_owned(),
        kernel_release: "6.1.0-31-amd64".to_owned(),
        kernel: file(directory, "kernel", seed.as_bytes()),
        initrd: file(directory, "initrd-stateless", b"initrd"),
        forms: vec![
            form(RootKind::Cpio, "rootimg.cpio.zst", &cpio),
            form(RootKind::Squashfs, "rootimg.sfs", &squashfs),
        ],
        others: Vec::new(),
    }
}

pub(crate) fn node(name: &str, mac: &str) -> Node {
    Node {
        name: name.to_owned(),
        macs: vec![mac.to_owned()],
        ip: None,
        arch: None,
        kernel_args: vec![format!("systemd.hostname={name}")],
        build: None,
        groups: Vec::new(),
    }
}
