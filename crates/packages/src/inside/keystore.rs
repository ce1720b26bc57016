//! Java's list of authorities as Debian's ca-certificates-java and p11-kit before 0.23.10 write it: each entry has the time at which
//! it was written.
//!
//! Source: OpenJDK's JavaKeyStore.java: magic, version, number of entries; an entry's kind (2: a certificate), alias, time in
//! milliseconds, type and bytes of the certificate; at the end SHA-1 of the password in UTF-16, of a phrase, and of all that.

use sha1::{Digest, Sha1};

use store::TreeEditor;

/// Where update-ca-trust puts it, and Debian's ca-certificates-java.
const PATHS: [&str; 2] = ["etc/pki/ca-trust/extracted/java/cacerts", "etc/ssl/certs/java/cacerts"];
const MAGIC: u32 = 0xfeed_feed;
const CERTIFICATE: u32 = 2;
/// The password that everyone knows; a list with another one is the site's own.
const PASSWORD: &str = "changeit";
const PHRASE: &[u8] = b"Mighty Aphrodite";
const SUM: usize = 20;

/// Sets the times of the entries.
/// Errors: A text when a file cannot be written.
pub(crate) fn settle(editor: &TreeEditor, epoch: i64) -> Result<(), String> {
    for path in PATHS {
        let Some(mut file) = editor.open_to_change(path) else { continue };
        let said = |error: std::io::Error| format!("cannot change /{path}: {error}");
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes).map_err(said)?;
        if let Some(settled) = settled(&bytes, epoch) {
            std::os::unix::fs::FileExt::write_all_at(&file, &settled, 0).map_err(said)?;
        }
    }
    Ok(())
}

fn sum(content: &[u8]) -> [u8; SUM] {
    let mut hasher = Sha1::new();
    PASSWORD.encode_utf16().for_each(|unit| hasher.update(unit.to_be_bytes()));
    hasher.update(PHRASE);
    hasher.update(content);
    hasher.finalize().into()
}

/// The same list with another time; none if it is no list of authorities alone, or has another password.
fn settled(bytes: &[u8], epoch: i64) -> Option<Vec<u8>> {
    let mut content = bytes.get(..bytes.len().checked_sub(SUM)?)?.to_vec();
    if sum(&content)[..] != bytes[content.len()..] {
        return None;
    }
    let time = u64::try_from(epoch).ok()?.checked_mul(1000)?.to_be_bytes();
    let u32_at = |content: &[u8], at: usize| Some(u32::from_be_bytes(*content.get(at..)?.first_chunk()?));
    let u16_at = |content: &[u8], at: usize| Some(usize::from(u16::from_be_bytes(*content.get(at..)?.first_chunk()?)));
    let (magic, version, entries) = (u32_at(&content, 0)?, u32_at(&content, 4)?, u32_at(&content, 8)?);
    if magic != MAGIC || version != 2 {
        return None;
    }
    let mut at = 12;
    for _ in 0..entries {
        if u32_at(&content, at)? != CERTIFICATE {
            return None;
        }
        at += 4;
        at += 2 + u16_at(&content, at)?;
        content.get_mut(at..at + 8)?.copy_from_slice(&time);
        at += 8;
        at += 2 + u16_at(&content, at)?;
        at += 4 + u32_at(&content, at)? as usize;
    }
    if at != content.len() {
        return None;
    }
    let sum = sum(&content);
    content.extend(sum);
    Some(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(times: &[u64]) -> Vec<u8> {
        let mut content = [MAGIC.to_be_bytes(), 2_u32.to_be_bytes(), (times.len() as u32).to_be_bytes()].concat();
        for (number, time) in times.iter().enumerate() {
            let alias = format!("authority {number}");
            content.extend(
                [&CERTIFICATE.to_be_bytes()[..], &(alias.len() as u16).to_be_bytes(), alias.as_bytes()].concat(),
            );
            content.extend(
                [&time.to_be_bytes()[..], &5_u16.to_be_bytes(), b"X.509", &3_u32.to_be_bytes(), b"abc"].concat(),
            );
        }
        let sum = sum(&content);
        content.extend(sum);
        content
    }

    #[test]
    fn times_are_the_epochs_and_the_sum_is_right() {
        assert_eq!(settled(&list(&[1, 2]), 7), Some(list(&[7000, 7000])));
    }

    #[test]
    fn what_is_no_list_with_the_known_password_stays() {
        let good = list(&[1, 2]);
        for cut in 0..good.len() {
            assert_eq!(settled(&good[..cut], 7), None);
        }
        let mut key = good[..good.len() - SUM].to_vec();
        key[15] = 1;
        let sum = sum(&key);
        key.extend(sum);
        assert_eq!(settled(&key, 7), None);
    }
}
