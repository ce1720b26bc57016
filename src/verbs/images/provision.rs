//! Published images as other provisioners take them: by `build --publish`, `[publish]` of a recipe, and `imgbuild publish`.

use std::path::Path;

use crate::Exit;
use crate::output::render;
use build::BuildInfo;
use nodes::{Attr, Effective, Nodes};
use publish::{Arch, Change, Consent, Destination, File, Form, Image, Kind, Node, Report, Request, RootKind};

/// What is done with what was asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct How {
    pub consent: Consent,
    /// Says what would change, and changes nothing.
    pub is_dry: bool,
    pub is_quiet: bool,
}

/// The image of a directory that a build wrote, or `fetch`, or `pull`.
/// Errors: Files that build.json names and that are missing; a build of a later or an unknown form.
pub(crate) fn image_of(directory: &Path, info: &BuildInfo) -> Result<Image, publish::Error> {
    // The directory is named by a link; what it leads to stays.
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let damaged = |file: &str, problem: &str| publish::Error::Damaged {
        path: directory.clone(),
        file: file.to_owned(),
        problem: problem.to_owned(),
    };
    // It may be an image of others: what becomes a path or a line of a script is no more than that.
    let is_name = |text: &str| {
        let is_good = |c: char| c.is_ascii_alphanumeric() || "._+~-".contains(c);
        text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.chars().all(is_good)
    };
    // What iPXE takes as the end of a command, and Warewulf as a template's.
    let is_word = |text: &String| {
        let is_command = ["||", "&&"].contains(&text.as_str()) || text.contains("{{");
        !is_command && !text.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    let mut words = info.cmdline.iter().chain(info.also.iter().flat_map(|form| &form.cmdline));
    if !words.all(is_word) || !is_name(&info.name) || !is_name(&info.kernel_release) {
        return Err(damaged("build.json", "has a name or a word of the command line that cannot be one"));
    }
    let file = |name: &str| {
        if !is_name(name) {
            return Err(damaged("build.json", "names a file outside its directory"));
        }
        let artefact = info.artefacts.iter().find(|one| one.name == name);
        let artefact = artefact.ok_or_else(|| damaged(name, "is not named in build.json"))?;
        let path = directory.join(name);
        match path.symlink_metadata() {
            Ok(found) if !found.is_file() => return Err(damaged(name, "is not a regular file")),
            Ok(found) if found.len() == artefact.size => {}
            Ok(_) => return Err(damaged(name, "has another size than build.json says")),
            Err(_) => return Err(damaged(name, "is missing")),
        }
        Ok(File { name: name.to_owned(), path, size: artefact.size, sha256: artefact.sha256 })
    };
    let mut forms = Vec::new();
    for rootimg in info.forms() {
        let (words, _) = info.form(rootimg).unwrap_or((&[], 0));
        let kind =
            RootKind::of(rootimg).ok_or_else(|| damaged(rootimg, "has a format that this imgbuild does not know"))?;
        forms.push(Form {
            kind,
            rootimg: file(rootimg)?,
            index: file(&format!("{rootimg}.index"))?,
            words: words.to_vec(),
        });
    }
    let is_taken = |name: &str| {
        ["kernel", "initrd-stateless"].contains(&name)
            || forms.iter().any(|form| form.rootimg.name == name || form.index.name == name)
    };
    let others = info.artefacts.iter().map(|one| one.name.as_str()).filter(|name| !is_taken(name));
    let others = others.map(&file).collect::<Result<_, _>>()?;
    let arch = info.target.rsplit(' ').next().and_then(Arch::named);
    let text = std::fs::read(directory.join("build.json")).map_err(|source| publish::Error::Io {
        intent: "read",
        path: directory.join("build.json"),
        source,
    })?;
    Ok(Image {
        name: info.name.clone(),
        build: base::digest::Sha256::of(&text).short(),
        arch: arch.ok_or_else(|| damaged("build.json", "names a CPU that this imgbuild does not know"))?,
        target: info.target.clone(),
        kernel_release: info.kernel_release.clone(),
        kernel: file("kernel")?,
        initrd: file("initrd-stateless")?,
        forms,
        others,
        directory: directory.clone(),
    })
}

fn node_of(node: &Effective) -> Node {
    Node {
        name: node.name.clone(),
        macs: node.macs().iter().map(ToString::to_string).collect(),
        ip: node.ip(),
        arch: node.text(Attr::Arch).and_then(Arch::named),
        kernel_args: node.kernel_words(),
        build: node.build().map(str::to_owned),
        groups: node.groups.clone(),
    }
}

/// The nodes of a workspace that boot an image.
/// Errors: [`Exit::Input`] after what is wrong with the nodes' file was printed.
fn nodes_of(arguments: &crate::Arguments, image: &str) -> Result<Vec<Node>, Exit> {
    let root = crate::verbs::nodes::root_of(&arguments.directory);
    let nodes = Nodes::load(&root).map_err(|findings| {
        crate::setup::print_findings(&findings, arguments.verbose);
        Exit::Input
    })?;
    let Some(nodes) = nodes else { return Ok(Vec::new()) };
    let all = nodes.names().filter_map(|name| nodes.get(name));
    Ok(all.filter(|node| node.image() == Some(image)).map(|node| node_of(&node)).collect())
}

fn show(destination: &Destination, image: &Image, report: &Report, how: How) {
    for warning in &report.warnings {
        render::say(&format!("warning: {destination}: {warning}"));
    }
    if how.is_quiet {
        return;
    }
    let counted = |change| report.items.iter().filter(|item| item.change == change).count();
    let parts = [
        (Change::New, "new"),
        (Change::Changed, "changed"),
        (Change::Drift, "changed by hand"),
        (Change::Removed, "removed"),
        (Change::Unchanged, "unchanged"),
    ];
    let counts = parts.iter().map(|(change, word)| (counted(*change), word)).filter(|(count, _)| *count > 0);
    let counts: Vec<String> = counts.map(|(count, word)| format!("{count} {word}")).collect();
    let verb = if how.is_dry { "would publish" } else { "published" };
    render::say(&format!("{verb} {} {} in {destination}: {}", image.name, image.build, counts.join(", ")));
    for item in report.items.iter().filter(|item| item.change != Change::Unchanged) {
        let sign = match item.change {
            Change::New => "+",
            Change::Removed => "-",
            _ => "~",
        };
        render::say(&format!("  {sign} {}", item.name));
    }
    if !how.is_dry && report.changes() {
        report.next.iter().for_each(|line| render::say(&format!("  next: {line}")));
    }
}

/// Publishes a build everywhere, in the order of the list; the first failure ends it.
/// Errors: After it was printed, with what is done already and what is not.
pub(crate) fn publish_all(
    arguments: &crate::Arguments,
    (directory, info): (&Path, &BuildInfo),
    destinations: &[Destination],
    how: How,
) -> Result<(), Exit> {
    // The build itself wrote that.
    let destinations: Vec<&Destination> = destinations.iter().filter(|one| one.kind != Kind::Xcat).collect();
    if destinations.is_empty() {
        return Ok(());
    }
    let ended = |exit: Exit, done: usize| {
        tell_rest(arguments, &info.name, &destinations, done, how);
        exit
    };
    let image = image_of(directory, info).map_err(|error| ended(render::failed(error), 0))?;
    let nodes = nodes_of(arguments, &info.name).map_err(|exit| ended(exit, 0))?;
    for (number, destination) in destinations.iter().enumerate() {
        let request = Request { image: &image, nodes: &nodes, destination, consent: how.consent };
        let done = if how.is_dry { publish::plan(&request) } else { publish::apply(&request) };
        match done {
            Ok(report) => show(destination, &image, &report, how),
            Err(error) => return Err(ended(render::failed(error), number)),
        }
    }
    Ok(())
}

/// Says what a failure leaves done and what not, with the command for the rest.
fn tell_rest(arguments: &crate::Arguments, image: &str, destinations: &[&Destination], failed: usize, how: How) {
    if how.is_dry {
        return;
    }
    let listed = |some: &[&Destination]| some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let (done, rest) = destinations.split_at(failed);
    if !done.is_empty() {
        render::say(&format!("note: {image} is published in {}", listed(done)));
    }
    render::say(&format!("note: {image} is built, and not published in {}", listed(rest)));
    for destination in rest {
        render::say(&format!("  {}", command(&arguments.directory, destination, image, how)));
    }
}

/// The command that publishes in one place, for the shell of who reads it: places have `?` and `&` in them.
fn command(directory: &Path, destination: &Destination, image: &str, how: How) -> String {
    let mut words = vec!["imgbuild".to_owned()];
    if directory != Path::new(".") {
        words.extend(["-C".to_owned(), directory.display().to_string()]);
    }
    words.extend(["publish".to_owned(), destination.to_string(), image.to_owned()]);
    if how.consent == Consent::ReplaceForeign {
        words.push("--replace".to_owned());
    }
    words.iter().map(|word| render::shell_word(word)).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_for_the_rest_is_one_that_a_shell_takes() {
        let how = |consent| How { consent, is_dry: false, is_quiet: false };
        let to = "cobbler:http://h/api?dir=/srv/a&files=http://h/b".parse().unwrap();
        assert_eq!(
            command(Path::new("."), &to, "compute", how(Consent::KeepForeign)),
            "imgbuild publish 'cobbler:http://h/api?dir=/srv/a&files=http://h/b' compute"
        );
        assert_eq!(
            command(Path::new("my site"), &"tree:/srv/www/a".parse().unwrap(), "compute", how(Consent::ReplaceForeign)),
            "imgbuild -C 'my site' publish tree:/srv/www/a compute --replace"
        );
    }
}
