//! Attributes of an osimage as changes of a recipe: what chdef says, and genimage's flags.

use super::shell::Shell;
use super::{Done, Ended};
use crate::recipe::Workspace;
use crate::site::export::{definition_of, places_of};
use crate::site::workspace::keep_attributes;
use crate::source::nearest;
use crate::xcat::definitions::{LINUXIMAGE_COLUMNS, OSIMAGE_COLUMNS, is_plain_path};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It becomes the value; an empty one takes it away.
    Set,
    /// Items are added (`-p`).
    Append,
    /// Items are taken out (`-m`).
    Remove,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Values: arguments of `imgbuild set`.
    pub set: Vec<String>,
    /// Fields that are taken out.
    unset: Vec<String>,
    /// Attributes that the recipe has no field for: they stay in the definition beside it.
    kept: Vec<(String, String)>,
    /// Files and folders that the recipe reads from now on.
    paths: Vec<String>,
}

/// Attributes that are a list of files, and their fields.
const LISTS: [(&str, &str); 4] = [
    ("pkglist", "packages.lists"),
    ("otherpkglist", "otherpkgs.lists"),
    ("exlist", "exclude.lists"),
    ("synclists", "sync.lists"),
];

/// Attributes that say what an image is: a recipe has more to say of it than they can.
const FIXED: [(&str, &str); 5] = [
    ("osvers", "image.distro and image.release set it, and [[repo]] sets where packages come from: edit the recipe"),
    ("osarch", "another CPU has other packages, kernels and drivers: edit image.arch in the recipe"),
    ("provmethod", "only stateless images are built (netboot)"),
    ("imagetype", "only Linux images are built"),
    ("pkgdir", "the repositories of a recipe are its [[repo]]s, with keys and suites: edit the recipe"),
];

fn items(value: &str) -> Vec<String> {
    value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

fn list(path: &str, items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| toml::Value::from(item.as_str()).to_string()).collect();
    format!("{path}=[{}]", items.join(", "))
}

