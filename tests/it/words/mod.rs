//! What people read: messages, the help, README and docs. Nothing here runs imgbuild.

mod commands;
mod extract;
mod pages;

use std::path::{Path, PathBuf};

use crate::support::project;
use extract::{Kind, Text};

/// Compares a text with a committed file. `INSTA_UPDATE=always` writes the file; read the difference like code.
fn compare(path: &str, text: &str) {
    let file = project().join(path);
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    if committed == text {
        return;
    }
    if std::env::var("INSTA_UPDATE").is_ok_and(|how| how == "always") {
        std::fs::write(&file, text).unwrap();
        return;
    }
    let missing = |from: &str, other: &str| -> Vec<String> {
        let other: std::collections::BTreeSet<&str> = other.lines().collect();
        from.lines().filter(|line| !other.contains(line)).take(20).map(str::to_owned).collect()
    };
    let (new, old) = (missing(text, &committed), missing(&committed, text));
    panic!("{path} is out of date: INSTA_UPDATE=always writes it; new lines: {new:#?}; lines that go: {old:#?}");
}

/// Rust files below a folder, without those that hold tests alone.
fn sources(below: &str) -> Vec<(PathBuf, String)> {
    let files: Vec<(PathBuf, String)> = walkdir::WalkDir::new(project().join(below))
        .sort_by_file_name()
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("build.rs"))
        .map(|path| (path.clone(), std::fs::read_to_string(path).unwrap()))
        .collect();
    let tests: Vec<PathBuf> = files.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    files
        .into_iter()
        .filter(|(path, _)| !tests.iter().any(|test| path.starts_with(test) || path == &test.with_extension("rs")))
        .collect()
}

/// Paths, without their ending, of modules that are compiled for tests only.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") => path.parent().unwrap().to_owned(),
        _ => path.with_extension(""),
    };
    let names = extract::test_modules(text);
    names.into_iter().map(|name| folder.join(name)).collect()
}

#[test]
fn the_file_of_messages_has_every_text_that_the_program_can_say() {
    let mut all = String::from(
        "# Every text that imgbuild and imgbuild-init can say, by source file: message, label, help with the code of its\n\
         # diagnostic, and usage for what --help prints. Written by the test `words::`; see CONTRIBUTING.md.\n",
    );
    for below in ["imgbuild-init/src", "crates", "src"] {
        for (path, text) in sources(below) {
            let texts = extract::texts(&text);
            if texts.is_empty() {
                continue;
            }
            all.push_str(&format!("\n{}\n", path.strip_prefix(project()).unwrap().display()));
            for Text { kind, code, text } in texts {
                let kind = match kind {
                    Kind::Message => "message",
                    Kind::Help => "help",
                    Kind::Label => "label",
                    Kind::Usage => "usage",
                };
                let code = code.map(|code| format!(" [{code}]")).unwrap_or_default();
                all.push_str(&format!("  {kind}{code}: {}\n", text.replace('\n', "\\n")));
            }
        }
    }
    compare("tests/snapshots/messages.txt", &all);
}

#[test]
fn texts_are_read_with_their_kinds_and_codes() {
    let source = r##"
        /// Not usage.
        #[derive(Debug, Error, Diagnostic)]
        enum E {
            #[error("cannot read `{path}`: {source}")]
            #[diagnostic(code(store::io), help("free some \
                 space"))]
            Io,
            #[error("{0}")]
            #[diagnostic(code(store::other))]
            Other,
        }
        /// Shows it
        #[derive(Args)]
        struct A {
            /// How much
            /// to show
            much: u8, // "not a text"
        }
        fn f() -> char {
            let message = format!("a \"quoted\" text");
            Finding::error("room::problem", &span, message).label("here").help(format!("use {x}"));
            let (_, _) = ('"', '\'');
            b" more bytes cannot be had";
            r#"raw text here"#;
            "one";
            'x'
        }
        #[cfg(test)]
        mod tests {
            const NO: &str = "no message of the program";
        }
    "##;
    let found: Vec<(Kind, Option<String>, String)> =
        extract::texts(source).into_iter().map(|text| (text.kind, text.code, text.text)).collect();
    let code = |code: &str| Some(code.to_owned());
    let expected = [
        (Kind::Message, code("store::io"), "cannot read `{path}`: {source}"),
        (Kind::Help, code("store::io"), "free some space"),
        (Kind::Message, code("store::other"), "{0}"),
        (Kind::Usage, None, "Shows it"),
        (Kind::Usage, None, "How much to show"),
        (Kind::Message, code("room::problem"), "a \"quoted\" text"),
        (Kind::Label, code("room::problem"), "here"),
        (Kind::Help, code("room::problem"), "use {x}"),
        (Kind::Message, code("room::problem"), " more bytes cannot be had"),
        (Kind::Message, code("room::problem"), "raw text here"),
    ];
    assert_eq!(found, expected.map(|(kind, code, text)| (kind, code, text.to_owned())));
    assert_eq!(extract::test_modules("#[cfg(test)]\nmod samples;\nmod real;"), ["samples"]);
}
