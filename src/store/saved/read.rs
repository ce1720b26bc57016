//! Reading.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::tree::{self, TreeMaker};
use super::{Contents, FORMAT, FrameFiles, LayerTexts, Names, Seen, TEXT_LIMIT};
use crate::digest::Digest;
use crate::fault;
use crate::store::commit::{commit, replace};
use crate::store::{Kind, Manifest, Store, in_scratch};

/// Asks to load what [`super::save_layers`] wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadRequest {
    /// The file, relative to the store's directory.
    pub from: String,
    /// Directory for trees that are not whole yet.
    pub scratch: String,
}

/// What was loaded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Layers that were not there before.
    pub layers: usize,
    /// Frames that were not there before.
    pub frames: usize,
}

type Stream = BufReader<zstd::Decoder<'static, BufReader<File>>>;

/// Where content that came already can be read again: a tree's directory and a path in it.
type Places = BTreeMap<Digest, (String, String)>;

/// Loads layers and frames that are not there yet, and checks each content before it gets a name in the store.
///
/// # Errors
/// A text with what is wrong with the file; what was whole before that stays.
pub fn load_layers(request: &LoadRequest) -> Result<Loaded, String> {
    in_scratch(&request.scratch, || {
        let file = File::open(&request.from).map_err(|error| format!("cannot read the saved store: {error}"))?;
        let decoder = zstd::Decoder::new(file).map_err(damaged)?;
        let mut stream = BufReader::with_capacity(1 << 18, decoder);
        let contents = header(&mut stream)?;
        let mut layers = Vec::new();
        for texts in &contents.layers {
            layers.push(manifests(texts, &mut stream)?);
        }
        let mut loaded = Loaded::default();
        let mut state = State { seen: Seen::default(), places: Places::new() };
        for (texts, (text, manifest, skeleton)) in contents.layers.iter().zip(&layers) {
            let tree = format!("{}/{}", request.scratch, texts.layer);
            layer(&tree, manifest, skeleton, &mut state, &mut stream)
                .map_err(|error| format!("{error} (layer {})", texts.layer.short()))?;
            // Where the layer was there before, what came of it stays here until the end, for contents that come again.
            if commit(&tree, text)?.1 {
                loaded.layers += 1;
                state.moved(&tree, &Store::tree_name(&texts.layer));
            }
            fault::point("load.layer");
        }
        for files in &contents.frames {
            loaded.frames += usize::from(frame(files, &mut stream, &request.scratch)?);
        }
        let mut rest = [0u8; 1];
        match stream.read(&mut rest).map_err(damaged)? {
            0 => Ok(loaded),
            _ => Err("the saved store is damaged: there is more in it than it says".to_owned()),
        }
    })
}

fn damaged(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the saved store is damaged: it ends too early".to_owned(),
        _ => format!("the saved store is damaged: {error}"),
    }
}

fn header(stream: &mut Stream) -> Result<Contents, String> {
    let mut line = Vec::new();
    stream.by_ref().take(TEXT_LIMIT).read_until(b'\n', &mut line).map_err(damaged)?;
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let said = |error: serde_json::Error| format!("the saved store is damaged: its first line: {error}");
    let version: Version = serde_json::from_slice(&line).map_err(said)?;
    if version.format != FORMAT {
        return Err(format!(
            "the saved store has layers in form {}, and this imgbuild reads form {FORMAT}: save it again with this version",
            version.format
        ));
    }
    serde_json::from_slice(&line).map_err(said)
}

fn text(size: u64, stream: &mut Stream) -> Result<String, String> {
    if size > TEXT_LIMIT {
        return Err("the saved store is damaged: a manifest is too long".to_owned());
    }
    let mut text = String::new();
    stream.by_ref().take(size).read_to_string(&mut text).map_err(damaged)?;
    if text.len() as u64 == size { Ok(text) } else { Err(damaged(io::ErrorKind::UnexpectedEof.into())) }
}

/// The text of a layer's manifest, that manifest, and the directories that it does not name.
fn manifests(texts: &LayerTexts, stream: &mut Stream) -> Result<(String, Manifest, Manifest), String> {
    let said = |error| format!("the saved store is damaged: the manifest of {}: {error}", texts.layer.short());
    let text_of_manifest = text(texts.manifest, stream)?;
    if Digest::of(text_of_manifest.as_bytes()) != texts.layer {
        return Err(said("it has another digest".to_owned()));
    }
    let manifest = Manifest::parse(&text_of_manifest).map_err(|error| said(error.to_string()))?;
    let skeleton = Manifest::parse(&text(texts.skeleton, stream)?).map_err(|error| said(error.to_string()))?;
    if skeleton.0.iter().any(|(path, entry)| !entry.is_directory() || manifest.0.contains_key(path)) {
        return Err(said("its directories are no directories".to_owned()));
    }
    Ok((text_of_manifest, manifest, skeleton))
}

