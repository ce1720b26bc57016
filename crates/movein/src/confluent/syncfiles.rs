//! syncfiles, as synclists. Source: `syncfiles.py` of Confluent.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

use crate::input::roots::{Roots, inside};
use crate::input::secrets;
use crate::plan::{Content, Key, Plan};

/// Most files that one includes.
const FILE_LIMIT: usize = 100;

/// Takes a file with those that it includes: the files that were read.
pub(super) fn take(plan: &mut Plan, roots: &Roots, name: &str, shown: &str) -> BTreeSet<String> {
    let mut reader = Reader { roots, read: BTreeSet::new(), places: BTreeMap::new() };
    reader.file(plan, "", name, shown, 0);
    reader.read
}

struct Reader<'a> {
    roots: &'a Roots,
    /// Files that were read.
    read: BTreeSet<String>,
    /// Targets of lines that were taken, each with its section.
    places: BTreeMap<String, usize>,
}

impl Reader<'_> {
    /// Reads one, which begins in the section of the line that includes it: the section in which it ends.
    fn file(&mut self, plan: &mut Plan, folder: &str, name: &str, shown: &str, begin: usize) -> usize {
        let key = Key::new(shown, 0, "syncfiles", "");
        let mut section = begin;
        if self.read.len() > FILE_LIMIT {
            plan.decide(&key, format!("more than {FILE_LIMIT} files: the others are not read"));
            return section;
        }
        let (text, below) = match super::included(self.roots, folder, name, &mut self.read) {
            Ok(found) => found,
            Err(reason) => {
                plan.decide(&key, reason);
                return section;
            }
        };
        for (at, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let of_line = Key { line: at + 1, value: line.to_owned(), ..key.clone() };
            match line {
                "" => {}
                "REPLACE:" => section = 0,
                "APPENDONCE:" => {
                    section = 1;
                    plan.differs(&of_line, Some("sync.lists"), "APPEND:, which adds to the image's file once, and on running nodes to the file as it was before the first time");
                }
                "MERGE:" => {
                    section = 2;
                    plan.exact(&of_line, "sync.lists", "");
                }
                line if line.starts_with('<') => {
                    let included = line.trim_start_matches('<').trim_end_matches('>');
                    let shown =
                        shown.rsplit_once('/').map_or(included.to_owned(), |(above, _)| format!("{above}/{included}"));
                    let end = self.file(plan, &below, included, &shown, section);
                    plan.exact(&of_line, "sync.lists", "");
                    if end != section {
                        plan.decide(
                            &of_line,
                            "the included file ends in another section: what follows here is taken as before it; see that it is meant so",
                        );
                    }
                }
                line if line.ends_with(':') => plan.decide(&of_line, "a section that Confluent does not have"),
                line => self.entry(plan, &of_line, line, section),
            }
        }
        section
    }

    fn entry(&mut self, plan: &mut Plan, key: &Key, line: &str, section: usize) {
        if let Some(special) = line.chars().find(|c| "$%^&|{}\"\\".contains(*c) || c.is_control()) {
            return plan.decide(key, format!("`{}` has no meaning in a synclist", special.escape_default()));
        }
        let (line, options) = match line.find(" (") {
            Some(at) if line.ends_with(')') => (line[..at].trim(), Some(&line[at + 2..line.len() - 1])),
            _ => (line, None),
        };
        let (sources, target) = match line.split_once("->") {
            Some((sources, target)) => (sources.trim(), target.trim().to_owned()),
            // The same path, into its folder.
            None => {
                let first = line.split_whitespace().next().unwrap_or_default();
                let folder = first.rsplit_once('/').map_or("/", |(folder, _)| folder);
                (
                    line,
                    if line.split_whitespace().count() > 1 || first.contains(['*', '?']) {
                        format!("{folder}/")
                    } else {
                        first.to_owned()
                    },
                )
            }
        };
        let (nodes, target) = match target.split_once(':') {
            Some((nodes, target)) => (Some(nodes.trim().to_owned()), target.trim().to_owned()),
            None => (None, target),
        };
        // Several have a folder as their target.
        let is_folder = target.ends_with('/') || sources.split_whitespace().count() > 1;
        let Some(target) = inside(&target).filter(|_| target.starts_with('/') && !sources.is_empty()) else {
            return plan.decide(key, "its target is not an absolute path, or leads outside the image");
        };
        let mut owner = None;
        if let Some(options) = options {
            match self::options(options) {
                Ok(found) => owner = Some(found),
                Err(reason) => plan.decide(key, reason),
            }
        }
        let (mut taken, mut paths) = (Vec::new(), Vec::new());
        for source in sources.split_whitespace() {
            let name = source.rsplit('/').next().unwrap_or(source);
            let path = if is_folder { format!("/{target}/{name}").replace("//", "/") } else { format!("/{target}") };
            let of_source = Key { value: source.to_owned(), ..key.clone() };
            match self.source(plan, source, &path) {
                Ok(file) => {
                    taken.push(file);
                    paths.push(path);
                }
                Err(reason) => plan.decide(&of_source, reason),
            }
        }
        if taken.is_empty() {
            return;
        }
        let other = |path: &&String| self.places.get(*path).is_some_and(|known| (*known == 0) != (section == 0));
        if let Some(path) = paths.iter().find(other) {
            return plan.decide(key, format!("{path} is both copied and added to: keep one of the lines"));
        }
        self.places.extend(paths.iter().map(|path| (path.clone(), section)));
        let target = match is_folder {
            true => format!("/{target}/").replace("//", "/"),
            false => format!("/{target}"),
        };
        let shown = match &nodes {
            Some(nodes) => format!("({nodes}) {target}"),
            None => target,
        };
        plan.synced[section].push(format!("{} -> {shown}", taken.join(" ")));
        match (owner, &nodes) {
            (Some(owner), None) => plan.owners.extend(paths.into_iter().map(|path| (path, owner.clone()))),
            (Some(owner), Some(_)) => {
                plan.decide(key, format!("{owner} of a file for some nodes is not taken: set it in [sync.owner]"));
            }
            (None, _) => {}
        }
        match nodes {
            Some(_) => plan.differs(
                key,
                Some("sync.lists"),
                "for some nodes: left out of the image, and sent by `imgbuild sync`; the range is xCAT's",
            ),
            None => plan.differs(
                key,
                Some("sync.lists"),
                "a copy next to the recipe: later changes of the file are not followed; name the file itself and allow it in [workspace] allow, if they are to be",
            ),
        }
    }

    /// A copy of a source next to the recipe, by its path there.
    /// Errors: Why it is not taken.
    fn source(&self, plan: &mut Plan, source: &str, path: &str) -> Result<String, String> {
        if source.contains(['*', '?', '[']) {
            return Err("which files a pattern means is not looked up: name them one by one, or copy them next to the recipe, and add a line to the synclist".to_owned());
        }
        if !source.starts_with('/') {
            return Err("not an absolute path of the deployment server".to_owned());
        }
        let secret = |place: &str, problem: &str| {
            format!(
                "{place} is or has {problem}: not taken. Anyone who can fetch an image can read it: write a line for nodes alone, `SOURCE -> (NODES) {path}`, which `imgbuild sync` sends"
            )
        };
        let (root, from) = self.roots.find("", source)?;
        let is_accounts = |place: &str| {
            let name = place.rsplit('/').next().unwrap_or(place);
            matches!(name, "shadow" | "gshadow" | "shadow-" | "gshadow-").then_some(secrets::HASH)
        };
        if let Some(problem) = is_accounts(&from).or_else(|| secrets::of_path(&from)).or_else(|| secrets::of_path(path))
        {
            return Err(secret(path, problem));
        }
        let is_fine = |c: char| c.is_ascii_alphanumeric() || "/._+@:=,~-".contains(c);
        if !from.chars().all(is_fine) {
            return Err(
                "its name has a character that a synclist does not take: copy it next to the recipe by hand".to_owned()
            );
        }
        if root.is_folder(&from) {
            return Err(
                "a folder: name its files one by one, or copy it next to the recipe, and add a line to the synclist"
                    .to_owned(),
            );
        }
        let text = root.text(&from).map_err(|error| format!("`{from}` is not read: {error}"))?;
        if let Some(problem) = secrets::of_content(text.as_bytes()) {
            return Err(secret(source, problem));
        }
        let mode = root.file(&from).and_then(|file| file.metadata()).map_or(0o644, |found| found.permissions().mode());
        let mode = if mode & 0o111 != 0 { 0o755 } else { 0o644 };
        let file = format!("{}.d/synced/{from}", plan.name);
        plan.files.insert(file.clone(), (Content::Beneath(root, from), mode));
        Ok(file)
    }
}

