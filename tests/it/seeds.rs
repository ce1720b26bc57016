//! docs/seeds.md: each command of xCAT's documents has a row, and each row a test that exists, or a reason.

use std::collections::BTreeSet;

use crate::support::{collected, project};

/// Programs whose lines are commands of the documents.
const PROGRAMS: [&str; 32] = [
    "./genimage",
    "cat",
    "cd",
    "chdef",
    "chroot",
    "copycds",
    "cp",
    "createrepo",
    "echo",
    "genimage",
    "imgcapture",
    "imgexport",
    "imgimport",
    "liteimg",
    "logger",
    "ls",
    "lsdef",
    "mkdef",
    "mkdir",
    "mount",
    "nodeset",
    "packimage",
    "rcons",
    "rnetboot",
    "scp",
    "tabdump",
    "tail",
    "tar",
    "vi",
    "view",
    "wcons",
    "yum",
];

/// Blanks as one, without those at the ends.
fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The cells of each row of the tables.
fn rows() -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(project().join("docs/seeds.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| 0"));
    rows.map(|row| {
        let row = row.replace("\\|", "\u{1}");
        row.trim_matches('|').split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
    })
    .collect()
}

/// What stands between backticks.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(plain).collect()
}

/// The commands of a document: number of its line, and the text without comments.
fn commands(text: &str) -> Vec<(usize, String)> {
    let text = text.replace("&lt;", "<").replace("&gt;", ">");
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, plain(line)));
    let lines = lines.map(|(number, line)| {
        let line = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")).unwrap_or(&line).to_owned();
        let line = line.split(" # ").next().unwrap_or_default().trim_end_matches(" \\").trim_end().to_owned();
        (number, line)
    });
    lines.filter(|(_, line)| PROGRAMS.contains(&line.split(' ').next().unwrap_or_default())).collect()
}

/// Whether a row's command is this one; `..` is the rest.
fn is_command(row: &str, command: &str) -> bool {
    match row.strip_suffix("..") {
        Some(start) => command.starts_with(start.trim_end()),
        None => row == command,
    }
}

#[test]
fn each_row_has_a_test_that_exists_or_a_reason() {
    let rows = rows();
    assert!(rows.len() > 60, "{} rows", rows.len());
    for row in rows {
        let [_, what, here, tests] = row.as_slice() else { panic!("{row:?} has {} cells", row.len()) };
        let tests = quoted(tests);
        let reason = here.strip_prefix("no test: ");
        assert_eq!(reason.is_some_and(|reason| reason.len() > 20), tests.is_empty(), "{what}: a test or a reason");
        for test in tests {
            let (module, name) = test.rsplit_once("::").unwrap_or_else(|| panic!("{test} is no path of a test"));
            let path = project().join("tests/it").join(module.replace("::", "/")).with_extension("rs");
            let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            assert!(text.contains(&format!("#[test]\nfn {name}() {{")), "{what}: there is no test {test}");
        }
    }
}

#[test]
fn each_command_of_the_documents_has_a_row() {
    let Some(folder) = collected("seeds") else { return };
    let entries = std::fs::read_dir(&folder).unwrap();
    let rows: Vec<(String, String)> = rows()
        .into_iter()
        .flat_map(|row| quoted(&row[1]).into_iter().map(move |command| (row[0].clone(), command)).collect::<Vec<_>>())
        .collect();
    let mut used = BTreeSet::new();
    let mut count = 0;
    for path in entries.map(|entry| entry.unwrap().path()) {
        let name = path.file_name().unwrap().to_string_lossy()[..3].to_owned();
        for (number, command) in commands(&std::fs::read_to_string(&path).unwrap()) {
            count += 1;
            let found = rows.iter().position(|(seeds, row)| seeds.contains(&name) && is_command(row, &command));
            let found = found.unwrap_or_else(|| panic!("{name}:{number}: no row for `{command}`"));
            used.insert(found);
        }
    }
    assert!(count > 80, "{count} commands");
    // Nothing stands there that no document says; sentences quote files.
    let is_ours = |row: &str| PROGRAMS.contains(&row.split(' ').next().unwrap_or_default()) && row.contains(' ');
    let unused = rows.iter().enumerate().find(|(at, (_, row))| !used.contains(at) && is_ours(row));
    assert!(unused.is_none(), "no document has {unused:?}");
}

#[test]
fn commands_are_told_from_prose() {
    let text = "Run genimage:\n\n    # genimage --dryrun  my &lt;image&gt;   # says\n./genimage -a x --pkglist \\\n /opt/x\nnodeset it\n";
    let found: Vec<String> = commands(text).into_iter().map(|(_, command)| command).collect();
    assert_eq!(found, ["genimage --dryrun my <image>", "./genimage -a x --pkglist", "nodeset it"]);
    assert!(is_command("genimage --dryrun ..", &found[0]) && !is_command("genimage", &found[0]));
}
