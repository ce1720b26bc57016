//! Inputs of the `pack` action's key.

use super::mismatches::Wanted;
use crate::actions::Described;
use crate::actions::reader::{Reader, archive, compression, encoder, packed_form};
use crate::bench::ids;
use crate::bench::keyed::{Key, Keyed, Said};
use archive::{Compression, EROFS_VERSION, FRAME_VERSION, Form, SQUASHFS_VERSION, TAR_VERSION};
use plan::{Action, ActionKind, Input, Origin, Stage};
use recipe::Selinux;
use xcat::ExcludeList;

/// What the image is packed as.
#[derive(Debug)]
pub struct Pack {
    pub form: Keyed<Form>,
    pub compression: Keyed<Compression>,
    pub selinux: Keyed<Selinux>,
    pub exclude: Keyed<ExcludeList>,
    /// The time of the file system.
    pub epoch: Keyed<i64>,
    /// The time zone and locale of the system layer.
    pub zone: Said<Option<String>>,
    pub locale: Said<Option<String>>,
    /// What makes the layers.
    pub kinds: Said<Vec<ActionKind>>,
    /// Accounts; whether a layer brings what is wanted by name is not known here.
    pub wanted: Said<Wanted>,
}

pub(crate) fn add(reader: &mut Reader<'_>, id: &str) {
    let recipe = reader.recipe;
    let packed = packed_form(recipe, id);
    let field = |name: &str| packed.field(name);
    let decided = |name: &str, value: &str| reader.setting(name, value, &packed.deciding(name));
    let is_gzip = id == ids::PACK_GZIP;
    let asked = |input: Input| reader.form(is_gzip, "rootimg", input);
    let writer = |version: u32, name: &str| {
        let named = Origin::Imgbuild(format!("{name} writer"));
        let input = if name == "frame" { "tools frames".to_owned() } else { format!("tools {name}") };
        Input::new(input, version.to_string()).of(named)
    };
    let (form, compression) = (archive(&packed), compression(&packed));
    let (version, own) = match form {
        Form::Cpio { single } => (
            writer(FRAME_VERSION, "frame"),
            reader.setting("frames", if single { "single" } else { "many" }, &field("frames")),
        ),
        Form::Tar => (writer(TAR_VERSION, "tar"), reader.setting("frames", "many", &field("frames"))),
        Form::Squashfs { block_size } => {
            (writer(SQUASHFS_VERSION, "squashfs"), decided("block_size", &block_size.to_string()))
        }
        Form::Erofs { chunk } => (writer(EROFS_VERSION, "erofs"), decided("block_size", &chunk.to_string())),
    };
    let mut key = Key::default();
    let epoch = key.epoch(reader.lock);
    let form =
        key.keep_all(form, |form| vec![asked(reader.setting("archive", form.name(), &field("archive"))), version]);
    let compression = key.keep_all(compression, |compression| {
        let name = reader.setting("compress", compression.name(), &field("compress"));
        let level = if fault::planted("key-forgets-compression") { 0 } else { compression.level() };
        let level = decided("level", &level.to_string());
        vec![asked(name), encoder(*compression), asked(level), own]
    });
    let system = &recipe.model.system;
    let selinux = key.keep(system.selinux, |selinux| {
        reader.setting("selinux", if *selinux == Selinux::Auto { "auto" } else { "off" }, "system.selinux")
    });
    let exclude = key.keep_all(recipe.exclude.clone(), |list| {
        let kinds = [("exclude", &list.exclude), ("include", &list.include)];
        let kinds = kinds.into_iter().filter(|(kind, _)| *kind != "exclude" || !fault::planted("key-forgets-exclude"));
        let each = kinds.flat_map(|(kind, patterns)| patterns.iter().map(move |one| (kind, one)));
        each.map(|(kind, one)| reader.asked(Input::new(format!("{kind} {}", one.text), "yes"), Some(&one.span)))
            .collect()
    });
    let wanted = Wanted {
        users: reader.lock.users.iter().map(|one| (one.name.clone(), one.uid)).collect(),
        groups: reader.lock.groups.iter().map(|one| (one.name.clone(), one.gid)).collect(),
        named: recipe.model.users.keys().cloned().collect(),
        brought: Vec::new(),
    };
    let kind = |id: &String| reader.actions.iter().find(|action| action.id == *id).map(|action| action.kind);
    let pack = Pack {
        kinds: Said(reader.layers.iter().filter_map(kind).collect()),
        epoch,
        form,
        compression,
        selinux,
        exclude,
        zone: Said(system.timezone.clone()),
        locale: Said(system.locale.clone()),
        wanted: Said(wanted),
    };
    let upstream = reader.below();
    // What keeps nodes from starting the image is reported once, by the first form.
    let first = (id != ids::PACK).then(|| ids::PACK.to_owned());
    let needs = std::iter::once(ids::GATE.to_owned()).chain(first).collect();
    reader.actions.push(Action {
        id: id.to_owned(),
        stage: Stage::Pack,
        kind: ActionKind::Pack,
        version: super::VERSION,
        inputs: key.each_once(),
        upstream,
        needs,
    });
    reader.describe(id, Described::Pack(pack));
}
