//! Whether the kernel can start a script: what is wrong with its mode and its first line.

use std::path::Path;

use crate::owners;
use base::source::{Finding, Span};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum StartFault {
    NotExecutable,
    /// Whatever its mode is here: git has it so.
    NotExecutableInGit,
    /// It is no program, and its first line names none.
    NoInterpreter,
    /// The name of the interpreter ends in a carriage return: the interpreter.
    LineEnds(String),
    /// The interpreter is not an absolute path: the interpreter.
    Relative(String),
}

/// What is wrong with a file that is to be started, and its content.
pub(super) fn start_faults(path: &Path) -> (Vec<StartFault>, Vec<u8>) {
    let mut faults = Vec::new();
    if owners::mode(path).is_ok_and(|mode| mode & 0o111 == 0) {
        faults.push(match owners::is_tracked(path) {
            true => StartFault::NotExecutableInGit,
            false => StartFault::NotExecutable,
        });
    }
    let bytes = witness::read(path).unwrap_or_default();
    let Some(line) = bytes.strip_prefix(b"#!") else {
        if !bytes.starts_with(b"\x7fELF") {
            faults.push(StartFault::NoInterpreter);
        }
        return (faults, bytes);
    };
    let line = String::from_utf8_lossy(line.split(|byte| *byte == b'\n').next().unwrap_or_default()).into_owned();
    match line.split([' ', '\t']).find(|word| !word.is_empty()) {
        _ if line.ends_with('\r') => faults.push(StartFault::LineEnds(line.trim().to_owned())),
        Some(interpreter) if !interpreter.starts_with('/') => {
            faults.push(StartFault::Relative(interpreter.to_owned()));
        }
        _ => {}
    }
    (faults, bytes)
}

impl StartFault {
    pub(super) fn of_postinstall(&self) -> &'static str {
        match self {
            Self::NotExecutable | Self::NotExecutableInGit => "postinstall::not_executable",
            Self::NoInterpreter | Self::Relative(_) => "postinstall::no_interpreter",
            Self::LineEnds(_) => "postinstall::line_ends",
        }
    }

    pub(super) fn of_node(&self) -> &'static str {
        match self {
            Self::NotExecutable | Self::NotExecutableInGit => "node::not_executable",
            Self::NoInterpreter | Self::Relative(_) => "node::no_interpreter",
            Self::LineEnds(_) => "node::line_ends",
        }
    }

    pub(super) fn finding(&self, code: &'static str, file: &str, span: &Span) -> Finding {
        let (message, help) = match self {
            Self::NotExecutable => (format!("`{file}` is not executable"), format!("chmod +x {file}")),
            Self::NotExecutableInGit => (
                format!("`{file}` is not executable in git's index, which counts for what git tracks"),
                format!("chmod +x {file} && git update-index --chmod=+x {file}"),
            ),
            Self::NoInterpreter => (
                format!("`{file}` does not say which interpreter runs it"),
                "start it with a line such as #!/bin/sh".to_owned(),
            ),
            Self::LineEnds(interpreter) => (
                format!("`{file}` has Windows line endings (CR LF)"),
                format!("the kernel would look for `{interpreter}\\r`; convert them: sed -i 's/\\r$//' {file}"),
            ),
            Self::Relative(interpreter) => (
                format!("`{file}` is run by `{interpreter}`, which is not an absolute path"),
                "start it with a line such as #!/bin/sh".to_owned(),
            ),
        };
        Finding::error(code, span, message).label("named here").help(help)
    }
}
