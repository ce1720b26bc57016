//! `[system] fstab` and `exports`: lines of fstab(5) and exports(5).

use std::collections::BTreeMap;

use crate::Model;
use base::source::{Finding, Span};

#[derive(Debug, Clone)]
pub struct Mount {
    /// The line, its fields separated by one blank.
    pub line: String,
    pub span: Span,
}

#[derive(Debug, Clone)]
pub struct Export {
    /// The line as it is written, for a quoted path may have blanks.
    pub line: String,
    pub span: Span,
}

fn joined(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A mount point without the `/` at its end.
fn plain(point: &str) -> &str {
    let short = point.trim_end_matches('/');
    if short.is_empty() { point } else { short }
}

impl Mount {
    fn field(&self, index: usize) -> &str {
        self.line.split(' ').nth(index).unwrap_or_default()
    }

    /// Where it is mounted; `none` for swap.
    pub fn point(&self) -> &str {
        plain(self.field(1))
    }

    /// Whether a fstab has the same device, mount point and type, and at least its options.
    pub fn is_in(&self, fstab: &str) -> bool {
        fstab.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let [device, point, kind, options, ..] = words[..] else { return false };
            let has = |option: &str| options.split(',').any(|other| other == option);
            (device, plain(point), kind) == (self.field(0), self.point(), self.field(2))
                && self.field(3).split(',').all(has)
        })
    }
}

impl Export {
    /// Whether a text of exports has the line.
    pub fn is_in(&self, exports: &str) -> bool {
        // A backslash at the end of a line continues it (exports(5)).
        exports.replace("\\\n", " ").lines().any(|line| joined(line) == joined(&self.line))
    }
}

/// What is wrong with a text that is to be one line of a file.
fn no_line(text: &str) -> Option<(String, String)> {
    if text.contains(['\n', '\r', '\0']) {
        return Some(("an item is one line".to_owned(), "write each line as an item of its own".to_owned()));
    }
    if text.trim_start().starts_with('#') {
        return Some((format!("`{text}` is a comment"), "write it as a comment of the recipe".to_owned()));
    }
    None
}

