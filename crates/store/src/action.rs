//! Records of finished actions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::sealed::{Seal, seal, sealed};
use super::{Store, StoreError};
use base::digest::Digest;

/// A blob with its size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BlobRef {
    /// Content.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
}

/// What an action made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// A layer, if it made one.
    pub layer: Option<Digest>,
    /// Files by name.
    #[serde(default)]
    pub blobs: BTreeMap<String, BlobRef>,
    /// Small facts by name: a kernel's release, a projection's digest.
    #[serde(default)]
    pub values: BTreeMap<String, String>,
    /// Compressed frames, in order.
    #[serde(default)]
    pub frames: Vec<Digest>,
}

/// One input of an action as the record keeps it: a name and a value, in the order of the key's walk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecordedInput {
    /// What kind of input, and which.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What is known of a finished action: a file of the store. Readers ignore fields that they do not know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "imgbuild action record")]
pub struct ActionRecord {
    /// Version of this record's form.
    pub format: u32,
    /// The key.
    pub key: Digest,
    /// Which action of an image it was, for instance `rootfs/sync`.
    pub action: String,
    /// Plaintext of the key.
    pub inputs: Vec<RecordedInput>,
    /// What came out.
    pub outputs: Outputs,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// A later run of the same key that gave something else, kept as evidence (D8).
    #[serde(default)]
    pub differing: Option<Outputs>,
    /// Which file it was, and how it differed.
    #[serde(default)]
    pub differs_in: Option<String>,
    /// The cache that said so, where no one signed it and it was not compared: it is not given to others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub believed: Option<String>,
    /// BLAKE3 of all bytes of the file up to the comma before this, the last field. A record without it, or with another one,
    /// does not count: its action runs again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl ActionRecord {
    /// The text of the file.
    /// Errors: None that a record can have.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(&Self { digest: None, ..self.clone() }).map(|text| sealed(&text))
    }

    pub fn parse(bytes: &[u8]) -> Written {
        #[derive(Deserialize)]
        struct Form {
            format: u32,
        }
        if serde_json::from_slice::<Form>(bytes).is_ok_and(|form| form.format > FORMAT) {
            return Written::Later;
        }
        let Ok(record) = serde_json::from_slice::<Self>(bytes) else { return Written::Spoilt };
        match seal(bytes) {
            Seal::Whole => Written::Whole(record),
            Seal::Missing if record.digest.is_none() => Written::Earlier(record),
            Seal::Missing | Seal::Broken if fault::planted("record-without-seal") => Written::Whole(record),
            Seal::Missing | Seal::Broken => Written::Spoilt,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// With a digest of itself, which is right.
    Whole(ActionRecord),
    /// By an imgbuild that wrote no digest: its action runs again, and what it names is kept.
    Earlier(ActionRecord),
    /// In a form of a later imgbuild.
    Later,
    /// It is not a record, or not as it was written.
    Spoilt,
}

impl Written {
    /// A record that may be believed.
    pub fn whole(self) -> Option<ActionRecord> {
        match self {
            Self::Whole(record) => Some(record),
            Self::Earlier(_) | Self::Later | Self::Spoilt => None,
        }
    }
}

const FORMAT: u32 = 1;

impl Store {
    fn action_path(&self, key: &Digest) -> std::path::PathBuf {
        self.directory().join("actions").join(format!("{key}.json"))
    }

    /// The record for a key, if its action finished and the record can be read.
    pub fn record(&self, key: &Digest) -> Option<ActionRecord> {
        let bytes = witness::read(&self.action_path(key)).ok()?;
        ActionRecord::parse(&bytes).whole().filter(|record| record.key == *key)
    }

    /// Removes the record of an action, so that the action runs again; what it names is left for gc.
    pub fn forget(&self, key: &Digest) -> Result<(), StoreError> {
        let path = self.action_path(key);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StoreError::io("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// Whether the file is not a record, or is another action's. Those of other versions of imgbuild are not.
    pub(super) fn is_spoilt(&self, key: &Digest) -> bool {
        match std::fs::read(self.action_path(key)).map(|bytes| ActionRecord::parse(&bytes)) {
            Ok(Written::Whole(record) | Written::Earlier(record)) => record.key != *key,
            Ok(Written::Later) => false,
            Ok(Written::Spoilt) | Err(_) => true,
        }
    }

    /// The outputs that a record names, for anyone who only wants to know what must be kept: also of one that an earlier imgbuild
    /// wrote, or that is not as it was written.
    pub(super) fn named_outputs(&self, key: &Digest) -> Option<Outputs> {
        let bytes = std::fs::read(self.action_path(key)).ok()?;
        serde_json::from_slice::<ActionRecord>(&bytes).ok().filter(|record| record.key == *key).map(|one| one.outputs)
    }

    pub fn has_outputs(&self, outputs: &Outputs) -> bool {
        outputs.layer.is_none_or(|layer| self.has_layer(&layer))
            && outputs.frames.iter().all(|frame| witness::is_file(&self.directory().join(Self::frame_name(frame))))
            && outputs.blobs.values().all(|blob| {
                witness::metadata(&self.blob(&blob.digest)).is_ok_and(|metadata| metadata.len() == blob.size)
            })
    }

    pub fn missing_outputs(&self, outputs: &Outputs) -> Vec<String> {
        let mut gone = Vec::new();
        if let Some(layer) = outputs.layer.filter(|layer| !self.has_layer(layer)) {
            gone.push(format!("its layer {}", layer.short()));
        }
        let is_there = |blob: &BlobRef| {
            std::fs::metadata(self.blob(&blob.digest)).is_ok_and(|metadata| metadata.len() == blob.size)
        };
        gone.extend(
            outputs.blobs.iter().filter(|(_, blob)| !is_there(blob)).map(|(name, _)| format!("its file {name}")),
        );
        let frames =
            outputs.frames.iter().filter(|one| !self.directory().join(Self::frame_name(one)).is_file()).count();
        if frames > 0 {
            gone.push(format!("{frames} of its {} frames", outputs.frames.len()));
        }
        gone
    }

    /// Records that a cache gave and no one signed or compared.
    pub fn believed(&self) -> impl Iterator<Item = ActionRecord> + '_ {
        self.records().filter(|record| record.believed.is_some())
    }

    pub fn records(&self) -> impl Iterator<Item = ActionRecord> + '_ {
        let names = self.names_in("actions").into_iter();
        let keys = names.filter_map(|name| Digest::parse(name.strip_suffix(".json")?).ok());
        keys.filter_map(|key| self.record(&key))
    }

    /// Keeps the evidence that an action gives something else when it runs again.
    pub fn set_differing(&self, key: &Digest, outputs: Outputs, differs_in: &str) -> Result<(), StoreError> {
        let Some(mut record) = self.record(key) else { return Ok(()) };
        record.differing = Some(outputs);
        record.differs_in = Some(differs_in.to_owned());
        self.write_record(&record)
    }

    fn write_record(&self, record: &ActionRecord) -> Result<(), StoreError> {
        let path = self.action_path(&record.key);
        let text = record.to_text().map_err(|source| StoreError::io("write", &path, std::io::Error::other(source)))?;
        self.write_file(&path, text.as_bytes())
    }

    /// Writes a record unless its key has one whose outputs are still there; gives the record that counts.
    pub fn commit(&self, record: ActionRecord) -> Result<ActionRecord, StoreError> {
        self.sync(&record.outputs)?;
        let mut counts = record;
        if let Some(mut first) = self.record(&counts.key)
            && first.outputs != counts.outputs
            && first.believed.is_none()
            && self.has_outputs(&first.outputs)
        {
            first.differing = Some(counts.outputs);
            counts = first;
        }
        self.write_committed(&counts)?;
        Ok(counts)
    }

    /// Writes a record over one of which something was gone when its action began. What the action recreated may be all that
    /// was missing of the earlier one, which then looks whole and may name what came of a damaged file.
    pub fn commit_anew(&self, record: &ActionRecord) -> Result<(), StoreError> {
        self.sync(&record.outputs)?;
        self.write_committed(record)
    }

    /// Waits until what a record will name is on the disk. Files of its own are there already, one by one. Frames need not be: anyone who
    /// uses one compares it with the index, and has it made again where a power cut took it.
    fn sync(&self, outputs: &Outputs) -> Result<(), StoreError> {
        fault::point("commit.before-sync");
        if outputs.layer.is_none() {
            return Ok(());
        }
        let here =
            std::fs::File::open(self.directory()).map_err(|source| StoreError::io("open", self.directory(), source))?;
        rustix::fs::syncfs(&here).map_err(|source| StoreError::io("sync", self.directory(), source))
    }

    fn write_committed(&self, record: &ActionRecord) -> Result<(), StoreError> {
        fault::point("commit.before-record");
        self.write_record(record)?;
        fault::point("commit.after-record");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_which_a_byte_is_another_one_is_none() {
        let record = ActionRecord {
            format: 1,
            key: Digest::of(b"key"),
            action: "rootfs/sync".to_owned(),
            inputs: vec![RecordedInput { name: "file a".to_owned(), value: "1".to_owned() }],
            outputs: Outputs { values: [("release".to_owned(), "6.1.0".to_owned())].into(), ..Outputs::default() },
            milliseconds: 7,
            differing: None,
            differs_in: None,
            believed: None,
            digest: None,
        };
        let text = record.to_text().unwrap();
        let read = ActionRecord::parse(text.as_bytes()).whole().unwrap();
        assert_eq!(ActionRecord { digest: None, ..read.clone() }, record);
        // What was read is written as it was.
        assert_eq!(read.to_text().unwrap(), text);
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(ActionRecord::parse(&bytes).whole(), None, "byte {at}");
            assert_eq!(ActionRecord::parse(&text.as_bytes()[..at]), Written::Spoilt);
        }
        let earlier = serde_json::to_string_pretty(&record).unwrap();
        assert_eq!(ActionRecord::parse(earlier.as_bytes()), Written::Earlier(record));
        assert_eq!(ActionRecord::parse(text.replace("\"format\": 1", "\"format\": 2").as_bytes()), Written::Later);
    }
}
