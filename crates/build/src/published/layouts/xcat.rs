//! xCAT's layout: what an osimage's `rootimgdir` holds after packimage, and our index and digests beside it.
//!
//! Names and modes: xCAT 2.19, `packimage` and `nodeset` (it looks for `kernel`, `initrd-stateless.gz` and a packed root
//! whose name it knows).

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::swap::{Swap, Trouble};
use crate::StageError;
use crate::actions::{gzip_initrd, packed_form, xcat_pack};
use crate::bench::ids;
use crate::bench::results::{Done, missing};
use crate::published::artefacts::sha256_of;
use crate::published::assemble::assemble;
use crate::published::drift::Drift;
use base::digest::{Digest, Sha256};
use plan::{Decision, Verdict};
use recipe::Recipe;
use store::{BlobRef, FileLock, Store, StoreError};

/// The packed image of a recipe whose own form xCAT does not know. The index and the digests of an image have its name with
/// `.index` and `.sha256` behind it.
const ROOTIMG: &str = "rootimg.cpio.gz";

/// Names of packed images. nodeset takes the first that is there, so that an old one beside a new one boots nodes from
/// the wrong image (xCAT issue 2225): those of other forms go.
const ROOTIMGS: [&str; 6] =
    [ROOTIMG, "rootimg.cpio.xz", "rootimg.tar.gz", "rootimg.tar.xz", "rootimg.sfs", "rootimg.gz"];

const LOCK: &str = ".imgbuild-publish.lock";

pub(crate) struct XcatPublication<'a> {
    pub store: &'a Store,
    pub rootimg: &'static str,
    pub kernel: BlobRef,
    pub initrd: BlobRef,
    pub index: BlobRef,
    /// Frames of the image, in order.
    pub frames: &'a [Digest],
}

/// What was published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct XcatPublished {
    /// The osimage's rootimgdir.
    pub directory: PathBuf,
    /// Digest of the index, for `imgdigest=`.
    pub index: Sha256,
    /// Packed images of other forms that were removed.
    pub removed: Vec<String>,
}

/// One failed step, as an error.
fn said(directory: &Path) -> impl Fn(Trouble) -> StageError {
    let directory = directory.display().to_string();
    move |trouble| StageError::Layout {
        intent: trouble.intent,
        path: trouble.path.display().to_string(),
        source: trouble.source,
        directory: directory.clone(),
    }
}

fn to(intent: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Trouble + use<> {
    let path = path.to_owned();
    move |source| Trouble { intent, path, source }
}

/// Makes a directory with its parents, open to the web server whatever the umask is.
fn make(directory: &Path) -> Result<(), Trouble> {
    let mut missing: Vec<&Path> = directory.ancestors().take_while(|path| path.symlink_metadata().is_err()).collect();
    missing.reverse();
    for path in missing {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(to("create the directory", path)(error));
            }
            _ => {}
        }
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).map_err(to("set the mode of", path))?;
    }
    Ok(())
}

fn check_gzip(path: &Path) -> Result<(), Trouble> {
    let mut magic = [0u8; 2];
    // RFC 1952, 2.3.1.
    let is = std::fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).map(|()| magic == [0x1f, 0x8b]);
    match is {
        Ok(true) => Ok(()),
        Ok(false) => Err(to("publish", path)(std::io::Error::other("it is not gzip, as its name says"))),
        Err(error) => Err(to("read", path)(error)),
    }
}

/// Files of an osimage's rootimgdir that are gone or are not those of the build that `decisions` keep whole.
///
/// Small files are compared, of large ones only the sizes. Empty where something is to be built anyway.
pub(crate) fn xcat_drift(recipe: &Recipe, store: &Store, decisions: &[Decision], directory: &Path) -> Vec<Drift> {
    let kept = decisions.iter().filter(|decision| decision.verdict == Verdict::Keep);
    let outputs = |decision: &Decision| Some((decision.action.clone(), store.record(decision.key.as_ref()?)?.outputs));
    let done = Done(kept.filter_map(outputs).collect());
    match XcatPublication::of(recipe, store, &done) {
        Ok(publication) => publication
            .drifted(directory)
            .into_iter()
            .map(|name| Drift {
                place: format!("xcat:{}", directory.display()),
                name,
                problem: "is missing or was modified".to_owned(),
            })
            .collect(),
        Err(_) => Vec::new(),
    }
}

impl<'a> XcatPublication<'a> {
    /// Gathers what is published from the results of a build with [`Forms::AndGzip`](crate::actions::Forms).
    /// Errors: A result that is not there.
    pub(crate) fn of(recipe: &Recipe, store: &'a Store, done: &'a Done) -> Result<Self, StageError> {
        let pack = xcat_pack(recipe);
        Ok(Self {
            store,
            rootimg: if pack == ids::PACK_GZIP { ROOTIMG } else { packed_form(recipe, &pack).rootimg() },
            kernel: done.blob(ids::PAYLOAD, "kernel")?,
            initrd: done.blob(gzip_initrd(recipe), "initrd")?,
            index: done.blob(&pack, "index")?,
            frames: &done.0.get(&pack).ok_or_else(|| missing(&pack))?.frames,
        })
    }

