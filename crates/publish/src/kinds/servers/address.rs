//! `URL?name=value&name=value`: where a server is, and what imgbuild has to know of it besides.

use crate::{Destination, Error};

/// An address with its options.
#[derive(Debug)]
pub(in crate::kinds) struct Address {
    /// Without options, and without a slash at its end.
    pub url: String,
    options: Vec<(String, String)>,
    /// As it was written, for messages.
    whole: String,
}

impl Address {
    /// Errors: [`Error::Server`] where the destination is a file, or an option is unknown, empty or given twice.
    pub(in crate::kinds) fn of(destination: &Destination, known: &[&str]) -> Result<Self, Error> {
        let whole = destination.to_string();
        let Some(text) = destination.url() else {
            return Err(refused(&whole, "it is not the address of a server", "write it with http:// or https://"));
        };
        let (url, query) = text.split_once('?').unwrap_or((text, ""));
        let mut options: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if !known.contains(&name) {
                let problem = format!("there is no option `{name}`");
                return Err(refused(&whole, &problem, &format!("the options are {}", known.join(", "))));
            }
            if value.is_empty() || options.iter().any(|(other, _)| other == name) {
                let problem = format!("the option `{name}` is empty, or is given twice");
                return Err(refused(&whole, &problem, &format!("write `?{name}=VALUE`, once")));
            }
            options.push((name.to_owned(), value.trim_end_matches('/').to_owned()));
        }
        Ok(Self { url: url.trim_end_matches('/').to_owned(), options, whole })
    }

    pub(in crate::kinds) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    /// An option that is the address of a server.
    /// Errors: [`Error::Server`] where it is something else, or names a user or a password.
    pub(in crate::kinds) fn server(&self, name: &str) -> Result<Option<&str>, Error> {
        let Some(value) = self.option(name) else { return Ok(None) };
        let rest = value.strip_prefix("http://").or_else(|| value.strip_prefix("https://"));
        let host = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
        if host.is_empty() || host.contains('@') {
            let problem = format!("the option `{name}` is not the address of a server");
            let help = format!("write `{name}=http://HOST` without a user; credentials are read from files");
            return Err(refused(&self.whole, &problem, &help));
        }
        Ok(Some(value))
    }

    /// An option that is an absolute path.
    /// Errors: [`Error::Server`] where it is something else.
    pub(in crate::kinds) fn path(&self, name: &str) -> Result<Option<&str>, Error> {
        let Some(value) = self.option(name) else { return Ok(None) };
        let is_odd = |part: &str| part == "." || part == "..";
        if !value.starts_with('/') || value.split('/').any(is_odd) || value.contains(char::is_control) {
            let problem = format!("the option `{name}` is not an absolute path");
            return Err(refused(&self.whole, &problem, &format!("write `{name}=/DIRECTORY`")));
        }
        Ok(Some(value))
    }
}

fn refused(whole: &str, problem: &str, help: &str) -> Error {
    Error::Server { url: whole.to_owned(), problem: problem.to_owned(), help: help.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Address, Error> {
        Address::of(&text.parse().unwrap(), &["dir", "files"])
    }

    #[test]
    fn options_stand_behind_a_question_mark() {
        let address = of("cobbler:http://h/api/?dir=/srv/a/&files=http://h/b").unwrap();
        assert_eq!(address.url, "http://h/api");
        assert_eq!(address.path("dir").unwrap(), Some("/srv/a"));
        assert_eq!(address.server("files").unwrap(), Some("http://h/b"));
        assert_eq!(of("cobbler:http://h/api").unwrap().option("dir"), None);
        for (text, said) in [
            ("cobbler:http://h?dri=/a", "no option `dri`"),
            ("cobbler:http://h?dir=", "is empty"),
            ("cobbler:http://h?dir=/a&dir=/b", "given twice"),
            ("grendel:/etc/images.json", "not the address of a server"),
        ] {
            assert!(of(text).unwrap_err().to_string().contains(said), "{text}");
        }
        for text in ["dir=a", "dir=/a/../b"] {
            assert!(of(&format!("cobbler:http://h?{text}")).unwrap().path("dir").is_err(), "{text}");
        }
        for text in ["files=ftp://h", "files=http://", "files=http://u:p@h/"] {
            assert!(of(&format!("cobbler:http://h?{text}")).unwrap().server("files").is_err(), "{text}");
        }
    }
}
