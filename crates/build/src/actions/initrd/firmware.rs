//! Firmware of modules, and microcode of processors, as the layers have them.

use crate::actions::initrd::compose::Tree;
use archive::{Body, Head, write_entry, write_trailer};
use store::{Kind, LayerReader, Merged};

/// Where the kernel looks for firmware, in a tree where /lib is /usr/lib. Source: kernel, firmware_class, `fw_path`.
const FIRMWARE: &str = "usr/lib/firmware";

/// As many links as the kernel follows. Source: path_resolution(7).
const MOST_LINKS: usize = 40;

/// Where /lib is /usr/lib; the layers of the kernel stage are so.
fn merged(path: &str) -> String {
    if path == "lib" || path.starts_with("lib/") { format!("usr/{path}") } else { path.to_owned() }
}

/// Takes `.` and `..` out of a path; `..` stops at the root.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Follows a path through links, of files and of directories; gives each link on the way with what it leads to, both without links
/// above them, and the file at the end, if there is one.
fn follow(tree: &Merged, path: &str) -> (Vec<(String, String)>, Option<String>) {
    let mut links = Vec::new();
    let mut path = merged(&normal(path));
    'again: for _ in 0..MOST_LINKS {
        let ends: Vec<usize> = path.match_indices('/').map(|(at, _)| at).chain([path.len()]).collect();
        for end in ends {
            let Some(found) = tree.0.get(&path[..end]) else { continue };
            let Kind::Symlink(target) = &found.entry.kind else { continue };
            let above = path[..end].rsplit_once('/').map_or("", |(above, _)| above);
            let to = if target.starts_with('/') { normal(target) } else { normal(&format!("{above}/{target}")) };
            let to = merged(&to);
            links.push((path[..end].to_owned(), to.clone()));
            path = format!("{to}{}", &path[end..]);
            continue 'again;
        }
        let is_file = tree.0.get(&path).is_some_and(|found| matches!(found.entry.kind, Kind::File { .. }));
        return (links, is_file.then_some(path));
    }
    (links, None)
}

/// Adds firmware as it is in the image, links with their targets; whether there is any.
pub(super) fn add(reader: &LayerReader, tree: &mut Tree, name: &str) -> Result<bool, String> {
    let mut any = false;
    let stem = format!("{FIRMWARE}/{name}");
    // A module may name a pattern.
    let candidates: Vec<String> = if name.contains(['*', '?', '[']) {
        reader.tree.0.keys().filter(|path| xcat::matches(&stem, path)).cloned().collect()
    } else {
        ["", ".xz", ".zst"].iter().map(|ending| format!("{stem}{ending}")).collect()
    };
    for path in candidates {
        let (links, Some(file)) = follow(&reader.tree, &path) else { continue };
        let place = |path: &str, merged: bool| {
            if merged { path.to_owned() } else { path.strip_prefix("usr/").unwrap_or(path).to_owned() }
        };
        for (link, to) in links {
            // From where it lies, so that it leads there wherever the root is.
            let link = place(&link, tree.merged);
            let up = "../".repeat(link.matches('/').count());
            tree.add(&link, 0o777, Body::Symlink(&format!("{up}{}", place(&to, tree.merged))))?;
        }
        let bytes = reader.read(&file)?.unwrap_or_default();
        let place = place(&file, tree.merged);
        tree.file(&place, 0o644, &bytes)?;
        any = true;
    }
    Ok(any)
}

/// Folders of microcode, and what the kernel calls all of it together. Source: kernel, Documentation/arch/x86/microcode.rst.
const MICROCODE: [(&str, &str, &str); 2] =
    [("intel-ucode", "", "GenuineIntel.bin"), ("amd-ucode", "microcode_amd", "AuthenticAMD.bin")];

