//! Turns causes into messages.

use super::cause::{Cause, Reason};
use crate::{ActionKind, InputKind, InputName, Origin, Place};

/// What became of an input since an earlier run.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    Added(&'a str),
    Removed(&'a str),
    /// It has another value: was, is.
    Changed(&'a str, &'a str),
}

#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Kind and name, as the key has them.
    pub name: &'a str,
    pub origin: &'a Origin,
    pub place: Option<&'a Place>,
    /// Where it stood at the time of the earlier run.
    pub was_place: Option<&'a Place>,
    pub lock: &'a str,
}

/// Whether a file of the recipe itself, and not a list, has this name.
pub(crate) fn is_recipe(file: &str) -> bool {
    let base = file.rsplit('/').next().unwrap_or(file);
    ["image.", "imgbuild."].iter().any(|start| base.starts_with(start)) && !base.ends_with(".lock")
}

/// A place in front of a sentence. Another recipe than the image's own gave it by `extends`.
pub(crate) fn here(place: &Place) -> String {
    let extends = if is_recipe(&place.file) && place.file.contains('/') { " extends:" } else { "" };
    format!("{}:{}{extends} ", place.file, place.line)
}

/// A cause at the place where something stands, or else in the file where it stood.
pub(crate) fn placed(reason: Reason, what: &str, place: Option<&Place>, was: Option<&Place>) -> Cause {
    let cause = reason.cause(None);
    match (place, was) {
        (Some(place), _) => Cause {
            message: format!("{}{what}", here(place)),
            file: Some(place.file.clone()),
            line: Some(place.line),
            ..cause
        },
        (None, Some(was)) => {
            let extends = if is_recipe(&was.file) && was.file.contains('/') { " extends:" } else { "" };
            Cause {
                message: format!("{}{extends} {what}", was.file),
                file: Some(was.file.clone()),
                was_line: Some(was.line),
                ..cause
            }
        }
        (None, None) => Cause { message: what.to_owned(), ..cause },
    }
}

/// Digests are cut for people.
pub(crate) fn shown(value: &str) -> String {
    let is_digest = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = value.split(' ').map(|word| if is_digest(word) { &word[..12] } else { word });
    words.collect::<Vec<_>>().join(" ")
}

/// A package's name without its architecture.
fn package_name(bare: &str) -> &str {
    bare.split(':').next().unwrap_or(bare)
}

