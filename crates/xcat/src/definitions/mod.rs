//! Object definitions: what xCAT's lsdef and mkdef, tabdump and tabrestore exchange. Text to value, no I/O.
//!
//! Rules and vectors: sections 1 and 14.4 of the project's reference of xCAT 2.19.

mod csv;
mod manifest;
mod search;
mod stanza;

use std::collections::BTreeMap;

use base::source::Span;

pub use csv::{Row, Table, TableKind, parse_tables, write_rows};
pub use manifest::{Extra, FILE_ATTRIBUTES, Manifest, files, is_plain_path, parse_manifest, write_manifest};
pub use search::{Searched, platform, search_list, search_names};
pub use stanza::{parse_stanzas, write_stanza};

/// Columns of table `osimage`, in the order of its CSV.
pub const OSIMAGE_COLUMNS: [&str; 23] = [
    "imagename",
    "groups",
    "profile",
    "imagetype",
    "description",
    "provmethod",
    "rootfstype",
    "nfsrootopts",
    "osdistroname",
    "osupdatename",
    "cfmdir",
    "osname",
    "osvers",
    "osarch",
    "synclists",
    "postscripts",
    "postbootscripts",
    "serverrole",
    "isdeletable",
    "kitcomponents",
    "environvar",
    "comments",
    "disable",
];

/// Columns of table `linuximage`, in the order of its CSV.
pub const LINUXIMAGE_COLUMNS: [&str; 24] = [
    "imagename",
    "template",
    "boottarget",
    "addkcmdline",
    "pkglist",
    "pkgdir",
    "otherpkglist",
    "otherpkgdir",
    "exlist",
    "postinstall",
    "rootimgdir",
    "kerneldir",
    "nodebootif",
    "otherifce",
    "netdrivers",
    "kernelver",
    "krpmver",
    "permission",
    "dump",
    "crashkernelsize",
    "partitionfile",
    "driverupdatesrc",
    "comments",
    "disable",
];

/// Whether a release, a CPU or a profile can be a part of a path and of a name.
pub fn is_word(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    text.len() <= 64 && text.chars().all(plain) && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectKind {
    /// An image: a row of `osimage` and one of `linuximage`.
    Osimage,
    /// A node, a network, ...: xCAT's name of it.
    Other(String),
}

impl ObjectKind {
    /// The kind that xCAT calls so.
    pub fn of(name: &str) -> Self {
        if name == "osimage" { Self::Osimage } else { Self::Other(name.to_owned()) }
    }

    /// xCAT's name of it.
    pub fn name(&self) -> &str {
        match self {
            Self::Osimage => "osimage",
            Self::Other(name) => name,
        }
    }
}

/// A value, and where it was written; none where it comes from a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    /// The text; never empty.
    pub value: String,
    pub span: Option<Span>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    pub name: String,
    pub kind: ObjectKind,
    pub attributes: BTreeMap<String, Attribute>,
    pub span: Option<Span>,
}

impl Definition {
    /// An osimage without attributes.
    pub fn osimage(name: &str) -> Self {
        Self { name: name.to_owned(), kind: ObjectKind::Osimage, attributes: BTreeMap::new(), span: None }
    }

    pub fn get(&self, attribute: &str) -> Option<&str> {
        self.attributes.get(attribute).map(|one| one.value.as_str())
    }

    /// An attribute as a list: xCAT cuts at commas; blanks around items and empty items mean nothing.
    pub fn list(&self, attribute: &str) -> Vec<String> {
        let items = self.get(attribute).unwrap_or_default().split(',');
        items.map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
    }

    /// Sets an attribute; an empty value takes it away.
    pub fn set(&mut self, attribute: &str, value: &str, span: Option<Span>) {
        // A stanza has no place for line ends; tables may have them in comments.
        let value =
            value.split(['\n', '\r']).map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
        match value.is_empty() {
            true => drop(self.attributes.remove(attribute)),
            false => drop(self.attributes.insert(attribute.to_owned(), Attribute { value, span })),
        }
    }
}
