//! Credentials for protected archives: kept outside recipes, looked up by URL, never logged.
//!
//! They are read once, from the first of these that knows the address: a file of imgbuild's own (`$IMGBUILD_CREDENTIALS`, or
//! `imgbuild/credentials.toml` below `$XDG_CONFIG_HOME` or `~/.config`), netrc (`$NETRC` or `~/.netrc`), and apt's
//! /etc/apt/auth.conf and auth.conf.d. Source: apt_auth.conf(5), netrc(5) of GNU inetutils, RFC 7617, RFC 6750.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{LazyLock, Mutex, PoisonError};

use serde::Deserialize;

pub(crate) mod access;
pub(crate) mod address;
pub(crate) mod s3;

use access::{Tls, access_of};
use address::basic;

/// Largest file of credentials, in bytes.
const LIMIT: u64 = 1 << 20;

#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    url: String,
    user: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    token_file: Option<PathBuf>,
    token_env: Option<String>,
    /// A program and its arguments; the first line that it prints is the token.
    token_command: Option<Vec<String>>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    /// Certificates that the server's is checked with, instead of the host's.
    ca: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnFile {
    #[serde(default)]
    credentials: Vec<Own>,
}

/// What is sent to addresses below one.
struct Rule {
    /// None: http and https.
    scheme: Option<String>,
    /// Host, with a port where one is named.
    host: String,
    path: String,
    how: How,
    /// The header, once it was made.
    header: Mutex<Option<String>>,
}

enum How {
    Basic(String, String),
    Own(Box<Own>),
}

#[derive(Default)]
pub(crate) struct Credentials {
    rules: Vec<Rule>,
    /// Files that could not be used, and why.
    problems: Vec<String>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials")
    }
}

