//! Digests and the canonical encoding that every key is made of.
//!
//! Two kinds of digest exist and never convert into each other: [`Digest`] (BLAKE3) identifies bytes inside
//! imgbuild, [`Sha256`] is what package indices name and what a booting node can check (D31).

use std::fmt;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// BLAKE3 digest of some bytes; 32 bytes, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// SHA-256 digest of some bytes; 32 bytes, written as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sha256(pub [u8; 32]);

/// Text that is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a digest of 64 hexadecimal digits")]
pub struct NotADigest(pub String);

fn from_hex(text: &str) -> Result<[u8; 32], NotADigest> {
    let wrong = || NotADigest(text.chars().take(80).collect());
    if text.len() != 64 {
        return Err(wrong());
    }
    let mut bytes = [0; 32];
    HEXLOWER_PERMISSIVE.decode_mut(text.as_bytes(), &mut bytes).map_err(|_| wrong())?;
    Ok(bytes)
}

macro_rules! hex_digest {
    ($name:ident) => {
        impl $name {
            /// Reads 64 hexadecimal digits.
            /// Errors: [`NotADigest`] for anything else.
            pub fn parse(text: &str) -> Result<Self, NotADigest> {
                from_hex(text).map(Self)
            }

            /// The first 12 digits, for messages.
            pub fn short(&self) -> String {
                HEXLOWER.encode(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.short())
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "pattern": "^[0-9a-f]{64}$"})
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&HEXLOWER.encode(&self.0))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

hex_digest!(Digest);
hex_digest!(Sha256);

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl Sha256 {
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// Hashes a sequence of fields so that no two different sequences give the same bytes.
///
/// Each field is preceded by its length as eight little-endian bytes; the context string separates the uses of
/// the digest from one another (BLAKE3's key derivation mode).
#[derive(Clone)]
pub struct FieldHasher {
    hasher: blake3::Hasher,
    /// What was added and not hashed: many small pieces take several times as long as a large one.
    waiting: Vec<u8>,
}

/// Most bytes that wait; what is longer is hashed as it is.
const WAITING: usize = 1 << 14;

impl FieldHasher {
    /// Starts a digest for one use; `context` is a constant that names it and its version.
    pub fn new(context: &'static str) -> Self {
        Self { hasher: blake3::Hasher::new_derive_key(context), waiting: Vec::new() }
    }

    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.waiting.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        if self.waiting.len() + bytes.len() <= WAITING {
            self.waiting.extend_from_slice(bytes);
        } else {
            self.hasher.update(&self.waiting).update(bytes);
            self.waiting.clear();
        }
        self
    }

    pub fn text(&mut self, text: &str) -> &mut Self {
        self.field(text.as_bytes())
    }

    pub fn finish(&self) -> Digest {
        let mut all = self.hasher.clone();
        Digest(*all.update(&self.waiting).finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_text_reads_back() {
        let digest = Digest::of(b"imgbuild");
        assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest);
        assert!(Digest::parse("12").is_err());
        assert!(Digest::parse(&"g".repeat(64)).is_err());
        assert!(Digest::parse(&"é".repeat(32)).is_err());
    }

    #[test]
    fn fields_do_not_run_into_each_other() {
        let joined = |fields: &[&str]| {
            let mut hasher = FieldHasher::new("test");
            for field in fields {
                hasher.text(field);
            }
            hasher.finish()
        };
        assert_ne!(joined(&["ab", "c"]), joined(&["a", "bc"]));
        assert_ne!(joined(&["a"]), joined(&["a", ""]));
    }

    #[test]
    fn fields_give_the_same_digest_however_many_wait() {
        let mut hasher = FieldHasher::new("test");
        let mut plain = blake3::Hasher::new_derive_key("test");
        for size in [0, 1, 7, WAITING - 8, WAITING, 3, WAITING - 30, 20, 40_000, 5] {
            let field = vec![size as u8; size];
            hasher.field(&field);
            plain.update(&(size as u64).to_le_bytes()).update(&field);
            assert_eq!(hasher.finish().0, *plain.finalize().as_bytes(), "{size}");
        }
    }

    #[test]
    fn sha256_matches_the_published_vector() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(Sha256::of(b"abc").to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