/// An item as a person wrote it.
fn item(name: InputName<'_>) -> std::borrow::Cow<'_, str> {
    let bare = name.bare;
    match name.kind {
        InputKind::Package => package_name(bare).into(),
        InputKind::Remove => format!("-{bare}").into(),
        InputKind::RemoveAfter => format!("--{bare}").into(),
        InputKind::Failing => bare.trim_start_matches("script of ").into(),
        InputKind::Dracut => bare.trim_start_matches("module ").into(),
        _ => bare.into(),
    }
}

impl Subject<'_> {
    /// Says what changed, typed, in words, and with its place.
    pub fn cause(&self, change: Change<'_>) -> Cause {
        let name = InputName::of(self.name);
        match (name.kind, change) {
            (InputKind::Action, Change::Changed(was, now)) => return self.implementation(was, now),
            (InputKind::File, Change::Changed(was, now)) => return self.file(name.bare, was, now),
            (InputKind::Package, Change::Changed(was, now)) => return self.package(name.bare, was, now),
            _ => {}
        }
        match self.origin {
            Origin::Field(field) => self.of_field(field, name, change),
            Origin::Item(list) => self.of_item(list, &item(name), change),
            Origin::Glob { pattern, field } => self.of_glob(field, pattern, name.bare, change),
            Origin::Line => self.of_line(name.kind, &item(name), change),
            Origin::Imgbuild(noun) => self.of_imgbuild(noun, change),
            Origin::Roots(_) => {
                let reason = Reason::Implementation { what: "tools roots".to_owned(), was: None, now: None };
                self.bare(reason, "imgbuild builds its tools roots differently".to_owned())
            }
            Origin::Lock => self.of_lock(name, change),
            Origin::Asked { option, what } => Reason::Asked { option: option.clone(), what: what.clone() }.cause(None),
            // An earlier run does not record where this was: its kind says what it is.
            Origin::Unknown => self.of_kind(name, change),
        }
    }

    fn bare(&self, reason: Reason, message: String) -> Cause {
        Cause { message, file: None, line: None, was_line: None, asked_at: None, is_of_lock: false, reason }
    }

    fn placed(&self, reason: Reason, what: String) -> Cause {
        placed(reason, &what, self.place, self.was_place)
    }

    /// A cause that someone made in another file than the one that asks for it.
    fn elsewhere(&self, file: &str, reason: Reason, message: String) -> Cause {
        let asked_at = self.place.cloned();
        Cause { message, file: Some(file.to_owned()), line: None, was_line: None, asked_at, is_of_lock: false, reason }
    }

    /// A change that the lock alone says.
    fn in_lock(&self, reason: Reason, message: String) -> Cause {
        Cause { is_of_lock: true, ..self.elsewhere(self.lock, reason, message) }
    }

    fn reason(what: impl Into<String>, change: Change<'_>) -> Reason {
        let what = what.into();
        match change {
            Change::Added(now) => Reason::Added { what, now: now.to_owned() },
            Change::Removed(was) => Reason::Removed { what, was: was.to_owned() },
            Change::Changed(was, now) => Reason::Changed { what, was: was.to_owned(), now: now.to_owned() },
        }
    }

    fn implementation(&self, was: &str, now: &str) -> Cause {
        let split = |text: &str| -> (String, String) {
            let (kind, version) = text.split_once(" version ").unwrap_or((text, ""));
            let maker = ActionKind::named(kind).map_or_else(|| kind.to_owned(), |kind| kind.maker().to_owned());
            (maker, version.to_owned())
        };
        let ((old_maker, old), (maker, new)) = (split(was), split(now));
        let message = if old_maker == maker {
            format!("imgbuild's {maker} {old} -> {new}")
        } else {
            format!("imgbuild's {maker} {new} instead of its {old_maker} {old}")
        };
        self.bare(Reason::Implementation { what: maker, was: Some(old), now: Some(new) }, message)
    }

    /// A file by its path from the recipe: those of a script's `inputs` have theirs from the file that names them.
    fn path_of(&self, name: &str) -> String {
        let field = match self.origin {
            Origin::Glob { field, .. } | Origin::Item(field) => field.as_str(),
            _ => "",
        };
        let folder = self.place.and_then(|place| place.file.rsplit_once('/')).map(|(folder, _)| folder);
        match folder {
            Some(folder) if field == "postinstall.inputs" => format!("{folder}/{name}"),
            _ => name.to_owned(),
        }
    }

    fn file(&self, name: &str, was: &str, now: &str) -> Cause {
        let name = &self.path_of(name);
        let (old_mode, old_digest) = was.split_once(' ').unwrap_or((was, ""));
        let (new_mode, new_digest) = now.split_once(' ').unwrap_or((now, ""));
        let mut parts = Vec::new();
        if old_digest != new_digest {
            parts.push("content changed".to_owned());
        }
        if old_mode != new_mode {
            parts.push(format!("mode {old_mode} -> {new_mode}"));
        }
        let reason = Self::reason(format!("file {name}"), Change::Changed(was, now));
        self.elsewhere(name, reason, format!("{name} {}", parts.join(", ")))
    }

    fn package(&self, bare: &str, was: &str, now: &str) -> Cause {
        let name = package_name(bare);
        let plain = |text: &str| text.strip_suffix(" automatic").unwrap_or(text).to_owned();
        let reason = Self::reason(format!("package {name}"), Change::Changed(was, now));
        if plain(was) == plain(now) {
            return match (now.ends_with(" automatic"), self.place) {
                // It was there, because another package needs it.
                (false, Some(_)) => match self.origin {
                    Origin::Item(list) => self.placed(reason, format!("{list} += \"{name}\"")),
                    _ => self.placed(reason, format!("added \"{name}\"")),
                },
                (false, None) => self.in_lock(reason, format!("{name} is now requested explicitly ({})", self.lock)),
                (true, _) => match self.was_place {
                    Some(_) if self.place.is_none() => {
                        self.placed(reason, format!("removed \"{name}\"; other packages still need it"))
                    }
                    _ => self.in_lock(reason, format!("{name} is now only a dependency ({})", self.lock)),
                },
            };
        }
        let version = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
        let (old, new) = (version(was), version(now));
        let message = if old == new {
            format!("{name} {new} has different content ({})", self.lock)
        } else {
            format!("{name} {old} -> {new} ({})", self.lock)
        };
        self.in_lock(reason, message)
    }

    fn of_field(&self, field: &str, name: InputName<'_>, change: Change<'_>) -> Cause {
        let InputName { kind, bare, .. } = name;
        let value = |text: &str| -> String {
            // Files, users and packages have values that are no words of the recipe.
            match kind {
                InputKind::File => format!("\"{bare}\""),
                _ => shown(text),
            }
        };
        let (field, change) = match (field, change) {
            // One input, three fields.
            ("image.release", Change::Changed(was, now)) if was.contains(' ') => {
                let mut words =
                    ["image.distro", "image.release", "image.arch"].iter().zip(was.split(' ').zip(now.split(' ')));
                let differing = words.find(|(_, (was, now))| was != now);
                differing.map_or((field, change), |(field, (was, now))| (*field, Change::Changed(was, now)))
            }
            // xCAT's name of a release has the distribution in front.
            ("image.release", Change::Changed(was, now)) => {
                let bare = |text: &'_ str| text.find('-').map_or(0, |at| at + 1);
                (field, Change::Changed(&was[bare(was)..], &now[bare(now)..]))
            }
            _ => (field, change),
        };
        if let (InputKind::User | InputKind::Group, Some(rest)) = (kind, field.strip_prefix("users.")) {
            return self.of_user(rest, kind, change);
        }
        let text = match change {
            // Only one base brings packages of its own; one of their names is the solver's word for a whole set.
            Change::Added(_) if kind == InputKind::Package && field == "packages.base" => {
                format!("{field} essential -> minbase")
            }
            Change::Removed(_) if kind == InputKind::Package && field == "packages.base" => {
                format!("{field} minbase -> essential")
            }
            Change::Added(_) if kind == InputKind::Package => format!("{field} needs \"{}\"", package_name(bare)),
            Change::Removed(_) if kind == InputKind::Package => {
                format!("{field} no longer needs \"{}\"", package_name(bare))
            }
            // What a field brings with it has no value that anybody wrote.
            Change::Added(_) if kind == InputKind::Driver => format!("{field} needs the driver \"{bare}\""),
            Change::Removed(_) if kind == InputKind::Driver => format!("{field} no longer needs the driver \"{bare}\""),
            Change::Added(now) => format!("{field} = {}", value(now)),
            Change::Removed(was) => format!("{field} = {} removed", value(was)),
            // It decides on several things.
            Change::Changed(was, now) if field == "pack.profile" => {
                format!("{field}: {bare} {} -> {}", shown(was), shown(now))
            }
            Change::Changed(was, now) => format!("{field} {} -> {}", shown(was), shown(now)),
        };
        self.placed(Self::reason(field, change), text)
    }

    /// A user of the recipe, in the words of its table: the uid, and the gid where that is another.
    fn of_user(&self, name: &str, kind: InputKind, change: Change<'_>) -> Cause {
        if kind == InputKind::Group {
            let field = format!("users.{name}.gid");
            let text = match change {
                Change::Added(now) => format!("{field} = {now}"),
                Change::Removed(was) => format!("{field} = {was} removed"),
                Change::Changed(was, now) => format!("{field} {was} -> {now}"),
            };
            return self.placed(Self::reason(field, change), text);
        }
        // As accounts are written into the key: uid, gid, what no one sets, home, shell.
        let words = |text: &str| -> Vec<String> { text.split(':').map(str::to_owned).collect() };
        let part = |all: &[String], at: usize| all.get(at).cloned().unwrap_or_default();
        let (was, now) = match change {
            Change::Added(now) => (String::new(), now.to_owned()),
            Change::Removed(was) => (was.to_owned(), String::new()),
            Change::Changed(was, now) => (was.to_owned(), now.to_owned()),
        };
        let (was, now) = (words(&was), words(&now));
        let fields = [(0, "uid"), (1, "gid"), (3, "home"), (4, "shell")];
        let (at, what) = fields.into_iter().find(|(at, _)| part(&was, *at) != part(&now, *at)).unwrap_or(fields[0]);
        let (was, now) = (part(&was, at), part(&now, at));
        let (change_of_part, change_text) = match change {
            Change::Added(_) => (Change::Added(&now), format!("= {now}")),
            Change::Removed(_) => (Change::Removed(&was), format!("= {was} removed")),
            Change::Changed(..) => (Change::Changed(&was, &now), format!("{was} -> {now}")),
        };
        let field = format!("users.{name}.{what}");
        self.placed(Self::reason(field.as_str(), change_of_part), format!("{field} {change_text}"))
    }

    fn of_item(&self, list: &str, item: &str, change: Change<'_>) -> Cause {
        let text = match change {
            Change::Added(_) => format!("{list} += \"{item}\""),
            Change::Removed(_) => format!("{list} -= \"{item}\""),
            Change::Changed(was, now) => format!("{list} \"{item}\": {} -> {}", shown(was), shown(now)),
        };
        self.placed(Self::reason(format!("{list} {item}"), change), text)
    }

    fn of_glob(&self, field: &str, pattern: &str, file: &str, change: Change<'_>) -> Cause {
        let (pattern, path, field) = (pattern.to_owned(), file.to_owned(), field.to_owned());
        match change {
            Change::Added(_) => {
                let text = format!("{pattern} gained {path}");
                self.placed(Reason::Gained { field, pattern, path }, text)
            }
            // The pattern itself is gone: from the recipe, or a line of a synclist.
            Change::Removed(_) if self.place.is_none() => match field.as_str() {
                "sync.lists" => self.of_line(InputKind::Other, &pattern, change),
                _ => self.of_item(&field, &pattern, change),
            },
            Change::Removed(_) => {
                let text = format!("{pattern} lost {path}");
                self.placed(Reason::Lost { field, pattern, path }, text)
            }
            Change::Changed(was, now) => {
                let text = format!("{path} {} -> {}", shown(was), shown(now));
                self.placed(Self::reason(path, change), text)
            }
        }
    }

    fn of_line(&self, kind: InputKind, item: &str, change: Change<'_>) -> Cause {
        let text = match change {
            Change::Added(_) => format!("added \"{item}\""),
            Change::Removed(_) => format!("removed \"{item}\""),
            Change::Changed(was, now) => format!("\"{item}\" {} -> {}", shown(was), shown(now)),
        };
        self.placed(Self::reason(if kind == InputKind::File { self.name } else { item }, change), text)
    }

    fn of_imgbuild(&self, noun: &str, change: Change<'_>) -> Cause {
        let (was, now) = match change {
            Change::Added(now) => (None, Some(now)),
            Change::Removed(was) => (Some(was), None),
            Change::Changed(was, now) => (Some(was), Some(now)),
        };
        let text = match (was, now) {
            (Some(was), Some(now)) => format!("imgbuild's {noun} {} -> {}", shown(was), shown(now)),
            (None, Some(now)) => format!("imgbuild's {noun} {} is new here", shown(now)),
            _ => format!("imgbuild's {noun} is no longer used"),
        };
        let own = |text: Option<&str>| text.map(str::to_owned);
        self.bare(Reason::Implementation { what: noun.to_owned(), was: own(was), now: own(now) }, text)
    }

    fn of_lock(&self, name: InputName<'_>, change: Change<'_>) -> Cause {
        let bare = name.bare;
        let (what, cut): (String, fn(&str) -> String) = match name.kind {
            InputKind::Package => {
                (package_name(bare).to_owned(), |text| text.split(' ').next().unwrap_or_default().to_owned())
            }
            InputKind::Parameter => (bare.to_owned(), shown),
            InputKind::Module => (format!("module stream {bare}"), |_| String::new()),
            InputKind::Container => {
                (format!("container image's {bare}"), |text| text.split(' ').next().map(shown).unwrap_or_default())
            }
            InputKind::RemoveWith | InputKind::Conflicting | InputKind::Replaced => {
                (format!("removal of {bare}"), |_| String::new())
            }
            _ => (name.to_string(), shown),
        };
        let lock = self.lock;
        let text = match change {
            Change::Added(now) => format!("{what} {} added ({lock})", cut(now)),
            Change::Removed(was) => format!("{what} {} removed ({lock})", cut(was)),
            Change::Changed(was, now) => format!("{what} {} -> {} ({lock})", cut(was), cut(now)),
        };
        self.in_lock(Self::reason(what, change), text.replace("  ", " "))
    }

    /// Something that is gone, and no one remembers where it stood.
    fn of_kind(&self, name: InputName<'_>, change: Change<'_>) -> Cause {
        let InputName { kind, word, bare } = name;
        let origin = match kind {
            InputKind::Package
            | InputKind::Epoch
            | InputKind::Module
            | InputKind::RemoveWith
            | InputKind::Conflicting
            | InputKind::Replaced
            | InputKind::Container => Origin::Lock,
            InputKind::Driver => Origin::Item("kernel.drivers".to_owned()),
            InputKind::Enable | InputKind::Disable | InputKind::Mask => Origin::Item(format!("services.{word}")),
            InputKind::Fstab | InputKind::Exports => Origin::Item(format!("system.{word}")),
            InputKind::User | InputKind::Group => Origin::Field(format!("{word}s.{bare}")),
            InputKind::Update => Origin::Item("kernel.updates".to_owned()),
            InputKind::Failing => Origin::Item("packages.failing_scripts".to_owned()),
            InputKind::Dracut => Origin::Item("initrd.dracut_modules".to_owned()),
            InputKind::Tools => Origin::Imgbuild(bare.to_owned()),
            InputKind::Parameter => match bare.split_once(' ') {
                Some(("environment", name)) => Origin::Field(format!("environment.{name}")),
                Some(("tmpfs", path)) => Origin::Field(format!("boot.tmpfs.{path}")),
                Some(("argument", _)) => Origin::Field("postinstall.arguments".to_owned()),
                Some(("make", _)) => Origin::Field("kernel.build.make".to_owned()),
                _ => Origin::Field(bare.to_owned()),
            },
            _ => Origin::Line,
        };
        Subject { origin: &origin, ..*self }.cause(change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::causes::explain::differences;
    use crate::symbolic::Symbolic;
    use crate::{Action, Input, Stage};

    fn messages(inputs: &[Input], was: &[(&str, &str)]) -> Vec<String> {
        let action = Action {
            id: "rootfs/packages-1".to_owned(),
            stage: Stage::Rootfs,
            kind: ActionKind::Install,
            version: 1,
            inputs: inputs.to_vec(),
            upstream: Vec::new(),
            needs: Vec::new(),
        };
        let now: Vec<(String, String)> = inputs.iter().map(|one| (one.name.clone(), one.value.clone())).collect();
        let was: Vec<(String, String)> = was.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        let found = differences(&action, &now, &was, &Symbolic::default(), &crate::Removals::default());
        let words = found.into_iter().map(|one| match one {
            crate::causes::explain::Difference::Own(cause) => cause.message,
            other => format!("{other:?}"),
        });
        words.collect()
    }

    fn of_field(name: &str, value: &str, field: &str) -> Input {
        let place = Some(Place { file: "image.toml".to_owned(), line: 4 });
        Input { place, ..Input::new(name, value).of(Origin::Field(field.to_owned())) }
    }

    #[test]
    fn a_user_is_said_once_and_in_the_words_of_its_table() {
        let user = |value: &str| of_field("user munge", value, "users.munge");
        let group = |value: &str| of_field("group munge", value, "users.munge");
        let now = [user("104:104::/nonexistent:/usr/sbin/nologin"), group("104")];
        assert_eq!(messages(&now, &[]), ["image.toml:4 users.munge.uid = 104"]);
        let was = [("user munge", "103:103::/nonexistent:/usr/sbin/nologin"), ("group munge", "103")];
        assert_eq!(messages(&now, &was), ["image.toml:4 users.munge.uid 103 -> 104"]);
        let was = [("user munge", "104:105::/nonexistent:/usr/sbin/nologin"), ("group munge", "105")];
        assert_eq!(messages(&now, &was), ["image.toml:4 users.munge.gid 105 -> 104"]);
        let was = [("user munge", "104:104::/nonexistent:/bin/sh"), ("group munge", "104")];
        assert_eq!(messages(&now, &was), ["image.toml:4 users.munge.shell /bin/sh -> /usr/sbin/nologin"]);
    }

    #[test]
    fn a_profile_is_said_with_what_it_decided_on() {
        let now = of_field("parameter level", "19", "pack.profile");
        let messages = messages(&[now], &[("parameter level", "3")]);
        assert_eq!(messages, ["image.toml:4 pack.profile: level 3 -> 19"]);
    }

    #[test]
    fn another_base_is_said_and_not_what_the_solver_calls_it() {
        let asked = ["package ~prequired", "package apt:amd64"].map(|name| of_field(name, "", "packages.base"));
        assert_eq!(messages(&asked, &[]), ["image.toml:4 packages.base essential -> minbase"]);
    }
}
