//! Recipes as xCAT's definitions: what lsdef would show of an image.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value as Json;

use crate::definitions::Places;
use crate::osimage::{Mapped, Record, STANZA_FILE, Value, map, osvers_of};
use crate::workspace::imported;
use recipe::{Distro, Family, Model, Recipe, Workspace, known_releases, plain, release_named};
use xcat::definitions::{Definition, LINUXIMAGE_COLUMNS, OSIMAGE_COLUMNS, TableKind, write_rows};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub definition: Definition,
    /// What the recipe says and no attribute can.
    pub lost: Vec<String>,
}

/// Fields that attributes have, by the attribute: where none of them changed since the import, the attribute stays as it
/// was.
const FIELDS: [(&str, &[&str]); 18] = [
    ("osvers", &["image.distro", "image.release", "xcat.osvers"]),
    ("osarch", &["image.arch"]),
    ("profile", &["xcat.profile"]),
    ("pkgdir", &["repo"]),
    ("pkglist", &["packages.lists"]),
    ("otherpkgdir", &["otherpkgs.dir"]),
    ("otherpkglist", &["otherpkgs.lists"]),
    ("kernelver", &["kernel.version"]),
    ("kerneldir", &["kernel.dir"]),
    ("netdrivers", &["kernel.drivers"]),
    ("driverupdatesrc", &["kernel.updates"]),
    ("postinstall", &["postinstall.script", "postinstall.scripts", "postinstall.arguments"]),
    ("synclists", &["sync.lists"]),
    ("exlist", &["exclude.lists"]),
    ("addkcmdline", &["boot.cmdline"]),
    ("dump", &["kdump.to"]),
    ("crashkernelsize", &["kdump.reserve"]),
    ("environvar", &["environment"]),
];

/// Tables and fields of a recipe that say nothing to xCAT, and take nothing from an image that xCAT would have.
const OWN: [&str; 7] = [
    "image.name",
    "workspace.allow",
    "xcat.path_map",
    "xcat.node_support",
    "xcat.postscripts",
    "xcat.osimage",
    "postinstall.inputs",
];

/// The definition of a recipe's image; attributes that an import brought and the recipe does not change are as they were.
pub fn definition_of(recipe: &Recipe, workspace: Option<&Workspace>) -> Exported {
    let model = &recipe.model;
    let name = model.image.name.as_str();
    let stanza = recipe.directory.join(STANZA_FILE);
    let (last, problem) = match stanza.is_file().then(|| imported(&stanza, name)) {
        Some(Ok(last)) => (Some(last), None),
        Some(Err(error)) => (None, Some(format!("what xCAT had: {error}"))),
        None => (None, None),
    };
    let places = places_of(recipe, workspace);
    let record = last.as_ref().map(|(last, record)| match (record, map(last, &places)) {
        (Some(record), _) => record.clone(),
        (None, Mapped::Recipe(mapping)) => mapping.record(),
        (None, Mapped::Nothing(_)) => Record::default(),
    });
    let is_new = last.is_none();
    let mut definition = last.map(|(last, _)| last).unwrap_or_else(|| {
        let mut new = Definition::osimage(name);
        for (attribute, value) in [("imagetype", "linux"), ("osname", "Linux"), ("provmethod", "netboot")] {
            new.set(attribute, value, None);
        }
        new
    });
    definition.attributes.remove("imagename");
    let said = serde_json::to_value(model).unwrap_or(Json::Null);
    for (attribute, fields) in FIELDS {
        let is_as_imported =
            record.as_ref().is_some_and(|record| fields.iter().all(|field| same(record, &said, field)));
        if !is_as_imported {
            let value = attribute_of(attribute, recipe, &places, definition.get(attribute));
            definition.set(attribute, &value, None);
        }
    }
    if is_new && definition.get("rootimgdir").is_none() {
        let part = |attribute: &str| definition.get(attribute).unwrap_or_default().to_owned();
        let folder = format!("/install/netboot/{}/{}/{}", part("osvers"), part("osarch"), part("profile"));
        definition.set("rootimgdir", &folder, None);
    }
    let mut lost = lost(model, &said);
    lost.extend(problem);
    Exported { definition, lost }
}

/// The fields of a recipe that an attribute has: `packages.lists`, or a whole table. None where it has none.
pub fn fields_of(attribute: &str) -> &'static [&'static str] {
    FIELDS.iter().find(|(name, _)| *name == attribute).map_or(&[], |(_, fields)| *fields)
}

pub fn places_of(recipe: &Recipe, workspace: Option<&Workspace>) -> Places {
    let mut places = Places::default();
    let mut add = |root: &Path, map: &BTreeMap<String, String>| {
        places.moved.extend(map.iter().map(|(there, here)| (there.clone(), root.join(here))));
    };
    add(&recipe.directory, &recipe.model.xcat.path_map);
    if let Some(workspace) = workspace {
        add(&workspace.root, &workspace.model.xcat.path_map);
    }
    places
}