impl Credentials {
    pub(crate) fn of_host() -> &'static Self {
        static HOST: LazyLock<Credentials> = LazyLock::new(Credentials::read);
        &HOST
    }

    fn read() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let home = variable("HOME");
        let mut all = Self::default();
        let own = variable("IMGBUILD_CREDENTIALS");
        let is_named = own.is_some();
        let usual = || {
            let folder = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
            folder.map(|folder| folder.join("imgbuild/credentials.toml"))
        };
        if let Some(path) = own.or_else(usual) {
            all.own(&path, is_named);
        }
        if let Some(path) = variable("NETRC").or_else(|| home.as_ref().map(|home| home.join(".netrc"))) {
            all.netrc(&path);
        }
        let mut files = vec![PathBuf::from("/etc/apt/auth.conf")];
        let folder = std::fs::read_dir("/etc/apt/auth.conf.d").into_iter().flatten().flatten();
        let mut parts: Vec<PathBuf> = folder.map(|entry| entry.path()).collect();
        parts.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
        parts.sort();
        files.extend(parts);
        files.iter().for_each(|path| all.netrc(path));
        all
    }

    /// The text of a file; none where it is not there.
    fn text(&mut self, path: &Path) -> Option<String> {
        let found = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
        let read = if found.len() > LIMIT {
            Err("it is too large".to_owned())
        } else {
            std::fs::read_to_string(path).map_err(|error| error.to_string())
        };
        read.map_err(|problem| self.problems.push(format!("{} cannot be read: {problem}", path.display()))).ok()
    }

    fn own(&mut self, path: &Path, is_named: bool) {
        let Some(text) = self.text(path) else {
            if is_named && self.problems.is_empty() {
                self.problems.push(format!("{} does not exist (IMGBUILD_CREDENTIALS)", path.display()));
            }
            return;
        };
        let parsed: OwnFile = match toml::from_str(&text) {
            Ok(parsed) => parsed,
            // The message of the parser may show a line with a password.
            Err(error) => {
                let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
                return self.problems.push(format!("{}:{line} is not a credentials file", path.display()));
            }
        };
        let mode = std::fs::metadata(path).map_or(0, |found| found.permissions().mode());
        if parsed.credentials.iter().any(|one| one.password.is_some()) && mode & 0o077 != 0 {
            let path = path.display();
            return self
                .problems
                .push(format!("{path} contains a password and is readable by others: chmod 600 {path}"));
        }
        for own in parsed.credentials {
            let (scheme, rest) =
                own.url.split_once("://").map_or((None, own.url.as_str()), |(scheme, rest)| (Some(scheme), rest));
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let (scheme, host, path) = (scheme.map(str::to_owned), host.to_owned(), path.to_owned());
            self.rules.push(Rule { scheme, host, path, how: How::Own(Box::new(own)), header: Mutex::default() });
        }
    }

    /// netrc's words, with apt's scheme and path in `machine`. `default` and macros count for nothing.
    fn netrc(&mut self, path: &Path) {
        let Some(text) = self.text(path) else { return };
        let lines = text
            .lines()
            .map(|line| line.split(" #").next().unwrap_or(line))
            .filter(|line| !line.trim_start().starts_with('#'));
        let mut words = lines.flat_map(str::split_whitespace);
        let mut machine: Option<(String, Option<String>, Option<String>)> = None;
        let mut found = Vec::new();
        while let Some(word) = words.next() {
            match word {
                "machine" => found.extend(machine.replace((words.next().unwrap_or_default().to_owned(), None, None))),
                "default" => found.extend(machine.take()),
                "login" => {
                    let value = words.next();
                    machine.iter_mut().for_each(|one| one.1 = value.map(str::to_owned));
                }
                "password" => {
                    let value = words.next();
                    machine.iter_mut().for_each(|one| one.2 = value.map(str::to_owned));
                }
                "account" => drop(words.next()),
                _ => {}
            }
        }
        found.extend(machine);
        for (machine, login, password) in found {
            let (Some(login), Some(password)) = (login, password) else { continue };
            let (scheme, rest) =
                machine.split_once("://").map_or((None, machine.as_str()), |(scheme, rest)| (Some(scheme), rest));
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            self.rules.push(Rule {
                scheme: scheme.map(str::to_owned),
                host: host.to_owned(),
                path: path.to_owned(),
                how: How::Basic(login, password),
                header: Mutex::default(),
            });
        }
    }

    fn rule(&self, url: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.is_for(url))
    }

    /// Value of the `Authorization` header of a request to an address; none where nothing is known.
    /// Errors: A text without secrets, where what is known cannot be used.
    pub(crate) fn authorization(&self, url: &str) -> Result<Option<String>, String> {
        if let Some(access) = access_of(url) {
            if let Some((user, password)) = access.user {
                return Ok(Some(basic(&user, &password)));
            }
            if access.may_divert() {
                return Ok(None);
            }
        }
        let Some(rule) = self.rule(url) else { return Ok(None) };
        let mut header = rule.header.lock().unwrap_or_else(PoisonError::into_inner);
        if header.is_none() {
            *header = match &rule.how {
                How::Basic(user, password) => Some(basic(user, password)),
                How::Own(own) => own.authorization()?,
            };
        }
        Ok(header.clone())
    }

    pub(crate) fn tls(&self, url: &str) -> Tls {
        if let Some(access) = access_of(url).filter(|access| access.tls != Tls::default()) {
            return access.tls;
        }
        match self.rule(url).map(|rule| &rule.how) {
            Some(How::Own(own)) => Tls {
                ca: own.ca.clone(),
                client_certificate: own.client_certificate.clone(),
                client_key: own.client_key.clone(),
                unverified: None,
            },
            _ => Tls::default(),
        }
    }

    pub(crate) fn hint(&self, url: &str) -> String {
        let known = match self.rule(url).is_some() || access_of(url).is_some() {
            true => "this host's credentials for it were rejected",
            false => "this host has no credentials for it (docs/security.md, Credentials)",
        };
        let problems: Vec<&str> = self.problems.iter().map(String::as_str).collect();
        [&[known][..], &problems].concat().join("; ")
    }
}

impl Rule {
    fn is_for(&self, url: &str) -> bool {
        let Some((scheme, rest)) = url.split_once("://") else { return false };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        // A password for no one in particular goes over https alone, or to this machine; who wants it otherwise says http.
        let host = authority.split(':').next().unwrap_or(authority);
        let is_scheme = match &self.scheme {
            Some(own) => own == scheme,
            None => scheme == "https" || ["localhost", "127.0.0.1", "[::1]"].contains(&host),
        };
        let is_host = self.host.eq_ignore_ascii_case(authority) || self.host.eq_ignore_ascii_case(host);
        let own = self.path.trim_end_matches('/');
        let is_path = path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        is_scheme && is_host && is_path && !path.split('/').any(|part| part == "..")
    }
}

