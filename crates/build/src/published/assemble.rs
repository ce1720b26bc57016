//! Frames put together into the published file: read and checked, hashed as a whole, and written or shared, side by side.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::Deserialize;

use crate::StageError;
use archive::SHARED_BLOCK;
use base::digest::{Digest, Sha256};
use base::failure::start;
use sandbox::SandboxError;
use store::{BlobRef, Store, StoreError};

#[derive(Debug, Deserialize)]
struct ReadIndex {
    frames: Vec<ReadFrame>,
}

#[derive(Debug, Deserialize)]
struct ReadFrame {
    sha256: Sha256,
    /// Not in the indices of imgbuilds that had SHA-256 alone.
    blake3: Option<Digest>,
}

/// Compares a frame with the index, as it is read.
enum Check {
    Blake3(Box<blake3::Hasher>, Digest),
    Sha256(sha2::Sha256, Sha256),
}

impl Check {
    fn new(frame: &ReadFrame) -> Self {
        match frame.blake3 {
            Some(expected) => Self::Blake3(Box::default(), expected),
            None => Self::Sha256(sha2::Digest::new(), frame.sha256),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Blake3(hasher, _) => drop(hasher.update(bytes)),
            Self::Sha256(hasher, _) => sha2::Digest::update(hasher, bytes),
        }
    }

    fn ends_as_expected(self) -> bool {
        match self {
            Self::Blake3(hasher, expected) => *hasher.finalize().as_bytes() == expected.0,
            Self::Sha256(hasher, expected) => Sha256(sha2::Digest::finalize(hasher).into()) == expected,
        }
    }
}

/// Bytes that are handed on at once.
const PIECE: usize = 1 << 20;
/// How many pieces may wait; this bounds the memory.
const WAITING: usize = 8;
/// After how many pieces the disk is asked to start, so that less is left to wait for at the end.
const FLUSH_AFTER: u64 = 16;

/// What the image gets next.
enum Part {
    Bytes(Arc<Vec<u8>>),
    /// A frame of so many bytes, which were read and checked.
    Frame(File, u64),
}

