//! Another command in place of an operation's own: in the same root, with the same files and environment.

use serde::{Deserialize, Serialize};

use super::CommandRequest;
use base::failure::Failure;

/// Variable of the helper process that says what stands in, as JSON.
pub(crate) const VARIABLE: &str = "IMGBUILD_STAND_IN";

/// Variable of the command that stands in: the command in whose place it runs, in a shell's words.
pub(crate) const COMMAND: &str = "IMGBUILD_COMMAND";

/// What runs in place of the operation's first command, on the caller's terminal.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Substitute {
    pub arguments: Vec<String>,
    pub terminal: String,
}

pub(super) fn asked_for() -> Option<Substitute> {
    serde_json::from_str(&std::env::var(VARIABLE).ok()?).ok()
}

/// What the operation fails with once a command stood in.
pub(super) fn ended(status: i32) -> String {
    Failure::StoodIn(status).met(format!("the substitute command exited with status {status}"))
}

fn quoted(word: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

impl Substitute {
    pub(super) fn in_place_of(&self, request: &CommandRequest) -> CommandRequest {
        let mut request = request.clone();
        let words: Vec<String> = request.arguments.iter().map(|word| quoted(word)).collect();
        request.environment.retain(|(name, _)| name != "TERM");
        request.environment.push(("TERM".to_owned(), self.terminal.clone()));
        request.environment.push((COMMAND.to_owned(), words.join(" ")));
        request.arguments.clone_from(&self.arguments);
        request.interactive = true;
        request
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_reads_back_in_a_shell() {
        let request = CommandRequest {
            arguments: ["printf", "%s\\n", "a b", "it's", ""].map(str::to_owned).to_vec(),
            environment: vec![("TERM".into(), "dumb".into())],
            ..CommandRequest::default()
        };
        let substitute = Substitute { arguments: vec!["/bin/sh".into()], terminal: "vt100".into() };
        let changed = substitute.in_place_of(&request);
        let command = &changed.environment.iter().find(|(name, _)| name == COMMAND).unwrap().1;
        let output = std::process::Command::new("/bin/sh").arg("-c").arg(command).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "a b\nit's\n\n");
        assert!(changed.environment.contains(&("TERM".to_owned(), "vt100".to_owned())));
    }
}