struct State {
    seen: Seen,
    places: Places,
}

impl State {
    /// A tree got its name in the store.
    fn moved(&mut self, from: &str, to: &str) {
        for (tree, _) in self.places.values_mut().filter(|(tree, _)| tree == from) {
            to.clone_into(tree);
        }
    }
}

/// Makes a layer's tree.
fn layer(
    tree: &str,
    manifest: &Manifest,
    skeleton: &Manifest,
    state: &mut State,
    stream: &mut Stream,
) -> Result<(), String> {
    let maker = TreeMaker::new(tree)?;
    let names = Names::of(manifest);
    let directories: BTreeMap<_, _> =
        skeleton.0.iter().chain(manifest.0.iter().filter(|(_, entry)| entry.is_directory())).collect();
    // Parents come before what lies in them: `/` is part of the longer path.
    for path in directories.keys() {
        maker.directory(path).map_err(|error| format!("`{path}`: {error}"))?;
    }
    for (path, entry) in &manifest.0 {
        let said = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(error),
            io::ErrorKind::InvalidData => format!("the saved store is damaged: `{path}`: {error}"),
            _ => format!("`{path}`: {error}"),
        };
        if let Some(other) = names.other_name(path, entry) {
            maker.link(path, other).map_err(|error| said(error.into()))?;
            continue;
        }
        match entry.kind {
            Kind::Directory => {}
            Kind::File { digest, .. } => {
                if state.seen.is_new(&digest) {
                    maker.file(path, entry, stream).map_err(said)?;
                    state.places.insert(digest, (tree.to_owned(), path.clone()));
                } else {
                    let (tree, from) = state.places.get(&digest).ok_or("a content is missing")?;
                    let mut content = tree::open(tree)
                        .and_then(|root| tree::open_file(&root, from).map_err(|error| format!("`{from}`: {error}")))?;
                    maker.file(path, entry, &mut content).map_err(said)?;
                }
            }
            _ => maker.other(path, entry).map_err(|error| said(error.into()))?,
        }
    }
    // Deepest first: what is made in a directory moves its time.
    for (path, entry) in directories.iter().rev() {
        maker.settle(path, entry).map_err(|error| format!("`{path}`: {error}"))?;
    }
    Ok(())
}

/// Reads a frame; whether it was not there before.
fn frame(files: &FrameFiles, stream: &mut Stream, scratch: &str) -> Result<bool, String> {
    let name = Store::frame_name(&files.frame);
    let said = |error: io::Error| format!("cannot put {name} into the store: {error}");
    let info = text(files.info, stream)?;
    #[derive(Deserialize)]
    struct Described {
        size: u64,
        sha256: crate::digest::Sha256,
    }
    let wrong = || format!("the saved store is damaged: {name} is not what is said of it");
    let described: Described = serde_json::from_str(&info).map_err(|_| wrong())?;
    let aside = format!("{scratch}/frame");
    let mut file = File::create(&aside).map_err(said)?;
    let mut hasher = sha2::Sha256::new();
    let mut left = files.size;
    let mut buffer = vec![0u8; 1 << 18];
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        stream.read_exact(&mut buffer[..most]).map_err(damaged)?;
        hasher.update(&buffer[..most]);
        io::Write::write_all(&mut file, &buffer[..most]).map_err(said)?;
        left -= most as u64;
    }
    if described.size != files.size || described.sha256 != crate::digest::Sha256(hasher.finalize().into()) {
        return Err(wrong());
    }
    if std::fs::exists(&name).unwrap_or(false) && std::fs::exists(format!("{name}.info")).unwrap_or(false) {
        return Ok(false);
    }
    if let Some((parent, _)) = name.rsplit_once('/') {
        std::fs::create_dir_all(parent).map_err(said)?;
    }
    std::fs::write(format!("{aside}.info"), info).map_err(said)?;
    file.sync_all().map_err(said)?;
    replace(&aside, &name).and_then(|()| replace(&format!("{aside}.info"), &format!("{name}.info"))).map_err(said)?;
    fault::point("load.frame");
    Ok(true)
}
