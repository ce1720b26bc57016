//! Attributes that one command changes: the recipe's fields become what an import of the changed definition gives, and nothing else
//! does.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value as Json;

use crate::export::fields_of;
use crate::osimage::{Mapping, Value, by_field};
use recipe::plain;

/// Tables that are invalid without the fields that an import sets in them: they go whole.
const WHOLE: [&str; 3] = ["otherpkgs", "postinstall", "kdump"];

/// Arguments of `imgbuild set`: changes, and paths for `--unset`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    pub set: Vec<String>,
    pub unset: Vec<String>,
}

/// A recipe whose attributes change.
pub struct AttributeChange<'a> {
    /// What the recipe's files set now, as JSON: defaults are not among it.
    pub current: &'a Json,
    pub directory: &'a Path,
    /// The recipe's definition as an import maps it, before and after.
    pub old: &'a Mapping,
    pub new: &'a Mapping,
    /// The attributes that were named.
    pub named: &'a BTreeSet<String>,
    /// Whether lists are given whole; else items are added and taken out.
    pub is_whole: bool,
}

impl AttributeChange<'_> {
    pub fn edits(&self) -> Edits {
        let (before, after) = (by_field(self.old), by_field(self.new));
        let mut edits = Edits::default();
        let reserve = self.reserve();
        edits.set.extend(reserve.map(|size| format!("kdump.reserve={size}")));
        let gone: Vec<&str> = WHOLE.into_iter().filter(|table| self.is_gone(table)).collect();
        edits
            .unset
            .extend(gone.iter().filter(|table| !self.current[**table].is_null()).map(|table| (*table).to_owned()));
        let mut paths: BTreeSet<(String, String)> =
            before.values().chain(after.values()).map(|field| (field.table.clone(), field.key.clone())).collect();
        paths.extend(self.by_hand());
        for (table, key) in paths {
            if table == "image" || gone.contains(&table.as_str()) {
                continue;
            }
            let path = format!("{table}.{key}");
            if reserve.is_some() && path == "kdump.reserve" {
                continue;
            }
            let (was, is_now) = (before.get(&path).map(|one| &one.value), after.get(&path).map(|one| &one.value));
            let field = after.get(&path).or_else(|| before.get(&path));
            let is_named = field.is_none_or(|field| self.named.contains(&field.attribute));
            if was == is_now && !is_named {
                continue;
            }
            let shown = if is_bare(&key) { path.clone() } else { format!("{table}.{:?}", key) };
            let current = &self.current[&table][&key];
            let list = |value: Option<&Value>| match value {
                Some(Value::List(items)) => items.clone(),
                _ => Vec::new(),
            };
            match is_now.or(was) {
                Some(Value::List(_)) => {
                    // What a script reads is found in its text, and people add what the text does not show.
                    let is_whole = self.is_whole && is_named && path != "postinstall.inputs";
                    self.list(&shown, (&list(was), &list(is_now)), current, is_whole, &mut edits);
                }
                _ if is_now.is_none() && current.is_null() => {}
                _ => match is_now {
                    None => edits.unset.push(shown),
                    Some(Value::Text(text)) if current.as_str() != Some(text) => {
                        edits.set.push(format!("{shown}={}", quoted(text)));
                    }
                    Some(Value::Flag(flag)) if current.as_bool() != Some(*flag) => {
                        edits.set.push(format!("{shown}={flag}"));
                    }
                    Some(_) => {}
                },
            }
        }
        edits
    }

    /// Whether an import would no longer write a table.
    fn is_gone(&self, table: &str) -> bool {
        let has = |mapping: &Mapping| mapping.fields.iter().any(|field| field.table == table);
        has(self.old) && !has(self.new) && !fault::planted("chdef-leaves-table")
    }

    /// What a node with a place for dumps that xCAT does not know reserves: an import knows of no dumps there.
    fn reserve(&self) -> Option<&str> {
        let of_kdump = |mapping: &Mapping| mapping.fields.iter().any(|field| field.table == "kdump");
        let is_own = !self.current["kdump"]["to"].is_null() && !of_kdump(self.old) && !of_kdump(self.new);
        let remark = self.new.remarks.iter().find(|one| one.attribute == "crashkernelsize")?;
        (is_own && self.named.contains("crashkernelsize")).then_some(remark.value.as_str())
    }

    /// Fields of the named attributes that the recipe sets, by whatever hand.
    fn by_hand(&self) -> Vec<(String, String)> {
        let fields = self.named.iter().flat_map(|attribute| fields_of(attribute));
        let mut all = Vec::new();
        for field in fields {
            match field.split_once('.') {
                Some((table, key)) if !self.current[table][key].is_null() => {
                    all.push((table.to_owned(), key.to_owned()));
                }
                None if *field == "environment" => {
                    let keys = self.current[*field].as_object().into_iter().flatten().map(|(key, _)| key.clone());
                    all.extend(keys.map(|key| ((*field).to_owned(), key)));
                }
                _ => {}
            }
        }
        all
    }

    fn list(
        &self,
        path: &str,
        (was, wanted): (&[String], &[String]),
        current: &Json,
        is_whole: bool,
        edits: &mut Edits,
    ) {
        let items: Vec<&str> = current.as_array().into_iter().flatten().filter_map(Json::as_str).collect();
        // A recipe may name its own files from its directory; a definition has whole paths.
        let absolute: Vec<String> = items.iter().map(|item| self.absolute(item)).collect();
        let is = |item: &str, at: usize| items[at] == item || absolute[at] == item;
        let at_of = |item: &str| (0..items.len()).find(|at| is(item, *at));
        let (gone, new): (Vec<usize>, Vec<&String>) = match is_whole {
            true => (
                (0..items.len()).filter(|at| !wanted.iter().any(|item| is(item, *at))).collect(),
                wanted.iter().filter(|item| at_of(item).is_none()).collect(),
            ),
            false => (
                was.iter().filter(|item| !wanted.contains(item)).filter_map(|item| at_of(item)).collect(),
                wanted.iter().filter(|item| !was.contains(item) && at_of(item).is_none()).collect(),
            ),
        };
        let kept: Vec<usize> = (0..items.len()).filter(|at| !gone.contains(at)).collect();
        if kept.is_empty() && new.is_empty() {
            if !current.is_null() {
                edits.unset.push(path.to_owned());
            }
            return;
        }
        // Drivers are edits of the default list, or a whole one: never both.
        let is_edit = |item: &&str| item.starts_with(['+', '-']);
        let all: Vec<&str> = kept.iter().map(|at| items[*at]).chain(new.iter().map(|item| item.as_str())).collect();
        let is_mixed = path == "kernel.drivers" && all.iter().any(is_edit) && !all.iter().all(is_edit);
        let is_in_order = all.len() == wanted.len()
            && wanted.iter().zip(&all).all(|(item, now)| item == now || *item == self.absolute(now));
        if (is_whole && !is_in_order) || is_mixed || kept.is_empty() {
            let wanted: Vec<String> = wanted.iter().map(|item| toml::Value::from(item.as_str()).to_string()).collect();
            edits.set.push(format!("{path}=[{}]", wanted.join(", ")));
            return;
        }
        edits.set.extend(gone.iter().map(|at| format!("{path}-={}", quoted(items[*at]))));
        edits.set.extend(new.iter().map(|item| format!("{path}+={}", quoted(item))));
    }

    fn absolute(&self, item: &str) -> String {
        let (tag, path) = item.split_once(':').map_or(("", item), |(tag, path)| (&item[..=tag.len()], path));
        match path.starts_with('/') {
            true => item.to_owned(),
            false => format!("{tag}{}", plain(&self.directory.join(path)).display()),
        }
    }
}