    fn drifted(&self, directory: &Path) -> Vec<String> {
        let index = self.store.read_blob(&self.index.digest).unwrap_or_default();
        let size = serde_json::from_slice::<serde_json::Value>(&index).ok().and_then(|index| index["size"].as_u64());
        let rootimg = self.rootimg;
        let index_name = format!("{rootimg}.index");
        let digest = format!("{}  {index_name}\n", Sha256::of(&index));
        let length = |name: &str| witness::metadata(&directory.join(name)).ok().map(|metadata| metadata.len());
        let text = |name: &str| witness::read(&directory.join(name)).unwrap_or_default();
        let digests = format!("{rootimg}.sha256");
        [
            ("kernel", length("kernel") == Some(self.kernel.size)),
            ("initrd-stateless.gz", length("initrd-stateless.gz") == Some(self.initrd.size)),
            (rootimg, size.is_some() && length(rootimg) == size),
            (&index_name, text(&index_name) == index),
            (&digests, String::from_utf8_lossy(&text(&digests)).ends_with(&digest)),
        ]
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(name, _)| name.to_owned())
        .collect()
    }

    /// Puts the files into the directory, all in one moment.
    /// Errors: [`StageError::Layout`]; the directory's files are the old ones then.
    pub(crate) fn publish(&self, directory: &Path) -> Result<XcatPublished, StageError> {
        let wrong = said(directory);
        make(directory).map_err(&wrong)?;
        // A link to it stays a link.
        let real = directory.canonicalize().map_err(|error| wrong(to("find", directory)(error)))?;
        let held = FileLock::take(&real.join(LOCK)).map_err(|error| match error {
            StoreError::Io { intent, path, source } => wrong(Trouble { intent, path, source }),
            StoreError::Full { intent, path } => {
                wrong(Trouble { intent, path, source: std::io::ErrorKind::StorageFull.into() })
            }
            other => other.into(),
        })?;
        let outcome = self.replace(&real, &wrong);
        held.remove();
        let (index, removed) = outcome?;
        Ok(XcatPublished { directory: directory.to_owned(), index, removed })
    }

    fn replace(
        &self,
        directory: &Path,
        wrong: &dyn Fn(Trouble) -> StageError,
    ) -> Result<(Sha256, Vec<String>), StageError> {
        let swap = Swap::begin(directory, &mut || {}).map_err(wrong)?;
        match self.write(&swap, wrong) {
            Ok(index) => {
                fault::point("xcat.written");
                let others = ROOTIMGS.iter().filter(|name| **name != self.rootimg);
                let retired: Vec<String> =
                    others.flat_map(|name| ["", ".index", ".sha256"].map(|end| format!("{name}{end}"))).collect();
                let retired: Vec<&str> = retired.iter().map(String::as_str).collect();
                let removed = swap.commit(&retired, &mut || fault::point("xcat.swapping")).map_err(wrong)?;
                fault::point("xcat.swapped");
                Ok((index, removed))
            }
            Err(error) => {
                swap.abandon();
                Err(error)
            }
        }
    }

    /// Writes the new files aside; gives the digest of the index.
    fn write(&self, swap: &Swap, wrong: &dyn Fn(Trouble) -> StageError) -> Result<Sha256, StageError> {
        let rootimg = self.rootimg;
        let index_name = format!("{rootimg}.index");
        for (name, blob) in
            [("kernel", self.kernel), ("initrd-stateless.gz", self.initrd), (index_name.as_str(), self.index)]
        {
            let path = swap.place(name);
            self.store.copy_blob(&blob, &path).map_err(|error| match error {
                StoreError::Io { source, .. } => wrong(to("write", &path)(source)),
                StoreError::Full { .. } => wrong(to("write", &path)(std::io::ErrorKind::StorageFull.into())),
                other => other.into(),
            })?;
        }
        check_gzip(&swap.place("initrd-stateless.gz")).map_err(wrong)?;
        let path = swap.place(rootimg);
        let (_, digest) = assemble(self.store, &self.index, self.frames, &path).map_err(|error| match error {
            StageError::Publish { intent, source, .. } => wrong(Trouble { intent, path: path.clone(), source }),
            StageError::PublishFull { intent, .. } => {
                wrong(Trouble { intent, path: path.clone(), source: std::io::ErrorKind::StorageFull.into() })
            }
            other => other,
        })?;
        if rootimg.ends_with(".gz") {
            check_gzip(&path).map_err(wrong)?;
        }
        let path = swap.place(&index_name);
        let index = sha256_of(&path).map_err(|error| wrong(to("read", &path)(error)))?;
        let path = swap.place(&format!("{rootimg}.sha256"));
        // As sha256sum writes it: two blanks.
        let text = format!("{digest}  {rootimg}\n{index}  {index_name}\n");
        std::fs::write(&path, text).map_err(|error| wrong(to("write", &path)(error)))?;
        Ok(index)
    }
}
