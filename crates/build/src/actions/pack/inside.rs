//! The pack stage: merged layers less what is excluded, as independent frames with an index (D29 to D31).

use std::io::{self, Read, Write};

use rayon::prelude::*;

use super::blocks::{Source, label};
use super::kept::{info, keep};
use super::mismatches::mismatches;
use super::request::{PackAnswer, PackRequest};
use super::secrets::secrets;
use super::selinux::{self, Labelled, Labels};
use super::startable::{Promises, View, obstacle, shortcomings};
use archive::{
    Compression, Form, Frame, FrameInfo, PackEntry, Stream, cut_frames, cut_tree, fits, fits_erofs, join_frames,
};
use base::digest::Digest;
use sandbox::helper::News;
use store::{Kind, LayerReader, in_scratch};

/// Page of tmpfs, in bytes.
const PAGE: u64 = 4096;
/// Memory of an inode and its name in tmpfs, in bytes; measured with 60,000 empty files on Linux 6.1.
const INODE: u64 = 1024;
/// Memory of a label in tmpfs, in bytes: its name, its value and what joins them. Source: Linux, `struct simple_xattr`.
const LABEL: u64 = 160;

pub(crate) fn inside(request: PackRequest, news: News<'_>) -> Result<PackAnswer, String> {
    in_scratch(&request.scratch, || pack(&request, news))
}

fn pack(request: &PackRequest, news: News<'_>) -> Result<PackAnswer, String> {
    let mut reader = LayerReader::open(&request.layers)?;
    let single = matches!(request.form, Form::Cpio { single: true });
    let promises = Promises { single, zone: request.zone.clone(), locale: request.locale.clone() };
    let obstacle = obstacle(&reader, &request.excluded, &promises)?;
    let shortcomings = shortcomings(&reader, &request.excluded)?;
    if obstacle.is_some() {
        return Ok(PackAnswer { obstacle, ..PackAnswer::default() });
    }
    let mismatches = mismatches(&View::new(&reader, &request.excluded), &request.wanted)?;
    let Labelled { labels, count, warnings } = match request.selinux {
        true => selinux::labels(&reader, &request.excluded)?,
        false => Labelled::default(),
    };
    let secrets = secrets(&reader, &request.excluded, &request.own)?;
    let mut entries = Vec::with_capacity(reader.tree.0.len());
    let mut xattrs = Vec::new();
    let (mut inodes, mut memory) = (0, count * LABEL);
    // There is one tree in memory, however large the image is.
    for (path, found) in reader.take_tree().0 {
        if request.excluded.contains(&path) {
            continue;
        }
        inodes += 1;
        memory += INODE;
        if let Kind::File { size, .. } = found.entry.kind {
            if matches!(request.form, Form::Cpio { .. }) && size > u64::from(u32::MAX) {
                return Err(format!(
                    "`{path}` has {size} bytes; the limit of cpio is 4 GiB: exclude it, or choose another format: ‹[pack] archive = \"tar\"› or \"squashfs\""
                ));
            }
            memory += size.div_ceil(PAGE) * PAGE;
        }
        let is_kept = |name: &str| match request.form {
            Form::Squashfs { .. } => fits(name),
            Form::Erofs { .. } => fits_erofs(name),
            Form::Cpio { .. } | Form::Tar => false,
        };
        for (name, value) in found.entry.xattrs.iter().filter(|(name, _)| !is_kept(name)) {
            let value = value.iter().map(|byte| format!("{byte:02x}")).collect();
            xattrs.push((path.clone(), name.clone(), value));
        }
        entries.push((path, found.entry, found.layer));
    }
    if entries.len() < 2 {
        return Err("the exclude lists remove the whole image".to_owned());
    }
    let mut of_form = Vec::new();
    let (frames, written, labels) = match request.form {
        Form::Cpio { single } => {
            let mut frames = cut_frames(entries);
            if single {
                frames = join_frames(frames);
            }
            let (frames, written) = stream(request, Stream::Cpio, &frames, &reader, news)?;
            (frames, written, labels)
        }
        Form::Tar => {
            label(&mut entries, &labels);
            let sockets: Vec<&str> =
                entries.iter().filter(|item| item.1.kind == Kind::Socket).map(|item| item.0.as_str()).collect();
            if !sockets.is_empty() {
                of_form.push(format!("tar cannot contain sockets, these are left out: {}", sockets.join(", ")));
            }
            let (frames, written) = stream(request, Stream::Tar, &cut_tree(entries), &reader, news)?;
            (frames, written, labels)
        }
        Form::Squashfs { .. } | Form::Erofs { .. } => {
            label(&mut entries, &labels);
            if !labels.is_empty() {
                of_form.push(format!(
                    "the SELinux labels are attributes in the {}: this was never run on a node with a policy; set ‹[system] selinux = \"off\"›, or try one node first",
                    request.form.name()
                ));
            }
            let source = Source { request, entries: &entries, reader: &reader };
            let (frames, written) = match request.form {
                Form::Erofs { chunk } => source.erofs(chunk, news)?,
                Form::Squashfs { block_size } => source.squashfs(block_size, news)?,
                Form::Cpio { .. } | Form::Tar => Default::default(),
            };
            // It stays packed.
            memory = frames.iter().map(|(_, info)| info.size).sum();
            (frames, written, Labels::default())
        }
    };
    fault::point("pack.done");
    Ok(PackAnswer {
        frames,
        written,
        inodes,
        memory,
        xattrs,
        labels,
        warnings,
        of_form,
        secrets,
        shortcomings,
        mismatches,
        obstacle: None,
    })
}

