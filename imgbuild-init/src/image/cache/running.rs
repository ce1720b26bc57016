//! The image that runs, where it stays packed: the device that the kernel made of it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::image::index::{Index, sha256};

/// The loop device that shows an image: its first frame is there. Its name says nothing, as its file was removed when it was mounted.
///
/// # Errors
/// A text: no device has it.
pub(crate) fn device(index: &Index) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir("/sys/class/block").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name.strip_prefix("loop").is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())))
        .collect();
    names.sort();
    let shows = |path: &PathBuf| File::open(path).is_ok_and(|file| has_first_frame(&file, index));
    let found = names.iter().map(|name| PathBuf::from(format!("/dev/{name}"))).find(shows);
    found.ok_or_else(|| "no device of this node has the image that runs".to_owned())
}

fn has_first_frame(file: &File, index: &Index) -> bool {
    let Some(frame) = index.frames.first() else { return false };
    let Ok(length) = std::io::Seek::seek(&mut &*file, std::io::SeekFrom::End(0)) else { return false };
    // Before anything is taken of memory; a device is shorter than its file by part of a sector at most.
    if length < frame.size || length.saturating_add(512) < index.size {
        return false;
    }
    let Ok(size) = usize::try_from(frame.size) else { return false };
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0).is_ok() && sha256(&bytes) == frame.sha256
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::index::Frame;

    #[test]
    fn a_device_is_known_by_its_first_frame() {
        let path = std::env::temp_dir().join(format!("imgbuild-running-{}", std::process::id()));
        std::fs::write(&path, b"onetwo").unwrap();
        let file = File::open(&path).unwrap();
        let index = |first: &[u8], size: u64| {
            Index {
            frames: vec![Frame { offset: 0, size: first.len() as u64, sha256: sha256(first) }],
            size,
            ..serde_json::from_str(
                r#"{"format":1,"archive":"erofs","compress":"none","size":0,"memory":0,"inodes":0,"frames":[],"xattrs":[]}"#,
            )
            .unwrap()
        }
        };
        assert!(has_first_frame(&file, &index(b"one", 6)) && has_first_frame(&file, &index(b"onetwo", 6)));
        for (first, size) in [(b"two".as_slice(), 6), (b"onetwothree", 6), (b"one", 5000), (b"one", u64::MAX)] {
            assert!(!has_first_frame(&file, &index(first, size)), "{first:?} {size}");
        }
        std::fs::remove_file(path).unwrap();
    }
}
