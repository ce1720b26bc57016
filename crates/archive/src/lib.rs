//! Archives: entries in, bytes out, and the one extractor for what packages bring.
//!
//! This room must not know recipes or processes.

mod compress;
mod cpio;
mod deb;
mod erofs;
mod extract;
mod frames;
mod iso;
mod magic;
mod members;
mod squashfs;
mod tar;

pub use self::cpio::read::{Content, Found, read_archive};
pub use self::cpio::{Body, Head, write_entry, write_trailer};
pub use self::erofs::{
    Chunks, EROFS_VERSION, EroImage, EroInfo, EroRun, cut_erofs, finish_erofs, fits_erofs, list_erofs,
};
pub use self::members::budget::{Budget, limited, over};
pub use self::members::directory::list_directory;
pub use self::members::guard::open_tar;
pub use self::members::listing::{Listed, Look};
pub use self::members::packed::{Unlisted, is_packed, list_packed};
pub use self::squashfs::{
    BlockInfo, DataFile, DataFrame, Finished, Image, Run, SQUASHFS_VERSION, cut_blocks, finish, fits, list_squashfs,
};
pub use self::tar::{TAR_VERSION, write_entry as write_tar_entry, write_trailer as write_tar_trailer};
pub use compress::{Compression, SHARED_BLOCK};
pub use deb::{DebError, control_stanza, read_members, write_plain};
pub use extract::{Extractor, LayerLook, LayerSize, Meta, extract_tar, look_at_layer, plain_layer};
pub use frames::form::{Form, Stream};
pub use frames::read::{FrameEntry, read_frame};
pub use frames::tree::cut_tree;
pub use frames::write::{FRAME_VERSION, Frame, FrameInfo, PackEntry, cut_frames, join_frames};
pub use iso::read_iso;
pub use magic::{Container, START, container, plain, xz};
pub use members::{Member, MemberKind, Visit, clean_path, deb_architecture, read_cpio, read_deb, read_tar};
