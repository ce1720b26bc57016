//! KIWI's descriptions: config.xml with the overlay tree and the scripts next to it. Source: KIWI 10, `kiwi.rnc` and "Image Description
//! Elements"; the order is that of `kiwi system prepare`.

mod accounts;
mod elements;
mod files;
mod leaves;
mod packages;

use std::collections::BTreeSet;

use recipe::Arch;
use site::osimage::Release;

use crate::input::roots::{Roots, inside};
use crate::input::xml::{self, Element};
use crate::plan::release::{named_in, of_suite};
use crate::plan::{Key, Plan};
use crate::{MoveError, MoveRequest};

const TOOL: &str = "KIWI";

/// A description as it is read.
pub(super) struct Description<'a> {
    pub(super) roots: &'a Roots,
    /// The file, as reports name it.
    pub(super) file: String,
    pub(super) profiles: BTreeSet<String>,
    /// Kinds of images that are built: `oem`, `kis`.
    pub(super) kinds: BTreeSet<String>,
    pub(super) is_checked: bool,
    /// Names of files in its directory that were read, or that are named.
    pub(super) seen: BTreeSet<String>,
}

pub(super) fn plans(request: &MoveRequest) -> Result<Vec<Plan>, MoveError> {
    let mut plans = Vec::new();
    for (path, shown) in request.paths.iter().zip(&request.shown) {
        plans.push(one(request, path, shown)?);
    }
    Ok(plans)
}

fn one(request: &MoveRequest, path: &std::path::Path, shown: &str) -> Result<Plan, MoveError> {
    let (roots, name) = request.roots(path)?;
    let name = match name.is_empty() {
        false => name,
        true => {
            let names = roots.own.names("").map_err(|error| MoveError::Read { path: path.to_owned(), error })?;
            let is_one = |name: &&String| *name == "config.xml" || name.ends_with(".kiwi");
            let found = names.iter().find(|name| *name == "config.xml").or_else(|| names.iter().find(is_one));
            found.cloned().ok_or_else(|| {
                MoveError::input(shown, "contains no config.xml and no *.kiwi", "name the description's file")
            })?
        }
    };
    let file = if path.is_dir() { format!("{}/{name}", shown.trim_end_matches('/')) } else { shown.to_owned() };
    let text = request.text(&roots.own, &name)?;
    let wrong =
        |(line, problem): (usize, String)| MoveError::input(format!("{file}:{line}"), problem, "correct the file");
    let mut image = xml::document(&text).map_err(wrong)?;
    if image.name != "image" {
        let problem = format!("its outermost element is `{}`, not `image`", image.name.escape_debug());
        return Err(MoveError::input(
            &file,
            problem,
            "pass a description of KIWI: config.xml, or a file that ends with .kiwi",
        ));
    }
    let mut seen = BTreeSet::from([name]);
    let mut included = Vec::new();
    include(&roots, &file, &mut image, &mut seen, &mut included);
    let (defined, chosen) = profiles(&image, &request.profiles);
    if let Some(unknown) = request.profiles.iter().find(|name| !defined.contains(*name)) {
        let known = defined.iter().cloned().collect::<Vec<_>>().join(", ");
        let known = if known.is_empty() { "none".to_owned() } else { known };
        return Err(MoveError::input(
            &file,
            format!("has no profile `{unknown}`"),
            format!("profiles of it are: {known}"),
        ));
    }
    let arch = request.arch.unwrap_or_default();
    let release = request.release(&file, guessed(&image, &chosen, arch))?;
    let mut plan = request.plan(TOOL, &file, image.get("name").unwrap_or("image"), release, arch);
    let mut description = Description {
        roots: &roots,
        file: file.clone(),
        profiles: chosen,
        kinds: BTreeSet::new(),
        is_checked: false,
        seen,
    };
    for (key, problem) in included {
        match problem {
            Some(problem) => plan.decide(&key, problem),
            None => plan.exact(&key, "image", ""),
        }
    }
    image_attributes(&mut plan, &file, &image);
    let left: Vec<&String> = defined.iter().filter(|name| !description.profiles.contains(*name)).collect();
    if !left.is_empty() {
        let names = left.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        plan.decide(
            &Key::new(&file, 0, "profiles", names),
            "sections of these profiles are left out: --profile NAME takes them",
        );
    }
    description.profiles(&mut plan, &image);
    description.elements(&mut plan, &image);
    description.files(&mut plan, &image);
    plan.cover(leaves::leaves(&file, &image));
    plan.usual_repositories(&Key::new(&file, 0, "repository", ""));
    Ok(plan)
}

fn image_attributes(plan: &mut Plan, file: &str, image: &Element) {
    for (name, value) in &image.attributes {
        let key = Key::new(file, image.line, format!("image {name}"), value);
        match name.as_str() {
            "name" if *value == plan.name => plan.exact(&key, "image.name", ""),
            "name" => plan.differs(&key, Some("image.name"), format!("the image is called {}", plan.name)),
            "schemaversion" | "displayname" | "id" => plan.stays(&key, "it describes"),
            name if name.starts_with("xmlns") || name.starts_with("xsi:") => plan.stays(&key, "it describes"),
            _ => plan.unknown(&key),
        }
    }
    let key = Key::new(file, image.line, "release", "");
    let (distro, release) = (plan.distro.title(), plan.release.clone());
    plan.exact(
        &key,
        "image.release",
        format!("{distro} {release}, as its repositories and packages are named, or as --release says"),
    );
}

