//! `store load`: unpacks and verifies a saved stream.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::tree::{self, TreeMaker};
use super::{Contents, FORMAT, FrameFiles, LayerTexts, Names, Seen, TEXT_LIMIT};
use crate::layers::commit::{commit, replace};
use crate::{Kind, Manifest, Store, in_scratch};
use base::digest::Digest;
use base::failure::{Failure, NO_SPACE};
use node_words::name::shown;

/// Asks to load what [`super::save_layers`] wrote.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LoadRequest {
    /// The file, relative to the store's directory.
    pub from: String,
    pub scratch: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Layers that were not there before.
    pub layers: usize,
    /// Frames that were not there before.
    pub frames: usize,
}

type Stream = BufReader<zstd::Decoder<'static, BufReader<File>>>;

/// Where content that came already can be read again: a tree's directory and a path in it.
type PackageSources = BTreeMap<Digest, (String, String)>;

/// Loads layers and frames that are not there yet, and checks each content before it gets a name in the store.
/// Errors: A text with what is wrong with the file; what was whole before that stays.
pub fn load_layers(request: &LoadRequest) -> Result<Loaded, String> {
    in_scratch(&request.scratch, || {
        let file = File::open(&request.from).map_err(|error| format!("cannot read the saved store: {error}"))?;
        let decoder = zstd::Decoder::new(file).map_err(damaged)?;
        let mut stream = BufReader::with_capacity(1 << 18, decoder);
        let contents = header(&mut stream)?;
        refuse_twice(&contents)?;
        let packed = std::fs::metadata(&request.from).map_or(0, |found| found.len());
        let mut room = Room::of(packed);
        contents.frames.iter().try_for_each(|files| room.take(files.size.saturating_add(files.info)))?;
        // Kept as files: what they say in all is known before anything of it is written.
        for (number, texts) in contents.layers.iter().enumerate() {
            let (manifest, skeleton) = set_aside(texts, number, &request.scratch, &mut room, &mut stream)?;
            room.take(bytes_of(&manifest).saturating_add(1024 * (manifest.0.len() + skeleton.0.len()) as u64))?;
        }
        let mut loaded = Loaded::default();
        let mut state = State { seen: Seen::default(), places: PackageSources::new() };
        for (number, texts) in contents.layers.iter().enumerate() {
            let tree = format!("{}/{}", request.scratch, texts.layer);
            let (text, manifest, skeleton) = from_aside(number, &request.scratch)?;
            layer(&tree, &manifest, &skeleton, &mut state, &mut stream)
                .map_err(|error| format!("{error} (layer {})", texts.layer.short()))?;
            // Where the layer was there before, what came of it stays here until the end, for contents that come again.
            if commit(&tree, &text)?.1 {
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
            _ => Err("the saved store is damaged: it has more data than it announces".to_owned()),
        }
    })
}

fn damaged(error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "the saved store is damaged: it is truncated".to_owned(),
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
            "the saved store has layers in format {}, but this imgbuild reads format {FORMAT}: save it again with this version",
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

fn refuse_twice(contents: &Contents) -> Result<(), String> {
    let layers = contents.layers.iter().map(|texts| texts.layer).collect::<BTreeSet<Digest>>();
    let frames = contents.frames.iter().map(|files| files.frame).collect::<BTreeSet<Digest>>();
    if layers.len() < contents.layers.len() || frames.len() < contents.frames.len() {
        return Err("the saved store is damaged: it has a layer or a frame twice".to_owned());
    }
    Ok(())
}

/// What a file may take on the disk, in bytes: what is free, and no more than any compressor gives for real content.
struct Room {
    free: u64,
    left: u64,
    packed: u64,
}

/// How many times as large as packed a store may be; images of real systems reach 4, those full of zeros some 30.
const LARGEST_RATIO: u64 = 256;
/// A small file may always have so much, in bytes.
const SMALL: u64 = 64 << 20;

impl Room {
    fn of(packed: u64) -> Self {
        let stat = rustix::fs::statvfs(".");
        let free = stat.map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        Self { free, left: packed.saturating_mul(LARGEST_RATIO).saturating_add(SMALL), packed }
    }

    fn take(&mut self, bytes: u64) -> Result<(), String> {
        if bytes > self.left {
            return Err(format!(
                "the saved store is refused: its {} bytes would expand to more than {LARGEST_RATIO} times as many",
                self.packed
            ));
        }
        if bytes > self.free {
            return Err(Failure::NoSpace.met(format!("{NO_SPACE}: the saved store needs more space than is free")));
        }
        self.left -= bytes;
        self.free -= bytes;
        Ok(())
    }
}

/// Bytes of all files of a layer as they are written: a content that comes again is written again.
fn bytes_of(manifest: &Manifest) -> u64 {
    let names = Names::of(manifest);
    let files = manifest.0.iter().filter(|(path, entry)| names.other_name(path, entry).is_none());
    files.fold(0, |sum: u64, (_, entry)| match entry.kind {
        Kind::File { size, .. } => sum.saturating_add(size),
        _ => sum,
    })
}

fn aside(number: usize, scratch: &str) -> [String; 2] {
    ["manifest", "skeleton"].map(|what| format!("{scratch}/{number}.{what}"))
}

/// Reads a layer's two texts, checks them, and keeps them as files.
fn set_aside(
    texts: &LayerTexts,
    number: usize,
    scratch: &str,
    room: &mut Room,
    stream: &mut Stream,
) -> Result<(Manifest, Manifest), String> {
    let said = |error: String| format!("the saved store is damaged: the manifest of {}: {error}", texts.layer.short());
    room.take(texts.manifest.saturating_add(texts.skeleton))?;
    let of_manifest = text(texts.manifest, stream)?;
    if Digest::of(of_manifest.as_bytes()) != texts.layer {
        return Err(said("it has a different digest".to_owned()));
    }
    let of_skeleton = text(texts.skeleton, stream)?;
    let parse = |text: &str| Manifest::parse(text).map_err(|error| said(error.to_string()));
    let (manifest, skeleton) = (parse(&of_manifest)?, parse(&of_skeleton)?);
    if skeleton.0.iter().any(|(path, entry)| !entry.is_directory() || manifest.0.contains_key(path)) {
        return Err(said("its directories are not directories".to_owned()));
    }
    if manifest.to_text() != of_manifest || skeleton.to_text() != of_skeleton {
        return Err(said("it is not in imgbuild's format".to_owned()));
    }
    for (path, entry) in manifest.0.iter().chain(&skeleton.0) {
        entry.check(path).map_err(|problem| said(format!("`{path}` {problem}", path = shown(path))))?;
    }
    let failed = |error: io::Error| format!("cannot keep a manifest of the saved store: {error}");
    for (name, text) in aside(number, scratch).iter().zip([&of_manifest, &of_skeleton]) {
        std::fs::write(name, text).map_err(failed)?;
    }
    Ok((manifest, skeleton))
}

/// The text of a layer's manifest, that manifest, and the directories that it does not name.
fn from_aside(number: usize, scratch: &str) -> Result<(String, Manifest, Manifest), String> {
    let failed = |error: &dyn std::fmt::Display| format!("cannot read a manifest of the saved store: {error}");
    let [manifest, skeleton] = aside(number, scratch);
    let read = |name: &str| std::fs::read_to_string(name).map_err(|error| failed(&error));
    let parse = |text: &str| Manifest::parse(text).map_err(|error| failed(&error));
    let text = read(&manifest)?;
    let skeleton = parse(&read(&skeleton)?)?;
    for name in aside(number, scratch) {
        let _ = std::fs::remove_file(name);
    }
    let manifest = parse(&text)?;
    Ok((text, manifest, skeleton))
}

struct State {
    seen: Seen,
    places: PackageSources,
}

impl State {
    /// A tree got its name in the store.
    fn moved(&mut self, from: &str, to: &str) {
        for (tree, _) in self.places.values_mut().filter(|(tree, _)| tree == from) {
            to.clone_into(tree);
        }
    }
}

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
        maker.directory(path).map_err(|error| format!("`{path}`: {error}", path = shown(path)))?;
    }
    for (path, entry) in &manifest.0 {
        let said = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof => damaged(error),
            // What the kernel does not say comes of the stream: its decoder has no kind of its own for what is damaged.
            _ if error.raw_os_error().is_none() => {
                format!("the saved store is damaged: `{path}`: {error}", path = shown(path))
            }
            _ => format!("`{path}`: {error}", path = shown(path)),
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
                    let (tree, from) = state.places.get(&digest).ok_or("file content is missing")?;
                    let mut content = tree::open(tree).and_then(|root| {
                        tree::open_file(&root, from).map_err(|error| format!("`{from}`: {error}", from = shown(from)))
                    })?;
                    maker.file(path, entry, &mut content).map_err(said)?;
                }
            }
            _ => maker.other(path, entry).map_err(|error| said(error.into()))?,
        }
    }
    // Deepest first: what is made in a directory moves its time.
    for (path, entry) in directories.iter().rev() {
        maker.settle(path, entry).map_err(|error| format!("`{path}`: {error}", path = shown(path)))?;
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
        sha256: base::digest::Sha256,
    }
    let wrong = || format!("the saved store is damaged: {name} does not match its description");
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
    if described.size != files.size || described.sha256 != base::digest::Sha256(hasher.finalize().into()) {
        return Err(wrong());
    }
    // One that is there is read: what it says of itself counts.
    let there = std::fs::read(format!("{name}.info")).ok();
    let there = there.and_then(|bytes| serde_json::from_slice::<Described>(&bytes).ok());
    let is_whole =
        |said: Described| File::open(&name).and_then(crate::sha256_of).is_ok_and(|found| found == said.sha256);
    if there.is_some_and(is_whole) {
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
