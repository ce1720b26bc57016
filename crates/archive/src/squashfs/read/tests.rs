//! On an image that mksquashfs made, as it is and damaged. tests/it/e2e/forms.rs has larger ones, in all compressors.

use std::fmt::Write as _;
use std::io::Write as _;

use super::*;

/// `mksquashfs -comp gzip -b 4096` of a tree with one of each kind.
const SMALL: &[u8] = include_bytes!("../../../../../tests/fixtures/squashfs/small.sfs");

fn listed(bytes: &[u8]) -> io::Result<String> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    let mut text = String::new();
    list_squashfs(&file, &mut |entry, content| {
        let mut all = Vec::new();
        // A hole costs nothing to claim.
        content.take(1 << 20).read_to_end(&mut all)?;
        let Listed { path, mode, uid, gid, size, mtime, device, .. } = entry;
        let _ = write!(text, "{path} {mode:o} {uid}:{gid} {size} {mtime} {}:{}", device.0, device.1);
        let _ = write!(text, " {} {}", all.len(), blake3::hash(&all).to_hex().get(..8).unwrap_or_default());
        for word in entry.target.iter().chain(&entry.same_as) {
            let _ = write!(text, " -> {word}");
        }
        for (name, value) in &entry.xattrs {
            let _ = write!(text, " {name}={}", value.escape_ascii());
        }
        text.push('\n');
        Ok(())
    })?;
    Ok(text)
}

#[test]
fn one_of_each_kind_is_read() {
    insta::assert_snapshot!(listed(SMALL).unwrap());
}

#[test]
fn what_is_not_read_is_named() {
    let with = |at: usize, value: &[u8]| {
        let mut bytes = SMALL.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        listed(&bytes).unwrap_err().to_string()
    };
    assert!(with(20, &[3, 0]).contains("compressed with lzo, which is not supported: mount it"));
    assert!(with(28, &[3, 0]).contains("version 3.0"));
    assert!(with(12, &[1, 0, 0, 0]).contains("its blocks have 1 bytes"));
    assert!(listed(&SMALL[..90]).unwrap_err().to_string().contains("is truncated"));
    assert!(listed(&SMALL[..SMALL.len() - 20]).unwrap_err().to_string().contains("damaged"));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_image_is_an_error_or_another_image(changes in proptest::collection::vec((0..SMALL.len(), 0u8..), 1..6)) {
        let mut bytes = SMALL.to_vec();
        for (at, value) in changes {
            bytes[at] = value;
        }
        let _ = listed(&bytes);
    }
}
