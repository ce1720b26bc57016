//! Images as Grendel has them: one for each build and each set of nodes' words, and one by the plain name, which leads to the newest.
//!
//! Source: ubccr/grendel, pkg/model/bootimg.go; internal/provision/handler.go: the command line is a template, so braces of words would
//! be taken for its own; internal/provision/templates/ipxe.tmpl: only `initrd0` is named, so there is one initrd.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::kinds::servers::{Owner, boots, command_line, digest_of, first_form, marked, owner};
use crate::{Change, Error, Report, Request};

/// Digits that tell images of a build apart whose nodes have other words.
const DIGITS: usize = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BootImage {
    pub name: String,
    pub kernel: String,
    pub initrd: String,
    pub cmdline: String,
}

#[derive(Debug)]
pub(super) struct Documents {
    name: String,
    /// Those with the build's name first, then the plain one.
    pub images: Vec<BootImage>,
    /// The image of each node.
    pub nodes: BTreeMap<String, String>,
}

/// Below the directory of files.
pub(super) fn folder(request: &Request<'_>) -> String {
    format!("{}/{}", request.image.name, request.image.build)
}

/// Errors: [`Error::Unfit`] where Grendel would read a word otherwise.
pub(super) fn documents(request: &Request<'_>, directory: &Path, files: &str) -> Result<Documents, Error> {
    let image = request.image;
    let form = first_form(request)?;
    let at = directory.join(folder(request));
    let path = |name: &str| at.join(name).display().to_string();
    let (kernel, initrd) = (path(&image.kernel.name), path(&image.initrd.name));
    let url = format!("{files}/{}", folder(request));
    let words = form.words.clone();
    let of = |name: String, words: Vec<String>| -> Result<BootImage, Error> {
        if let Some(word) = words.iter().find(|word| word.replace("{url}", "").contains("{{")) {
            return Err(Error::Unfit {
                destination: request.destination.to_string(),
                problem: format!("Grendel takes `{{{{` in `{}` for a part of a template", word.escape_debug()),
                help: "write the word without two braces".to_owned(),
            });
        }
        let words: Vec<String> = words.iter().map(|word| word.replace("{url}", &url)).collect();
        let cmdline = marked(&words, &[&kernel, &initrd]);
        Ok(BootImage { name, kernel: kernel.clone(), initrd: initrd.clone(), cmdline })
    };
    let build = format!("{}-{}", image.name, image.build);
    let mut images = BTreeMap::new();
    images.insert(build.clone(), of(build.clone(), command_line(request, words.clone(), None)?)?);
    let mut nodes = BTreeMap::new();
    for node in boots(request).current {
        let name = match node.kernel_args.is_empty() {
            true => build.clone(),
            false => format!("{build}-{}", &digest_of(node.kernel_args.iter().map(String::as_str))[..DIGITS]),
        };
        if !images.contains_key(&name) {
            let one = of(name.clone(), command_line(request, words.clone(), Some(node))?)?;
            images.insert(name.clone(), one);
        }
        nodes.insert(node.name.clone(), name);
    }
    let mut images: Vec<BootImage> = images.into_values().collect();
    images.push(of(image.name.clone(), command_line(request, words, None)?)?);
    Ok(Documents { name: image.name.clone(), images, nodes })
}

fn text<'a>(document: &'a Value, field: &str) -> &'a str {
    document.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn first_initrd(document: &Value) -> &str {
    document
        .get("initrd")
        .and_then(Value::as_array)
        .and_then(|all| all.first())
        .and_then(Value::as_str)
        .unwrap_or_default()
}

impl BootImage {
    /// With what the server or the site has besides: ids, templates.
    fn over(&self, old: Option<&Value>) -> Value {
        let empty = json!({"liveimg": "", "verify": false, "provision_templates": {}});
        let mut all: Map<String, Value> = old.unwrap_or(&empty).as_object().cloned().unwrap_or_default();
        all.insert("name".to_owned(), json!(self.name));
        all.insert("kernel".to_owned(), json!(self.kernel));
        all.insert("initrd".to_owned(), json!([self.initrd]));
        all.insert("cmdline".to_owned(), json!(self.cmdline));
        Value::Object(all)
    }
}

impl Documents {
    /// The name of the image of another build.
    pub(super) fn pinned(&self, build: &str) -> String {
        format!("{}-{build}", self.name)
    }

    /// Nodes by the image that they are to boot.
    pub(super) fn nodes_of_images(&self) -> BTreeMap<String, Vec<String>> {
        let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (node, image) in &self.nodes {
            all.entry(image.clone()).or_default().push(node.clone());
        }
        all
    }

    /// The documents that differ from those that are there, in the order in which they are written.
    /// Errors: [`Error::Server`] where one is the site's.
    pub(super) fn wanted(
        &self,
        request: &Request<'_>,
        place: &str,
        there: &[Value],
        report: &mut Report,
    ) -> Result<Vec<Value>, Error> {
        let mut wanted = Vec::new();
        for image in &self.images {
            let old = there.iter().find(|old| text(old, "name") == image.name);
            let change = match old {
                None => Change::New,
                Some(old) => {
                    let owner = owner(text(old, "cmdline"), &[text(old, "kernel"), first_initrd(old)]);
                    if owner == Owner::Site && !super::may_replace(request) {
                        let help = "rename it there, or replace it with `--replace`";
                        return Err(super::foreign(place, &format!("the image `{}`", image.name), help));
                    }
                    super::change_of(image.over(Some(old)) == *old, owner == Owner::ChangedByHand)
                }
            };
            report.add(format!("{place} image {}", image.name), change);
            if change != Change::Unchanged {
                wanted.push(image.over(old));
            }
        }
        Ok(wanted)
    }

    /// All that a file of images has afterwards: the site's images stay, in their places.
    /// Errors: [`Error::Server`] where one of the same name is the site's.
    pub(super) fn merged(
        &self,
        request: &Request<'_>,
        place: &str,
        there: &[Value],
        report: &mut Report,
    ) -> Result<Vec<Value>, Error> {
        let mut all = there.to_vec();
        for image in self.wanted(request, place, there, report)? {
            match all.iter_mut().find(|old| text(old, "name") == text(&image, "name")) {
                Some(old) => *old = image,
                None => all.push(image),
            }
        }
        Ok(all)
    }
}
