//! apt's own proxies on this host. Sources: apt.conf(5), apt-transport-http(1), apt-transport-https(1).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::parts;
use crate::fetch::credentials::access::Proxy;

/// Settings by their names in small letters, joined with `::`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings(BTreeMap<String, String>);

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Open,
    Close,
    End,
}

/// Cuts a text into words. Comments are those of C and C++, and lines that begin with `#`.
fn tokens(text: &str) -> Vec<Token> {
    let mut all = Vec::new();
    let mut rest = text;
    let mut at_start = true;
    while let Some(first) = rest.chars().next() {
        let begins = |sign: &str| rest.starts_with(sign);
        if begins("//") || (at_start && begins("#")) {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        if begins("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
            continue;
        }
        at_start = first == '\n' || (at_start && first.is_whitespace());
        match first {
            '{' | '}' | ';' => {
                all.push(match first {
                    '{' => Token::Open,
                    '}' => Token::Close,
                    _ => Token::End,
                });
                rest = &rest[1..];
            }
            '"' => {
                let inside = &rest[1..];
                let end = inside.find('"').unwrap_or(inside.len());
                all.push(Token::Word(inside[..end].to_owned()));
                rest = inside.get(end + 1..).unwrap_or("");
            }
            _ if first.is_whitespace() => rest = &rest[first.len_utf8()..],
            _ => {
                let end = rest.find(|sign: char| sign.is_whitespace() || matches!(sign, '{' | '}' | ';' | '"'));
                let (word, later) = rest.split_at(end.unwrap_or(rest.len()));
                all.push(Token::Word(word.to_owned()));
                rest = later;
            }
        }
    }
    all
}

impl Settings {
    /// Takes what a file says; what was said before gives way.
    fn take(&mut self, text: &str) {
        let mut scopes: Vec<String> = Vec::new();
        let mut words: Vec<String> = Vec::new();
        for token in tokens(text) {
            let name = |scopes: &[String], word: &str| {
                let parts = scopes.iter().map(String::as_str).chain([word]).filter(|part| !part.is_empty());
                parts.collect::<Vec<_>>().join("::").to_ascii_lowercase()
            };
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => {
                    if let [scope, value] = &words[..] {
                        self.0.insert(name(&scopes, scope), value.clone());
                    }
                    scopes.push(words.first().cloned().unwrap_or_default());
                    words.clear();
                }
                Token::End | Token::Close => {
                    if let [word, value] = &words[..] {
                        self.0.insert(name(&scopes, word), value.clone());
                    }
                    words.clear();
                    if token == Token::Close {
                        scopes.pop();
                    }
                }
            }
        }
    }

    /// Reads a host's files below `/etc/apt`, in apt's order. What cannot be read is passed over, as nothing of it is needed to build.
    fn read(root: &Path) -> Self {
        let mut all = Self::default();
        let folder = std::fs::read_dir(root.join("apt.conf.d")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = folder.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_none_or(|ending| ending == "conf"));
        files.sort();
        files.push(root.join("apt.conf"));
        for file in files {
            all.take(&std::fs::read_to_string(file).unwrap_or_default());
        }
        all
    }

    /// By way of what apt asks for an address; none where it says nothing of that.
    pub(crate) fn proxy_of(&self, url: &str) -> Option<Proxy> {
        let (scheme, host, _) = parts(url)?;
        // What https does not say for itself is http's.
        let schemes: &[&str] = match scheme {
            "http" => &["http"],
            "https" => &["https", "http"],
            _ => return None,
        };
        let said = |scheme: &str| {
            let proxy = format!("acquire::{scheme}::proxy");
            self.0.get(&format!("{proxy}::{host}")).or_else(|| self.0.get(&proxy))
        };
        match schemes.iter().find_map(|scheme| said(scheme))?.as_str() {
            "" => None,
            "DIRECT" | "false" => Some(Proxy::Nothing),
            address => Some(Proxy::At(address.to_owned())),
        }
    }
}

pub(crate) fn of_host() -> &'static Settings {
    static HOST: OnceLock<Settings> = OnceLock::new();
    HOST.get_or_init(|| Settings::read(Path::new("/etc/apt")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(texts: &[&str]) -> Settings {
        let mut all = Settings::default();
        texts.iter().for_each(|text| all.take(text));
        all
    }

    #[test]
    fn proxies_are_those_of_the_scheme_and_the_host() {
        let at = |address: &str| Some(Proxy::At(address.to_owned()));
        let text = "// a comment\n# another \"\nAcquire::http::Proxy \"http://cache:3142\"; /* Acquire::http::Proxy \"x\"; */\n\
                    acquire { HTTP { Proxy { near.example \"DIRECT\"; }; }; };\nAPT::Periodic::Enable \"1\";\n";
        let all = settings(&[text]);
        assert!(all.proxy_of("http://far.example/debian") == at("http://cache:3142"));
        assert!(all.proxy_of("https://far.example/debian") == at("http://cache:3142"));
        assert!(all.proxy_of("http://NEAR.example:80/debian") == Some(Proxy::Nothing));
        assert!(all.proxy_of("file:/srv/debian").is_none());
        let all = settings(&[text, "Acquire::https::Proxy \"DIRECT\"; Acquire::http::Proxy http://other:3142;"]);
        assert!(all.proxy_of("https://far.example/debian") == Some(Proxy::Nothing));
        assert!(all.proxy_of("http://far.example/debian") == at("http://other:3142"));
        assert!(settings(&["Acquire::http::Proxy \"\";"]).proxy_of("http://m/").is_none());
        let block = settings(&["Acquire{http{Proxy \"http://a:1\"{m \"http://b:2\";};}}"]);
        assert!(block.proxy_of("http://m/") == at("http://b:2") && block.proxy_of("http://n/") == at("http://a:1"));
    }

    #[test]
    fn files_are_read_in_apts_order() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, address: &str| {
            let file = folder.path().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, format!("Acquire::http::Proxy \"{address}\";\n")).unwrap();
        };
        write("apt.conf.d/00proxy", "http://first");
        write("apt.conf.d/90proxy.dpkg-old", "http://old");
        let proxy = || Settings::read(folder.path()).proxy_of("http://m/").unwrap();
        assert!(proxy() == Proxy::At("http://first".to_owned()));
        write("apt.conf.d/50proxy.conf", "http://second");
        assert!(proxy() == Proxy::At("http://second".to_owned()));
        write("apt.conf", "DIRECT");
        assert!(proxy() == Proxy::Nothing);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[\\PC\n\"{};/#*]{0,200}") {
            settings(&[&text]);
        }
    }
}