/// `owner=root,group=root,permissions=600` as `[sync.owner]` has it.
fn options(text: &str) -> Result<String, String> {
    let (mut owner, mut group, mut mode) = (None, None, None);
    for option in text.split(',').map(str::trim).filter(|option| !option.is_empty()) {
        let (name, value) =
            option.split_once('=').ok_or_else(|| format!("`{option}` is not an option of syncfiles"))?;
        let is_name = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
        let is_mode = u32::from_str_radix(value, 8).is_ok_and(|mode| mode <= 0o7777);
        match name.trim() {
            "owner" if is_name => owner = Some(value.to_owned()),
            "group" if is_name => group = Some(value.to_owned()),
            "permissions" | "mode" if is_mode => mode = Some(format!("{:0>4}", value.trim_start_matches('0'))),
            name => return Err(format!("`{name}` is not an option of syncfiles, or its value is not valid")),
        }
    }
    let account = match (owner, group) {
        (Some(owner), Some(group)) => Some(format!("{owner}:{group}")),
        (Some(owner), None) => Some(owner),
        (None, Some(group)) => Some(format!("root:{group}")),
        (None, None) => None,
    };
    Ok(account.into_iter().chain(mode).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_an_owner_and_a_mode() {
        assert_eq!(options("owner=root,group=adm,permissions=600").as_deref(), Ok("root:adm 0600"));
        assert_eq!(options("permissions=0644").as_deref(), Ok("0644"));
        assert!(options("owner=a b").is_err() && options("x=1").is_err() && options("permissions=9").is_err());
    }
    /// A profile with a syncfile, and a host's files below `host`.
    fn plan(folder: &std::path::Path, syncfiles: &str) -> Plan {
        use crate::input::roots::Root;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("own/syncfiles", syncfiles);
        write("own/more", "/etc/users -> /etc/passwd\n");
        write("own/ends", "APPENDONCE:\n/etc/users -> /etc/group\n");
        for name in ["etc/users", "etc/motd", "root/.ssh/id_rsa", "srv/shadow"] {
            write(&format!("host/{name}"), "a\n");
        }
        let files = Root::open(&folder.join("host")).unwrap();
        let roots = Roots { own: Root::open(&folder.join("own")).unwrap(), files: Some(files) };
        let release = site::osimage::Release { distro: recipe::Distro::Rocky, release: "9".to_owned() };
        let mut plan = Plan::new("test", "input", "image", release, recipe::Arch::default());
        take(&mut plan, &roots, "syncfiles", "syncfiles");
        plan
    }

    #[test]
    fn an_included_file_begins_in_the_section_of_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let found = plan(folder.path(), "MERGE:\n<more>\n<ends>\n/etc/users -> /etc/shells\n");
        assert!(found.synced[0].is_empty(), "{:?}", found.synced);
        assert_eq!(found.synced[1], ["image.d/synced/etc/users -> /etc/group"]);
        assert_eq!(
            found.synced[2],
            ["image.d/synced/etc/users -> /etc/passwd", "image.d/synced/etc/users -> /etc/shells"]
        );
        assert!(found.rows.iter().any(|row| row.line == 3 && row.reason.contains("ends in another section")));
    }

    #[test]
    fn sources_are_files_of_the_directory_that_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let text = "/root/.ssh/* -> /opt/x/\n/etc -> /mnt/e\n/etc/../srv/../../etc/motd -> /etc/x\n/srv/../etc/motd -> /etc/a/../motd\n\
            /root/.ssh/id_rsa -> /opt/key\nMERGE:\n/srv/shadow -> /etc/shadow\n/etc/users /etc/motd -> /opt/d (owner=root)\n";
        let found = plan(folder.path(), text);
        assert_eq!(found.synced[0], ["image.d/synced/etc/motd -> /etc/motd"]);
        assert_eq!(found.synced[2], ["image.d/synced/etc/users image.d/synced/etc/motd -> /opt/d/"]);
        assert_eq!(found.owners.keys().collect::<Vec<_>>(), ["/opt/d/motd", "/opt/d/users"]);
        let left: Vec<usize> =
            found.rows.iter().filter(|row| row.verdict.name() == "decide").map(|row| row.line).collect();
        assert_eq!(left, [1, 2, 3, 5, 7]);
        assert_eq!(found.files.len(), 2);
    }
}
