//! Boolean dependencies, `(a or (b if c))`. Source: rpm.org, "Boolean Dependencies"; grammar of rpm's rpmds.c.

use crate::rpm::Capability;

/// The plain dependencies in a capability, whatever joins them; of one that cannot be read none.
pub fn plain_names(capability: &Capability) -> Vec<Capability> {
    let mut found = Vec::new();
    if let Ok(rich) = Rich::of(capability) {
        rich.each(&mut |one| found.push(one.clone()));
    }
    found
}

const DEPTH_LIMIT: usize = 32;

/// A dependency, boolean or plain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::rpm) enum Rich {
    One(Capability),
    And(Vec<Rich>),
    Or(Vec<Rich>),
    /// The first, if the second is met; else the third.
    If(Box<Rich>, Box<Rich>, Option<Box<Rich>>),
    /// The first, unless the second is met; then the third.
    Unless(Box<Rich>, Box<Rich>, Option<Box<Rich>>),
    /// Met by one package that meets all of them.
    With(Vec<Rich>),
    /// Met by one package that meets the first and not the second.
    Without(Box<Rich>, Box<Rich>),
}

impl Rich {
    /// Reads what a capability means: a boolean dependency where it begins with a parenthesis.
    pub(crate) fn of(capability: &Capability) -> Result<Self, String> {
        if !capability.name.starts_with('(') {
            return Ok(Self::One(capability.clone()));
        }
        let wrong =
            |problem: &str| format!("`{}` is not a boolean dependency: {problem}", capability.name.escape_default());
        let tokens = tokens(&capability.name);
        let mut at = 0;
        let rich = group(&tokens, &mut at, 0).map_err(|problem| wrong(&problem))?;
        if at != tokens.len() {
            return Err(wrong("something follows the last parenthesis"));
        }
        Ok(rich)
    }

    /// Calls a function with each plain dependency in it.
    pub(crate) fn each(&self, found: &mut dyn FnMut(&Capability)) {
        match self {
            Self::One(capability) => found(capability),
            Self::And(all) | Self::Or(all) | Self::With(all) => all.iter().for_each(|one| one.each(found)),
            Self::If(one, two, three) | Self::Unless(one, two, three) => {
                one.each(found);
                two.each(found);
                if let Some(three) = three {
                    three.each(found);
                }
            }
            Self::Without(one, two) => {
                one.each(found);
                two.each(found);
            }
        }
    }
}

/// Words and parentheses; parentheses within a word, as in `perl(Foo)` or `lib.so()(64bit)`, belong to it.
fn tokens(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            byte if byte.is_ascii_whitespace() => at += 1,
            b'(' | b')' => {
                found.push(&text[at..=at]);
                at += 1;
            }
            _ => {
                let start = at;
                let mut open = 0usize;
                while at < bytes.len() && !bytes[at].is_ascii_whitespace() {
                    match bytes[at] {
                        b'(' => open += 1,
                        b')' if open == 0 => break,
                        b')' => open -= 1,
                        _ => {}
                    }
                    at += 1;
                }
                found.push(&text[start..at]);
            }
        }
    }
    found
}

/// What stands between two parentheses.
fn group(tokens: &[&str], at: &mut usize, depth: usize) -> Result<Rich, String> {
    if depth >= DEPTH_LIMIT {
        return Err("it is nested too deeply".to_owned());
    }
    if tokens.get(*at) != Some(&"(") {
        return Err("a parenthesis is missing".to_owned());
    }
    *at += 1;
    let first = operand(tokens, at, depth)?;
    let word = *tokens.get(*at).ok_or("a parenthesis is not closed")?;
    *at += 1;
    let rich = match word {
        ")" => return Ok(first),
        "and" | "or" | "with" => {
            let mut all = vec![first, operand(tokens, at, depth)?];
            while tokens.get(*at) == Some(&word) {
                *at += 1;
                all.push(operand(tokens, at, depth)?);
            }
            match word {
                "and" => Rich::And(all),
                "or" => Rich::Or(all),
                _ => Rich::With(all),
            }
        }
        "without" => Rich::Without(Box::new(first), Box::new(operand(tokens, at, depth)?)),
        "if" | "unless" => {
            let condition = Box::new(operand(tokens, at, depth)?);
            let other = if tokens.get(*at) == Some(&"else") {
                *at += 1;
                Some(Box::new(operand(tokens, at, depth)?))
            } else {
                None
            };
            if word == "if" {
                Rich::If(Box::new(first), condition, other)
            } else {
                Rich::Unless(Box::new(first), condition, other)
            }
        }
        other => return Err(format!("`{}` is not an operator", other.escape_default())),
    };
    if tokens.get(*at) != Some(&")") {
        return Err("operators are mixed without parentheses, or one is not closed".to_owned());
    }
    *at += 1;
    Ok(rich)
}

fn operand(tokens: &[&str], at: &mut usize, depth: usize) -> Result<Rich, String> {
    let word = *tokens.get(*at).ok_or("it is truncated")?;
    if word == "(" {
        return group(tokens, at, depth + 1);
    }
    if word == ")" {
        return Err("an operand is missing".to_owned());
    }
    *at += 1;
    let relation = tokens.get(*at).copied().and_then(crate::rpm::Relation::parse);
    let Some(relation) = relation else { return Ok(Rich::One(Capability { name: word.into(), version: None })) };
    let version = *tokens.get(*at + 1).ok_or("a version is missing")?;
    *at += 2;
    Ok(Rich::One(Capability {
        name: word.into(),
        version: Some(std::sync::Arc::new((relation, crate::rpm::Evr::parse(version)))),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Rich, String> {
        Rich::of(&Capability { name: text.into(), version: None })
    }

    #[test]
    fn all_operators_are_read() {
        let one = |text: &str| Rich::One(Capability::parse(text));
        assert_eq!(read("(a and b and c)").unwrap(), Rich::And(vec![one("a"), one("b"), one("c")]));
        assert_eq!(
            read("(perl(Foo) >= 1.2 or libx.so.1()(64bit))").unwrap(),
            Rich::Or(vec![one("perl(Foo) >= 1.2"), one("libx.so.1()(64bit)")])
        );
        assert_eq!(
            read("((a or b) if c else d)").unwrap(),
            Rich::If(Box::new(Rich::Or(vec![one("a"), one("b")])), Box::new(one("c")), Some(Box::new(one("d"))))
        );
        assert_eq!(read("(a >= 1 with a < 2)").unwrap(), Rich::With(vec![one("a >= 1"), one("a < 2")]));
        assert_eq!(read("(a without b)").unwrap(), Rich::Without(Box::new(one("a")), Box::new(one("b"))));
        assert_eq!(read("(a unless b)").unwrap(), Rich::Unless(Box::new(one("a")), Box::new(one("b")), None));
        assert_eq!(read("plain").unwrap(), one("plain"));
        for wrong in ["(", "()", "(a", "(a b)", "(a or)", "(a or b and c)", "(a or b) c", "(a >=)"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!(read(&"(".repeat(1000)).is_err());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\([a-c()<>= éorandif]{0,40}") {
            let _ = read(&text);
        }
    }
}
