//! `mkdef` and `chdef` of osimages (section 1.1 of the reference). xCAT's own command gets the same afterwards, as its nodeset reads
//! its own tables.

use std::io::Read;

use clap::Parser;

use super::attributes::{Changes, How};
use super::lsdef::arguments_of;
use crate::names::shell::Shell;
use crate::names::undo::Undo;
use crate::names::{Done, Ended};
use crate::output::render;
use crate::recipe_lock::RecipeLock;
use crate::setup::print_findings;
use base::source::{Severity, SourceFile};
use site::definitions::Places;
use site::osimage::{Mapped, map};
use xcat::definitions::{Definition, ObjectKind, parse_stanzas, write_stanza};

/// Changes or makes definitions of images
#[derive(Debug, Parser)]
#[command(disable_version_flag = true)]
struct Arguments {
    /// Names of osimages, and ATTRIBUTE=VALUE
    words: Vec<String>,
    /// Kind of the objects
    #[arg(short = 't', value_name = "TYPE")]
    kind: Option<String>,
    /// Names, in xCAT's other form
    #[arg(short = 'o', value_name = "NAMES", value_delimiter = ',')]
    objects: Vec<String>,
    /// Read stanzas from the standard input
    #[arg(short = 'z', long)]
    stanza: bool,
    /// mkdef: replace existing definitions
    #[arg(short = 'f', long)]
    force: bool,
    /// chdef: add to lists
    #[arg(short = 'p', long)]
    plus: bool,
    /// chdef: remove from lists
    #[arg(short = 'm', long, conflicts_with = "plus")]
    minus: bool,
    /// Show more
    #[arg(short = 'V', long)]
    verbose: bool,
}

/// What a command is to do: definitions, and the text of the standard input where they came from it.
struct Asked {
    own: Arguments,
    definitions: Vec<Definition>,
    input: Option<String>,
}

/// Reads the arguments, and the standard input; what is not of osimages goes to xCAT's own command.
fn asked(shell: &Shell) -> Result<Asked, Ended> {
    let name = shell.name.name();
    let help = format!("imgbuild handles only `{name} -t osimage`, and `{name} -z` of osimages");
    let is_stanza = shell.words().iter().any(|word| word == "-z" || word == "--stanza");
    let own: Arguments = arguments_of(shell, &help, is_stanza)?;
    if own.stanza {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| shell.fail(&format!("the standard input cannot be read: {error}")))?;
        let (definitions, findings) = parse_stanzas(&SourceFile::new("standard input", "-", text.clone()));
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            print_findings(&findings, 0);
            return Err(shell.fail("the stanzas have errors; nothing was changed"));
        }
        if definitions.is_empty() {
            return Err(shell.fail("there is no stanza on the standard input: `lsdef -t osimage -z NAME` prints one"));
        }
        return Ok(Asked { own, definitions, input: Some(text) });
    }
    let (attributes, names): (Vec<&String>, Vec<&String>) = own.words.iter().partition(|word| word.contains('='));
    let names =
        names.into_iter().flat_map(|word| word.split(',')).map(str::to_owned).chain(own.objects.iter().cloned());
    let mut definitions: Vec<Definition> = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        definitions.push(Definition::osimage(&name));
    }
    if definitions.is_empty() {
        return Err(shell.fail("name the osimage: -o NAME; `lsdef -t osimage` lists them"));
    }
    if attributes.is_empty() {
        return Err(shell.fail("give ATTRIBUTE=VALUE, or -z and stanzas on the standard input"));
    }
    Ok(Asked { own, definitions, input: None })
}

