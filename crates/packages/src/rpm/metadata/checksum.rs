//! Digests as RPM metadata name them.

use std::fmt;
use std::io::Read;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::Digest as _;

use base::digest::Sha256;

#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Checksum {
    Sha256(Sha256),
    Sha384([u8; 48]),
    Sha512([u8; 64]),
}

impl Checksum {
    /// Reads a digest by the name of its kind, as in `<checksum type="sha256">`.
    /// Errors: A text that says what is wrong; MD5 and SHA-1 (`sha`, `sha1`) are refused, as they can be forged.
    pub fn parse(kind: &str, digits: &str) -> Result<Self, String> {
        let digits = digits.trim();
        let wrong = || format!("has an invalid {kind} digest: `{}`", digits.escape_default());
        match kind {
            "sha256" => Ok(Self::Sha256(Sha256::parse(digits).map_err(|_| wrong())?)),
            "sha384" => read(digits).map(Self::Sha384).ok_or_else(wrong),
            "sha512" => read(digits).map(Self::Sha512).ok_or_else(wrong),
            "md5" | "sha" | "sha1" | "sha224" => {
                Err(format!("gives only a {kind} digest, which is too weak to be trusted"))
            }
            other => Err(format!("gives a digest of the unknown kind `{}`", other.escape_default())),
        }
    }

    /// The digest of the same kind of all that a reader gives.
    pub fn of_same_kind(&self, mut data: impl Read) -> std::io::Result<Self> {
        let mut buffer = vec![0u8; 1 << 17];
        let mut one = sha2::Sha256::new();
        let (mut two, mut three) = (sha2::Sha512::new(), sha2::Sha384::new());
        loop {
            let read = data.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            match self {
                Self::Sha256(_) => one.update(&buffer[..read]),
                Self::Sha384(_) => three.update(&buffer[..read]),
                Self::Sha512(_) => two.update(&buffer[..read]),
            }
        }
        Ok(match self {
            Self::Sha256(_) => Self::Sha256(Sha256(one.finalize().into())),
            Self::Sha384(_) => Self::Sha384(three.finalize().into()),
            Self::Sha512(_) => Self::Sha512(two.finalize().into()),
        })
    }

    pub fn sha256(&self) -> Option<Sha256> {
        match self {
            Self::Sha256(digest) => Some(*digest),
            Self::Sha384(_) | Self::Sha512(_) => None,
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::Sha384(_) => "sha384",
            Self::Sha512(_) => "sha512",
        }
    }

    pub fn digits(&self) -> String {
        match self {
            Self::Sha256(digest) => digest.to_string(),
            Self::Sha384(bytes) => HEXLOWER.encode(bytes),
            Self::Sha512(bytes) => HEXLOWER.encode(bytes),
        }
    }

    pub fn fits(&self, bytes: &[u8]) -> bool {
        self.of_same_kind(bytes).is_ok_and(|found| found == *self || fault::planted("rpm-digest-unchecked"))
    }
}

/// A digest of so many bytes.
fn read<const N: usize>(digits: &str) -> Option<[u8; N]> {
    HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()?.try_into().ok()
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind(), self.digits())
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string().chars().take(19).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::Checksum;

    #[test]
    fn weak_digests_are_refused_and_strong_ones_checked() {
        assert!(Checksum::parse("sha", "da39a3ee5e6b4b0d3255bfef95601890afd80709").unwrap_err().contains("too weak"));
        assert!(Checksum::parse("md5", "d41d8cd98f00b204e9800998ecf8427e").unwrap_err().contains("too weak"));
        assert!(Checksum::parse("crc", "1").is_err() && Checksum::parse("sha512", "é").is_err());
        // FIPS 180-2, appendix D.1.
        let digits = "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7";
        let digest = Checksum::parse("sha384", digits).unwrap();
        assert!(digest.fits(b"abc") && !digest.fits(b"abd") && digest.to_string() == format!("sha384:{digits}"));
        assert!(Checksum::parse("sha384", &digits[2..]).is_err());
        // FIPS 180-2, appendix C.1.
        let digits = "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f";
        let digest = Checksum::parse("sha512", digits).unwrap();
        assert!(digest.fits(b"abc") && !digest.fits(b"abd"));
        assert_eq!(digest.to_string(), format!("sha512:{digits}"));
    }
}
