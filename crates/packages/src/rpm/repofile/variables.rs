//! What stands for `$releasever` and the like in `.repo` files.

use std::collections::BTreeMap;

/// How deep variables may be nested in one another's defaults.
const DEPTH_LIMIT: usize = 8;

/// Variables that `.repo` files may use: `releasever`, `basearch`, `arch`, and those of /etc/dnf/vars.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(pub BTreeMap<String, String>);

impl Variables {
    pub fn of(release: &str, arch: &str) -> Self {
        // Source: dnf's arch table; other names stand for themselves.
        let base = match arch {
            "i486" | "i586" | "i686" | "athlon" => "i386",
            "armv7hl" | "armv7hnl" => "armhfp",
            other => other,
        };
        let mut all: BTreeMap<String, String> = [("releasever", release), ("arch", arch), ("basearch", base)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        let (major, minor) = release.split_once('.').unwrap_or((release, ""));
        all.insert("releasever_major".to_owned(), major.to_owned());
        all.insert("releasever_minor".to_owned(), minor.to_owned());
        Self(all)
    }

    /// Those of an image: what its release and its CPU give, `others` besides, and before all what the recipe says itself.
    ///
    /// A recipe's own `releasever` has its own parts, as dnf has them. Source: dnf, `set_release`, and libdnf's ConfigParser.
    pub fn of_image(
        release: &str,
        arch: &str,
        others: &BTreeMap<String, String>,
        own: &BTreeMap<String, String>,
    ) -> Self {
        let mut all = Self::of(own.get("releasever").map_or(release, String::as_str), arch);
        for (name, value) in others {
            all.0.entry(name.clone()).or_insert_with(|| value.clone());
        }
        all.0.extend(own.clone());
        all
    }

    /// Puts values in the place of `$name`, `${name}`, `${name:-default}` and `${name:+instead}`.
    /// Errors: The name of a variable that has no value.
    pub fn expand(&self, text: &str) -> Result<String, String> {
        self.expand_at(text, 0)
    }

    fn expand_at(&self, text: &str, depth: usize) -> Result<String, String> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if let Some(inner) = rest.strip_prefix('{') {
                let mut open = 1usize;
                let end = inner.char_indices().find_map(|(at, c)| {
                    match c {
                        '{' => open += 1,
                        '}' => open -= 1,
                        _ => {}
                    }
                    (open == 0).then_some(at)
                });
                let Some(end) = end.filter(|_| depth < DEPTH_LIMIT) else {
                    return Err(inner.chars().take_while(|c| is_name(*c)).collect());
                };
                let (name, other) = match inner[..end].split_once(':') {
                    Some((name, other)) => (name, Some(other)),
                    None => (&inner[..end], None),
                };
                let value = self.0.get(name).filter(|value| other.is_none() || !value.is_empty());
                match (value, other) {
                    (Some(value), None) => out.push_str(value),
                    (value, Some(other)) if other.starts_with('+') => {
                        if value.is_some() {
                            out.push_str(&self.expand_at(&other[1..], depth + 1)?);
                        }
                    }
                    (Some(value), Some(_)) => out.push_str(value),
                    (None, Some(other)) if other.starts_with('-') => {
                        out.push_str(&self.expand_at(&other[1..], depth + 1)?);
                    }
                    (None, _) => return Err(name.to_owned()),
                }
                rest = &inner[end + 1..];
                continue;
            }
            let end = rest.find(|c: char| !is_name(c)).unwrap_or(rest.len());
            let name = &rest[..end];
            match self.0.get(name) {
                Some(value) => out.push_str(value),
                // A lone dollar is one.
                None if name.is_empty() => out.push('$'),
                None => return Err(name.to_owned()),
            }
            rest = &rest[end..];
        }
        out.push_str(rest);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_have_defaults_and_replacements() {
        let variables = Variables(BTreeMap::from([("a".to_owned(), "1".to_owned()), ("e".to_owned(), String::new())]));
        for (text, expected) in [
            ("$a/${a}", "1/1"),
            ("${b:-x}${e:-y}${b:-${a}}", "xy1"),
            ("${a:+z}${b:+z}", "z"),
            ("cost 5$ or $", "cost 5$ or $"),
        ] {
            assert_eq!(variables.expand(text).unwrap(), expected, "{text}");
        }
        let empty = BTreeMap::new();
        for (release, own, expected) in
            [("10.1", None, "10.1 10 1z"), ("9", None, "9 9 "), ("9", Some("9.4"), "9.4 9 4z")]
        {
            let own = own.map(|own| ("releasever".to_owned(), own.to_owned())).into_iter().collect();
            let all = Variables::of_image(release, "x86_64", &empty, &own);
            let text = "$releasever ${releasever_major} $releasever_minor${releasever_minor:+z}";
            assert_eq!(all.expand(text).unwrap(), expected, "{release}");
        }
        assert_eq!(variables.expand("$b").unwrap_err(), "b");
        assert!(variables.expand("${a").is_err() && variables.expand(&"${b:-".repeat(50)).is_err());
    }
}
