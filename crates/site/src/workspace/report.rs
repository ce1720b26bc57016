//! What an import says that it did.

use schemars::JsonSchema;
use serde::Serialize;

use crate::osimage::Remark;

/// What became of an osimage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ImportState {
    /// A recipe was written.
    New,
    /// Its recipe was changed as the definition changed.
    Changed,
    /// The definition is the same as at the last import.
    Same,
    /// There is no recipe of it; `reason` says why.
    Skipped,
    /// xCAT has it no more; its recipe stays.
    Gone,
}

/// One osimage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ImportedImage {
    /// Its name.
    pub name: String,
    /// What became of it.
    pub state: ImportState,
    /// The recipe's file, from the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// Why it is missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What became of each attribute.
    pub attributes: Vec<Remark>,
    /// What a later import changed in the recipe, and what it left because the recipe says something else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// What an import did, or would do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[schemars(title = "imgbuild import xcat")]
pub struct ImportReport {
    /// Version of this form.
    pub format_version: String,
    /// Whether nothing was written.
    pub dry_run: bool,
    /// The osimages, by name.
    pub osimages: Vec<ImportedImage>,
    /// Objects of other kinds, which are not imported: how many of each.
    pub passed_over: std::collections::BTreeMap<String, usize>,
    /// Files that were copied, from the workspace; those of an earlier import that did not change are not named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub copied: Vec<String>,
    /// What else the administrator should know.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}
