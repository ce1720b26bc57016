//! Debian packages without their compression.

use crate::inside::plain;
use crate::inside::plain::PlainRequest;
use archive::write_plain;
use sandbox::helper::News;

pub(super) fn inside(request: PlainRequest, news: News<'_>) -> Result<usize, String> {
    plain::inside(request, news, |from, to| write_plain(from, to).map_err(|error| error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use archive::{read_members, write_plain};

    /// An `ar` archive with members that have odd sizes.
    fn package(data: (&str, &[u8])) -> Vec<u8> {
        let mut bytes = b"!<arch>\n".to_vec();
        for (name, content) in [("debian-binary", &b"2.0\n"[..]), ("control.tar", &b"abc"[..]), data] {
            bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, content.len()).bytes());
            bytes.extend(content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        read_members::<archive::DebError>(bytes, |name, content| {
            let mut all = Vec::new();
            content.read_to_end(&mut all)?;
            found.push((name.to_owned(), all));
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn a_plain_package_has_the_same_members() {
        for text in [&b"odd"[..], b"even", b""] {
            let compressed = zstd::encode_all(text, 3).unwrap();
            let mut plain = Cursor::new(Vec::new());
            write_plain(&package(("data.tar.zst", &compressed))[..], &mut plain).unwrap();
            let expected = [("control.tar".to_owned(), b"abc".to_vec()), ("data.tar".to_owned(), text.to_vec())];
            assert_eq!(members(plain.get_ref()), expected);
            assert_eq!(plain.get_ref().len() % 2, 0);
        }
        assert!(write_plain(&package(("data.tar.lz", b"x"))[..], &mut Cursor::new(Vec::new())).is_err());
    }
}
