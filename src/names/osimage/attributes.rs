//! Attributes of an osimage as changes of a recipe: what chdef says, and genimage's flags. The recipe gets what an import of the
//! changed definition gives.

use std::collections::BTreeSet;
use std::path::Path;

use crate::names::shell::Shell;
use crate::names::{Done, Ended};
use base::source::nearest;
use recipe::{Workspace, plain, recipe_file};
use site::definitions::Places;
use site::export::{definition_of, fields_of, places_of};
use site::osimage::{Mapped, Mapping, Remark, STANZA_FILE, Verdict, map};
use site::workspace::{AttributeChange, Edits, brought_up_to_date, imported, keep_attributes, reads, write_whole};
use xcat::definitions::{Definition, LINUXIMAGE_COLUMNS, OSIMAGE_COLUMNS};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// It becomes the value; an empty one takes it away.
    Set,
    /// Items are added (`-p`).
    Append,
    /// Items are taken out (`-m`).
    Remove,
}

#[derive(Default)]
pub(crate) struct Changes {
    /// Values: arguments of `imgbuild set`.
    pub set: Vec<String>,
    /// Fields that are taken out.
    unset: Vec<String>,
    /// What the recipe must be allowed to read besides.
    rules: Vec<String>,
    asked: Option<Asked>,
}

/// A definition that changes.
struct Asked {
    after: Definition,
    old: Mapping,
    new: Mapping,
    places: Places,
    /// Attributes with another value.
    named: BTreeSet<String>,
}

/// Attributes that say what an image is: a recipe has more to say of it than they can.
const FIXED: [(&str, &str); 5] = [
    ("osvers", "image.distro and image.release set it, and [[repo]] sets where packages come from: edit the recipe"),
    ("osarch", "another CPU has other packages, kernels and drivers: edit image.arch in the recipe"),
    ("provmethod", "only stateless images are built (netboot)"),
    ("imagetype", "only Linux images are built"),
    ("pkgdir", "the repositories of a recipe are its [[repo]]s, with keys and suites: edit the recipe"),
];

/// Attributes that name files and folders: what a change names has to be there.
const FILES: [&str; 8] =
    ["pkglist", "otherpkglist", "otherpkgdir", "exlist", "synclists", "postinstall", "driverupdatesrc", "kerneldir"];

fn items(value: &str) -> Vec<&str> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()
}

/// The value that an attribute gets.
/// Errors: After it was said why the attribute cannot be changed so.
fn value_of(
    shell: &Shell,
    image: &str,
    attribute: &str,
    (how, given): (How, &str),
    now: &str,
) -> Result<String, Ended> {
    let (has, given_items) = (items(now), items(given));
    let value = match how {
        How::Append => {
            let new = given_items.into_iter().filter(|item| !has.contains(item));
            has.iter().copied().chain(new).collect::<Vec<_>>().join(",")
        }
        How::Remove => {
            if let Some(item) = given_items.iter().find(|item| !has.contains(item)) {
                return Err(shell.fail(&format!("{item} is not in {attribute} of {image}, which is `{now}`")));
            }
            has.iter().copied().filter(|item| !given_items.contains(item)).collect::<Vec<_>>().join(",")
        }
        // Words for installed systems, which no recipe has, stay where none are given.
        How::Set if attribute == "addkcmdline" && !given.trim().is_empty() && !given.contains("R::") => {
            let installed = now.split_whitespace().filter(|word| word.starts_with("R::"));
            std::iter::once(given.trim()).chain(installed).collect::<Vec<_>>().join(" ")
        }
        How::Set => given.trim().to_owned(),
    };
    Ok(value)
}

fn known_attributes() -> Vec<&'static str> {
    let columns = OSIMAGE_COLUMNS.iter().chain(&LINUXIMAGE_COLUMNS);
    columns.filter(|one| !["imagename", "comments", "disable"].contains(one)).copied().chain(["usercomment"]).collect()
}

