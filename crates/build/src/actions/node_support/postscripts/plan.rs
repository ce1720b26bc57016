//! What the image says to the program that runs scripts on a node.

use std::collections::BTreeMap;

use serde::Serialize;

use super::inputs::Postscripts;
use crate::bench::keyed::Keyed;
use recipe::{Recipe, ScriptFailure};

/// Directory of the image with all of it. SELinux's policies have programs here.
pub(crate) const DIRECTORY: &str = "/usr/libexec/imgbuild";

/// postscripts.json: imgbuild-init reads it.
#[derive(Debug, Serialize)]
pub(crate) struct ImagePlan<'a> {
    format_version: &'static str,
    image: &'a str,
    timeout: u32,
    on_failure: ScriptFailure,
    postscripts: Vec<String>,
    postbootscripts: Vec<String>,
    environment: BTreeMap<String, String>,
}

/// Variables of scripts that are known when the image is built, each with the field that it comes from: xCAT's, then the recipe's own.
pub(crate) fn variables(recipe: &Recipe) -> BTreeMap<String, (String, String)> {
    let model = &recipe.model;
    let state = if recipe.statelite.is_some() { "statelite" } else { "netboot" };
    let osvers = if model.xcat.osvers.is_some() { "xcat.osvers" } else { "image.release" };
    let profile = if model.xcat.profile.is_some() { "xcat.profile" } else { "image.name" };
    let osimage = if model.xcat.osimage.is_some() { "xcat.osimage" } else { "image.name" };
    let known = [
        ("OSVER", model.osvers(), osvers),
        ("ARCH", model.image.arch.machine().to_owned(), "image.arch"),
        ("PROFILE", model.profile().to_owned(), profile),
        ("PROVMETHOD", model.osimage().to_owned(), osimage),
        ("NODESETSTATE", state.to_owned(), "statelite"),
        ("NTYPE", "compute".to_owned(), "node"),
        ("UPDATENODE", "0".to_owned(), "node"),
    ];
    let known = known.into_iter().map(|(name, value, field)| (name.to_owned(), (value, field.to_owned())));
    let own = model.environment.iter();
    let own = own.map(|(name, value)| (name.clone(), (value.clone(), format!("environment.{name}"))));
    known.chain(own).collect()
}

/// The text of postscripts.json.
pub(crate) fn text(scripts: &Postscripts) -> Vec<u8> {
    let names = |items: &'_ [Keyed<String>]| items.iter().map(|text| (**text).clone()).collect();
    let plan = ImagePlan {
        format_version: "1.0",
        image: &scripts.image,
        timeout: *scripts.timeout,
        on_failure: *scripts.on_failure,
        postscripts: names(&scripts.postscripts),
        postbootscripts: names(&scripts.postbootscripts),
        environment: scripts.environment.iter().map(|variable| (**variable).clone()).collect(),
    };
    let mut text = serde_json::to_vec_pretty(&plan).unwrap_or_default();
    text.push(b'\n');
    text
}
