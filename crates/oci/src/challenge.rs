//! What a registry asks of those whom it does not know. Source: RFC 9110, 11.6.1; distribution's token specification.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    Basic,
    /// A token from elsewhere.
    Bearer {
        realm: String,
        service: Option<String>,
        scope: Option<String>,
    },
}

/// Reads a header; the ways that are known.
pub(crate) fn challenges(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim();
    while !rest.is_empty() {
        let (scheme, after) = rest.split_once(' ').unwrap_or((rest, ""));
        let (parameters, next) = parameters(after);
        let of = |name: &str| {
            parameters.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = of("realm")
        {
            found.push(Challenge::Bearer { realm, service: of("service"), scope: of("scope") });
        }
        rest = next;
    }
    found
}

/// `name="value", ..` up to the next scheme.
fn parameters(text: &str) -> (Vec<(String, String)>, &str) {
    let mut all = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while let Some((name, after)) = rest.split_once('=') {
        if name.trim().contains([' ', ',']) {
            break;
        }
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = after.find([',', ' ']).unwrap_or(after.len());
                (after[..end].to_owned(), &after[end..])
            }
        };
        all.push((name.trim().to_owned(), value));
        rest = next.trim_start_matches([' ', ',']);
    }
    // A scheme without parameters, or one that follows.
    (all, rest)
}

fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match letter {
            _ if escaped => {
                value.push(letter);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &text[at + 1..]),
            _ => value.push(letter),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ways_are_read() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        };
        for (text, expected) in [
            (r#"Basic realm="x""#, vec![Challenge::Basic]),
            ("basic", vec![Challenge::Basic]),
            (
                r#"Bearer realm="https://auth.test/token",service="r.test",scope="repository:a/b:pull,push""#,
                vec![bearer("https://auth.test/token", Some("r.test"), Some("repository:a/b:pull,push"))],
            ),
            (
                r#"Bearer realm="https://a/t?x=\"1\"", Basic realm="y""#,
                vec![bearer("https://a/t?x=\"1\"", None, None), Challenge::Basic],
            ),
            ("BEARER realm=https://a/t, service=s", vec![bearer("https://a/t", Some("s"), None)]),
            (r#"Negotiate, Basic realm="z""#, vec![Challenge::Basic]),
            ("Bearer", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(challenges(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic_or_spin(text in "\\PC{0,200}") {
            let _ = challenges(&text);
        }
    }
}