fn json(value: &Value) -> Json {
    match value {
        Value::Text(text) => Json::from(text.as_str()),
        Value::Flag(flag) => Json::from(*flag),
        Value::List(items) => Json::from(items.clone()),
    }
}

/// Whether a field of the recipe is as the import wrote it; `[[repo]]` and `[environment]` are looked at whole.
fn same(record: &Record, said: &Json, field: &str) -> bool {
    let (table, key) = field.split_once('.').unwrap_or((field, ""));
    let found = said.get(table).cloned().unwrap_or(Json::Null);
    if table == "repo" {
        let entries = found.as_array().cloned().unwrap_or_default();
        let agrees = |(repo, entry): (&crate::osimage::RepoFields, &Json)| {
            repo.fields.iter().all(|(name, value)| entry.get(name.as_str()) == Some(&json(value)))
        };
        return entries.len() == record.repositories.len() && record.repositories.iter().zip(&entries).all(agrees);
    }
    let of_table = record.fields.iter().filter(|one| one.table == table);
    if key.is_empty() {
        let all: serde_json::Map<String, Json> = of_table.map(|one| (one.key.clone(), json(&one.value))).collect();
        return found.as_object().is_some_and(|found| {
            found.len() == all.len() && all.iter().all(|(key, value)| found.get(key) == Some(value))
        });
    }
    let expected = of_table.filter(|one| one.key == key).map(|one| json(&one.value)).next();
    let found = found.get(key).cloned().unwrap_or(Json::Null);
    let is_unset = found.is_null() || found.as_array().is_some_and(Vec::is_empty);
    expected.map_or(is_unset, |expected| expected == found)
}

/// An attribute's value by what the recipe says now; `before` is what it was.
fn attribute_of(attribute: &str, recipe: &Recipe, places: &Places, before: Option<&str>) -> String {
    let model = &recipe.model;
    let absolute = |path: &String| match path.starts_with('/') {
        true => path.clone(),
        false => plain(&recipe.directory.join(path)).display().to_string(),
    };
    let files = |paths: &[String]| paths.iter().map(absolute).collect::<Vec<_>>().join(",");
    match attribute {
        "osvers" => model.xcat.osvers.clone().unwrap_or_else(|| {
            let image = &model.image;
            osvers_of(image.distro, &image.release, number_of(image.distro, &image.release).as_deref())
        }),
        "osarch" => model.image.arch.machine().to_owned(),
        "profile" => model.xcat.profile.clone().unwrap_or_else(|| model.image.name.clone()),
        "pkgdir" => repositories(model, places).join(","),
        "pkglist" => files(&model.packages.lists),
        "otherpkgdir" => model.otherpkgs.as_ref().map_or_else(String::new, |other| absolute(&other.dir)),
        "otherpkglist" => model.otherpkgs.as_ref().map_or_else(String::new, |other| files(&other.lists)),
        "kernelver" => model.kernel.version.clone().unwrap_or_default(),
        "kerneldir" => model.kernel.dir.as_ref().map_or_else(String::new, absolute),
        "netdrivers" => {
            let named = model.kernel.drivers.iter().filter(|name| !name.starts_with('-'));
            named.map(|name| name.trim_start_matches('+').to_owned()).collect::<Vec<_>>().join(",")
        }
        "driverupdatesrc" => {
            let tagged = |item: &String| match item.split_once(':') {
                Some((tag, path)) => format!("{tag}:{}", absolute(&path.to_owned())),
                None => absolute(item),
            };
            model.kernel.updates.iter().map(tagged).collect::<Vec<_>>().join(",")
        }
        "postinstall" => model.postinstall.as_ref().map_or_else(String::new, |table| {
            let scripts = table.scripts().into_iter().map(|(_, file, arguments)| {
                std::iter::once(absolute(&file.to_owned())).chain(arguments).collect::<Vec<_>>().join(" ")
            });
            scripts.collect::<Vec<_>>().join(",")
        }),
        "synclists" => files(&model.sync.lists),
        "exlist" => files(&model.exclude.lists),
        "addkcmdline" => {
            let installed = before.unwrap_or_default().split_whitespace().filter(|word| word.starts_with("R::"));
            let words = model.boot.cmdline.iter().map(String::as_str);
            words.chain(installed).collect::<Vec<_>>().join(" ")
        }
        "dump" => model.kdump.as_ref().map(|table| &table.to).filter(|to| is_nfs(to)).cloned().unwrap_or_default(),
        "crashkernelsize" => model.kdump.as_ref().map(|table| table.reserve.clone()).unwrap_or_default(),
        "environvar" => {
            model.environment.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
        }
        _ => String::new(),
    }
}

/// Whether xCAT knows a place of dumps.
fn is_nfs(to: &str) -> bool {
    to.starts_with("nfs://")
}

/// The number of a release that its archive calls by a name.
fn number_of(distro: Distro, release: &str) -> Option<String> {
    if !known_releases(distro).contains(&release) {
        return None;
    }
    let numbers = (1..60).flat_map(|major| [format!("{major}"), format!("{major}.04"), format!("{major}.10")]);
    numbers.into_iter().find(|number| release_named(distro, number) == Some(release))
}