impl Changes {
    /// What changed attributes of an image mean.
    /// Errors: After it was said why an attribute cannot be changed so.
    pub(crate) fn of(shell: &Shell, image: &str, how: How, given: &[(String, String)]) -> Result<Self, Ended> {
        let recipe = shell.recipe(image)?;
        let workspace = Workspace::above(&recipe.directory).ok().flatten();
        let now = definition_of(&recipe, workspace.as_ref()).definition;
        let mut after = now.clone();
        let known = known_attributes();
        for (attribute, value) in given {
            if !known.contains(&attribute.as_str()) {
                let near = nearest(attribute, known.iter().copied());
                let near = near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
                return Err(shell.fail(&format!("an osimage has no attribute `{attribute}`{near}")));
            }
            let before = after.get(attribute).unwrap_or_default().to_owned();
            let value = value_of(shell, image, attribute, (how, value), &before)?;
            after.set(attribute, &value, None);
            if attribute == "environvar" {
                let is_pair = |item: &&str| item.split_once('=').is_some_and(|(name, _)| !name.trim().is_empty());
                if let Some(odd) = items(&value).iter().find(|item| !is_pair(item)) {
                    return Err(shell.fail(&format!("`{odd}` of environvar is not NAME=value")));
                }
            }
        }
        let named: BTreeSet<String> =
            given.iter().map(|(name, _)| name.clone()).filter(|name| now.get(name) != after.get(name)).collect();
        if named.is_empty() {
            return Ok(Self::default());
        }
        if let Some((attribute, reason)) = FIXED.iter().find(|(attribute, _)| named.contains(*attribute)) {
            let before = now.get(attribute).unwrap_or_default();
            return Err(shell.fail(&format!("{attribute} of {image} is `{before}` and is kept: {reason}")));
        }
        let current = shell.document(image);
        let mut places = places_of(&recipe, workspace.as_ref());
        for table in ["litefile", "litetree", "statelite"] {
            if !current["statelite"][table].is_null() {
                places.statelite.insert(table, vec![String::new()]);
            }
        }
        let mapped = |definition: &Definition| match map(definition, &places) {
            Mapped::Recipe(mapping) => Ok(*mapping),
            Mapped::Nothing(reason) => Err(shell.fail(&format!("the recipe of {image} was not changed: {reason}"))),
        };
        let (old, new) = (mapped(&now)?, mapped(&after)?);
        if old.repositories != new.repositories {
            return Err(shell.fail(&format!("otherpkgdir has an address: repositories of {image} are its [[repo]]s, with keys and suites: edit the recipe")));
        }
        let before = |remark: &Remark| old.remarks.iter().find(|one| one.attribute == remark.attribute);
        let is_new = |remark: &&Remark| {
            let is_said = matches!(remark.verdict, Verdict::Decide | Verdict::Differs) && !remark.reason.is_empty();
            named.contains(&remark.attribute) && is_said && before(remark).is_none_or(|one| one.reason != remark.reason)
        };
        for remark in new.remarks.iter().filter(is_new) {
            let (attribute, reason) = (&remark.attribute, &remark.reason);
            let is_missing = remark.verdict == Verdict::Decide && FILES.contains(&attribute.as_str());
            if is_missing && how != How::Remove {
                return Err(shell.fail(&format!("the recipe of {image} was not changed: {attribute}: {reason}")));
            }
            shell.say(&format!("{attribute}: {reason}"));
        }
        if named.contains("addkcmdline") && given.iter().any(|(_, value)| value.contains("R::")) {
            shell.say("R:: arguments of addkcmdline are for installed systems and are left out of the recipe");
        }
        let change = AttributeChange {
            current: &current,
            directory: &recipe.directory,
            old: &old,
            new: &new,
            named: &named,
            is_whole: how == How::Set,
        };
        let Edits { set, unset } = change.edits();
        let mut changes = Self { set, unset, ..Self::default() };
        let (was, is_now) = (reads(&old, &places), reads(&new, &places));
        let lists = is_now.lists.difference(&was.lists).map(|path| (path, true));
        let others =
            is_now.synced.union(&is_now.named).filter(|path| !was.synced.contains(*path) && !was.named.contains(*path));
        let paths = lists.chain(others.map(|path| (path, false)));
        let paths: Vec<(std::path::PathBuf, bool)> =
            paths.map(|(path, is_list)| (plain(&places.here(path)), is_list)).collect();
        changes.allow(shell, image, &paths);
        changes.asked = Some(Asked { after, old, new, places, named });
        Ok(changes)
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty() && self.asked.is_none()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        let asked = self.asked.iter();
        let kept = asked.flat_map(|asked| {
            let without = asked.named.iter().filter(|name| fields_of(name).is_empty());
            without.map(|name| (name, asked.after.get(name).unwrap_or_default()))
        });
        let kept = kept.map(|(name, value)| format!("{name}={value} (in the definition next to the recipe)"));
        let unset = self.unset.iter().map(|path| format!("--unset {path}"));
        self.set.iter().cloned().chain(unset).chain(kept).collect()
    }

    /// Changes the recipe, and the definition beside it.
    /// Errors: After it was said why not; the caller brings back what was changed.
    pub(crate) fn apply(&self, shell: &Shell, image: &str) -> Done {
        // The comments first: killed after that, the same command again still finds the values changed, and does the rest.
        if let Some(asked) = &self.asked {
            asked.bring_comments_up_to_date(shell, image)?;
        }
        fault::point("chdef.comments");
        let words = self.words();
        if !words.is_empty() {
            let words: Vec<&str> = ["set", image].into_iter().chain(words.iter().map(String::as_str)).collect();
            shell.run(&words)?;
        }
        fault::point("chdef.set");
        if let Some(asked) = &self.asked {
            asked.keep(shell, image)?;
        }
        fault::point("chdef.kept");
        Ok(())
    }