/// Puts what `<include>` names in its place, as KIWI does: one level deep.
fn include(
    roots: &Roots,
    file: &str,
    image: &mut Element,
    seen: &mut BTreeSet<String>,
    included: &mut Vec<(Key, Option<String>)>,
) {
    let children = std::mem::take(&mut image.children);
    for child in children {
        if child.name != "include" {
            image.children.push(child);
            continue;
        }
        let from = child.get("from").unwrap_or_default().to_owned();
        let path = from.strip_prefix("this://").or_else(|| from.strip_prefix("file://")).unwrap_or(&from);
        let path = path.strip_prefix("./").unwrap_or(path);
        let found = roots.find("", path).and_then(|(root, path)| {
            let text = root.text(&path).map_err(|error| format!("`{path}` is not read: {error}"))?;
            xml::document(&text).map_err(|(line, problem)| format!("`{path}`:{line}: {problem}"))
        });
        let key = |file: &str, line: usize, from: &str| Key::new(file, line, "include from", from);
        let own = key(file, child.line, &from);
        match found {
            Ok(found) => {
                seen.extend(inside(path).and_then(|path| path.split('/').next().map(str::to_owned)));
                included.push((own, None));
                let folder = file.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
                let name: std::sync::Arc<str> = format!("{folder}{path}").into();
                let (inner, children): (Vec<Element>, Vec<Element>) =
                    found.children.into_iter().partition(|one| one.name == "include");
                for one in inner {
                    let from = one.get("from").unwrap_or_default();
                    let problem = format!("an include of `{path}`: only those of {file} are followed; write it there");
                    included.push((key(&name, one.line, from), Some(problem)));
                }
                image.children.extend(children.into_iter().map(|one| in_file(one, &name)));
            }
            Err(problem) => included.push((own, Some(problem))),
        }
    }
}

/// An element of a file that is included.
fn in_file(element: Element, file: &std::sync::Arc<str>) -> Element {
    let children = element.children.into_iter().map(|child| in_file(child, file)).collect();
    Element { file: Some(file.clone()), children, ..element }
}

/// All profiles, and those that count: the requested ones with what they require; without a request those that KIWI takes by itself.
fn profiles(image: &Element, wanted: &[String]) -> (BTreeSet<String>, BTreeSet<String>) {
    let all: Vec<&Element> = image
        .children
        .iter()
        .filter(|one| one.name == "profiles")
        .flat_map(|one| &one.children)
        .filter(|one| one.name == "profile")
        .collect();
    let name = |one: &Element| one.get("name").unwrap_or_default().to_owned();
    let defined: BTreeSet<String> = all.iter().map(|one| name(one)).collect();
    let mut open: Vec<String> = match wanted.is_empty() {
        true => all.iter().filter(|one| one.is_true("import")).map(|one| name(one)).collect(),
        false => wanted.to_vec(),
    };
    let mut chosen = BTreeSet::new();
    while let Some(one) = open.pop() {
        if !chosen.insert(one.clone()) {
            continue;
        }
        let element = all.iter().find(|element| element.get("name") == Some(&one));
        let required = element.iter().flat_map(|element| &element.children).filter(|child| child.name == "requires");
        open.extend(required.filter_map(|child| child.get("profile")).map(str::to_owned));
    }
    (defined, chosen)
}

/// Whether a section is of the profiles and the CPU.
fn counts(element: &Element, profiles: &BTreeSet<String>, arch: Arch) -> bool {
    let words = |text: &str| text.split(',').map(|word| word.trim().to_owned()).collect::<Vec<_>>();
    let is_of = element.get("profiles").is_none_or(|names| words(names).iter().any(|name| profiles.contains(name)));
    is_of && element.get("arch").is_none_or(|names| words(names).iter().any(|name| Arch::named(name) == Some(arch)))
}

/// The release, by the suites and addresses of repositories, the packages that a distribution has, and the image's name.
fn guessed(image: &Element, profiles: &BTreeSet<String>, arch: Arch) -> Option<Release> {
    let sections = || image.children.iter().filter(move |one| counts(one, profiles, arch));
    let repositories = || sections().filter(|one| one.name == "repository");
    let suite = repositories().find_map(|one| of_suite(one.get("distribution")?));
    let path = |one: &Element| {
        one.children.iter().find(|child| child.name == "source").and_then(|child| child.get("path")).map(str::to_owned)
    };
    // Repositories of KIWI's own packages name the release that they are for, too.
    let address = || repositories().filter_map(path).find_map(|path| named_in(&path));
    let alias = || repositories().find_map(|one| named_in(one.get("alias")?));
    // A number alone, of what a repository or the image is called.
    let preferences = || sections().filter(|one| one.name == "preferences").flat_map(|one| &one.children);
    let version = preferences().find(|one| one.name == "release-version").map(|one| one.text.clone());
    let numbered = || {
        let names = repositories().filter_map(|one| one.get("alias")).chain(image.get("name"));
        names.filter_map(|name| named_in(&format!("{name} {}", version.as_ref()?))).next()
    };
    suite.or_else(address).or_else(alias).or_else(|| named_in(image.get("name")?)).or_else(numbered)
}