impl Own {
    fn authorization(&self) -> Result<Option<String>, String> {
        let first = |text: String| text.lines().next().unwrap_or_default().trim().to_owned();
        let file = |path: &Path| {
            let read = std::fs::read_to_string(path).map(first);
            read.map_err(|error| format!("credentials for {}: {} cannot be read: {error}", self.url, path.display()))
        };
        let variable = |name: &str| {
            std::env::var(name).map_err(|_| format!("credentials for {}: the variable {name} is not set", self.url))
        };
        let token = match (&self.token_command, &self.token_file, &self.token_env) {
            (Some(command), _, _) => Some(self.printed(command).map(first)?),
            (None, Some(path), _) => Some(file(path)?),
            (None, None, Some(name)) => Some(variable(name)?),
            (None, None, None) => None,
        };
        if let Some(token) = token {
            return Ok(Some(format!("Bearer {token}")));
        }
        let Some(user) = &self.user else { return Ok(None) };
        let password = match (&self.password, &self.password_file, &self.password_env) {
            (Some(password), _, _) => password.clone(),
            (None, Some(path), _) => file(path)?,
            (None, None, Some(name)) => variable(name)?,
            (None, None, None) => String::new(),
        };
        Ok(Some(basic(user, &password)))
    }

    /// What a command prints; its errors go to the terminal, as it may ask there.
    fn printed(&self, command: &[String]) -> Result<String, String> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| format!("credentials for {}: token_command is empty", self.url))?;
        let failed = |problem: String| format!("credentials for {}: `{program}` {problem}", self.url);
        let output = Command::new(program)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stderr(std::process::Stdio::inherit())
            .output()
            .map_err(|error| failed(format!("cannot be started: {error}")))?;
        if !output.status.success() {
            return Err(failed(format!("ended with {}", output.status)));
        }
        String::from_utf8(output.stdout).map_err(|_| failed("printed no text".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> Credentials {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut all = Credentials::default();
        if name.ends_with(".toml") {
            all.own(&path, true)
        } else {
            all.netrc(&path)
        }
        all
    }

    fn header(all: &Credentials, url: &str) -> Option<String> {
        all.authorization(url).unwrap()
    }

    #[test]
    fn the_forms_of_netrc_and_apt_are_read() {
        let all = of(
            "netrc",
            "# ours\nmachine a.example login u password p\nmachine http://b.example/private/ login v\n password q # x\n\
             machine c.example:8443 login w password r\ndefault login x password y\n",
        );
        assert_eq!(header(&all, "https://a.example/x"), Some(basic("u", "p")));
        // Not in clear unless that is said, not to another host, not above the path.
        assert_eq!(header(&all, "http://a.example/x"), None);
        assert_eq!(header(&all, "https://a.example.evil/x"), None);
        assert_eq!(header(&all, "http://b.example/private/dists/x"), Some(basic("v", "q")));
        assert_eq!(header(&all, "http://b.example/privateer"), None);
        assert_eq!(header(&all, "http://b.example/private/../x"), None);
        assert_eq!(header(&all, "https://c.example:8443/"), Some(basic("w", "r")));
        assert_eq!(header(&all, "https://c.example/"), None);
        assert_eq!(header(&all, "https://z.example/"), None);
    }

    #[test]
    fn a_file_of_ones_own_has_passwords_tokens_and_commands() {
        let text = "[[credentials]]\nurl = \"https://a/x\"\nuser = \"u\"\npassword = \"p\"\n\
                    [[credentials]]\nurl = \"https://b\"\ntoken_command = [\"printf\", \"abc\\\\nrest\"]\n\
                    [[credentials]]\nurl = \"https://c\"\ntoken_command = [\"false\"]\n\
                    [[credentials]]\nurl = \"https://d\"\nuser = \"u\"\npassword_env = \"IMGBUILD_NO_SUCH\"\n";
        let all = of("own.toml", text);
        assert_eq!(all.problems, [""; 0]);
        assert_eq!(header(&all, "https://a/x/y"), Some(basic("u", "p")));
        assert_eq!(header(&all, "https://b/"), Some("Bearer abc".to_owned()));
        assert!(all.authorization("https://c/").err().unwrap().contains("`false` ended with"));
        assert!(all.authorization("https://d/").err().unwrap().contains("IMGBUILD_NO_SUCH is not set"));
        let broken = of("own.toml", "[[credentials]]\nurl = \"https://a\"\npasword = \"secret\"\n");
        assert!(
            broken.problems[0].contains("own.toml:") && !broken.problems[0].contains("secret"),
            "{:?}",
            broken.problems
        );
    }
}
