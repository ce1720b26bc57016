//! Layers of a container image, written from inside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Write};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::planned::{Planned, planned};
use archive::{Compression, write_tar_entry, write_tar_trailer};
use base::digest::{Digest, Sha256};
use sandbox::helper::News;
use store::{Entry, Kind, LayerReader, manifest_of};

/// How layers are compressed: all engines read gzip, some nothing else.
const COMPRESSION: Compression = Compression::Gzip(6);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayersRequest {
    pub layers: Vec<Digest>,
    pub excluded: BTreeSet<String>,
    /// Where the archives go: `TO-0`, `TO-1`, ..
    pub to: String,
    /// Time of what says that a path is gone.
    pub epoch: i64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerFile {
    pub layer: usize,
    /// Digest of the archive before it was compressed, and after; bytes after.
    pub diff_id: Sha256,
    pub digest: Sha256,
    pub size: u64,
}

/// What was written; layers without anything are left out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LayersAnswer {
    pub layers: Vec<LayerFile>,
    pub left_out: Vec<String>,
}

struct Hashed<W> {
    to: W,
    hasher: sha2::Sha256,
    size: u64,
}

impl<W> Hashed<W> {
    fn new(to: W) -> Self {
        Self { to, hasher: sha2::Digest::new(), size: 0 }
    }

    fn digest(self) -> (Sha256, u64) {
        (Sha256(sha2::Digest::finalize(self.hasher).into()), self.size)
    }
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        sha2::Digest::update(&mut self.hasher, &bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

pub(crate) fn inside(request: LayersRequest, news: News<'_>) -> Result<LayersAnswer, String> {
    let reader = LayerReader::open(&request.layers)?;
    let manifests = request.layers.iter().map(manifest_of).collect::<Result<Vec<_>, _>>()?;
    let (layers, left_out) = planned(manifests, &request.excluded);
    news(&format!("writing {} layers", layers.iter().filter(|layer| !layer.is_empty()).count()));
    let written = layers.par_iter().enumerate().filter(|(_, layer)| !layer.is_empty()).map(|(number, layer)| {
        let path = format!("{}-{number}", request.to);
        let said = |error: io::Error| format!("cannot write a layer: {error}");
        let mut file = Hashed::new(BufWriter::with_capacity(1 << 18, std::fs::File::create(path).map_err(said)?));
        let (diff_id, _) = COMPRESSION
            .write(&mut file, |to| {
                let mut plain = Hashed::new(to);
                archive(layer, &reader, request.epoch, &mut plain)?;
                Ok(plain.digest())
            })
            .map_err(said)?;
        file.flush().map_err(said)?;
        let (digest, size) = file.digest();
        Ok(LayerFile { layer: number, diff_id, digest, size })
    });
    Ok(LayersAnswer { layers: written.collect::<Result<_, String>>()?, left_out })
}

/// Writes a layer: parents come before what is in them.
fn archive(layer: &BTreeMap<String, Planned>, reader: &LayerReader, epoch: i64, to: &mut dyn Write) -> io::Result<()> {
    let gone = Entry { kind: Kind::File { size: 0, digest: Digest::of(b"") }, mtime: epoch, ..Entry::whiteout() };
    let mut first_names: BTreeMap<&str, &str> = BTreeMap::new();
    let root = layer.get_key_value(".");
    for (path, planned) in root.into_iter().chain(layer.iter().filter(|(path, _)| *path != ".")) {
        let (number, entry) = match planned {
            Planned::Gone => {
                write_tar_entry(to, path, &gone, None, Some(Box::new(io::empty())))?;
                continue;
            }
            Planned::Entry(number, entry) => (*number, entry),
        };
        let first = entry.link_group.as_deref().and_then(|group| {
            let first = *first_names.entry(group).or_insert(path);
            (first != path).then_some(first)
        });
        let content: Option<Box<dyn Read>> = match &entry.kind {
            Kind::File { size, digest } if first.is_none() => {
                Some(Box::new(reader.open_in(number, path, (*size, digest))?))
            }
            _ => None,
        };
        write_tar_entry(to, path, entry, first, content)?;
    }
    write_tar_trailer(to)
}
