//! How the servers of a `.repo` file are asked: a proxy, and what zypper writes into addresses.

use std::path::{Path, PathBuf};

use crate::fetch::credentials::access::Proxy;

#[derive(Default)]
pub(crate) struct ProxyWords {
    /// `proxy`.
    pub address: Option<String>,
    /// `proxy_username`.
    pub user: Option<String>,
    /// `proxy_password`.
    pub password: String,
}

impl ProxyWords {
    /// Which it is. Source: dnf.conf(5): `_none_` and an empty value are none.
    pub(crate) fn proxy(self) -> Proxy {
        match self.address.as_deref() {
            None => Proxy::Environment,
            Some("" | "_none_") => Proxy::Nothing,
            Some(address) => Proxy::At(match (self.user, address.split_once("://")) {
                (None, _) => address.to_owned(),
                (Some(user), Some((scheme, host))) => with_user(scheme, &user, &self.password, host),
                (Some(user), None) => with_user("http", &user, &self.password, address),
            }),
        }
    }
}

/// Source: RFC 3986, 3.2.1.
fn with_user(scheme: &str, user: &str, password: &str, host: &str) -> String {
    let quoted = |text: &str| -> String {
        let byte = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        };
        text.bytes().map(byte).collect()
    };
    format!("{scheme}://{}:{}@{host}", quoted(user), quoted(password))
}

/// A path that may be written as an address.
pub(crate) fn path_of(text: String) -> PathBuf {
    match text.strip_prefix("file:") {
        Some(path) => PathBuf::from(format!("/{}", path.trim_start_matches('/'))),
        None => PathBuf::from(text),
    }
}

/// What zypper reads out of an address before it asks. Source: libzypp's media handlers.
const ZYPP: [&str; 15] = [
    "auth",
    "cookies",
    "credentials",
    "head_requests",
    "mediahandler",
    "password",
    "proxy",
    "proxypass",
    "proxyport",
    "proxyuser",
    "ssl_capath",
    "ssl_clientcert",
    "ssl_clientkey",
    "ssl_verify",
    "timeout",
];

/// An address without zypper's own parameters, and the file of credentials that they name.
pub fn without_zypp(url: &str) -> (String, Option<String>) {
    let Some((plain, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let mut credentials = None;
    let mut rest = Vec::new();
    for word in query.split('&').filter(|word| !word.is_empty()) {
        match word.split_once('=') {
            Some(("credentials", name)) => credentials = Some(name.to_owned()),
            Some((name, _)) if ZYPP.contains(&name) => {}
            _ => rest.push(word),
        }
    }
    let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
    (format!("{plain}{query}"), credentials)
}

/// User and password of a file of zypper's below a directory. Source: zypper(8), libzypp's CredentialFileReader.
/// Errors: A text that says why there are none.
pub fn zypp_credentials(directory: &Path, name: &str) -> Result<(String, String), String> {
    let path = directory.join(name);
    if name.is_empty() || name.contains('/') || name.starts_with('.') {
        return Err(format!("`{}` is not the name of a file in {}", name.escape_default(), directory.display()));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let value = |wanted: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines.filter(|(name, _)| name.trim() == wanted).map(|(_, value)| value.trim().to_owned()).next()
    };
    value("username").zip(value("password")).ok_or_else(|| format!("{} has no user and password", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_that_of_the_file() {
        let of = |address: Option<&str>, user: Option<&str>| {
            let words = ProxyWords {
                address: address.map(str::to_owned),
                user: user.map(str::to_owned),
                password: "a@b".to_owned(),
            };
            words.proxy()
        };
        assert!(of(None, Some("u")) == Proxy::Environment);
        assert!(of(Some("_none_"), None) == Proxy::Nothing && of(Some(""), None) == Proxy::Nothing);
        assert!(of(Some("http://p:3128"), None) == Proxy::At("http://p:3128".to_owned()));
        assert!(of(Some("http://p:3128"), Some("u")) == Proxy::At("http://u:a%40b@p:3128".to_owned()));
    }

    #[test]
    fn what_zypper_writes_into_addresses_is_read_and_taken_out() {
        for (url, plain, credentials) in [
            ("https://h/p/?token-1~x", "https://h/p/?token-1~x", None),
            ("https://h/p?credentials=SCC&auth=basic", "https://h/p", Some("SCC")),
            ("https://h/p?x=1&ssl_verify=no&y", "https://h/p?x=1&y", None),
            ("https://h/p", "https://h/p", None),
        ] {
            assert_eq!(without_zypp(url), (plain.to_owned(), credentials.map(str::to_owned)));
        }
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("SCC"), "# x\nusername = u\npassword=p=q\n").unwrap();
        std::fs::write(directory.path().join("half"), "username=u\n").unwrap();
        assert_eq!(zypp_credentials(directory.path(), "SCC"), Ok(("u".to_owned(), "p=q".to_owned())));
        for (name, problem) in [("half", "no user"), ("../SCC", "not the name"), ("none", "cannot be read")] {
            assert!(zypp_credentials(directory.path(), name).unwrap_err().contains(problem), "{name}");
        }
    }
}
