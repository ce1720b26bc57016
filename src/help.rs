//! `imgbuild --help`: commands grouped by task, and examples under each command.

use clap::CommandFactory;

/// What `imgbuild` alone says.
pub const FIRST: &str = "\
imgbuild init NAME   write a recipe for an image, with comments
imgbuild build       build and publish what is described here
imgbuild help        all commands; `imgbuild help COMMAND` shows examples";

/// Commands by task, in the order in which an administrator meets them; hidden ones are in no group.
pub const GROUPS: [(&str, &[&str]); 6] = [
    ("Recipe", &["init", "show", "set", "copy", "check", "convert"]),
    ("Build", &["plan", "build", "update", "vendor", "explain"]),
    ("Look", &["list", "shell", "boot", "log", "diff", "size", "graph", "audit"]),
    (
        "Site",
        &[
            "nodes",
            "nodeset",
            "sync",
            "roll",
            "boot-entry",
            "publish",
            "serve",
            "fetch",
            "delta",
            "push",
            "pull",
            "sbom",
            "provenance",
            "verify",
            "capture",
            "import",
            "export",
            "install-xcat-names",
        ],
    ),
    ("Store", &["gc", "store", "cache"]),
    ("Other", &["schema", "completions", "help"]),
];

/// What other tools call our commands.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("advisories", "audit"),
    ("chroot", "shell"),
    ("clean", "gc"),
    ("clone", "copy"),
    ("cp", "copy"),
    ("create", "init"),
    ("deploy", "nodeset"),
    ("edit", "set"),
    ("enter", "shell"),
    ("genimage", "build"),
    ("history", "log"),
    ("images", "list"),
    ("info", "show"),
    ("inspect", "show"),
    ("install", "build"),
    ("lint", "check"),
    ("lock", "update"),
    ("ls", "list"),
    ("make", "build"),
    ("new", "init"),
    ("packimage", "build"),
    ("prune", "gc"),
    ("run", "boot"),
    ("scan", "audit"),
    ("start", "boot"),
    ("status", "plan"),
    ("test", "check"),
    ("tree", "graph"),
    ("upgrade", "update"),
    ("validate", "check"),
    ("why", "explain"),
];

/// An error of the command line as we say it: with the command that another tool's word means, without options that come of the
/// environment, and without a list of all commands.
pub fn in_words(mut error: clap::Error) -> clap::Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    if error.kind() == ErrorKind::MissingSubcommand {
        let text = format!("imgbuild needs a command\n{FIRST}\n");
        return command().error(ErrorKind::MissingSubcommand, text);
    }
    let word = match error.get(ContextKind::InvalidSubcommand) {
        Some(ContextValue::String(word)) => word.clone(),
        _ => String::new(),
    };
    if let Some((_, own)) = OTHER_NAMES.iter().find(|(other, _)| *other == word) {
        error.insert(ContextKind::SuggestedSubcommand, ContextValue::Strings(vec![(*own).to_owned()]));
    }
    if let Some(ContextValue::StyledStr(usage)) = error.get(ContextKind::Usage) {
        let usage = usage.to_string().replace("--store <DIR> ", "");
        error.insert(ContextKind::Usage, ContextValue::StyledStr(usage.into()));
    }
    error
}

