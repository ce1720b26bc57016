//! What a cache says of one action, and who said it.

use std::collections::BTreeMap;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use base::digest::{Digest, Sha256};
use store::{ActionRecord, Written};

const FORMAT: u32 = 1;
/// What is signed begins so: no signature of anything else is one of an entry.
const CONTEXT: &[u8] = b"imgbuild cache entry\n";
/// In front of a public key in a recipe or on the command line, and of a signature in an entry.
pub(super) const SCHEME: &str = "ed25519:";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Bytes.
    pub size: u64,
    /// Content, and so the name.
    pub sha256: Sha256,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    pub object: Object,
    /// The text beside it in the store.
    pub info: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub format: u32,
    /// The store's record, as its file has it.
    pub record: String,
    /// Its layer, as `store save` writes one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Object>,
    /// Files, by the BLAKE3 that the record names.
    #[serde(default)]
    pub blobs: BTreeMap<Digest, Object>,
    /// Frames, by the names that the record has.
    #[serde(default)]
    pub frames: BTreeMap<Digest, Frame>,
    /// Packages that it was made of; other actions that need one of them take it from here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<Object>,
}

impl Entry {
    pub fn of(record: &ActionRecord) -> Option<Self> {
        let record = record.to_text().ok()?;
        Some(Self {
            format: FORMAT,
            record,
            layer: None,
            blobs: BTreeMap::new(),
            frames: BTreeMap::new(),
            packages: Vec::new(),
        })
    }

    /// Whether another entry's text says the same of a record's results. Packages are named by their digests and count for nothing.
    pub fn is_same(&self, theirs: &[u8], record: &ActionRecord) -> bool {
        Self::parse(theirs, &record.key, &[]).is_ok_and(|(entry, of)| {
            of.outputs == record.outputs
                && of.differing.is_none()
                && (&entry.layer, &entry.blobs, &entry.frames) == (&self.layer, &self.blobs, &self.frames)
        })
    }

    pub fn results(&self) -> impl Iterator<Item = &Object> {
        self.layer.iter().chain(self.blobs.values()).chain(self.frames.values().map(|frame| &frame.object))
    }

    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.results().chain(&self.packages)
    }

    /// The file's text: a line, and a second one with the signature where there is a key.
    /// Errors: None that an entry can have.
    pub fn to_text(&self, key: Option<&SigningKey>) -> Result<String, serde_json::Error> {
        let line = serde_json::to_string(self)?;
        let signed = key.map(|key| sign(line.as_bytes(), key)).unwrap_or_default();
        Ok(format!("{line}\n{signed}"))
    }

    /// Reads the file's text; where keys are trusted, one of them has to have signed it. Gives the record too.
    pub fn parse(text: &[u8], key: &Digest, trusted: &[VerifyingKey]) -> Result<(Self, ActionRecord), String> {
        Self::parse_with(text, key, trusted, &|_| None)
    }

    /// The same, with signatures that are kept beside it: `beside` reads the one of a key.
    pub fn parse_with(
        text: &[u8],
        key: &Digest,
        trusted: &[VerifyingKey],
        beside: &dyn Fn(&VerifyingKey) -> Option<Vec<u8>>,
    ) -> Result<(Self, ActionRecord), String> {
        let text = std::str::from_utf8(text).map_err(|_| "it is no text".to_owned())?;
        let (line, rest) = text.split_once('\n').ok_or("it is truncated")?;
        if !trusted.is_empty() && !fault::planted("cache-believed") {
            let is_by =
                |signature: &[u8], one: &VerifyingKey| signed(line.as_bytes(), signature) == Signed::By(public(one));
            let name = rest.split(' ').next().unwrap_or_default();
            let inside = trusted.iter().find(|one| public(one) == name);
            // One trusted signature is enough.
            let is_good = inside.is_some_and(|one| is_by(rest.as_bytes(), one))
                || trusted.iter().any(|one| beside(one).is_some_and(|signature| is_by(&signature, one)));
            if !is_good {
                let problem = if inside.is_some() { "its signature is not valid" } else { NOT_SIGNED };
                return Err(problem.to_owned());
            }
        }
        let entry: Self = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if entry.format != FORMAT {
            return Err(format!("it has format {}, this imgbuild reads {FORMAT}", entry.format));
        }
        let record = match ActionRecord::parse(entry.record.as_bytes()) {
            Written::Whole(record) => record,
            _ => return Err("its record is not valid".to_owned()),
        };
        if record.key != *key {
            return Err("its record is of another action".to_owned());
        }
        let outputs = &record.outputs;
        let has_all = outputs.layer.is_some() == entry.layer.is_some()
            && outputs.frames.iter().all(|frame| entry.frames.contains_key(frame))
            && outputs.blobs.values().all(|blob| entry.blobs.contains_key(&blob.digest));
        if !has_all {
            return Err("it lacks files that its record names".to_owned());
        }
        Ok((entry, record))
    }
}

