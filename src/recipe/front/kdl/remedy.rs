//! Remedies in KDL: messages show lines of TOML, and whoever writes KDL gets them as KDL.

use std::sync::LazyLock;

use regex::{Captures, Regex};

use crate::source::Finding;

fn regex(pattern: &str) -> Regex {
    #[expect(clippy::expect_used, reason = "the patterns are constants, and a test uses each")]
    Regex::new(pattern).expect("the pattern is good")
}

const VALUE: &str = r#""(?:[^"\\]|\\.)*"|\[[^\]]*\]|\{[^}]*\}|true|false|[0-9]+"#;

/// `[table] key = value, key = value`, with one pair of brackets or two; the pairs are optional.
static TABLE: LazyLock<Regex> = LazyLock::new(|| {
    let pair = format!(r#"[A-Za-z_-]+ = (?:{VALUE})"#);
    regex(&format!(r"\[\[?([a-z_]+(?:\.[a-z_]+)*)\]?\](?: ({pair}(?:, {pair})*))?"))
});
static PAIR: LazyLock<Regex> = LazyLock::new(|| regex(&format!(r#"([A-Za-z_-]+|"[^"]*") = ({VALUE})"#)));

/// The tables that a message can name.
const TABLES: &[&str] = &[
    "image",
    "repo",
    "repo_variables",
    "packages",
    "otherpkgs",
    "kernel",
    "initrd",
    "system",
    "users",
    "groups",
    "postinstall",
    "services",
    "sync",
    "exclude",
    "pack",
    "boot",
    "environment",
    "workspace",
    "xcat",
];

fn value(text: &str) -> String {
    if let Some(list) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return if list == "..." { "\"...\"".to_owned() } else { list.replace("\", \"", "\" \"") };
    }
    if let Some(table) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return format!("{{ {} }}", pairs(table.trim(), "; "));
    }
    match text {
        "true" | "false" => format!("#{text}"),
        _ => text.to_owned(),
    }
}

fn pairs(text: &str, between: &str) -> String {
    PAIR.captures_iter(text).map(|pair| format!("{} {}", &pair[1], value(&pair[2]))).collect::<Vec<_>>().join(between)
}

/// A message or a help text with its TOML as KDL.
pub fn in_kdl(text: &str) -> String {
    let mut kept = Vec::new();
    let text = TABLE.replace_all(text, |found: &Captures<'_>| {
        if !TABLES.contains(&found[1].split('.').next().unwrap_or_default()) {
            return found[0].to_owned();
        }
        let table = &found[1];
        kept.push(match found.get(2) {
            None => format!("`{table}`"),
            Some(inner) => format!("{table} {{ {} }}", pairs(inner.as_str(), "; ")),
        });
        // So that the second pass does not look into what is KDL already.
        format!("\u{1}{}\u{1}", kept.len() - 1)
    });
    let mut text =
        PAIR.replace_all(&text, |pair: &Captures<'_>| format!("{} {}", &pair[1], value(&pair[2]))).into_owned();
    for (index, words) in kept.iter().enumerate() {
        text = text.replace(&format!("\u{1}{index}\u{1}"), words);
    }
    let text = text.replace("true or false", "#true or #false");
    text.replace("``", "`").replace("image.toml", "image.kdl")
}

/// A finding on a recipe in KDL.
pub fn remedy(mut finding: Finding) -> Finding {
    finding.message = in_kdl(&finding.message);
    finding.label = in_kdl(&finding.label);
    finding.help = finding.help.as_deref().map(in_kdl);
    finding
}

#[cfg(test)]
mod tests {
    use super::in_kdl;

    #[test]
    fn lines_of_toml_become_kdl() {
        for (toml, kdl) in [
            (
                "add to the recipe: [system] authorized_keys = [\"keys/admin.pub\"]",
                "add to the recipe: system { authorized_keys \"keys/admin.pub\" }",
            ),
            ("choose one: [kernel] version = \"...\"", "choose one: kernel { version \"...\" }"),
            ("choose one with [kernel] version", "choose one with `kernel` version"),
            ("[[repo]] source = \"host\", suites = [...]", "repo { source \"host\"; suites \"...\" }"),
            ("[xcat] path_map = { \"/opt/xcat\" = \"vendor\" }", "xcat { path_map { \"/opt/xcat\" \"vendor\" } }"),
            ("where nobody signed them: check-packages = false", "where nobody signed them: check-packages #false"),
            ("write for instance \"/tmp\" = \"50m\"", "write for instance \"/tmp\" \"50m\""),
            ("`foo` is not a key of [kernel.build]", "`foo` is not a key of `kernel.build`"),
            ("[environment] SITE = \"a\"", "environment { SITE \"a\" }"),
            ("`x` must be true or false", "`x` must be #true or #false"),
            ("it must match the pattern ^[a-z][0-9]+$", "it must match the pattern ^[a-z][0-9]+$"),
        ] {
            assert_eq!(in_kdl(toml), kdl);
        }
    }
}
