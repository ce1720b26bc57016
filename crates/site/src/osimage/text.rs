//! The text of a recipe that was imported.

use super::{Mapping, Remark, Value, Verdict};

/// The file beside a recipe with the definition that was imported last.
pub const STANZA_FILE: &str = "xcat.stanza";

/// What xCAT has elsewhere: root's password in its passwd table, root's keys by the postscript remoteshell.
const SYSTEM: &str = "\n# Who may log in as root; xCAT has it in its passwd table and in the postscript remoteshell.\n# [system]\n# authorized_keys = [\"keys/admin.pub\"]\n# root_password_hash_file = \"keys/root.hash\"\n";

/// What stands above the attributes without a field.
pub const LEFT_OVER: &str = "\n# What has no counterpart here:\n";

/// Tables that come after it.
const AFTER_SYSTEM: [&str; 7] = ["postinstall", "sync", "exclude", "boot", "statelite", "environment", "xcat"];

fn shown(value: &Value) -> String {
    let text = |text: &String| match fault::planted("osimage-value-unescaped") {
        true => format!("\"{text}\""),
        false => toml::Value::from(text.as_str()).to_string(),
    };
    match value {
        Value::Text(value) => text(value),
        Value::Flag(value) => value.to_string(),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(text).collect();
            let line = items.join(", ");
            if items.len() < 2 || line.len() < 90 {
                format!("[{line}]")
            } else {
                format!("[\n    {},\n]", items.join(",\n    "))
            }
        }
    }
}

fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    // A key stands on one line, in double quotes, whatever TOML would choose for a value.
    let quoted = || serde_json::Value::from(name).to_string().replace('\u{7f}', "\\u007f");
    if is_bare { name.to_owned() } else { quoted() }
}

/// A line of a comment; texts of definitions may hold line ends.
fn comment(text: &str) -> String {
    let plain =
        |line: &str| line.chars().map(|c| if c.is_control() && c != '\t' { ' ' } else { c }).collect::<String>();
    let lines: Vec<String> = text.split(['\n', '\r']).map(|line| format!("# {}\n", plain(line).trim_end())).collect();
    lines.concat()
}

/// What stands above a field because of an attribute.
fn above(remarks: &[Remark], attribute: &str) -> String {
    let said = |one: &&Remark| {
        let is_found = one.verdict == Verdict::Exact && one.value.is_empty() && !one.reason.is_empty();
        one.attribute == attribute && (is_found || matches!(one.verdict, Verdict::Differs | Verdict::Decide))
    };
    let line = |one: &Remark| {
        let value = if one.value.is_empty() { String::new() } else { format!("={}", one.value) };
        comment(&format!("xCAT: {attribute}{value}\n{}: {}", one.verdict.name(), one.reason))
    };
    remarks.iter().filter(said).map(line).collect()
}

/// What stands at the end of a recipe for an attribute without a field.
fn left_over(one: &Remark) -> String {
    comment(&format!("{}={}\n  {}: {}", one.attribute, one.value, one.verdict.name(), one.reason))
}

/// The comments that an attribute has in the recipe of one mapping, and in that of a later one; those that became others.
pub fn comments_of(old: &Mapping, new: &Mapping, attribute: &str) -> Vec<(String, String)> {
    let left = |mapping: &Mapping| {
        let is_said = |one: &&Remark| one.attribute == attribute && !one.value.is_empty() && !one.reason.is_empty();
        mapping.remarks.iter().filter(is_said).map(left_over).collect::<String>()
    };
    let pairs = [(above(&old.remarks, attribute), above(&new.remarks, attribute)), (left(old), left(new))];
    // The end of a line is a part of it, so that no longer one is found.
    pairs.into_iter().filter(|(was, is_now)| !was.is_empty() && was != is_now).collect()
}

/// The comment at the top of a recipe.
pub fn head(mapping: &Mapping) -> String {
    let text = comment(&format!(
        "Imported from xCAT; edit it freely. A later import changes only what changed there since: {STANZA_FILE} has what\n\
         was imported. For xCAT's nodeset: imgbuild build {} \
  --publish xcat:{}",
        mapping.name, mapping.rootimgdir
    ));
    let description = mapping.remarks.iter().find(|one| one.attribute == "description" && !one.value.is_empty());
    text + &description.map_or_else(String::new, |one| comment(&one.value))
}

