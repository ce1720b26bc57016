//! Go's templates as far as configurations use them for values: `{{ .name }}`.

use std::collections::BTreeMap;

/// The parts between braces, without spaces and the dashes that trim.
fn actions(text: &str) -> Vec<&str> {
    text.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or(rest).trim_matches(['-', ' '])).collect()
}

/// What a text has between braces.
pub(super) fn variables(text: &str) -> Vec<String> {
    let mut found: Vec<String> = actions(text).into_iter().map(|action| action.escape_debug().to_string()).collect();
    found.dedup();
    found.truncate(8);
    found
}

/// The text with the values of its variables; none if it has others, or instructions.
pub(super) fn filled(text: &str, values: &BTreeMap<String, String>) -> Option<String> {
    let mut found = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("{{") {
        found.push_str(&rest[..at]);
        let (action, after) = rest[at + 2..].split_once("}}")?;
        let action = action.trim_matches(['-', ' ', '\t']);
        if !action.starts_with("/*") {
            found.push_str(values.get(action.strip_prefix('.')?)?);
        }
        rest = after;
    }
    found.push_str(rest);
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_filled_in_and_nothing_else() {
        let values = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        assert_eq!(filled("x: {{ .a }}{{.a}}\n{{/* no */}}", &values).as_deref(), Some("x: 11\n"));
        assert_eq!(filled("x: {{ .b }}", &values), None);
        assert_eq!(filled("{{ range .a }}", &values), None);
        assert_eq!(filled("{{ .a", &values), None);
        assert_eq!(variables("{{ range .a }} {{ end }}"), ["range .a", "end"]);
    }
}