/// Puts the frames of an image together, each checked against the index. On a file system that can, the image shares the blocks
/// of the store's frames, and little is written. Gives the size in bytes and the digest.
/// Errors: [`StageError::Publish`], or [`StoreError::Damaged`] with the frame that does not match the index.
pub(crate) fn assemble(
    store: &Store,
    index: &BlobRef,
    frames: &[Digest],
    to: &Path,
) -> Result<(u64, Sha256), StageError> {
    let index: ReadIndex = serde_json::from_slice(&store.read_blob(&index.digest)?)
        .map_err(|error| StageError::publishing("read the index of", to)(std::io::Error::other(error)))?;
    let file = File::options().write(true).create_new(true).open(to).map_err(StageError::publishing("write", to))?;
    let paths: Vec<_> = frames.iter().map(|frame| store.directory().join(Store::frame_name(frame))).collect();
    let shares = paths.first().is_some_and(|first| shares_blocks(&file, first));
    std::thread::scope(|scope| {
        let (to_hash, pieces_to_hash) = sync_channel::<Arc<Vec<u8>>>(WAITING);
        let (to_write, parts_to_write) = sync_channel::<Part>(WAITING);
        let no_thread = |error| SandboxError::starting("a thread that writes the image", error);
        let hashing = start(scope, move || {
            let mut whole: sha2::Sha256 = sha2::Digest::new();
            pieces_to_hash.iter().for_each(|piece| sha2::Digest::update(&mut whole, &piece[..]));
            Sha256(sha2::Digest::finalize(whole).into())
        })
        .map_err(no_thread)?;
        let (to_flush, flushes) = sync_channel::<()>(1);
        let flushed = file.try_clone().map_err(StageError::publishing("write", to))?;
        // An error of the disk is reported once: anyone who waits for the disk at the end would not hear of it.
        let flushing =
            start(scope, move || flushes.iter().try_for_each(|()| flushed.sync_data())).map_err(no_thread)?;
        let writing = start(scope, move || write(&file, &parts_to_write, &to_flush)).map_err(no_thread)?;
        let mut outcome = Ok(());
        let mut at = 0;
        for (from, expected) in paths.iter().zip(&index.frames) {
            let is_shared = shares && at % SHARED_BLOCK == 0;
            match hand_on(from, expected, &to_hash, (!is_shared).then_some(&to_write)) {
                Ok((input, size)) => {
                    at += size;
                    if is_shared {
                        // Anyone who takes no more has its own reason.
                        let _ = to_write.send(Part::Frame(input, size));
                    }
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        drop((to_hash, to_write));
        let panicked = || StageError::publishing("write", to)(std::io::Error::other("a thread ended early"));
        let sha256 = hashing.join().map_err(|_| panicked())?;
        // A full disk is the reason why pieces are no longer accepted.
        let size = writing.join().map_err(|_| panicked())?.map_err(StageError::publishing("write", to))?;
        flushing.join().map_err(|_| panicked())?.map_err(StageError::publishing("write", to))?;
        outcome?;
        Ok((size, sha256))
    })
}

/// Whether a file can share the blocks of another: both lie on one file system that knows it (xfs, btrfs, bcachefs; not ext4).
fn shares_blocks(file: &File, other: &Path) -> bool {
    // Tried with a whole file, which is undone.
    File::open(other).is_ok_and(|other| rustix::fs::ioctl_ficlone(file, other).is_ok()) && file.set_len(0).is_ok()
}

/// Writes what comes, in order; gives the bytes.
fn write(file: &File, parts: &Receiver<Part>, to_flush: &SyncSender<()>) -> std::io::Result<u64> {
    let (mut size, mut pieces) = (0, 0);
    for part in parts {
        match part {
            Part::Bytes(piece) => {
                file.write_all_at(&piece, size)?;
                size += piece.len() as u64;
                pieces += 1;
                if pieces % FLUSH_AFTER == 0 {
                    // One that is under way is enough.
                    let _ = to_flush.try_send(());
                }
            }
            Part::Frame(frame, bytes) => {
                let (mut from, end) = (0, size + bytes);
                // The kernel shares what it can, and copies the rest.
                while size < end {
                    let wanted = usize::try_from(end - size).unwrap_or(usize::MAX);
                    match rustix::fs::copy_file_range(&frame, Some(&mut from), file, Some(&mut size), wanted) {
                        Ok(moved) if moved > 0 => {}
                        Ok(_) => return Err(std::io::ErrorKind::UnexpectedEof.into()),
                        Err(rustix::io::Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
    }
    Ok(size)
}

/// Reads a frame piece by piece, and checks it; gives it, with its size.
fn hand_on(
    from: &Path,
    expected: &ReadFrame,
    to_hash: &SyncSender<Arc<Vec<u8>>>,
    to_write: Option<&SyncSender<Part>>,
) -> Result<(File, u64), StageError> {
    let damaged = |problem: &str| StoreError::Damaged { path: from.to_owned(), problem: problem.to_owned() };
    let mut input = match File::open(from) {
        Ok(input) if input.metadata().is_ok_and(|found| found.is_file()) => input,
        Ok(_) => return Err(damaged("is not a file").into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(damaged("is missing").into()),
        Err(error) => return Err(StageError::publishing("read", from)(error)),
    };
    let mut check = Check::new(expected);
    let mut size = 0;
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        Read::by_ref(&mut input)
            .take(PIECE as u64)
            .read_to_end(&mut piece)
            .map_err(StageError::publishing("read", from))?;
        if piece.is_empty() {
            break;
        }
        size += piece.len() as u64;
        check.update(&piece);
        let piece = Arc::new(piece);
        // Anyone who takes no more has its own reason.
        let _ = to_hash.send(Arc::clone(&piece));
        if let Some(to_write) = to_write {
            let _ = to_write.send(Part::Bytes(piece));
        }
    }
    if !check.ends_as_expected() {
        return Err(damaged("does not match the index").into());
    }
    Ok((input, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_compared_with_what_the_index_has() {
        let place = tempfile::tempdir().unwrap();
        let store = Store::open(&place.path().join("store"), "", (0, 0)).unwrap();
        let frames = [b"the first frame".repeat(200_000), b"the second".to_vec()];
        let keys = [Digest::of(b"one"), Digest::of(b"two")];
        let path = |key: &Digest| store.directory().join(Store::frame_name(key));
        for (key, frame) in keys.iter().zip(&frames) {
            std::fs::create_dir_all(path(key).parent().unwrap()).unwrap();
            std::fs::write(path(key), frame).unwrap();
        }
        let described = |frame: &Vec<u8>, has_blake3: bool, is_right: [bool; 2]| {
            let of = |is_right: bool| if is_right { &frame[..] } else { b"other" };
            let sha256 = Sha256::of(of(is_right[0])).to_string();
            let blake3 = has_blake3.then(|| Digest::of(of(is_right[1])));
            serde_json::json!({"offset": 0, "size": 1, "unpacked": 1, "sha256": sha256, "blake3": blake3})
        };
        let assembled = |has_blake3: bool, is_right: [bool; 2]| {
            let listed: Vec<_> = frames.iter().map(|frame| described(frame, has_blake3, is_right)).collect();
            let index = serde_json::to_vec(&serde_json::json!({"frames": listed})).unwrap();
            let to = place.path().join("image");
            let _ = std::fs::remove_file(&to);
            let done = assemble(&store, &store.ensure_blob(&index).unwrap(), &keys, &to);
            done.map(|done| (done, std::fs::read(&to).unwrap())).map_err(|error| error.to_string())
        };
        let whole = frames.concat();
        let expected = Ok(((whole.len() as u64, Sha256::of(&whole)), whole));
        assert_eq!(assembled(true, [true, true]), expected);
        // An index of an imgbuild that wrote SHA-256 alone.
        assert_eq!(assembled(false, [true, true]), expected);
        let damaged = |done: Result<_, String>| done.is_err_and(|text| text.contains("does not match the index"));
        assert!(damaged(assembled(true, [true, false])));
        assert!(damaged(assembled(false, [false, true])));
        std::fs::write(path(&keys[1]), b"the sec0nd").unwrap();
        assert!(damaged(assembled(true, [true, true])) && damaged(assembled(false, [true, true])));
        // As a power cut leaves it.
        std::fs::write(path(&keys[1]), b"").unwrap();
        assert!(damaged(assembled(true, [true, true])));
    }
}