fn pairs(own: &Arguments) -> Vec<(String, String)> {
    let pairs = own.words.iter().filter_map(|word| word.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(crate) fn mkdef(shell: &Shell) -> Done {
    let Asked { own, mut definitions, input } = asked(shell)?;
    if input.is_none() {
        for definition in &mut definitions {
            for (name, value) in pairs(&own) {
                definition.set(&name, &value, None);
            }
        }
    }
    let mut places = Places::default();
    places.also(&shell.workspace);
    let mut foreign = Vec::new();
    definitions.retain(|definition| {
        let why = match (&definition.kind, map(definition, &places)) {
            (ObjectKind::Other(kind), _) => Some(format!("{} is of the type {kind}", definition.name)),
            (ObjectKind::Osimage, Mapped::Nothing(reason)) => Some(format!("{}: {reason}", definition.name)),
            (ObjectKind::Osimage, Mapped::Recipe(_)) => None,
        };
        foreign.extend(why.clone());
        why.is_none()
    });
    let real = shell.real();
    if let (Some(why), None) = (foreign.first(), &real) {
        return Err(shell.fail(&format!(
            "{why}, and there is no `mkdef` of xCAT further down PATH; nothing was created\n  help: put xCAT's directories after this one in PATH (/opt/xcat/bin)"
        )));
    }
    if let Some(name) = definitions.iter().map(|one| &one.name).find(|name| !own.force && shell.has(name)) {
        return Err(shell.fail(&format!("the image {name} already exists: chdef changes it, -f recreates it")));
    }
    if !definitions.is_empty() {
        let text: String = definitions.iter().enumerate().map(|(at, one)| write_stanza(one, at == 0)).collect();
        let failed = |error: std::io::Error| shell.fail(&format!("cannot create a temporary file: {error}"));
        let folder = files::sweep::Swept::below(&std::env::temp_dir(), "imgbuild-mkdef-").map_err(failed)?;
        let file = folder.path().join("mkdef.stanza");
        std::fs::write(&file, text).map_err(failed)?;
        shell.quietly(&["import", "xcat", &file.display().to_string(), "--into", "."])?;
        if let Some(lost) = definitions.iter().find(|one| !shell.has(&one.name)) {
            return Err(shell.fail(&format!("no recipe was written for {}", lost.name)));
        }
    }
    match real {
        Some(path) => shell.run_real(&path, input.as_deref()),
        None => Ok(()),
    }
}

pub(crate) fn chdef(shell: &Shell) -> Done {
    let Asked { own, definitions, input } = asked(shell)?;
    let how = match () {
        () if own.plus => How::Append,
        () if own.minus => How::Remove,
        () => How::Set,
    };
    let is_ours = |one: &Definition| one.kind == ObjectKind::Osimage && shell.has(&one.name);
    let real = shell.real();
    if let (Some(foreign), None) = (definitions.iter().find(|one| !is_ours(one)), &real) {
        return Err(shell.fail(&format!(
            "{} is not an image of {}, and there is no `chdef` of xCAT further down PATH; nothing was changed\n  help: `lsdef -t osimage` lists the images; put xCAT's directories after this one in PATH (/opt/xcat/bin)",
            foreign.name,
            shell.workspace.display()
        )));
    }
    for definition in definitions.iter().filter(|one| is_ours(one)) {
        let image = definition.name.as_str();
        // From reading to the last file: what another command changes in between would be lost, or come back where this one fails.
        let _turn = RecipeLock::take(&shell.workspace).with_commands();
        let said: Vec<(String, String)> = match &input {
            None => pairs(&own),
            Some(_) => {
                let all = definition.attributes.iter().filter(|(name, _)| *name != "imagename");
                all.map(|(name, one)| (name.clone(), one.value.clone())).collect()
            }
        };
        let changes = Changes::of(shell, image, how, &said)?;
        if changes.is_empty() {
            render::say(&format!("chdef: {image} already has these values"));
            continue;
        }
        let undo = Undo::of(shell, image);
        undo.unless(changes.apply(shell, image), image, &[])?;
    }
    match real {
        Some(path) => shell.run_real(&path, input.as_deref()),
        None => Ok(()),
    }
}
