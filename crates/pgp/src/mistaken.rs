//! Files that are often given as keys and are none.

/// What a file is that is often taken for one of certificates; none where it may be one.
pub(super) fn instead_of_certificates(bytes: &[u8]) -> Option<&'static str> {
    let start = bytes.trim_ascii_start();
    let start = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    let begins = |word: &str| start.get(..word.len()).is_some_and(|first| first.eq_ignore_ascii_case(word.as_bytes()));
    // Source: GnuPG, kbx/keybox-blob.c and g10/tdbio.c.
    if bytes.get(8..12) == Some(b"KBXf") {
        return Some(
            "it is a keybox of GnuPG (.kbx), not a file of certificates: write them out with `gpg --no-default-keyring --keyring ./FILE --export --armor >keys.asc`",
        );
    }
    if bytes.starts_with(b"\x01gpg") {
        return Some("it is GnuPG's database of trust, not a file of certificates");
    }
    if begins("<!doctype") || begins("<html") || begins("<?xml") || begins("<head") {
        return Some(
            "it is a web page, not a file of certificates: the server sent it instead of the key; download the key itself (`curl -fLO ADDRESS`), and look at the file",
        );
    }
    if begins("-----BEGIN PGP SIGNATURE") || begins("-----BEGIN PGP SIGNED MESSAGE") {
        return Some("it is a signature, not the key that made it");
    }
    if begins("-----BEGIN ") && !begins("-----BEGIN PGP ") {
        return Some("it is a PEM file (a TLS or ssh certificate or key), not a file of OpenPGP certificates");
    }
    start.is_empty().then_some("it is empty")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_is_in_the_place_of_keys_is_told() {
        // As gpg 2.2 begins pubring.kbx.
        let keybox = b"\0\0\0\x20\x01\x01\0\x02KBXf\0\0\0\0";
        for (bytes, expected) in [
            (&keybox[..], "keybox of GnuPG"),
            (b"\xef\xbb\xbf\n<!DOCTYPE HTML>\n<html>", "web page"),
            (b"<html><head><title>404</title>", "web page"),
            (b"-----BEGIN PGP SIGNATURE-----\n", "a signature"),
            (b"-----BEGIN CERTIFICATE-----\n", "PEM"),
            (b"\x01gpg\x03", "trust"),
            (b" \n", "empty"),
        ] {
            let said = instead_of_certificates(bytes).unwrap_or_default();
            assert!(said.contains(expected), "{expected}: {said}");
            assert_eq!(super::super::Keyring::parse(bytes).err().as_deref(), Some(said));
        }
        assert_eq!(instead_of_certificates(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"), None);
        assert_eq!(instead_of_certificates(b"\x99\x01\x0d\x04"), None);
    }
}