/// An archive with the microcode that the layers have, for in front of an initrd: the kernel reads it before anything is unpacked.
/// Empty where they have none.
pub(super) fn early_microcode(reader: &LayerReader, epoch: i64) -> Result<Vec<u8>, String> {
    let mut found: Vec<(&str, Vec<u8>)> = Vec::new();
    for (folder, start, name) in MICROCODE {
        let folder = format!("{FIRMWARE}/{folder}");
        let mut all = Vec::new();
        for file in reader.names_in(&folder).into_iter().filter(|file| file.starts_with(start)) {
            // `.asc` are signatures of AMD's files.
            if file.ends_with(".asc") || file.contains("README") {
                continue;
            }
            if let (_, Some(path)) = follow(&reader.tree, &format!("{folder}/{file}")) {
                let bytes = reader.read(&path)?.unwrap_or_default();
                all.extend(plain(&path, bytes).map_err(|error| format!("/{path}: {error}"))?);
            }
        }
        if !all.is_empty() {
            found.push((name, all));
        }
    }
    let mut out = Vec::new();
    if found.is_empty() {
        return Ok(out);
    }
    let said = |error: std::io::Error| error.to_string();
    let head = |mode: u32, links: u32| Head { inode: 0, links, mode, uid: 0, gid: 0, mtime: epoch };
    for folder in ["kernel", "kernel/x86", "kernel/x86/microcode"] {
        write_entry(&mut out, folder, head(0o755, 2), Body::Directory).map_err(said)?;
    }
    for (name, bytes) in &found {
        let body = Body::File(bytes.len() as u64, Some(Box::new(&bytes[..])));
        write_entry(&mut out, &format!("kernel/x86/microcode/{name}"), head(0o644, 1), body).map_err(said)?;
    }
    write_trailer(&mut out).map_err(said)?;
    // What follows is compressed: its beginning is looked for at a multiple of four. Source: kernel, init/initramfs.c.
    out.resize(out.len().next_multiple_of(512), 0);
    Ok(out)
}

/// The content of a file that may be compressed.
fn plain(path: &str, bytes: Vec<u8>) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    /// No microcode is larger.
    const LIMIT: u64 = 64 << 20;
    let mut out = Vec::new();
    match path.rsplit_once('.').map(|(_, ending)| ending) {
        Some("xz") => archive::xz(&bytes[..])?.take(LIMIT).read_to_end(&mut out)?,
        Some("zst") => zstd::Decoder::new(&bytes[..])?.take(LIMIT).read_to_end(&mut out)?,
        _ => return Ok(bytes),
    };
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Digest;
    use store::{Entry, MergedEntry};

    #[test]
    fn firmware_is_found_through_links_of_files_and_directories() {
        let file = || Kind::File { size: 1, digest: Digest::of(b"") };
        let link = |to: &str| Kind::Symlink(to.to_owned());
        let all = [
            ("usr/lib/firmware/plain", file()),
            ("usr/lib/firmware/relative", link("sub/../plain")),
            ("usr/lib/firmware/absolute", link("/lib/firmware/plain")),
            ("usr/lib/firmware/vendor", link("../../share/vendor")),
            ("usr/share/vendor/deep", link("./fw.bin")),
            ("usr/share/vendor/fw.bin", file()),
            ("usr/lib/firmware/round", link("round")),
            ("usr/lib/firmware/nowhere", link("/x")),
        ];
        let entry = |kind: Kind| MergedEntry { entry: Entry { kind, ..Entry::whiteout() }, layer: 0 };
        let tree = Merged(all.into_iter().map(|(path, kind)| (path.to_owned(), entry(kind))).collect());
        let end = |name: &str| follow(&tree, &format!("{FIRMWARE}/{name}")).1;
        for name in ["plain", "relative", "absolute"] {
            assert_eq!(end(name).as_deref(), Some("usr/lib/firmware/plain"), "{name}");
        }
        assert_eq!((end("round"), end("nowhere"), end("none")), (None, None, None));
        let (links, file) = follow(&tree, "lib/firmware/vendor/deep");
        assert_eq!(file.as_deref(), Some("usr/share/vendor/fw.bin"));
        let expected =
            [("usr/lib/firmware/vendor", "usr/share/vendor"), ("usr/share/vendor/deep", "usr/share/vendor/fw.bin")];
        assert_eq!(links, expected.map(|(link, to)| (link.to_owned(), to.to_owned())));
    }
}
