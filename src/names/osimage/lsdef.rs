//! xCAT's `lsdef` for osimages (reference 1.1).

use clap::Parser;

use crate::names::shell::Shell;
use crate::names::{Done, Ended};
use crate::output::render;

/// Shows definitions of images
#[derive(Debug, Parser)]
#[command(name = "lsdef", disable_version_flag = true)]
pub(crate) struct Arguments {
    /// Names of osimages
    #[arg(value_delimiter = ',')]
    pub names: Vec<String>,
    /// Kind of the objects
    #[arg(short = 't', value_name = "TYPE")]
    pub kind: Option<String>,
    /// Names, in xCAT's other form
    #[arg(short = 'o', value_name = "NAMES", value_delimiter = ',')]
    pub objects: Vec<String>,
    /// All attributes
    #[arg(short = 'l', long)]
    pub long: bool,
    /// Only names
    #[arg(short = 's', long)]
    pub short: bool,
    /// As stanzas for mkdef
    #[arg(short = 'z', long)]
    pub stanza: bool,
    /// Only these attributes
    #[arg(short = 'i', value_name = "ATTRIBUTES")]
    pub attributes: Option<String>,
    /// With -i: one line per attribute, `NAME: ATTRIBUTE=VALUE`
    #[arg(short = 'c', long)]
    pub compress: bool,
    /// Only images with this attribute: ATTRIBUTE==VALUE, !=, =~ and !~ with a regular expression
    #[arg(short = 'w', value_name = "SELECTION")]
    pub selections: Vec<String>,
    /// All, as without names
    #[arg(short = 'a', long)]
    pub all: bool,
    /// Show more
    #[arg(short = 'V', long)]
    pub verbose: bool,
}

/// Flags of xCAT's commands for definitions that take a value, besides `-t`.
const WITH_VALUE: [char; 5] = ['o', 'i', 'w', 'n', 'u'];

/// The types of objects that arguments name: `-t osimage`, `-tosimage`, and in a bundle of flags (`-lt osimage`).
pub(crate) fn types_of(arguments: &[String]) -> Vec<String> {
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let Some(flags) = word.strip_prefix('-').filter(|flags| !flags.starts_with('-')) else { continue };
        for (at, flag) in flags.char_indices() {
            let rest = &flags[at + flag.len_utf8()..];
            if flag == 't' {
                let value = if rest.is_empty() { words.next().map_or("", String::as_str) } else { rest };
                return value.trim_start_matches('=').split(',').map(str::to_owned).collect();
            }
            if WITH_VALUE.contains(&flag) {
                if rest.is_empty() {
                    words.next();
                }
                break;
            }
        }
    }
    Vec::new()
}

/// Arguments of a command for definitions of images; `is_untyped`: it may name no type. Objects of other types, and flags that only xCAT
/// has, are for xCAT's own command.
/// Errors: How the command ended.
pub(crate) fn arguments_of<A: Parser>(shell: &Shell, help: &str, is_untyped: bool) -> Result<A, Ended> {
    let types = types_of(shell.words());
    let is_help = shell.words().iter().any(|word| word == "-h" || word == "--help");
    if types != ["osimage"] && !(is_untyped && types.is_empty()) && !(is_help && shell.real().is_none()) {
        let kind = types.first().map_or("node", String::as_str);
        return Err(shell.hand_on(&format!("objects of the type {kind} belong to xCAT"), help));
    }
    A::try_parse_from(&shell.arguments).map_err(|error| {
        if error.use_stderr() && shell.real().is_some() {
            return shell.hand_on("only xCAT supports these flags", help);
        }
        render::of_command_line(&error);
        Ended(u8::from(error.use_stderr()))
    })
}

struct Listed {
    name: String,
    attributes: Vec<(String, String)>,
}

fn listed(text: &str) -> Vec<Listed> {
    let mut all: Vec<Listed> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("Object name: ") {
            all.push(Listed { name: name.to_owned(), attributes: Vec::new() });
        } else if let (Some(one), Some((name, value))) = (all.last_mut(), line.trim_start().split_once('=')) {
            one.attributes.push((name.to_owned(), value.to_owned()));
        }
    }
    all
}

struct Selection {
    attribute: String,
    wanted: regex::Regex,
    is_negated: bool,
}

