//! Words of the kernel's command line as Cobbler keeps them: a map, whose repeated keys have lists.
//!
//! Source: cobbler 3.3, cobbler/utils.py, `input_string_or_dict`: the text goes through Python's shlex, each word is cut at the first `=`;
//! `dict_to_string`: a key with an empty value is written without `=`; `strip_none`: no value is `~`. cobbler/tftpgen.py: the line is a
//! template of Cheetah, for which `$` and `#` mean something.

use std::collections::BTreeMap;

use super::xmlrpc::Value;

/// Values of each key, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Options(BTreeMap<String, Vec<Option<String>>>);

/// Why Cobbler cannot keep a word as it is; none where it can.
pub(super) fn problem(word: &str) -> Option<&'static str> {
    let name = word.split('=').next().unwrap_or_default();
    if word.contains(['$', '#', '\\']) {
        return Some("Cobbler takes `$`, `#` and `\\` for parts of a template");
    }
    if word.starts_with('!') {
        return Some("Cobbler removes a word that another one names with `!`");
    }
    if name.is_empty() || word.ends_with('=') && word == format!("{name}=") || word == format!("{name}=~") {
        return Some("Cobbler keeps no word with an empty name, an empty value or the value `~`");
    }
    None
}

impl Options {
    pub(super) fn of_words(words: &[String]) -> Self {
        let mut all = Self::default();
        for word in words {
            let (name, value) = word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            all.0.entry(name.to_owned()).or_default().push(value.map(str::to_owned));
        }
        all
    }

    /// What a server has; nothing where it inherits all.
    pub(super) fn of_value(value: Option<&Value>) -> Self {
        let plain = |value: &Value| match value {
            Value::Text(text) if text == "~" => None,
            Value::Text(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(value) => Some(value.to_string()),
            Value::List(_) | Value::Map(_) => Some(String::new()),
        };
        let Some(Value::Map(all)) = value else { return Self::default() };
        let of = |(name, value): (&String, &Value)| match value {
            Value::List(values) => (name.clone(), values.iter().map(plain).collect()),
            value => (name.clone(), vec![plain(value)]),
        };
        Self(all.iter().map(of).collect())
    }

    /// The words of a system: Cobbler takes a key of a system in the place of the distribution's, so that what both have is repeated.
    pub(super) fn of_system(image: &[String], own: &[String]) -> Vec<String> {
        fn name(word: &str) -> &str {
            word.split('=').next().unwrap_or(word)
        }
        let shared = image.iter().filter(|word| own.iter().any(|other| name(other) == name(word)));
        shared.chain(own).cloned().collect()
    }

    /// One text for all that have the same.
    pub(super) fn canonical(&self) -> String {
        let mut out = String::new();
        for (name, values) in &self.0 {
            for value in values {
                out.push_str(name);
                out.push_str(value.as_ref().map_or(" ", |_| "="));
                out.push_str(value.as_deref().unwrap_or_default());
                out.push('\n');
            }
        }
        out
    }
}

/// Words as shlex reads them. Source: Python's shlex.quote.
pub(super) fn quoted(words: &[String]) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "@%_-+=:,./".contains(c);
    let quote = |word: &String| match word.chars().all(is_plain) && !word.is_empty() {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\"'\"'")),
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_cobbler_gives_back_is_what_it_got() {
        let ours = Options::of_words(&words("quiet console=tty0 console=ttyS0,115200 a=b=c"));
        let map = [
            ("quiet", Value::text("~")),
            ("console", Value::List(vec![Value::text("tty0"), Value::text("ttyS0,115200")])),
            ("a", Value::text("b=c")),
        ];
        let theirs = Value::Map(map.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        assert_eq!(Options::of_value(Some(&theirs)), ours);
        assert_eq!(Options::of_value(Some(&Value::text("<<inherit>>"))), Options::default());
        assert_ne!(
            ours.canonical(),
            Options::of_words(&words("quiet console=ttyS0,115200 console=tty0 a=b=c")).canonical()
        );
    }

    #[test]
    fn a_system_keeps_the_consoles_of_its_image() {
        let image = words("imgurl=http://h/a console=tty0 quiet");
        assert_eq!(
            Options::of_system(&image, &words("console=ttyS1 debug")),
            words("console=tty0 console=ttyS1 debug")
        );
    }

    #[test]
    fn words_are_quoted_for_shlex() {
        assert_eq!(quoted(&words("a=b c")), "a=b c");
        assert_eq!(quoted(&["a=\"b;c\"".to_owned(), "it's".to_owned(), String::new()]), "'a=\"b;c\"' 'it'\"'\"'s' ''");
    }

    #[test]
    fn words_that_cobbler_changes_are_known() {
        for word in ["a=$b", "#if", "!quiet", "root=", "=a", "a=~", "a\\b"] {
            assert!(problem(word).is_some(), "{word}");
        }
        for word in ["quiet", "a=b", "a=b=", "imgurl=http://@@http_server@@/x", "rd.break"] {
            assert!(problem(word).is_none(), "{word}");
        }
    }
}
