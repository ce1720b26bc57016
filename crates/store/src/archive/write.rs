//! `store save`: writes layers and frames as one stream.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};

use serde::{Deserialize, Serialize};

use super::{Contents, FORMAT, FrameFiles, LayerTexts, Names, Seen, tree};
use crate::{Kind, Manifest, Store};
use base::digest::Digest;
use base::failure::{DAMAGED, Failure};
use node_words::name::shown;

/// zstd's level: a little better than its default, which a disk or a network is slower than.
const LEVEL: i32 = 3;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SaveRequest {
    pub layers: Vec<Digest>,
    pub frames: Vec<Digest>,
    /// The file to write, relative to the store's directory.
    pub to: String,
}

/// Saves layers and frames; gives the number of bytes written.
/// Errors: A text with what cannot be read, or does not match its manifest.
pub fn save_layers(request: &SaveRequest) -> Result<u64, String> {
    let failed = |error: io::Error| format!("cannot write the saved store: {error}");
    let mut layers = Vec::new();
    for layer in &request.layers {
        let name = Store::manifest_name(layer);
        let text = std::fs::read_to_string(&name).map_err(|error| format!("cannot read {name}: {error}"))?;
        if Digest::of(text.as_bytes()) != *layer {
            return Err(Failure::Damaged.met(format!("{DAMAGED}: {name} does not match the digest in its name")));
        }
        let manifest = Manifest::parse(&text).map_err(|error| format!("{name}: {error}"))?;
        let skeleton = tree::skeleton(layer, &manifest)?.to_text();
        layers.push((*layer, text, manifest, skeleton));
    }
    let mut frames = Vec::new();
    for frame in &request.frames {
        let name = Store::frame_name(frame);
        let size = std::fs::metadata(&name).map_err(|error| format!("{name}: {error}"))?.len();
        let info = std::fs::read(format!("{name}.info")).map_err(|error| format!("{name}.info: {error}"))?;
        frames.push((FrameFiles { frame: *frame, size, info: info.len() as u64 }, name, info));
    }
    let contents = Contents {
        format: FORMAT,
        layers: layers
            .iter()
            .map(|(layer, manifest, _, skeleton)| LayerTexts {
                layer: *layer,
                manifest: manifest.len() as u64,
                skeleton: skeleton.len() as u64,
            })
            .collect(),
        frames: frames.iter().map(|(files, _, _)| files.clone()).collect(),
    };
    let file = File::create(&request.to).map_err(failed)?;
    let mut out = zstd::Encoder::new(BufWriter::with_capacity(1 << 18, file), LEVEL).map_err(failed)?;
    out.multithread(rayon::current_num_threads() as u32).map_err(failed)?;
    out.include_checksum(true).map_err(failed)?;
    let mut line = serde_json::to_vec(&contents).map_err(|error| error.to_string())?;
    line.push(b'\n');
    out.write_all(&line).map_err(failed)?;
    for (_, manifest, _, skeleton) in &layers {
        out.write_all(manifest.as_bytes()).and_then(|()| out.write_all(skeleton.as_bytes())).map_err(failed)?;
    }
    let mut seen = Seen::default();
    for (layer, _, manifest, _) in &layers {
        let root = tree::open(&Store::tree_name(layer))?;
        let names = Names::of(manifest);
        for (path, entry) in &manifest.0 {
            let Kind::File { size, digest } = entry.kind else { continue };
            if names.other_name(path, entry).is_some() || !seen.is_new(&digest) {
                continue;
            }
            let file = tree::open_file(&root, path)
                .map_err(|error| format!("`{path}` of a layer: {error}", path = shown(path)))?;
            copy_checked(file, size, &digest, &mut out).map_err(|error| {
                format!("cannot save `{path}` of the layer {}: {error}", layer.short(), path = shown(path))
            })?;
        }
    }
    fault::point("save.layer");
    for (files, name, info) in &frames {
        out.write_all(info).map_err(failed)?;
        let mut file = File::open(name).map_err(|error| format!("{name}: {error}"))?.take(files.size);
        let copied = io::copy(&mut file, &mut out).map_err(failed)?;
        if copied != files.size {
            return Err(format!("{name} became shorter while it was read"));
        }
    }
    let mut written = out.finish().map_err(failed)?;
    written.flush().map_err(failed)?;
    written.get_ref().metadata().map(|metadata| metadata.len()).map_err(failed)
}

/// Copies exactly `size` bytes whose digest is known.
fn copy_checked(mut file: File, size: u64, digest: &Digest, out: &mut dyn Write) -> io::Result<()> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0u8; 1 << 18];
    let mut left = size;
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 || read as u64 > left {
            left = if read == 0 { left } else { u64::MAX };
            break;
        }
        hasher.update(&buffer[..read]);
        out.write_all(&buffer[..read])?;
        left -= read as u64;
    }
    if left != 0 || Digest(*hasher.finalize().as_bytes()) != *digest {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            Failure::Damaged.met(format!("{DAMAGED}: the file does not match its manifest")),
        ));
    }
    Ok(())
}