pub fn examples(command: &str) -> &'static [(&'static str, &'static str)] {
    match command {
        "init" => &[
            ("imgbuild init compute", "a Debian image in the directory compute"),
            ("imgbuild init compute --distro rocky --release 9", "another distribution"),
        ],
        "show" => &[
            ("imgbuild show compute", "all values, each with its file and line"),
            ("imgbuild show compute kernel.version", "one value"),
        ],
        "set" => &[
            ("imgbuild set compute packages.install+=htop", "add a package"),
            ("imgbuild set compute kernel.version=6.1.0-31-amd64", "set a value"),
        ],
        "copy" => &[("imgbuild copy compute login", "a new image `login` like `compute`")],
        "check" => &[
            ("imgbuild check", "the recipe, or all of the workspace"),
            ("imgbuild check --online", "also query the repositories"),
            ("imgbuild check --as pkglist compute.pkglist", "how a list is read"),
        ],
        "publish" => &[
            ("imgbuild publish nfs:/srv/nfs/compute", "a tree that nodes mount as their root"),
            ("imgbuild publish tree:/srv/www/compute --dry-run", "what a boot server's directory would get"),
        ],
        "convert" => &[("imgbuild convert --to kdl --replace", "image.toml becomes image.kdl")],
        "plan" => &[
            ("imgbuild plan", "what a build would do, and why"),
            ("imgbuild plan --against origin/main", "what a change rebuilds"),
            ("imgbuild plan -o compute.plan", "write the plan for `build --plan`"),
            ("imgbuild plan --emit ninja -o build.ninja", "for ninja; or make, github, gitlab, slurm"),
        ],
        "build" => &[
            ("imgbuild build", "the recipe, or all images of the workspace"),
            ("imgbuild build --keep-going 'login*'", "one failure does not stop the others"),
            ("imgbuild build --verify", "build twice and compare"),
            ("imgbuild build --only rootfs/sync", "one action, of what is there"),
            ("imgbuild build --executor slurm", "by jobs of a cluster"),
        ],
        "update" => &[
            ("imgbuild update", "all packages"),
            ("imgbuild update --package openssl", "one package"),
            ("imgbuild update compute --security CVE-2024-5535 --db all.zip", "only what mends it"),
        ],
        "audit" => &[
            ("imgbuild audit", "what the images' repositories have newer, or publish advisories of"),
            ("imgbuild audit --db all.zip --fail-on high", "compare with a file of OSV, for pipelines"),
            ("imgbuild audit --nodes '@compute' --db all.zip", "what nodes boot and run now"),
        ],
        "vendor" => &[("imgbuild vendor packages", "then: imgbuild build --vendor packages")],
        "explain" => &[("imgbuild explain rootfs/sync", "the inputs of one action")],
        "list" => &[("imgbuild list", "what is published, and whether it was modified")],
        "shell" => &[
            ("imgbuild shell", "in the built image"),
            ("imgbuild shell -- rpm -qa", "one command"),
            ("imgbuild shell ./rootimg.sfs", "in any packed image"),
        ],
        "boot" => &[
            ("imgbuild boot --ssh", "print the ssh command once the node answers"),
            ("imgbuild boot --until login: --timeout 300", "for scripts"),
        ],
        "log" => &[
            ("imgbuild log -n 5", "the last five builds"),
            ("imgbuild log --what-ran postinstall", "commands that rerun a stage"),
        ],
        "diff" => &[
            ("imgbuild diff compute", "the last two builds"),
            ("imgbuild diff HEAD~1:image.lock image.lock", "two locks"),
        ],
        "size" => &[
            ("imgbuild size", "by package"),
            ("imgbuild size --html >size.html", "a page with a treemap"),
            ("imgbuild size --excluded", "what each line of the exclude list removes"),
        ],
        "graph" => &[("imgbuild graph --svg >graph.svg", "the actions of an image")],
        "boot-entry" => &[
            ("imgbuild boot-entry --url http://10.0.0.1/compute", "an iPXE script"),
            ("imgbuild boot-entry --url http://10.0.0.1 --format dnsmasq", "a dnsmasq configuration"),
        ],
        "nodes" => &[
            ("imgbuild nodes", "what each node boots, and its last report"),
            ("imgbuild nodes @compute --needs", "the smallest restart that brings nodes to their build"),
        ],
        "nodeset" => &[("imgbuild nodeset cn[001-040] compute", "write the boot loaders' files of these nodes")],
        "roll" => &[
            ("imgbuild roll @compute compute --scheduler slurm --plan", "who, when and how; changes nothing"),
            ("imgbuild roll @compute compute --scheduler slurm --health /usr/sbin/nhc", "a canary, then batches"),
            (
                "imgbuild roll @compute compute --scheduler slurm --window 22:00-06:00",
                "at night alone; call it again the next night",
            ),
            ("imgbuild roll --abort", "end it, and give nodes back"),
        ],
        "sync" => &[
            ("imgbuild sync @compute --plan", "what would change on which nodes"),
            ("imgbuild sync cn[001-040]", "write what differs"),
            ("imgbuild sync '*' --check", "which nodes differ; exit code 2 if some do"),
            ("imgbuild sync @compute --packages", "install what the lock has and nodes lack"),
            ("imgbuild sync @compute --scripts", "run the nodes' postscripts again"),
        ],
        "serve" => &[
            ("imgbuild serve --listen 10.0.0.1:80 --user www-data", "images over HTTP, as an ordinary user"),
            ("imgbuild serve --listen 10.0.0.1:80 --dnsmasq", "all that nodes need: addresses and boot loaders, too"),
        ],
        "fetch" => &[("imgbuild fetch http://head/images/compute /srv/images/compute", "mirror a published image")],
        "delta" => &[("imgbuild delta /srv/images/compute out/compute", "what fetch would transfer")],
        "push" => &[
            (
                "imgbuild push oci://registry.test/images/compute:2026-03",
                "kernel, initrd and packed image as one artefact",
            ),
            ("imgbuild push --as-container oci://registry.test/compute:1", "for podman: the root file system"),
            ("imgbuild push --as-container oci-archive:compute.tar", "the same as a file"),
        ],
        "pull" => &[(
            "imgbuild pull oci://registry.test/images/compute:2026-03 /srv/images",
            "then serve, nodeset or boot it",
        )],
        "sbom" => &[
            ("imgbuild sbom compute >compute.spdx.json", "SPDX 2.3"),
            ("imgbuild sbom --format cyclonedx ./compute", "CycloneDX 1.6, of a directory that was fetched"),
        ],
        "provenance" => &[
            ("imgbuild provenance compute", "what it was made from"),
            ("imgbuild provenance compute --sign site.key -o compute.intoto.jsonl", "signed"),
        ],
        "verify" => &[
            ("imgbuild verify", "the published image"),
            ("imgbuild verify ./compute --provenance compute.intoto.jsonl", "a copy, with its signed statement"),
        ],
        "capture" => &[("imgbuild capture ssh://root@node17 --into /srv/images", "a recipe from a running node")],
        "import" => &[
            ("imgbuild import xcat osimages.stanza --into /srv/images", "xCAT definitions"),
            ("imgbuild import bundle compute.tgz --into /srv/images", "an image bundle"),
            ("imgbuild import media rocky-9.iso --into /srv/images", "distribution media"),
            ("imgbuild import openchami base.yaml compute.yaml --into /srv/images", "OpenCHAMI's images"),
            ("imgbuild import kiwi config.xml --into /srv/images --dry-run", "a KIWI description"),
        ],
        "export" => &[
            ("imgbuild export xcat", "definitions for mkdef"),
            ("imgbuild export bundle compute -o compute.tgz", "an image bundle"),
        ],
        "install-xcat-names" => &[("imgbuild install-xcat-names /usr/local/sbin", "genimage, packimage and others")],
        "gc" => &[
            ("imgbuild gc --dry-run", "what would be removed"),
            ("imgbuild gc --keep 3 --max-size 50G", "limit the store"),
        ],
        "cache" => &[
            ("imgbuild cache key site.key", "a key for those who fill it; prints its public half"),
            ("imgbuild cache stats /shared/cache", "how much is in it"),
            ("imgbuild cache gc /shared/cache --size 200G", "what was used longest ago goes first"),
        ],
        "store" => &[
            ("imgbuild store verify --repair", "remove damaged items"),
            ("imgbuild store stats", "disk usage"),
            ("imgbuild store pin before-upgrade", "keep a build"),
            ("imgbuild store save store.tar", "for another machine or a CI runner"),
        ],
        "schema" => &[("imgbuild schema image >image.schema.json", "for an editor")],
        "completions" => &[("imgbuild completions bash >/etc/bash_completion.d/imgbuild", "for bash")],
        _ => &[],
    }
}

