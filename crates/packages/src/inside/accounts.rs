//! Users and groups that packages make: made before them, found after them (D11). Runs inside.

use std::io::Read;

use base::digest::Digest;
use recipe::{Accounts, LockedGroup, LockedUser, NOBODY, STATIC_IDS};
use store::{LayerReader, TreeEditor};

/// A database of accounts: its file, whether only root reads it, and the field with the number, if it has one.
const FILES: [(&str, usize); 2] = [("etc/passwd", 2), ("etc/group", 2)];

fn lines(text: &str) -> impl Iterator<Item = Vec<&str>> {
    text.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() >= 4)
}

fn name_of(line: &str) -> &str {
    line.split(':').next().unwrap_or_default()
}

/// A file of a tree as text, at most 16 MiB of it.
pub(crate) fn text_in(editor: &TreeEditor, path: &str) -> Option<String> {
    let mut text = String::new();
    editor.open_file(path)?.take(16 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

fn below(base: &[Digest], path: &str) -> Result<String, String> {
    let reader = LayerReader::open(base)?;
    Ok(reader.read(path)?.and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default())
}

/// Adds accounts to the files of a tree that lies over layers; those that the layers have already are left alone.
pub(crate) fn make(tree: &str, base: &[Digest], accounts: &Accounts) -> Result<(), String> {
    if accounts.is_empty() {
        return Ok(());
    }
    let reader = LayerReader::open(base)?;
    let editor = TreeEditor::open(tree)?;
    let mut members: [Vec<String>; 4] = Default::default();
    for user in &accounts.users {
        let LockedUser { name, uid, gid, gecos, home, shell, .. } = user;
        members[0].push(format!("{name}:x:{uid}:{gid}:{gecos}:{home}:{shell}"));
        members[1].push(format!("{name}:!*:1::::::"));
    }
    for LockedGroup { name, gid, .. } in &accounts.groups {
        members[2].push(format!("{name}:x:{gid}:"));
        members[3].push(format!("{name}:!*::"));
    }
    let files = [("etc/passwd", 0o644), ("etc/shadow", 0o640), ("etc/group", 0o644), ("etc/gshadow", 0o640)];
    for ((path, mode), more) in files.into_iter().zip(members) {
        let Some(found) = reader.tree.0.get(path) else { continue };
        let mut text = below(base, path)?;
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for line in more {
            // A group of a user's own is not needed where another one has its number.
            let has_number = |known: &str| path == "etc/group" && known.split(':').nth(2) == line.split(':').nth(2);
            if !text.lines().any(|known| name_of(known) == name_of(&line) || has_number(known)) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        editor.write(path, text.as_bytes(), mode)?;
        editor.set_owner(path, found.entry.uid, found.entry.gid)?;
    }
    Ok(())
}

/// The accounts that a tree has and the layers below it do not, with the package that made each, where `scripts` tell:
/// names of packages with the texts of those of their scripts that may make accounts.
pub(crate) fn found(tree: &str, base: &[Digest], scripts: &[(String, String)]) -> Result<Accounts, String> {
    let editor = TreeEditor::open(tree)?;
    let mut accounts = Accounts::default();
    for (path, number) in FILES {
        let Some(text) = text_in(&editor, path) else { continue };
        let known = if base.is_empty() { String::new() } else { below(base, path)? };
        for fields in lines(&text) {
            let name = fields[0];
            let Ok(id) = fields[number].parse::<u32>() else { continue };
            if STATIC_IDS.contains(&id) || id == NOBODY || known.lines().any(|line| name_of(line) == name) {
                continue;
            }
            let (pass, package) = (String::new(), String::new());
            if path == "etc/group" {
                let group = LockedGroup { name: name.to_owned(), gid: id, pass, package, fixed: false };
                accounts.groups.push(group);
            } else if fields.len() >= 7 {
                accounts.users.push(LockedUser {
                    name: name.to_owned(),
                    uid: id,
                    gid: fields[3].parse().unwrap_or(id),
                    gecos: fields[4].to_owned(),
                    home: fields[5].to_owned(),
                    shell: fields[6].to_owned(),
                    pass,
                    package,
                    fixed: false,
                });
            }
        }
    }
    blame(&editor, &mut accounts, scripts);
    accounts.users.sort();
    accounts.groups.sort();
    Ok(accounts)
}

pub(crate) const MAKERS: [&str; 5] = ["adduser", "addgroup", "useradd", "groupadd", "systemd-sysusers"];

/// Names the package whose scripts, or whose sysusers.d(5) file, name an account.
fn blame(editor: &TreeEditor, accounts: &mut Accounts, scripts: &[(String, String)]) {
    if accounts.is_empty() {
        return;
    }
    let sysusers: Vec<(String, String)> = editor
        .names("usr/lib/sysusers.d")
        .into_iter()
        .filter_map(|file| Some((file.clone(), text_in(editor, &format!("usr/lib/sysusers.d/{file}"))?)))
        .collect();
    let package_of = |name: &str| -> String {
        let has = |text: &str, word: &str| {
            text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_.-".contains(letter))
                .any(|part| part == word)
        };
        let by_file = sysusers
            .iter()
            .filter(|(_, text)| has(text, name))
            .find_map(|(file, _)| scripts.iter().find(|(_, text)| has(text, file)).map(|(package, _)| package.clone()));
        let by_script = || scripts.iter().find(|(_, text)| has(text, name)).map(|(package, _)| package.clone());
        // Where nothing says so, the package of the same name.
        let by_name = || scripts.iter().find(|(package, _)| package == name).map(|(package, _)| package.clone());
        by_file.or_else(by_script).or_else(by_name).unwrap_or_default()
    };
    for user in &mut accounts.users {
        user.package = package_of(&user.name);
    }
    for group in &mut accounts.groups {
        group.package = package_of(&group.name);
    }
}
