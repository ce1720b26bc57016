//! Variables in directories: `$node`, `$table.column`.

use std::collections::BTreeMap;

/// Why a text has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VariableProblem {
    /// Nothing has this name.
    Undefined(String),
    /// `#CMD=..#` would run on the management node.
    Command,
    /// A value leads elsewhere, or has what a path cannot have.
    Value(String),
}

/// Puts values in. A name ends at `/`, a blank, `#` or the next `$`; names behind one another are joined by a dot, as in xCAT.
/// Errors: [`VariableProblem`]; xCAT would write UNDEFINED.
pub fn expand(text: &str, values: &BTreeMap<String, String>) -> Result<String, VariableProblem> {
    if text.contains("#CMD=") {
        return Err(VariableProblem::Command);
    }
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        let name = &rest[at + 1..];
        let end = name.find(['/', ' ', '#', '$', ':']).unwrap_or(name.len());
        let (name, behind) = name.split_at(end);
        let value = values.get(name).ok_or_else(|| VariableProblem::Undefined(name.to_owned()))?;
        let is_plain = !value.is_empty()
            && !value.split('/').any(|part| part == "..")
            && !value.chars().any(|one| one.is_whitespace() || one.is_control());
        if !is_plain {
            return Err(VariableProblem::Value(name.to_owned()));
        }
        done.push_str(value);
        if behind.starts_with('$') {
            done.push('.');
        }
        rest = behind;
    }
    done.push_str(rest);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_those_of_xcat() {
        let values = [
            ("node", "n01"),
            ("noderes.nfsserver", "10.0.0.5"),
            ("nodetype.profile", "compute"),
            ("nodetype.os", "deb12"),
            ("up", "../x"),
        ];
        let values = values.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        for (text, expected) in [
            ("/nodedata/$node", Ok("/nodedata/n01")),
            ("$noderes.nfsserver:/n/$node", Ok("10.0.0.5:/n/n01")),
            ("nfs1:/n/$node", Ok("nfs1:/n/n01")),
            ("/state/$nodetype.profile/$node", Ok("/state/compute/n01")),
            ("/a$node#x", Ok("/an01#x")),
            ("$node$nodetype.os", Ok("n01.deb12")),
            ("/a$node-x", Err(VariableProblem::Undefined("node-x".to_owned()))),
            ("/x/$foo", Err(VariableProblem::Undefined("foo".to_owned()))),
            ("/p/#CMD=echo hi#/q", Err(VariableProblem::Command)),
            ("/p/$up", Err(VariableProblem::Value("up".to_owned()))),
        ] {
            assert_eq!(expand(text, &values), expected.map(str::to_owned), "{text}");
        }
    }
}
