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
use crate::archive::{
    Compression, Form, Frame, FrameInfo, PackEntry, Stream, cut_frames, cut_tree, fits, fits_erofs, join_frames,
};
use crate::digest::Digest;
use crate::fault;
use crate::sandbox::helper::News;
use crate::store::{Kind, LayerReader, in_scratch};

/// Page of tmpfs, in bytes.
const PAGE: u64 = 4096;
/// Memory of an inode and its name in tmpfs, in bytes; measured with 60,000 empty files on Linux 6.1.
const INODE: u64 = 1024;
/// Memory of a label in tmpfs, in bytes: its name, its value and what joins them. Source: Linux, `struct simple_xattr`.
const LABEL: u64 = 160;

pub fn inside(request: PackRequest, news: News<'_>) -> Result<PackAnswer, String> {
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
    let frames = frames.par_iter().map(|frame| {
        let key = frame.key(stream, compression);
        match info(&key) {
            Some(known) => Ok((key, known)),
            None => write_frame(frame, &key, (stream, compression), reader, &request.scratch).map(|info| (key, info)),
        }
    });
    Ok((frames.collect::<Result<_, String>>()?, missing))
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