const NOT_SIGNED: &str = "it is not signed with a trusted key";

/// Who signed something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Signed {
    /// A key, as people write it.
    By(String),
    /// There is a signature, and it is not one of this.
    Wrong,
    Not,
}

/// A line that says who signed an entry's first one.
pub(crate) fn sign(line: &[u8], key: &SigningKey) -> String {
    let signature = key.sign(&[CONTEXT, line].concat());
    format!("{} {}\n", public(&key.verifying_key()), HEXLOWER.encode(&signature.to_bytes()))
}

/// Who signed an entry's first line, by the line that says it.
pub(crate) fn signed(line: &[u8], signature: &[u8]) -> Signed {
    let signature = String::from_utf8_lossy(signature);
    if signature.trim().is_empty() {
        return Signed::Not;
    }
    let parts = signature.trim_end().split_once(' ').and_then(|(name, signature)| {
        Some((parse_public(name).ok()?, Signature::from_bytes(&bytes::<64>(signature)?)))
    });
    match parts {
        Some((key, signature)) if key.verify_strict(&[CONTEXT, line].concat(), &signature).is_ok() => {
            Signed::By(public(&key))
        }
        _ => Signed::Wrong,
    }
}

/// What tells a key from others in the name of a file.
pub(crate) fn id_of(key: &VerifyingKey) -> String {
    HEXLOWER.encode(&key.as_bytes()[..8])
}

/// A public key as people write it: `ed25519:` and 64 hexadecimal digits.
pub fn public(key: &VerifyingKey) -> String {
    format!("{SCHEME}{}", HEXLOWER.encode(key.as_bytes()))
}

/// Reads one.
/// Errors: What it should look like.
pub fn parse_public(text: &str) -> Result<VerifyingKey, String> {
    let key = text.strip_prefix(SCHEME).and_then(bytes::<32>).and_then(|bytes| VerifyingKey::from_bytes(&bytes).ok());
    key.ok_or_else(|| {
        format!(
            "`{text}` is no public key: `ed25519:` and 64 hexadecimal digits, as `imgbuild cache key FILE` prints it"
        )
    })
}

pub fn secret(key: &SigningKey) -> String {
    format!("imgbuild-cache-key {}\n", HEXLOWER.encode(&key.to_bytes()))
}

pub(crate) fn parse_secret(text: &str) -> Option<SigningKey> {
    let digits = text.trim().strip_prefix("imgbuild-cache-key ")?;
    Some(SigningKey::from_bytes(&bytes::<32>(digits)?))
}

fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::Outputs;

    fn record() -> ActionRecord {
        ActionRecord {
            format: 1,
            key: Digest::of(b"key"),
            action: "rootfs/sync".to_owned(),
            inputs: Vec::new(),
            outputs: Outputs::default(),
            milliseconds: 1,
            differing: None,
            differs_in: None,
            believed: None,
            digest: None,
        }
    }

    #[test]
    fn what_a_trusted_key_signed_is_read_and_nothing_else() {
        let (ours, other) = (SigningKey::from_bytes(&[7; 32]), SigningKey::from_bytes(&[8; 32]));
        let key = Digest::of(b"key");
        let entry = Entry::of(&record()).unwrap();
        let trusted = [ours.verifying_key()];
        let text = entry.to_text(Some(&ours)).unwrap();
        assert_eq!(Entry::parse(text.as_bytes(), &key, &trusted).unwrap().0, entry);
        let refused = |text: &str, key: &Digest| Entry::parse(text.as_bytes(), key, &trusted).unwrap_err();
        assert!(refused(&entry.to_text(None).unwrap(), &key).contains("not signed"));
        assert!(refused(&entry.to_text(Some(&other)).unwrap(), &key).contains("not signed"));
        assert!(refused(&text.replace("sync", "post"), &key).contains("signature is not valid"));
        assert!(refused(&text, &Digest::of(b"other")).contains("another action"));
        // Without trusted keys the place is what is trusted.
        assert!(Entry::parse(entry.to_text(None).unwrap().as_bytes(), &key, &[]).is_ok());
        assert!(Entry::parse(b"{", &key, &[]).is_err() && Entry::parse(b"\xff\n", &key, &[]).is_err());
        assert!(Entry::parse(text.replace("sync", "post").as_bytes(), &key, &[]).unwrap_err().contains("not valid"));
    }

    #[test]
    fn keys_are_written_as_they_are_read() {
        let key = SigningKey::from_bytes(&[9; 32]);
        assert_eq!(parse_secret(&secret(&key)).unwrap().to_bytes(), key.to_bytes());
        assert_eq!(parse_public(&public(&key.verifying_key())).unwrap(), key.verifying_key());
        assert!(parse_public("ed25519:12").unwrap_err().contains("64 hexadecimal"));
        assert!(parse_secret("imgbuild-cache-key é").is_none());
    }
}