/// What is wrong with a line of fstab. Source: fstab(5).
fn wrong_mount(text: &str) -> Option<(String, String)> {
    if let Some(found) = no_line(text) {
        return Some(found);
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    let whole = "proc /proc proc rw 0 0";
    let (point, kind) = match fields[..] {
        [_, point, kind, _] | [_, point, kind, _, _] | [_, point, kind, _, _, _] => (point, kind),
        [device, point, kind] if point.starts_with('/') => {
            let help = format!("add them: \"{device} {point} {kind} defaults 0 0\"");
            return Some((format!("`{text}` has no options"), help));
        }
        _ => {
            let help = format!(
                "write device, mount point, type and options, then dump and pass, for instance \"{whole}\"; a space in a name is \\040"
            );
            return Some((format!("`{text}` has {} fields, but an fstab line has 4 to 6", fields.len()), help));
        }
    };
    let is_swap = kind == "swap" && (point == "none" || point == "swap");
    let is_path = point.starts_with('/') && !point.split('/').any(|part| part == ".." || part == ".");
    if !is_swap && !is_path {
        let help = format!("write an absolute path as the second field, for instance \"{whole}\"");
        return Some((format!("`{point}` is not a mount point"), help));
    }
    if point == "/" && !["tmpfs", "rootfs", "overlay", "none"].contains(&kind) {
        let help = "remove the line; the size of / is ‹[boot]› root_size".to_owned();
        return Some(("the root of a node is its image: nothing else can be mounted at /".to_owned(), help));
    }
    if let Some(field) = fields[4..].iter().find(|field| !field.bytes().all(|byte| byte.is_ascii_digit())) {
        let help = format!("dump and pass, the fifth and sixth field, are numbers, for instance \"{whole}\"");
        return Some((format!("`{field}` is not a number"), help));
    }
    None
}

/// Reads `[system] fstab`; a mount point that `[boot] tmpfs` or an earlier line has is an error.
pub(crate) fn read_fstab(model: &Model, span: &dyn Fn(&str) -> Span, findings: &mut Vec<Finding>) -> Vec<Mount> {
    let mut points: BTreeMap<String, (&str, Span)> = model
        .boot
        .tmpfs
        .keys()
        .map(|path| (plain(path).to_owned(), ("‹[boot]› tmpfs", span(&format!("boot.tmpfs.{path}")))))
        .collect();
    let mut mounts = Vec::new();
    for (index, text) in model.system.fstab.iter().enumerate() {
        let span = span(&format!("system.fstab[{index}]"));
        if let Some((problem, help)) = wrong_mount(text) {
            findings.push(Finding::error("system::fstab", &span, problem).label("not an fstab line").help(help));
            continue;
        }
        let mount = Mount { line: joined(text), span: span.clone() };
        if mount.point().starts_with('/') {
            if let Some((table, first)) = points.get(mount.point()) {
                let problem = format!("`{}` is mounted twice", mount.point());
                findings.push(
                    Finding::error("system::fstab_twice", &span, problem)
                        .label("here again")
                        .help(format!("{table} has it at {first}; remove one of the two")),
                );
            } else {
                points.insert(mount.point().to_owned(), ("‹[system]› fstab", span));
            }
        }
        mounts.push(mount);
    }
    mounts
}

/// What is wrong with a line of exports. Source: exports(5).
fn wrong_export(text: &str) -> Option<(String, String)> {
    if let Some(found) = no_line(text) {
        return Some(found);
    }
    let whole = "/install *(ro,no_root_squash,sync,fsid=13)";
    // A path may be quoted, and only there may blanks be.
    let text = text.trim();
    let (path, rest) = match text.strip_prefix('"').and_then(|quoted| quoted.split_once('"')) {
        Some((path, rest)) => (path, rest),
        None => text.split_at(text.find(char::is_whitespace).unwrap_or(text.len())),
    };
    if !path.starts_with('/') {
        let help = format!("an exports line starts with an absolute path, for instance \"{whole}\"");
        return Some((format!("`{path}` is not an absolute path"), help));
    }
    let clients: Vec<&str> = rest.split_whitespace().filter(|word| !word.starts_with('-')).collect();
    if clients.is_empty() {
        let help = format!("add the clients that may mount it, for instance \"{whole}\"");
        return Some((format!("`{text}` names no clients"), help));
    }
    for client in clients {
        if client.starts_with('(') {
            let problem = format!("the space before `{client}` applies these options to every host");
            return Some((problem, format!("write the options next to the client, without a space: \"*{client}\"")));
        }
        let options = client.split_once('(').map(|(_, options)| options);
        let closed = options.is_none_or(|options| options.find(')') == Some(options.len() - 1));
        if !closed || (options.is_none() && client.contains(')')) {
            let help = format!("write options in one pair of parentheses, without spaces, for instance \"{whole}\"");
            return Some((format!("`{client}` is not a client with options"), help));
        }
    }
    text.ends_with('\\').then(|| ("an item is one line".to_owned(), "remove the `\\` at its end".to_owned()))
}

pub(crate) fn read_exports(lines: &[String], span: &dyn Fn(&str) -> Span, findings: &mut Vec<Finding>) -> Vec<Export> {
    let mut exports: Vec<Export> = Vec::new();
    for (index, text) in lines.iter().enumerate() {
        let span = span(&format!("system.exports[{index}]"));
        if let Some((problem, help)) = wrong_export(text) {
            findings.push(Finding::error("system::exports", &span, problem).label("not an exports line").help(help));
            continue;
        }
        let line = text.trim().to_owned();
        if let Some(first) = exports.iter().find(|export| joined(&export.line) == joined(&line)) {
            let help = format!("it is also at {}; remove one of the two", first.span);
            findings.push(Finding::error("system::exports_twice", &span, format!("`{line}` appears twice")).help(help));
            continue;
        }
        exports.push(Export { line, span });
    }
    exports
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::source::SourceFile;

    #[test]
    fn lines_of_fstab_have_four_to_six_fields() {
        for line in [
            "proc /proc proc rw 0 0",
            "devpts /dev/pts devpts rw,gid=5,mode=620 0 0",
            "service_x86_64 / tmpfs rw 0 1",
            "none /tmp tmpfs defaults,size=10m",
            "\tnone  /var/tmp\ttmpfs defaults 0",
            "/dev/sda2 none swap sw 0 0",
            "server:/a\\040b /mnt nfs ro",
        ] {
            assert_eq!(wrong_mount(line), None, "{line}");
        }
        for line in [
            "",
            "proc",
            "proc /proc proc",
            "proc /proc proc rw 0 0 0",
            "proc proc proc rw 0 0",
            "proc /a/../proc proc rw",
            "proc /proc proc rw no 0",
            "proc /proc proc rw 0 -1",
            "# proc /proc proc rw",
            "proc /proc proc rw\nx /y z w",
            "none none tmpfs rw",
            "/dev/sda1 / ext4 defaults 0 0",
        ] {
            assert!(wrong_mount(line).is_some(), "{line}");
        }
    }

    #[test]
    fn lines_of_exports_have_a_path_and_clients() {
        for line in [
            "/install *(ro,no_root_squash,sync,fsid=13)",
            "/install 10.0.0.0/8(rw) @group(ro) host",
            "\"/a b\" *(ro)",
            "/srv -sync,rw server @trusted",
        ] {
            assert_eq!(wrong_export(line), None, "{line}");
        }
        for line in [
            "",
            "install *(ro)",
            "/install",
            "/install * (ro)",
            "/install *(ro",
            "/install *(ro)x",
            "/a *ro)",
            "/a * \\",
        ] {
            assert!(wrong_export(line).is_some(), "{line}");
        }
    }

    #[test]
    fn a_declared_line_is_found_again_however_it_is_spaced() {
        let file = SourceFile::new("image.toml", "/image.toml", "");
        let span = Span::new(&file, 0..0);
        let mount = Mount { line: "none /tmp tmpfs rw,size=10m 0 2".to_owned(), span: span.clone() };
        assert!(mount.is_in("# x\nnone\t/tmp/ tmpfs size=10m,rw,nodev\n"));
        assert!(!mount.is_in("#none /tmp tmpfs rw,size=10m 0 2\n"));
        assert!(!mount.is_in("none /tmp tmpfs rw,size=20m 0 2\n"));
        let export = Export { line: "/install *(ro) h(rw)".to_owned(), span };
        assert!(export.is_in("/a *\n/install  *(ro) \\\n h(rw)\n"));
        assert!(!export.is_in("/install *(ro)\n"));
    }
}