impl Changes {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.unset.is_empty() && self.kept.is_empty()
    }

    pub fn lines(&self) -> Vec<String> {
        let kept =
            self.kept.iter().map(|(name, value)| format!("{name}={value} (in the definition next to the recipe)"));
        let unset = self.unset.iter().map(|path| format!("--unset {path}"));
        self.set.iter().cloned().chain(unset).chain(kept).collect()
    }

    /// Adds what a changed attribute of an image means.
    /// Errors: After it was said why the attribute cannot be changed so.
    pub fn add(&mut self, shell: &Shell, image: &str, attribute: &str, how: How, value: &str) -> Done {
        let known = OSIMAGE_COLUMNS
            .iter()
            .chain(&LINUXIMAGE_COLUMNS)
            .filter(|one| !["imagename", "comments", "disable"].contains(one));
        let known: Vec<&str> = known.copied().chain(["usercomment"]).collect();
        if !known.contains(&attribute) {
            let near = nearest(attribute, known.iter().copied());
            let near = near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
            return Err(shell.fail(&format!("an osimage has no attribute `{attribute}`{near}")));
        }
        let before = shell.attribute(image, attribute)?;
        let mut all = items(&before);
        match how {
            How::Set => all = items(value),
            How::Append => all.extend(items(value).into_iter().filter(|item| !all.contains(item)).collect::<Vec<_>>()),
            How::Remove => all.retain(|item| !items(value).contains(item)),
        }
        let text = if how == How::Set { value.trim().to_owned() } else { all.join(",") };
        if text == before {
            return Ok(());
        }
        if let Some((_, reason)) = FIXED.iter().find(|(name, _)| *name == attribute) {
            return Err(shell.fail(&format!("{attribute} of {image} is `{before}` and is kept: {reason}")));
        }
        if let Some((_, field)) = LISTS.iter().find(|(name, _)| *name == attribute) {
            self.paths.extend(all.iter().cloned());
            return self.list(shell, image, field, (how, &items(value)), &all);
        }
        match attribute {
            "netdrivers" => {
                let is_added = !["ubuntu", "debian"].iter().any(|one| shell.attribute(image, "osvers").is_ok_and(|osvers| osvers.starts_with(one)));
                let named = |names: &[String]| -> Vec<String> {
                    let is_edit = names.iter().any(|name| name.starts_with(['+', '-']));
                    // As genimage: Ubuntu's replaces the default drivers, the others' put these in front.
                    let sign = if is_added && !is_edit { "+" } else { "" };
                    names.iter().map(|name| format!("{sign}{}", name.trim_end_matches(".ko"))).collect()
                };
                self.list(shell, image, "kernel.drivers", (how, &named(&items(value))), &named(&all))
            }
            "driverupdatesrc" => {
                self.paths.extend(all.iter().map(|item| item.split_once(':').map_or(item.as_str(), |(_, path)| path).to_owned()));
                self.list(shell, image, "kernel.updates", (how, &items(value)), &all)
            }
            "kernelver" => self.text(shell, image, "kernel.version", &text),
            "kerneldir" => {
                self.paths.push(text.clone());
                self.text(shell, image, "kernel.dir", &text)
            }
            "otherpkgdir" if text.contains("://") => Err(shell.fail(&format!("otherpkgdir has an address: repositories of {image} are its [[repo]]s, with keys and suites: edit the recipe"))),
            "otherpkgdir" => {
                self.paths.push(text.clone());
                self.text(shell, image, "otherpkgs.dir", &text)
            }
            "profile" => self.text(shell, image, "xcat.profile", &text),
            "addkcmdline" => {
                let words: Vec<String> = text.split_whitespace().filter(|word| !word.starts_with("R::")).map(str::to_owned).collect();
                if text.split_whitespace().any(|word| word.starts_with("R::")) {
                    shell.say("R:: arguments of addkcmdline are for installed systems and are left out of the recipe");
                }
                self.list(shell, image, "boot.cmdline", (How::Set, &words), &words)
            }
            // A value of another kind says something to xCAT alone.
            "dump" if text.is_empty() => {
                self.take_out(shell, image, "kdump");
                Ok(())
            }
            "dump" if text.starts_with("nfs://") => self.text(shell, image, "kdump.to", &text),
            "crashkernelsize" if !text.is_empty() && shell.is_set(image, "kdump.to") => {
                self.text(shell, image, "kdump.reserve", &text)
            }
            "environvar" => self.environment(shell, image, &before, &all),
            "postinstall" => self.scripts(shell, image, &all),
            "rootimgdir" if !is_plain_path(text.trim_end_matches('/')) => {
                Err(shell.fail(&format!("rootimgdir `{text}` has to be an absolute path without `..`")))
            }
            _ => {
                self.kept.push((attribute.to_owned(), text));
                Ok(())
            }
        }
    }

    fn list(
        &mut self,
        shell: &Shell,
        image: &str,
        field: &str,
        (how, changed): (How, &[String]),
        all: &[String],
    ) -> Done {
        match how {
            How::Append => self.set.extend(changed.iter().map(|item| format!("{field}+={item}"))),
            How::Remove => self.set.extend(changed.iter().map(|item| format!("{field}-={item}"))),
            How::Set if all.is_empty() => self.take_out(shell, image, field),
            How::Set => self.set.push(list(field, all)),
        }
        Ok(())
    }

    fn text(&mut self, shell: &Shell, image: &str, field: &str, text: &str) -> Done {
        match text.is_empty() {
            true => self.take_out(shell, image, field),
            false => self.set.push(format!("{field}={text}")),
        }
        Ok(())
    }

    fn take_out(&mut self, shell: &Shell, image: &str, field: &str) {
        if shell.is_set(image, field) {
            self.unset.push(field.to_owned());
        }
    }

    fn environment(&mut self, shell: &Shell, image: &str, before: &str, all: &[String]) -> Done {
        let name = |item: &str| item.split('=').next().unwrap_or_default().trim().to_owned();
        let names: Vec<String> = all.iter().map(|item| name(item)).collect();
        for old in items(before).iter().map(|item| name(item)).filter(|old| !names.contains(old)) {
            self.take_out(shell, image, &format!("environment.{old}"));
        }
        for item in all {
            let Some((name, value)) = item.split_once('=') else {
                return Err(shell.fail(&format!("`{item}` of environvar is not NAME=value")));
            };
            self.set.push(format!("environment.{}={}", name.trim(), value.trim()));
        }
        Ok(())
    }

    /// One script has a field of its own, several are a list.
    fn scripts(&mut self, shell: &Shell, image: &str, all: &[String]) -> Done {
        let words: Vec<Vec<String>> =
            all.iter().map(|item| item.split_whitespace().map(str::to_owned).collect()).collect();
        self.paths.extend(words.iter().filter_map(|words| words.first().cloned()));
        let of_one = ["postinstall.script", "postinstall.arguments"];
        match words.as_slice() {
            [] => self.take_out(shell, image, "postinstall"),
            [one] => {
                self.take_out(shell, image, "postinstall.scripts");
                self.set.push(format!("postinstall.script={}", one[0]));
                match one.len() {
                    1 => self.take_out(shell, image, "postinstall.arguments"),
                    _ => self.set.push(list("postinstall.arguments", &one[1..])),
                }
            }
            _ => {
                of_one.iter().for_each(|field| self.take_out(shell, image, field));
                self.set.push(list("postinstall.scripts", all));
            }
        }
        Ok(())
    }

    /// Changes the recipe, and the definition beside it.
    /// Errors: After it was said why not; the caller brings back what was changed.
    pub fn apply(&self, shell: &Shell, image: &str) -> Done {
        let words = self.words(shell, image);
        if !words.is_empty() {
            let words: Vec<&str> = ["set", image].into_iter().chain(words.iter().map(String::as_str)).collect();
            shell.run(&words)?;
        }
        self.keep(shell, image)
    }

    /// What `imgbuild set` gets, with what the recipe must be allowed to read besides.
    pub fn words(&self, shell: &Shell, image: &str) -> Vec<String> {
        let mut words = self.set.clone();
        words.extend(self.rules(shell, image).into_iter().map(|rule| format!("workspace.allow+={rule}")));
        words.extend(self.unset.iter().flat_map(|path| ["--unset".to_owned(), path.clone()]));
        words
    }

    /// What no rule covers yet.
    fn rules(&self, shell: &Shell, image: &str) -> Vec<String> {
        let known = shell.known();
        let workspace = known.as_ref().and_then(|known| known.workspace.as_deref());
        let is_below = |path: &str, folder: &str| {
            path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let mut rules: Vec<String> =
            workspace.map_or_else(Vec::new, |workspace| workspace.model.workspace.allow.clone());
        rules.extend(shell.value(image, "workspace.allow").lines().map(str::to_owned));
        let there = rules.len();
        for path in self.paths.iter().map(|path| path.trim_end_matches('/')).filter(|path| path.starts_with('/')) {
            let root = workspace.map(|workspace| workspace.root.display().to_string());
            let is_mapped = workspace
                .is_some_and(|workspace| workspace.model.xcat.path_map.keys().any(|from| is_below(path, from)));
            let is_covered = rules.iter().any(|rule| match rule.strip_suffix("/**") {
                Some(folder) => is_below(path, folder),
                None => rule == path,
            });
            let real = std::path::Path::new(path);
            if is_mapped || is_covered || root.is_some_and(|root| is_below(path, &root)) || !real.exists() {
                continue;
            }
            // People add lists beside the ones that are there; of /etc one file is enough.
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            rules.push(match real.is_dir() {
                true => format!("{path}/**"),
                false if folder.matches('/').count() > 1 => format!("{folder}/**"),
                false => path.to_owned(),
            });
        }
        rules.split_off(there)
    }

    fn keep(&self, shell: &Shell, image: &str) -> Done {
        if self.kept.is_empty() {
            return Ok(());
        }
        let recipe = shell.recipe(image)?;
        let workspace = Workspace::above(&recipe.directory).ok().flatten();
        let places = places_of(&recipe, workspace.as_ref());
        let now = definition_of(&recipe, workspace.as_ref()).definition;
        let kept = keep_attributes(&recipe.directory, &now, &places, &self.kept);
        kept.map_err(|error| shell.fail(&error.to_string()))?;
        for (name, value) in &self.kept {
            shell.say(&format!("{name}={value} is in the definition next to the recipe (xcat.stanza)"));
        }
        Ok(())
    }
}

/// Ends a command whose flags say something else of an image than its recipe.
pub fn refuse_other(shell: &Shell, image: &str, attribute: &str, given: Option<&String>) -> Result<(), Ended> {
    let Some(given) = given else { return Ok(()) };
    let is = shell.attribute(image, attribute)?;
    if *given == is {
        return Ok(());
    }
    Err(shell.fail(&format!("{attribute} of {image} is {is}, not {given}: name another image, or edit the recipe")))
}
