//! Completion scripts of shells: clap's own, and with them the names of the workspace's images.

use clap::ValueHint;
use clap_complete::Shell;

use super::help;

/// What a shell runs for the names; `-C DIR` of the line is in front of it.
const NAMES: &str = "list --names 2>/dev/null";

/// What clap writes where names of users are asked for: that place is the images'.
const USERS: &str = "_users";

/// The script of a shell.
pub(crate) fn script(shell: Shell) -> String {
    let mut command = help::command();
    let with_images: Vec<String> = command.get_subcommands().filter(|one| takes_images(one)).map(name_of).collect();
    if shell == Shell::Zsh {
        for name in &with_images {
            command = command.mut_subcommand(name, |one| {
                let images: Vec<clap::Id> = images_of(&one).map(|one| one.get_id().clone()).collect();
                // All in their order: what is changed goes behind the others.
                let all: Vec<clap::Id> = one.get_positionals().map(|one| one.get_id().clone()).collect();
                all.into_iter().fold(one, |one, id| {
                    let is_image = images.contains(&id);
                    one.mut_arg(id, |one| if is_image { one.value_hint(ValueHint::Username) } else { one })
                })
            });
        }
    }
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "imgbuild", &mut script);
    let script = String::from_utf8_lossy(&script).into_owned();
    let names = with_images.join(" ");
    match shell {
        Shell::Bash => format!(
            r#"{script}
# Names of images, for the commands that take some.
_imgbuild_images() {{
    _imgbuild "$@"
    local cur="${{COMP_WORDS[COMP_CWORD]}}" place=() index word known=
    for ((index = 1; index < COMP_CWORD; index++)); do
        word="${{COMP_WORDS[index]}}"
        case "$word" in
        -C | --directory) place=(-C "${{COMP_WORDS[index + 1]}}") ;;
        esac
        case " {names} " in *" $word "*) known=1 ;; esac
    done
    [[ -z $known || $cur == -* || ${{COMP_WORDS[COMP_CWORD - 1]}} == -* ]] ||
        COMPREPLY+=($(compgen -W "$("${{COMP_WORDS[0]}}" "${{place[@]}}" {NAMES})" -- "$cur"))
}}
complete -F _imgbuild_images -o bashdefault -o default imgbuild
"#
        ),
        Shell::Zsh => {
            let function = format!(
                "_imgbuild_images() {{\n    local -a place images\n    local at=${{words[(i)-C]}}\n    (( at < ${{#words}} )) && place=(-C ${{words[at + 1]}})\n    images=(${{(f)\"$(imgbuild $place {NAMES})\"}})\n    compadd -a images\n}}\n\nif [ \"$funcstack[1]\" ="
            );
            script.replace(USERS, "_imgbuild_images").replacen("if [ \"$funcstack[1]\" =", &function, 1)
        }
        Shell::Fish => format!(
            "{script}complete -c imgbuild -n \"__fish_seen_subcommand_from {names}\" -f -a \"(imgbuild {NAMES})\"\n"
        ),
        _ => script,
    }
}

fn name_of(command: &clap::Command) -> String {
    command.get_name().to_owned()
}

/// Arguments of a command that are images, by what their help calls them.
fn images_of(command: &clap::Command) -> impl Iterator<Item = &clap::Arg> {
    let is_image = |argument: &&clap::Arg| {
        argument
            .get_value_names()
            .into_iter()
            .flatten()
            .any(|name| name.split('|').any(|name| ["IMAGE", "FROM", "A", "B"].contains(&name)))
    };
    command.get_positionals().filter(is_image)
}

fn takes_images(command: &clap::Command) -> bool {
    images_of(command).next().is_some()
}