/// How wide a line of the list of commands may be.
const WIDTH: usize = 100;

/// The command line as clap knows it, with groups and examples in its help.
pub fn command() -> clap::Command {
    let mut command = super::Arguments::command();
    let width = GROUPS.iter().flat_map(|(_, names)| *names).map(|name| name.len()).max().unwrap_or(0);
    let mut groups = String::new();
    for (group, names) in GROUPS {
        groups.push_str(&format!("\n{}:\n", title(group)));
        for name in names {
            let about = command.find_subcommand(name).and_then(clap::Command::get_about);
            let about = about.map_or("Show the help of a command".to_owned(), ToString::to_string);
            let about = wrapped(&about, width + 4);
            groups.push_str(&format!("  \x1b[1m{name}\x1b[0m{:1$}{about}\n", "", width + 2 - name.len()));
        }
    }
    command = command.help_template(format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n{groups}\n{}:\n{{options}}\n\n`imgbuild help COMMAND` shows its options and examples.\n",
        title("Options")
    ));
    let names: Vec<String> = command.get_subcommands().map(|known| known.get_name().to_owned()).collect();
    for name in names {
        let lines = examples(&name);
        let width = lines.iter().map(|(line, _)| line.len()).max().unwrap_or(0);
        let rows: String = lines.iter().map(|(line, meaning)| format!("\n  {line:width$}  {meaning}")).collect();
        if !lines.is_empty() {
            command = command.mut_subcommand(name, |known| known.after_help(format!("{}:{rows}", title("Examples"))));
        }
    }
    command
}

/// A heading as clap's own are on a terminal.
fn title(text: &str) -> String {
    format!("\x1b[1;4m{text}\x1b[0m")
}

/// A text with later lines indented.
fn wrapped(text: &str, indent: usize) -> String {
    let (mut all, mut length) = (String::new(), indent);
    for word in text.split(' ') {
        if length > indent && length + 1 + word.len() > WIDTH {
            all.push_str(&format!("\n{:indent$}", ""));
            length = indent;
        } else if length > indent {
            all.push(' ');
            length += 1;
        }
        all.push_str(word);
        length += word.len();
    }
    all
}
