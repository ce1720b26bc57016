//! Records of finished actions.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::digest::Digest;
use crate::fault;

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
}

impl Store {
    fn action_path(&self, key: &Digest) -> std::path::PathBuf {
        self.directory().join("actions").join(format!("{key}.json"))
    }

    /// The record for a key, if its action finished and the record can be read.
    pub fn record(&self, key: &Digest) -> Option<ActionRecord> {
        let bytes = crate::witness::read(&self.action_path(key)).ok()?;
        serde_json::from_slice::<ActionRecord>(&bytes).ok().filter(|record| record.key == *key && record.format == 1)
    }

    /// Whether all that a record names is there.
    pub fn has_outputs(&self, outputs: &Outputs) -> bool {
        outputs.layer.is_none_or(|layer| self.has_layer(&layer))
            && outputs
                .frames
                .iter()
                .all(|frame| crate::witness::is_file(&self.directory().join(Self::frame_name(frame))))
            && outputs.blobs.values().all(|blob| {
                crate::witness::metadata(&self.blob(&blob.digest)).is_ok_and(|metadata| metadata.len() == blob.size)
            })
    }

    /// What a record names and is gone, in words.
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

    /// All records that can be read, in no order.
    pub fn records(&self) -> impl Iterator<Item = ActionRecord> + '_ {
        let names = self.names_in("actions").into_iter();
        let keys = names.filter_map(|name| Digest::parse(name.strip_suffix(".json")?).ok());
        keys.filter_map(|key| self.record(&key))
    }

    /// Keeps the evidence that an action gives something else when it runs again.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written.
    pub fn set_differing(&self, key: &Digest, outputs: Outputs, differs_in: &str) -> Result<(), StoreError> {
        let Some(mut record) = self.record(key) else { return Ok(()) };
        record.differing = Some(outputs);
        record.differs_in = Some(differs_in.to_owned());
        let path = self.action_path(key);
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|source| StoreError::io("write", &path, std::io::Error::other(source)))?;
        self.write_file(&path, &text)
    }

    /// Writes a record unless its key has one whose outputs are still there; gives the record that counts.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written.
    pub fn commit(&self, record: ActionRecord) -> Result<ActionRecord, StoreError> {
        let path = self.action_path(&record.key);
        fault::point("commit.before-sync");
        let here =
            std::fs::File::open(self.directory()).map_err(|source| StoreError::io("open", self.directory(), source))?;
        rustix::fs::syncfs(&here).map_err(|source| StoreError::io("sync", self.directory(), source))?;
        let mut counts = record;
        if let Some(mut first) = self.record(&counts.key)
            && first.outputs != counts.outputs
            && self.has_outputs(&first.outputs)
        {
            first.differing = Some(counts.outputs);
            counts = first;
        }
        let text = serde_json::to_vec_pretty(&counts)
            .map_err(|source| StoreError::io("write", &path, std::io::Error::other(source)))?;
        fault::point("commit.before-record");
        self.write_file(&path, &text)?;
        fault::point("commit.after-record");
        Ok(counts)
    }
}