/// pkgdir: directories, and addresses as the family writes them.
fn repositories(model: &Model, places: &Places) -> Vec<String> {
    let is_debian = model.image.distro.family() == Family::Debian;
    let plain_uri = |uri: &String| match uri.strip_prefix("file:") {
        Some(path) => {
            let path = format!("/{}", path.trim_start_matches('/'));
            places.there(Path::new(&path)).unwrap_or(path)
        }
        None => uri.clone(),
    };
    let of = |repo: &recipe::Repo| {
        let uri = plain_uri(repo.uri.as_ref()?);
        if !is_debian || uri.starts_with('/') {
            return Some(uri);
        }
        let words = std::iter::once(uri).chain(repo.suites.first().cloned()).chain(repo.components.iter().cloned());
        Some(words.collect::<Vec<_>>().join(" "))
    };
    model.repo.iter().filter_map(of).collect()
}

/// What the recipe sets and xCAT has no attribute for.
fn lost(model: &Model, said: &Json) -> Vec<String> {
    let image = serde_json::json!({
        "image": {"name": model.image.name, "release": model.image.release},
        "kdump": {"to": ""},
    });
    let default = serde_json::from_value::<Model>(image).ok().and_then(|one| serde_json::to_value(one).ok());
    let default = default.unwrap_or(Json::Null);
    let is_known = |path: &str| {
        let table = path.split('.').next().unwrap_or(path);
        FIELDS.iter().any(|(_, fields)| fields.contains(&path) || fields.contains(&table)) || OWN.contains(&path)
    };
    let mut lost = Vec::new();
    for (table, value) in said.as_object().into_iter().flatten() {
        for (key, value) in value.as_object().into_iter().flatten() {
            let path = format!("{table}.{key}");
            let usual = default.get(table).and_then(|usual| usual.get(key)).cloned().unwrap_or(Json::Null);
            let is_empty = value.is_null() || value.as_array().is_some_and(Vec::is_empty);
            if *value != usual && !is_empty && !is_known(&path) {
                lost.push(path);
            }
        }
    }
    if model.kdump.as_ref().is_some_and(|table| !is_nfs(&table.to)) {
        lost.push("kdump.to (xCAT's dump is a directory of an NFS server)".to_owned());
    }
    lost.extend(model.role.iter().map(|role| format!("role {}", role.ansible)));
    let removed = model.kernel.drivers.iter().filter(|name| name.starts_with('-'));
    lost.extend(removed.map(|name| format!("kernel.drivers {name}")));
    let has_comma = |text: &String| text.contains(',');
    let environment = model.environment.iter().filter(|(_, value)| has_comma(value));
    lost.extend(environment.map(|(name, _)| format!("the comma in environment.{name}")));
    let words = model.postinstall.iter().flat_map(|script| &script.arguments);
    let odd = words.filter(|word| word.contains([',', ' ']));
    lost.extend(odd.map(|word| format!("the argument `{word}` of postinstall as one word")));
    let is_whole = model.kernel.drivers.iter().any(|name| !name.starts_with(['+', '-']));
    if is_whole && model.image.distro.family() != Family::Debian {
        lost.push("kernel.drivers as a whole list (netdrivers add to the default ones)".to_owned());
    }
    let own_words = model.repo.iter().filter(|repo| {
        repo.signed_by.is_some()
            || repo.priority.is_some()
            || !repo.exclude.is_empty()
            || !repo.include.is_empty()
            || repo.check_index
    });
    let shown = |repo: &recipe::Repo| repo.uri.clone().or_else(|| repo.id.clone()).unwrap_or_default();
    lost.extend(own_words.map(|repo| format!("keys, priority and selection of the repository {}", shown(repo))));
    // The host's own archives are what xCAT falls back to as well.
    let files = model.repo.iter().filter_map(|repo| repo.file.as_ref());
    lost.extend(files.map(|file| format!("the repositories of {file}")));
    lost
}

pub fn table(kind: TableKind, definitions: &[Definition]) -> String {
    let columns: &[&str] = if kind == TableKind::Linuximage { &LINUXIMAGE_COLUMNS } else { &OSIMAGE_COLUMNS };
    let rows: Vec<BTreeMap<String, String>> =
        definitions.iter().map(|definition| row(definition, kind, columns)).collect();
    write_rows(columns, rows.iter())
}

fn row(definition: &Definition, kind: TableKind, columns: &[&str]) -> BTreeMap<String, String> {
    let value = |column: &str| match column {
        "imagename" => Some(definition.name.clone()),
        "comments" if kind == TableKind::Osimage => definition.get("usercomment").map(str::to_owned),
        "comments" => None,
        column => definition.get(column).map(str::to_owned),
    };
    columns.iter().filter_map(|column| Some(((*column).to_owned(), value(column)?))).collect()
}