impl Selection {
    fn parse(text: &str) -> Result<Self, String> {
        let operators = [("==", false, true), ("!=", true, true), ("=~", false, false), ("!~", true, false)];
        let found = operators.iter().filter_map(|one| Some((text.find(one.0)?, one))).min_by_key(|(at, _)| *at);
        let Some((at, (operator, is_negated, is_exact))) = found else {
            return Err(format!("-w {text}: write ATTRIBUTE==VALUE, or !=, =~, !~ instead of =="));
        };
        let value = &text[at + operator.len()..];
        let pattern =
            if *is_exact { format!("^{}$", regex::escape(value)) } else { value.trim_matches('/').to_owned() };
        let wanted = regex::Regex::new(&pattern).map_err(|error| format!("-w {text}: {error}"))?;
        Ok(Self { attribute: text[..at].trim().to_owned(), wanted, is_negated: *is_negated })
    }

    fn takes(&self, one: &Listed) -> bool {
        let value = one.attributes.iter().find(|(name, _)| *name == self.attribute).map_or("", |(_, value)| value);
        self.wanted.is_match(value) != self.is_negated
    }
}

pub(crate) fn run(shell: &Shell) -> Done {
    let help = "imgbuild handles only `lsdef -t osimage`";
    let own: Arguments = arguments_of(shell, help, false)?;
    let named: Vec<&str> =
        own.names.iter().chain(&own.objects).map(String::as_str).filter(|name| !name.is_empty()).collect();
    if !named.is_empty() && named.iter().all(|name| !shell.has(name)) && shell.real().is_some() {
        return Err(shell.hand_on("none of these is an image of the workspace", help));
    }
    if own.compress && own.attributes.is_none() {
        return Err(shell.fail("-c needs -i ATTRIBUTES, as in xCAT"));
    }
    let selections: Vec<Selection> = own
        .selections
        .iter()
        .map(|text| Selection::parse(text))
        .collect::<Result<_, _>>()
        .map_err(|problem| shell.fail(&problem))?;
    // Without a selection imgbuild's own commands answer, and report each name that is unknown.
    let (names, done) = match selections.is_empty() {
        true => (named.iter().map(|name| (*name).to_owned()).collect(), Ok(())),
        false => {
            let (text, done) = shell.listing(&[&["list", "-l"], named.as_slice()].concat())?;
            let taken = listed(&text).into_iter().filter(|one| selections.iter().all(|select| select.takes(one)));
            let names: Vec<String> = taken.map(|one| one.name).collect();
            if names.is_empty() {
                return done;
            }
            (names, done)
        }
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if own.stanza {
        return shell.quietly(&[&["export", "xcat"], names.as_slice()].concat()).and(done);
    }
    if let Some(attributes) = &own.attributes {
        for name in &names {
            let text = shell.output(&["show", name, "-i", attributes])?;
            match own.compress {
                false => render::print_as_is(&text),
                true => {
                    for (attribute, value) in listed(&text).into_iter().flat_map(|one| one.attributes) {
                        render::print_as_is(&format!("{name}: {attribute}={value}\n"));
                    }
                }
            }
        }
        return if names.is_empty() { Err(shell.fail("-i needs the name of an osimage, or -w")) } else { done };
    }
    if !own.short && (own.long || !named.is_empty() && selections.is_empty()) {
        return shell.quietly(&[&["list", "-l"], names.as_slice()].concat()).and(done);
    }
    let (text, done) = shell.listing(&[&["list", "-l"], names.as_slice()].concat())?;
    for one in listed(&text) {
        render::print_as_is(&format!("{}  (osimage)\n", one.name));
    }
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_as_getopt_finds_them() {
        let of = |words: &[&str]| types_of(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>()).join(" ");
        for (words, types) in [
            (&["-t", "osimage"][..], "osimage"),
            (&["-tosimage", "-l"], "osimage"),
            (&["-lt", "osimage"], "osimage"),
            (&["-t=group"], "group"),
            (&["-t", "osimage,node"], "osimage node"),
            (&["-o", "-t", "-l"], ""),
            (&["n01", "--osimage"], ""),
            (&["-i", "provmethod", "-t", "node"], "node"),
        ] {
            assert_eq!(of(words), types, "{words:?}");
        }
    }

    #[test]
    fn selections_have_xcats_four_operators() {
        let one = Listed { name: "i".to_owned(), attributes: vec![("osvers".to_owned(), "rocky9.4".to_owned())] };
        let takes = |text: &str| Selection::parse(text).unwrap().takes(&one);
        assert!(
            takes("osvers==rocky9.4") && takes("osvers=~^rocky") && takes("osvers!=rhels7") && takes("osvers!~/sles/")
        );
        assert!(!takes("osvers==rocky9") && !takes("osvers!~rocky") && takes("profile==") && !takes("profile=~x"));
        assert!(Selection::parse("osvers").is_err() && Selection::parse("osvers=~(").is_err());
    }
}
