//! Frames put together into the published file: read and checked, hashed as a whole, and written, side by side.

use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use serde::Deserialize;

use crate::digest::{Digest, Sha256};
use crate::failure::start;
use crate::sandbox::SandboxError;
use crate::stage::StageError;
use crate::store::{BlobRef, Store, StoreError};

/// What is read back of an index.
#[derive(Debug, Deserialize)]
struct ReadIndex {
    frames: Vec<ReadFrame>,
}

/// A frame of it.
#[derive(Debug, Deserialize)]
struct ReadFrame {
    sha256: Sha256,
}

/// Bytes that are handed on at once.
const PIECE: usize = 1 << 20;
/// How many pieces may wait; this bounds the memory.
const WAITING: usize = 8;
/// After how many pieces the disk is told to begin, so that less is left to wait for at the end.
const FLUSH_AFTER: u64 = 16;

/// Puts the frames of an image together, each checked against the index. Gives the size in bytes and the digest.
///
/// # Errors
/// [`StageError::Publish`], or [`StoreError::Damaged`] with the frame that is not what the index says.
pub fn assemble(store: &Store, index: &BlobRef, frames: &[Digest], to: &Path) -> Result<(u64, Sha256), StageError> {
    let index: ReadIndex = serde_json::from_slice(&store.read_blob(&index.digest)?)
        .map_err(|error| StageError::publishing("read the index of", to)(std::io::Error::other(error)))?;
    let mut file =
        std::fs::File::options().write(true).create_new(true).open(to).map_err(StageError::publishing("write", to))?;
    std::thread::scope(|scope| {
        let (to_hash, pieces_to_hash) = sync_channel::<Arc<Vec<u8>>>(WAITING);
        let (to_write, pieces_to_write) = sync_channel::<Arc<Vec<u8>>>(WAITING);
        let no_thread = |error| SandboxError::starting("a thread that writes the image", error);
        let hashing = start(scope, move || {
            let mut whole: sha2::Sha256 = sha2::Digest::new();
            pieces_to_hash.iter().for_each(|piece| sha2::Digest::update(&mut whole, &piece[..]));
            Sha256(sha2::Digest::finalize(whole).into())
        })
        .map_err(no_thread)?;
        let (to_flush, flushes) = sync_channel::<()>(1);
        let flushed = file.try_clone().map_err(StageError::publishing("write", to))?;
        // An error of the disk is told once: whoever waits for the disk at the end would not hear of it.
        let flushing =
            start(scope, move || flushes.iter().try_for_each(|()| flushed.sync_data())).map_err(no_thread)?;
        let writing = start(scope, move || -> std::io::Result<u64> {
            let mut size = 0;
            for (piece, number) in pieces_to_write.iter().zip(1..) {
                file.write_all(&piece)?;
                size += piece.len() as u64;
                if number % FLUSH_AFTER == 0 {
                    // One that is under way is enough.
                    let _ = to_flush.try_send(());
                }
            }
            Ok(size)
        })
        .map_err(no_thread)?;
        let mut outcome = Ok(());
        for (frame, expected) in frames.iter().zip(&index.frames) {
            let from = store.directory().join(Store::frame_name(frame));
            outcome = hand_on(&from, &expected.sha256, &[&to_hash, &to_write]);
            if outcome.is_err() {
                break;
            }
        }
        drop((to_hash, to_write));
        let panicked = || StageError::publishing("write", to)(std::io::Error::other("a thread ended early"));
        let sha256 = hashing.join().map_err(|_| panicked())?;
        // A disk that is full is the reason why nobody takes pieces any more.
        let size = writing.join().map_err(|_| panicked())?.map_err(StageError::publishing("write", to))?;
        flushing.join().map_err(|_| panicked())?.map_err(StageError::publishing("write", to))?;
        outcome?;
        Ok((size, sha256))
    })
}

/// Reads a frame piece by piece, and checks it.
fn hand_on(from: &Path, expected: &Sha256, takers: &[&SyncSender<Arc<Vec<u8>>>]) -> Result<(), StageError> {
    let damaged = |problem: &str| StoreError::Damaged { path: from.to_owned(), problem: problem.to_owned() };
    let mut input = match std::fs::File::open(from) {
        Ok(input) if input.metadata().is_ok_and(|found| found.is_file()) => input,
        Ok(_) => return Err(damaged("is not a file").into()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Err(damaged("is gone").into()),
        Err(error) => return Err(StageError::publishing("read", from)(error)),
    };
    let mut own: sha2::Sha256 = sha2::Digest::new();
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        Read::by_ref(&mut input)
            .take(PIECE as u64)
            .read_to_end(&mut piece)
            .map_err(StageError::publishing("read", from))?;
        if piece.is_empty() {
            break;
        }
        sha2::Digest::update(&mut own, &piece);
        let piece = Arc::new(piece);
        // Whoever takes no more has its own reason.
        takers.iter().for_each(|taker| drop(taker.send(Arc::clone(&piece))));
    }
    if Sha256(sha2::Digest::finalize(own).into()) != *expected {
        return Err(damaged("is not what the index says").into());
    }
    Ok(())
}
