//! The help: commands by task, examples that parse, and docs/commands.md, which is made from it.

use clap::Command;
use imgbuild::help::{GROUPS, command, examples};

#[test]
fn each_command_is_in_one_group_and_has_examples() {
    let known = command();
    let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
    let mut shown: Vec<&str> =
        known.get_subcommands().filter(|one| !one.is_hide_set()).map(Command::get_name).chain(["help"]).collect();
    grouped.sort_unstable();
    shown.sort_unstable();
    assert_eq!(grouped, shown);
    for name in shown.into_iter().filter(|name| *name != "help") {
        assert!(!examples(name).is_empty(), "{name} has no example");
        for (line, _) in examples(name) {
            let line = line.split(" >").next().unwrap();
            let words = line.split(' ').map(|word| word.trim_matches('\''));
            let matches = command().try_get_matches_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(matches.subcommand_name(), Some(name), "{line}");
        }
    }
}

#[test]
fn the_help_shows_commands_by_task() {
    let text = command().render_help().to_string();
    for (group, names) in GROUPS {
        let at = text.find(&format!("\n{group}:\n")).unwrap_or_else(|| panic!("{group}: {text}"));
        for name in names {
            assert!(text[at..].contains(&format!("\n  {name} ")), "{name}: {text}");
        }
    }
    assert!(!text.contains("manual"), "{text}");
    let build = command().find_subcommand_mut("build").unwrap().render_help().to_string();
    assert!(build.contains("\nExamples:\n  imgbuild build "), "{build}");
}

/// A text for a cell of a table, or a line of prose.
fn plain(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default().replace('|', "\\|").replace('\n', " ")
}

fn section(page: &mut String, path: &str, known: &Command, depth: usize) {
    let level = "#".repeat(depth);
    page.push_str(&format!("\n{level} {path}\n\n{}.\n", plain(known.get_about()).trim_end_matches('.')));
    if depth == 3 {
        page.push_str("\n```sh\n");
        for (line, meaning) in examples(known.get_name()) {
            page.push_str(&format!("{line}  # {meaning}\n"));
        }
        page.push_str("```\n");
    }
    let own = |one: &&clap::Arg| {
        !one.is_global_set() && !one.is_hide_set() && !matches!(one.get_id().as_str(), "help" | "version")
    };
    let arguments: Vec<&clap::Arg> = known.get_arguments().filter(own).collect();
    if !arguments.is_empty() {
        page.push_str("\n| argument | meaning |\n|---|---|\n");
        for one in arguments {
            page.push_str(&format!("| `{}` | {} |\n", usage(one).replace('|', "\\|"), plain(one.get_help())));
        }
    }
    for below in known.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help") {
        section(page, &format!("{path} {}", below.get_name()), below, depth + 1);
    }
}

/// An argument as it is typed: `-j, --jobs N`, `[IMAGES]...`.
fn usage(argument: &clap::Arg) -> String {
    let takes = argument.get_action().takes_values();
    let names =
        argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    if argument.is_positional() {
        return if argument.is_required_set() { names } else { format!("[{names}]") };
    }
    let short = argument.get_short().map(|letter| format!("-{letter}"));
    let long = argument.get_long().map(|word| format!("--{word}"));
    let flags = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    if takes { format!("{flags} {names}") } else { flags }
}

#[test]
fn the_page_of_commands_is_made_from_the_program() {
    let known = command();
    let mut page = String::from(
        "# Commands\n\nAll commands of imgbuild, by task, with their options. `imgbuild help COMMAND` prints the same.\n\
         This page is made from the program by a test (`words::`, CONTRIBUTING.md).\n\n\
         Commands take images by name or glob if the workspace has several. Without names: the recipe in the\n\
         current directory, or all images of the workspace.\n",
    );
    for (group, names) in GROUPS {
        page.push_str(&format!("\n| {group} | |\n|---|---|\n"));
        for name in names.iter().filter(|name| **name != "help") {
            let about = plain(known.find_subcommand(name).and_then(Command::get_about));
            page.push_str(&format!("| [{name}](#{name}) | {about} |\n"));
        }
    }
    page.push_str("\n## Global options\n\n| option | meaning |\n|---|---|\n");
    for one in known.get_arguments().filter(|one| one.is_global_set() && !one.is_hide_set()) {
        page.push_str(&format!("| `{}` | {} |\n", usage(one), plain(one.get_help())));
    }
    page.push_str(
        "\nOptions also come from the environment: `IMGBUILD_STORE`, `IMGBUILD_MIRROR`, `IMGBUILD_SCRIPT_MINUTES`.\n",
    );
    page.push_str(EXIT_CODES);
    for (group, names) in GROUPS {
        page.push_str(&format!("\n## {group}\n"));
        for name in names.iter().filter(|name| **name != "help") {
            section(&mut page, name, known.find_subcommand(name).unwrap(), 3);
        }
    }
    super::compare("docs/commands.md", &page);
}

const EXIT_CODES: &str = "
## Exit codes

| code | meaning |
|---|---|
| 0 | done; for `plan --detailed-exitcode`: nothing to do |
| 1 | the recipe or another input is wrong |
| 2 | `plan --detailed-exitcode`: there is work to do; never an error. `nodes`, `nodeset --continue`: nodes have failed or are not up. `audit`: findings of `--fail-on` or worse |
| 3 | this machine lacks something, or standard output cannot be written (a closed pipe is no error) |
| 4 | a stage failed |
| 5 | the store is damaged |
| 64 | the command line is wrong |
| 101 | bug in imgbuild: please report it |
| 130 | interrupted (Ctrl-C) |
| 143 | ended by SIGTERM |

`imgbuild shell -- COMMAND` exits with the command's own status; 127 if the image has no such command, 126 if it cannot be started.
";