pub fn recipe_text(mapping: &Mapping) -> String {
    let mut text = head(mapping);
    let mut table = "";
    let mut attribute = "";
    for field in &mapping.fields {
        if field.table != table && AFTER_SYSTEM.contains(&field.table.as_str()) && !AFTER_SYSTEM.contains(&table) {
            text.push_str(SYSTEM);
        }
        if field.table != table {
            if table == "image" {
                repositories(mapping, &mut text);
            }
            table = &field.table;
            attribute = "";
            text.push_str(&format!("\n[{table}]\n"));
        }
        if field.attribute != attribute {
            attribute = &field.attribute;
            // osvers and the like say nothing of the tables that repeat them.
            text.push_str(&above(&mapping.remarks, attribute));
        }
        text.push_str(&format!("{} = {}\n", key(&field.key), shown(&field.value)));
    }
    if table == "image" {
        repositories(mapping, &mut text);
    }
    let has_field = |one: &Remark| {
        mapping.fields.iter().any(|field| field.attribute == one.attribute)
            || mapping.repositories.iter().any(|repo| repo.attribute == one.attribute)
    };
    let is_said = |one: &&Remark| {
        !one.value.is_empty() && !one.reason.is_empty() && one.verdict != Verdict::Exact && !has_field(one)
    };
    let left: Vec<&Remark> = mapping.remarks.iter().filter(is_said).collect();
    if !left.is_empty() {
        text.push_str(LEFT_OVER);
        for one in left {
            text.push_str(&left_over(one));
        }
    }
    text
}

fn repositories(mapping: &Mapping, text: &mut String) {
    let mut attribute = "";
    for repo in &mapping.repositories {
        text.push('\n');
        if repo.attribute != attribute {
            attribute = &repo.attribute;
            text.push_str(&above(&mapping.remarks, attribute));
        }
        text.push_str("[[repo]]\n");
        for (name, value) in &repo.fields {
            text.push_str(&format!("{} = {}\n", key(name), shown(value)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definitions::Places;
    use crate::osimage::{Mapped, map};
    use xcat::definitions::{Definition, LINUXIMAGE_COLUMNS, OSIMAGE_COLUMNS};

    proptest::proptest! {
        /// Whatever a definition says, its recipe is TOML of the tables that an import writes, and no other.
        #[test]
        fn no_value_becomes_anything_else(
            values in proptest::collection::vec("([a-z/=,.:#'\"\\[\\]\\\\ -]|\\n|\\r|\\t|\u{0}|é|\\[workspace\\]\\n|allow = \\[\"/\\*\\*\"\\]\\n){0,20}", 47),
            osvers in "(rocky9.4|ubuntu24.04|leap15.6|debian12)",
        ) {
            let mut definition = Definition::osimage("i");
            for (name, value) in OSIMAGE_COLUMNS.iter().chain(&LINUXIMAGE_COLUMNS).zip(&values) {
                definition.set(name, value, None);
            }
            for (name, value) in [("osvers", osvers.as_str()), ("osarch", "x86_64"), ("profile", "compute"), ("provmethod", "netboot"), ("imagetype", "linux")] {
                definition.set(name, value, None);
            }
            definition.set("rootimgdir", "", None);
            if let Mapped::Recipe(mapping) = map(&definition, &Places { sealed: true, ..Places::default() }) {
                let text = recipe_text(&mapping);
                let table: toml::Table = text.parse().map_err(|error| proptest::test_runner::TestCaseError::fail(format!("{error}\n{text}")))?;
                let known = ["image", "repo", "packages", "otherpkgs", "kernel", "postinstall", "sync", "exclude", "boot", "statelite", "environment", "xcat"];
                proptest::prop_assert!(table.keys().all(|key| known.contains(&key.as_str())), "{}", text);
                proptest::prop_assert_eq!(table["image"]["name"].as_str(), Some("i"));
            }
        }
    }
}
