//! What an osimage says, as fields of a recipe; and of each attribute, whether that is the same.

mod attributes;
mod packages;
mod release;
mod scripts;
mod text;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::definitions::Places;
use recipe::{Distro, Family};
use xcat::definitions::{Definition, is_plain_path, platform, search_names};

pub use release::{Release, osvers_of, release_of};
pub use text::{LEFT_OVER, STANZA_FILE, comments_of, head, recipe_text};

/// What became of an attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The recipe means the same.
    Exact,
    /// xCAT still reads it itself, or it only described.
    Stays,
    /// The recipe means something else; the reason says what.
    Differs,
    /// The administrator must say what is to be.
    Decide,
}

impl Verdict {
    /// As reports call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Stays => "stays",
            Self::Differs => "differs",
            Self::Decide => "decide",
        }
    }
}

/// What is said of one attribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Remark {
    /// The attribute's name.
    pub attribute: String,
    /// What the definition says; empty where it says nothing.
    pub value: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The recipe's field, if it has one: `packages.lists`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Why; empty where nothing is to be said.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    Text(String),
    List(Vec<String>),
    Flag(bool),
}

/// A field of a recipe: its table, its key, what it is set to, and the attribute that says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    pub table: String,
    pub key: String,
    pub value: Value,
    pub attribute: String,
}

impl Field {
    /// As messages call it.
    pub fn path(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }
}

/// An entry of `[[repo]]`: its keys and values, and the attribute that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepoFields {
    pub attribute: String,
    /// Keys and values, in order.
    pub fields: Vec<(String, Value)>,
}

/// What an import wrote into a recipe: kept beside it, as what it would write depends on which files are there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    pub fields: Vec<Field>,
    pub repositories: Vec<RepoFields>,
    #[serde(default)]
    pub remarks: Vec<Remark>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub name: String,
    /// Where xCAT's nodeset looks for what it serves.
    pub rootimgdir: String,
    /// Fields, in the order of a recipe.
    pub fields: Vec<Field>,
    pub repositories: Vec<RepoFields>,
    pub remarks: Vec<Remark>,
    /// Files of the management node that the recipe reads.
    pub lists: Vec<ListFile>,
    /// Other files and folders of the management node that the recipe reads.
    pub named: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListKind {
    /// A pkglist or an otherpkgs list.
    Packages,
    Excluded,
    /// A synclist: its sources are read too.
    Synced,
    Script,
    Folder,
    /// What a script reads: a file or a folder.
    Input,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListFile {
    /// Its path on the management node.
    pub path: String,
    pub kind: ListKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mapped {
    Recipe(Box<Mapping>),
    /// None, for this reason.
    Nothing(String),
}

/// Makes a recipe's fields of an osimage.
pub fn map(definition: &Definition, places: &Places) -> Mapped {
    match attributes::of(definition, places) {
        Ok(mapping) => Mapped::Recipe(Box::new(mapping)),
        Err(reason) => Mapped::Nothing(reason),
    }
}

pub(super) struct Mapper<'a> {
    pub definition: &'a Definition,
    pub places: &'a Places,
    pub release: Release,
    pub arch: &'a str,
    pub osvers: &'a str,
    pub profile: &'a str,
    pub mapping: Mapping,
}

impl Mapping {
    pub fn record(&self) -> Record {
        Record { fields: self.fields.clone(), repositories: self.repositories.clone(), remarks: self.remarks.clone() }
    }
}

impl Mapper<'_> {
    fn family(&self) -> Family {
        self.release.distro.family()
    }

    fn distro(&self) -> Distro {
        self.release.distro
    }

    fn value(&self, attribute: &str) -> String {
        self.definition.get(attribute).unwrap_or_default().to_owned()
    }

    fn set(&mut self, table: &'static str, key: &str, value: Value, attribute: &'static str) {
        let (table, attribute) = (table.to_owned(), attribute.to_owned());
        self.mapping.fields.push(Field { table, key: key.to_owned(), value, attribute });
    }

    fn remark(&mut self, attribute: &str, verdict: Verdict, field: Option<&str>, reason: impl Into<String>) {
        let value = self.value(attribute);
        let reason = reason.into();
        self.mapping.remarks.push(Remark {
            attribute: attribute.to_owned(),
            value,
            verdict,
            field: field.map(str::to_owned),
            reason,
        });
    }

    /// The folders in which xCAT looks for files that a definition does not name: the site's, and those that came with it.
    fn folders(&self) -> Vec<String> {
        let Some(platform) = platform(self.osvers) else { return Vec::new() };
        let custom = format!("{}/custom/netboot/{platform}", self.places.installdir);
        vec![custom, format!("{}/netboot/{platform}", super::definitions::share())]
    }

    /// The file of a kind that xCAT would find for the profile; and the one that genimage without a definition would take
    /// instead, if it is another.
    fn searched(&self, kind: &str) -> Option<(String, Option<String>)> {
        let names = search_names(self.profile, self.osvers, self.arch, kind);
        for folder in self.folders() {
            let find = |names: &[String]| {
                let paths = names.iter().map(|name| format!("{folder}/{name}"));
                paths.into_iter().find(|path| self.places.here(path).is_file())
            };
            if let Some(found) = find(&names.names) {
                let other = find(&names.by_genimage).filter(|other| *other != found);
                return Some((found, other));
            }
        }
        None
    }

    /// Parts a list of files into those that are here and those that are not.
    fn split(&self, paths: Vec<String>) -> (Vec<String>, Vec<String>) {
        paths.into_iter().partition(|path| is_plain_path(path) && self.places.here(path).is_file())
    }

    /// Sets a list of files that an attribute names; what is not here is to be decided.
    fn lists(&mut self, attribute: &'static str, table: &'static str, kind: ListKind) {
        let field = format!("{table}.lists");
        let (there, missing) = self.split(self.definition.list(attribute));
        if !there.is_empty() {
            self.mapping.lists.extend(there.iter().map(|path| ListFile { path: path.clone(), kind }));
            self.set(table, "lists", Value::List(there), attribute);
        }
        match missing.is_empty() {
            true => self.remark(attribute, Verdict::Exact, Some(&field), ""),
            false => {
                let reason = format!("not found here, left out: {}", missing.join(", "));
                self.remark(attribute, Verdict::Decide, Some(&field), reason);
            }
        }
    }
}

/// The values of a mapping by field, for comparing two of them. Lists of `[[repo]]` are one value.
pub fn by_field(mapping: &Mapping) -> BTreeMap<String, &Field> {
    mapping.fields.iter().map(|field| (field.path(), field)).collect()
}