    /// What `imgbuild set` gets, with what the recipe must be allowed to read besides.
    pub(crate) fn words(&self) -> Vec<String> {
        let mut words = self.set.clone();
        words.extend(self.rules.iter().map(|rule| format!("workspace.allow+={rule}")));
        words.extend(self.unset.iter().flat_map(|path| ["--unset".to_owned(), path.clone()]));
        words
    }

    /// Adds rules for what no rule covers yet; of lists for the folder, because people add lists beside the ones that are there.
    pub(crate) fn allow(&mut self, shell: &Shell, image: &str, paths: &[(std::path::PathBuf, bool)]) {
        let known = shell.known();
        let workspace = known.as_ref().and_then(|known| known.workspace.as_deref());
        let mut rules: Vec<String> =
            workspace.map_or_else(Vec::new, |workspace| workspace.model.workspace.allow.clone());
        rules.extend(shell.value(image, "workspace.allow").lines().map(str::to_owned));
        let there = rules.len();
        for (path, is_list) in paths.iter().filter(|(path, _)| path.is_absolute() && path.exists()) {
            let is_covered = rules.iter().any(|rule| match rule.strip_suffix("/**") {
                Some(folder) => path.starts_with(folder),
                None => Path::new(rule) == path,
            });
            if is_covered || workspace.is_some_and(|workspace| path.starts_with(&workspace.root)) {
                continue;
            }
            // Of /etc one file is enough.
            let folder = path.parent().filter(|folder| *is_list && folder.components().count() > 2);
            rules.push(match folder {
                _ if path.is_dir() => format!("{}/**", path.display()),
                Some(folder) => format!("{}/**", folder.display()),
                None => path.display().to_string(),
            });
        }
        self.rules.extend(rules.split_off(there));
    }
}

impl Asked {
    /// Brings the comments of the import up to date.
    fn bring_comments_up_to_date(&self, shell: &Shell, image: &str) -> Done {
        let recipe = shell.recipe(image)?;
        let directory = recipe.directory.as_path();
        let failed = |error: &dyn std::fmt::Display| shell.fail(&error.to_string());
        let path = recipe_file(directory);
        let text = std::fs::read_to_string(&path).map_err(|error| failed(&error))?;
        let is_same = |name: &String| {
            let of = |mapping: &Mapping| mapping.remarks.iter().find(|one| one.attribute == *name).cloned();
            !self.named.contains(name) && of(&self.old) == of(&self.new)
        };
        // The comment at the top has the description.
        let description = self.old.remarks.iter().find(|one| one.attribute == "description");
        let with = |mut remarks: Vec<Remark>| {
            remarks.retain(|one| !is_same(&one.attribute) && one.attribute != "description");
            remarks.extend(description.cloned());
            Mapping { remarks, ..self.old.clone() }
        };
        let stanza = directory.join(STANZA_FILE);
        let record = imported(&stanza, image).ok().and_then(|(_, record)| record).unwrap_or_default();
        let mut new_text = text.clone();
        for old in [with(record.remarks), with(self.old.remarks.clone())] {
            new_text = brought_up_to_date(&new_text, &old, &self.new);
        }
        if new_text != text {
            write_whole(&path, new_text.as_bytes()).map_err(|error| failed(&error))?;
        }
        Ok(())
    }

    /// Keeps in the definition what the recipe does not give back.
    fn keep(&self, shell: &Shell, image: &str) -> Done {
        let recipe = shell.recipe(image)?;
        let directory = recipe.directory.as_path();
        let workspace = Workspace::above(directory).ok().flatten();
        let now = definition_of(&recipe, workspace.as_ref()).definition;
        let names = self.after.attributes.keys().chain(now.attributes.keys()).chain(&self.named);
        let lost: BTreeSet<String> =
            names.filter(|name| *name != "imagename" && now.get(name) != self.after.get(name)).cloned().collect();
        if lost.is_empty() {
            return Ok(());
        }
        keep_attributes(directory, &self.after, &self.new, &self.places, &lost)
            .map_err(|error| shell.fail(&error.to_string()))?;
        for name in lost {
            let value = self.after.get(&name).unwrap_or_default();
            shell.say(&format!("{name}={value} is in the definition next to the recipe (xcat.stanza)"));
        }
        Ok(())
    }
}

/// Ends a command whose flags say something else of an image than its recipe.
pub(crate) fn refuse_other(shell: &Shell, image: &str, attribute: &str, given: Option<&String>) -> Result<(), Ended> {
    let Some(given) = given else { return Ok(()) };
    let is = shell.attribute(image, attribute)?;
    if *given == is {
        return Ok(());
    }
    Err(shell.fail(&format!("{attribute} of {image} is {is}, not {given}: name another image, or edit the recipe")))
}
