//! Inputs of the `xcat` action's key.

use crate::StageError;
use crate::actions::Described;
use crate::actions::reader::Reader;
use crate::actions::reader::globs::in_directory;
use crate::bench::ids;
use crate::bench::keyed::{InputFile, Key, Keyed};
use plan::{ActionKind, Input};
use recipe::SyncedKind;

/// xCAT's side of a node. The layers below are in its key as well.
#[derive(Debug)]
pub struct Support {
    pub epoch: Keyed<i64>,
    pub osimage: Keyed<String>,
    /// In order.
    pub files: Vec<(Keyed<Placed>, Option<Keyed<InputFile>>)>,
}

/// Something that is placed; a directory has no file.
#[derive(Debug)]
pub struct Placed {
    /// Absolute path in the image.
    pub destination: String,
    /// Permission bits, where they are not the file's own.
    pub mode: Option<u32>,
}

/// After the gate, as packimage does it after genimage: other postscripts run no postinstall script again.
///
/// # Errors
/// [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    let Some(support) = &reader.recipe.node_support else { return Ok(()) };
    let spans = &reader.recipe.spans;
    let directory = reader.recipe.model.xcat.postscripts.as_deref().unwrap_or_default();
    let mut key = Key::default();
    let mut described = Support {
        epoch: key.epoch(reader.lock),
        osimage: key
            .keep(support.osimage.clone(), |osimage| Input::parameter("osimage", osimage).field(spans, "xcat.osimage")),
        files: Vec::new(),
    };
    for one in &support.files {
        let said = |input| in_directory(input, spans, "xcat.postscripts", directory);
        let placed = Placed { destination: one.destination.clone(), mode: one.mode };
        let placed = key.keep(placed, |placed| {
            let mode = placed.mode.map_or_else(String::new, |mode| format!(" {mode:04o}"));
            let made = match one.kind {
                SyncedKind::Directory => "directory".to_owned(),
                SyncedKind::File => format!("file {}{mode}", one.name),
            };
            said(Input::new(format!("placed {}", placed.destination), made))
        });
        let file = match one.kind {
            SyncedKind::Directory => None,
            SyncedKind::File => Some(key.file(&one.name, &one.source, said)?),
        };
        described.files.push((placed, file));
    }
    reader.layer("xcat", ActionKind::NodeSupport, super::VERSION, key.each_once(), Vec::new());
    reader.describe(&ids::layer("xcat"), Described::NodeSupport(described));
    Ok(())
}
