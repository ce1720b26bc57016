//! Inputs of the `system` action's key.

use std::collections::BTreeSet;

use crate::StageError;
use crate::actions::Described;
use crate::actions::reader::{Declared, Reader};
use crate::bench::ids;
use crate::bench::keyed::{InputFile, Key, Keyed, Said};
use plan::ActionKind;
use recipe::{InImage, plain_version};

/// The lock's minor form that has `replaced`.
const LISTS_REPLACED: u32 = 6;

/// Settings of the image's own.
#[derive(Debug)]
pub struct System {
    pub epoch: Keyed<i64>,
    pub timezone: Keyed<Option<String>>,
    pub locale: Keyed<Option<String>>,
    pub hostname: Keyed<Option<String>>,
    pub declared: Declared,
    pub authorized_keys: Vec<Keyed<InputFile>>,
    pub root_password_hash: Option<Keyed<InputFile>>,
    /// Names, versions and architectures of what the image has by its lock: what is installed is compared with them.
    pub locked: Said<BTreeSet<[String; 3]>>,
    /// Packages that lists ask for, where the lock tells which packages go by themselves.
    pub named: Said<Option<BTreeSet<String>>>,
}

/// Adds the action of the system layer.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    let recipe = reader.recipe;
    let (settings, spans) = (&recipe.model.system, &recipe.spans);
    let mut key = Key::default();
    let setting = |key: &mut Key, name: &str, value: &Option<String>| {
        key.keep(value.clone(), |value| {
            reader.setting(name, value.as_deref().unwrap_or("unset"), &format!("system.{name}"))
        })
    };
    let package = |one: InImage<'_>| [one.name, plain_version(one.version), one.architecture].map(str::to_owned);
    let tells = reader.lock.minor >= LISTS_REPLACED;
    let packages = reader.lock.image_passes().flat_map(|pass| &pass.packages);
    let named = packages.filter(|package| !package.automatic).map(|package| package.name.clone());
    let system = System {
        named: Said(tells.then(|| named.collect())),
        locked: Said(reader.lock.in_image().into_iter().map(package).collect()),
        epoch: key.epoch(reader.lock),
        timezone: setting(&mut key, "timezone", &settings.timezone),
        locale: setting(&mut key, "locale", &settings.locale),
        hostname: setting(&mut key, "hostname", &settings.hostname),
        declared: reader.declared(&mut key),
        authorized_keys: (recipe.authorized_keys.iter().enumerate())
            .map(|(index, (path, name))| {
                key.file(name, path, |input| input.item(spans, "system.authorized_keys", index))
            })
            .collect::<Result<_, _>>()?,
        root_password_hash: (recipe.root_password_hash.as_ref())
            .map(|(path, name)| key.file(name, path, |input| input.field(spans, "system.root_password_hash_file")))
            .transpose()?,
    };
    reader.layer("system", ActionKind::System, super::VERSION, key.inputs(), Vec::new());
    reader.describe(&ids::layer("system"), Described::System(system));
    Ok(())
}
