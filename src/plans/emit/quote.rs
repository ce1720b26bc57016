//! Words of a command as each program reads them.

pub(crate) fn shell(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "_@%+=:,./-".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// A text as a scalar of YAML: JSON's strings are such.
pub(crate) fn yaml(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// A name of a target of make or ninja: a slash would be a directory.
pub(crate) fn target(name: &str) -> String {
    name.replace('/', "+")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_gives_each_word_back() {
        for word in
            ["", "plain/word.1", "two words", "it's", "$HOME `x` \"y\" \\ !", "#", "*", "~", "ü", "a;b&c|d", "-x"]
        {
            let script = format!("printf %s {}", shell(word));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), word, "{script}");
        }
    }
}