/// Writes what is missing of an archive that nodes unpack; gives all frames in order, and how many of them are new.
fn stream(
    request: &PackRequest,
    stream: Stream,
    frames: &[Frame],
    reader: &LayerReader,
    news: News<'_>,
) -> Result<(Vec<(Digest, FrameInfo)>, usize), String> {
    let compression = request.compression;
    let missing = frames.iter().filter(|frame| info::<FrameInfo>(&frame.key(stream, compression)).is_none()).count();
    news(&format!("packing {missing} of {} frames", frames.len()));
    let is_missing = |frame: &&Frame| info::<FrameInfo>(&frame.key(stream, compression)).is_none();
    let bytes = frames.iter().filter(is_missing).map(content_of).sum();
    let written = while_telling(news, (missing, Some(bytes)), |tell| {
        let frames = frames.par_iter().map(|frame| {
            let key = frame.key(stream, compression);
            if let Some(known) = info(&key) {
                return Ok((key, known));
            }
            let info = write_frame(frame, &key, (stream, compression), reader, &request.scratch)?;
            tell(1, content_of(frame));
            Ok((key, info))
        });
        frames.collect::<Result<_, String>>()
    });
    Ok((written?, missing))
}

/// Bytes of the files of a frame.
fn content_of(frame: &Frame) -> u64 {
    let sizes = frame.entries.iter().map(|entry| match entry.entry.kind {
        Kind::File { size, .. } => size,
        _ => 0,
    });
    sizes.sum()
}

/// Takes how many frames are packed, and how many bytes.
type Tell<'a> = &'a (dyn Fn(usize, u64) + Sync);

/// Packs with all threads while this one tells how much is done: frames of those that are missing, and bytes of all, where that is known.
pub(super) fn while_telling<T: Send>(
    news: News<'_>,
    (missing, all): (usize, Option<u64>),
    work: impl FnOnce(Tell<'_>) -> Result<T, String> + Send,
) -> Result<T, String> {
    let (sender, packed) = std::sync::mpsc::channel::<(usize, u64)>();
    let mut outcome = Err("packing ended early".to_owned());
    rayon::in_place_scope(|scope| {
        let outcome = &mut outcome;
        scope.spawn(move |_| {
            *outcome = work(&move |frames, bytes| {
                let _ = sender.send((frames, bytes));
            });
        });
        let (mut frames, mut bytes) = (0, 0);
        for (more, more_bytes) in packed {
            (frames, bytes) = (frames + more, bytes + more_bytes);
            let mega = |bytes: u64| bytes as f64 / 1e6;
            let of = all.map_or_else(String::new, |all| format!(" of {:.1}", mega(all)));
            news(&format!("packing: {frames} of {missing} frames, {:.1}{of} MB", mega(bytes)));
        }
    });
    outcome
}

fn write_frame(
    frame: &Frame,
    key: &Digest,
    form: (Stream, Compression),
    reader: &LayerReader,
    scratch: &str,
) -> Result<FrameInfo, String> {
    let said = |error: io::Error| format!("cannot pack: {error}");
    let aside = format!("{scratch}/{key}");
    let mut file = io::BufWriter::with_capacity(1 << 18, std::fs::File::create(&aside).map_err(said)?);
    let content = |item: &PackEntry| -> io::Result<Box<dyn Read>> {
        let Kind::File { size, digest } = &item.entry.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
        Ok(Box::new(reader.open_in(item.layer, &item.path, (*size, digest))?))
    };
    fault::point("pack.frame");
    let info = frame.write(form, &mut file, &content).map_err(said)?;
    file.flush().map_err(said)?;
    drop(file);
    keep(&aside, key, &info)?;
    Ok(info)
}
