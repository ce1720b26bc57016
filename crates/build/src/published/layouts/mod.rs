//! Publications in the layouts of other tools, besides `out/<image>`.

mod swap;
pub(crate) mod xcat;

use std::path::PathBuf;
use std::str::FromStr;

pub(crate) use xcat::{XcatPublication, XcatPublished, xcat_drift};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Xcat(PathBuf),
}

const KNOWN: &str = "the supported layout is xcat:DIR, with DIR the absolute path of an osimage's rootimgdir";

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("xcat", path)) if path.starts_with('/') => Ok(Self::Xcat(PathBuf::from(path))),
            Some(("xcat", path)) => Err(format!("`{path}` is not an absolute path; {KNOWN}")),
            Some((kind, _)) => Err(format!("there is no layout `{kind}`; {KNOWN}")),
            None => Err(format!("it names no layout; {KNOWN}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_layout_and_an_absolute_path() {
        assert_eq!("xcat:/install/a:b".parse(), Ok(Target::Xcat("/install/a:b".into())));
        for (text, said) in [
            ("xcat:install/a", "not an absolute path"),
            ("xcat:", "not an absolute path"),
            ("warewulf:/a", "no layout `warewulf`"),
            ("/a", "names no layout"),
        ] {
            let problem = text.parse::<Target>().unwrap_err();
            assert!(problem.contains(said) && problem.contains("the supported layout is xcat:DIR"), "{problem}");
        }
    }
}
