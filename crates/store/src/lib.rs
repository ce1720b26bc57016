//! The content-addressed store: packages, blobs, layers, frames, action records, roots (D2, D4, D6, D8).
//!
//! On disk, below the store's directory (mode 0700, one per user):
//!
//! ```text
//! v1/format              version of all this; a later major one is not touched
//! v1/id-map              the id map that all trees here were made with
//! v1/packages/ab/<sha256>   package files, as downloaded and checked
//! v1/indices/<sha256>    package indices, as downloaded and checked
//! v1/blobs/ab/<blake3>   other files: initrds, kernels, inputs handed to a sandbox
//! v1/trees/<digest>/     layers: directories that overlayfs stacks           } owned by root inside the
//! v1/manifests/<digest>  a layer's canonical manifest; its digest names it   } namespace; opened only
//! v1/frames/ab/<digest>  compressed pieces of archives, by what they hold    } from inside
//! v1/links/<name>/       other names of files above, shown to one sandbox
//! v1/scratch/<name>/     work of one running process; lock file beside it    }
//! v1/logs/<name>         what commands printed                               }
//! v1/handover/<name>     a file on its way from inside to blobs/             }
//! v1/actions/<key>.json  records of finished actions; the first one whose outputs are there wins
//! v1/roots/<id>.json     what gc must keep: the last build of each image
//! v1/history/<id>.jsonl  what was built when: one file for each image; gc leaves it
//! v1/earlier/<id>/       the builds of an image that differ, the last one too; the oldest go first
//! v1/pins/<label>.json   builds that gc keeps regardless of its options
//! v1/memos/              what plans remember; may be removed at any time
//! v1/aside/<name>/       half-written files of one running process; lock file beside it
//! v1/locks/<key>         held while an action runs
//! ```
//!
//! `saved/` carries all of it that the last builds need in one file, for another machine or user.
//!
//! Everything is written aside and renamed into place; a record of a layer is written after `syncfs`, so a record that is
//! there names things that are there. Frames are not waited for, because they are compared whenever they are used. This room
//! must not know what a stage or a distribution is.
//!
//! # Who writes what
//!
//! `~/.cache/imgbuild` (`--store`, `IMGBUILD_STORE`), mode 0700, one per user. `lib.rs` has the tree, `gc/keep.rs` what gc keeps. What belongs
//! to root inside (`trees`, `manifests`, `frames`, `scratch`, `logs`, `handover`, `solving`, `decompressed`) is written from inside only (of `solving`, answers from outside), and files of
//! `trees` are opened from inside only; the host process reads manifests, logs and frames.
//!
//! A layer is there if and only if its manifest is: `layers/commit.rs` gives the tree its name first, `gc/remove.rs` takes the
//! manifest away first, and what is removed is renamed into a scratch directory before anything of it is deleted. `layers/check.rs`
//! compares a layer with its manifest at two depths; `lower_directories` does it by `stat` for all that is mounted. Whatever reads
//! compares: `LayerReader` files with their digests, `copy_blob` and `assemble` what is published, records themselves.
//!
//! `history` has what was built when, one file for each image, which gc leaves alone: `build/builder/trace.rs` writes it, and the log
//! (`src/verbs/building/log.rs`) and the estimates (`build/estimate/`) read it, only when something is to be run. A plan file is a picture of
//! recipe, lock, keys' plaintexts and verdicts (`plan/file.rs`); `build --plan` takes the same picture again, before anything and once more
//! from the graph that runs, and compares the two. `shell --action` goes the way of a build up to the first command of the action, where
//! `sandbox/substitute.rs` starts another one in its place (`build/examine/reproduce.rs`). `build/examine/diff` reads two sides into the same form and
//! compares what both have.

mod action;
mod answers;
mod archive;
mod blob;
mod error;
mod gc;
mod history;
mod layers;
mod layout;
mod lock;
mod sealed;

pub use action::{ActionRecord, BlobRef, Outputs, RecordedInput, Written};
pub use archive::{Brought, Carried, LoadRequest, Loaded, SaveRequest, load_layers, save_layers};
pub use blob::Holes;
pub use error::StoreError;
pub use gc::damage::{Damage, sha256_of};
pub use gc::items::{Item, ItemKind, Policy};
pub use gc::keep::{Build, Survey, check_label};
pub use gc::leftovers::Leftovers;
pub use gc::nodes::{NODE_PINS, is_pinned_by_nodes, pinned_by_nodes};
pub use gc::remove::{RemoveRequest, remove, remove_tree};
pub use gc::roots::{Collected, Root};
pub use history::{Began, BuildTrace, End, PastBuild, Run, now};
pub use layers::check::{DamagedLayer, check_layers, lower_directories};
use layers::check::{Depth, Wrong, check_layer};
pub use layers::commit::replace;
pub use layers::edit::TreeEditor;
pub use layers::inside::{in_scratch, make_directories};
pub use layers::looked_at::{looked_at, were_looked_at};
pub use layers::manifest::{Entry, Kind, Manifest, ManifestError};
pub use layers::merge::{Merged, MergedEntry, layer_between, merge};
pub use layers::read::{manifest_of, merged_of, root_of};
pub use layers::reader::{Checked, LayerReader};
pub use layers::scan::{ScanAnswer, ScanRequest, scan, scan_knowing};
pub use layout::{Scratch, Store, TREE_DIRECTORIES};
pub use lock::FileLock;
pub use sealed::{Seal, seal, sealed};