fn is_bare(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
}

/// A value as `imgbuild set` takes it for what it is: quotes of its own would be taken for those of the file.
fn quoted(text: &str) -> String {
    match text.trim().starts_with(['"', '\'']) {
        true => toml::Value::from(text).to_string(),
        false => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::Places;
    use crate::osimage::{Mapped, map, recipe_text};
    use crate::workspace::brought_up_to_date;
    use recipe::{Change, Edit, Editable, FieldPath};
    use xcat::definitions::Definition;

    const FOLDER: &str = "/install/custom";

    /// Values of each attribute that can change, none first.
    const VALUES: [(&str, [&str; 4]); 17] = [
        ("pkglist", ["", "A.pkglist", "A.pkglist,B.pkglist", "B.pkglist"]),
        ("otherpkglist", ["", "O.pkglist", "O.pkglist,B.pkglist", "B.pkglist"]),
        ("otherpkgdir", ["", "other", "more", "other"]),
        ("exlist", ["", "A.exlist", "A.exlist,B.exlist", "B.exlist"]),
        ("synclists", ["", "A.synclist", "A.synclist,B.synclist", "B.synclist"]),
        ("postinstall", ["", "script", "script one two", "script a,other.sh b"]),
        ("netdrivers", ["", "ice", "ice,igb.ko", "mlx5_core"]),
        ("driverupdatesrc", ["", "dud:A.exlist", "B.exlist", "rpm:A.exlist,B.exlist"]),
        ("kernelver", ["", "6.1.0-9", "6.1.0-10", "6.1.0-11"]),
        ("kerneldir", ["", "other", "more", "other"]),
        ("addkcmdline", ["", "quiet", "quiet R::x console=ttyS0,115200", "mitigations=off"]),
        ("environvar", ["", "A=1", "A=2,B.C=3", "B=\"q\""]),
        ("dump", ["", "nfs://10.0.0.1/dumps", "nfs://10.0.0.2/x", "fadump:nfs://10.0.0.1/x"]),
        ("crashkernelsize", ["", "256M", "512M", "1G"]),
        ("profile", ["compute", "login", "gpu", "compute"]),
        ("rootimgdir", ["", "/install/a", "/install/b", "/install/c"]),
        ("usercomment", ["", "one", "two", "three"]),
    ];

    fn tree(root: &Path) -> Places {
        let write = |name: &str, text: &str| {
            let path = root.join("install/custom").join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        for name in ["A", "B", "O"] {
            write(&format!("{name}.pkglist"), "bash\n");
            write(&format!("{name}.exlist"), "./boot/*\n");
            write(&format!("{name}.synclist"), "/install/custom/script -> /opt/script\n");
        }
        // What is found for a profile that names no list.
        write("netboot/rocky/login.pkglist", "bash\n");
        write("script", "#!/bin/sh\ncat /install/custom/issue >$1/etc/issue\n");
        write("other.sh", "#!/bin/sh\ncat /install/custom/more/x\n");
        write("issue", "x\n");
        write("more/x", "x\n");
        write("other/x", "x\n");
        let mut places = Places::default();
        places.tree(root);
        places
    }

    fn mapped(definition: &Definition, places: &Places) -> Mapping {
        match map(definition, places) {
            Mapped::Recipe(mapping) => *mapping,
            Mapped::Nothing(reason) => panic!("{reason}"),
        }
    }

    fn set(definition: &mut Definition, attribute: &str, value: &str) {
        let is_path = ["list", "lists", "dir", "postinstall", "src"].iter().any(|end| attribute.ends_with(end));
        let whole = |item: &str| match item.split_once(':') {
            Some((tag, path)) => format!("{tag}:{FOLDER}/{path}"),
            None => format!("{FOLDER}/{item}"),
        };
        let is_whole = value.is_empty() || value.starts_with('/') || !is_path;
        let value = if is_whole { value.to_owned() } else { value.split(',').map(whole).collect::<Vec<_>>().join(",") };
        definition.set(attribute, &value, None);
    }

    fn table(text: &str) -> toml::Table {
        let mut table: toml::Table = text.parse().unwrap();
        table.retain(|_, value| value.as_table().is_none_or(|table| !table.is_empty()));
        table
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(60))]
        /// Whatever one or two attributes become, the fields are those of an import, and what a person wrote stays as it is.
        #[test]
        fn a_change_is_an_import_of_the_changed_definition(
            values in proptest::collection::vec(0_usize..4, 17),
            (first, second) in (0_usize..17, 0_usize..17),
            (to_first, to_second) in (0_usize..4, 0_usize..4),
            places_of_comments in proptest::collection::vec(0_usize..60, 3),
            is_whole: bool,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let places = tree(folder.path());
            let mut now = Definition::osimage("i");
            for (name, value) in [("osvers", "rocky9.4"), ("osarch", "ppc64le"), ("provmethod", "netboot"), ("pkgdir", "/install/custom")] {
                now.set(name, value, None);
            }
            for ((name, all), at) in VALUES.iter().zip(&values) {
                set(&mut now, name, all[*at]);
            }
            let mut after = now.clone();
            for (attribute, to) in [(first, to_first), (second, to_second)] {
                set(&mut after, VALUES[attribute].0, VALUES[attribute].1[to]);
            }
            let named: BTreeSet<String> = VALUES.iter().map(|(name, _)| (*name).to_owned()).filter(|name| now.get(name) != after.get(name)).collect();
            let (old, new) = (mapped(&now, &places), mapped(&after, &places));
            // A person's lines: comments between paragraphs, and tables of their own.
            let mut lines: Vec<String> = recipe_text(&old).lines().map(str::to_owned).collect();
            let blank: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].is_empty()).collect();
            let mut at: Vec<usize> = places_of_comments.iter().map(|one| blank[one % blank.len()]).collect();
            at.sort_unstable();
            for (number, at) in at.iter().enumerate().rev() {
                lines.splice(*at..*at, [String::new(), format!("# mine {number}")]);
            }
            let text = lines.join("\n") + "\n\n[services]\nenable = [\"munge\"]  # mine, too\n";
            let current = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
            let edits = AttributeChange { current: &current, directory: folder.path(), old: &old, new: &new, named: &named, is_whole }.edits();
            let mut file = Editable::read("image.toml", &text).unwrap();
            let unset = edits.unset.iter().map(|path| Edit { path: FieldPath::parse(path).unwrap(), change: Change::Unset });
            for edit in edits.set.iter().map(|one| Edit::parse(one).unwrap()).chain(unset) {
                file.apply(&[], &edit).map_err(|problem| proptest::test_runner::TestCaseError::fail(format!("{problem}: {edits:?}\n{text}")))?;
            }
            let edited = brought_up_to_date(&file.text(), &old, &new);
            let expected = table(&(recipe_text(&new) + "\n[services]\nenable = [\"munge\"]\n"));
            let sorted = |mut table: toml::Table| {
                // Items that are added go behind those that are there.
                for list in table.iter_mut().filter_map(|(_, value)| value.as_table_mut()).flat_map(|table| table.iter_mut()) {
                    if let toml::Value::Array(items) = list.1 && !is_whole {
                        items.sort_by_key(ToString::to_string);
                    }
                }
                table
            };
            proptest::prop_assert_eq!(sorted(table(&edited)), sorted(expected), "{:?}\n{}", edits, edited);
            let mine = |text: &str| text.lines().filter(|line| line.contains("mine") || line.starts_with("# Who may") || line.starts_with("# authorized")).map(str::to_owned).collect::<Vec<_>>();
            proptest::prop_assert_eq!(mine(&edited), mine(&text), "{}", edited);
            // No comment says what is no longer so.
            for line in edited.lines().filter(|line| line.starts_with("# xCAT: ")) {
                proptest::prop_assert!(recipe_text(&new).contains(line), "{}\n{}", line, edited);
            }
            if named.is_empty() {
                proptest::prop_assert_eq!(edited, text);
            }
        }
    }
}
