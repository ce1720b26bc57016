//! What all of xCAT's commands need: imgbuild's own commands, the workspace, and the real command of the name.

mod real;

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Done, Ended, Name};
use crate::output::render;
use crate::plans::emit::quote::shell as quoted;
use crate::recipe_lock;
use build::init_for;
use recipe::{Known, Overlay, Recipe, known, select};

/// Runs imgbuild's own commands for one of xCAT's.
pub(super) struct Shell {
    pub workspace: PathBuf,
    pub name: Name,
    /// What it was started as, and its arguments.
    pub arguments: Vec<String>,
}

impl Shell {
    pub(super) fn say(&self, text: &str) {
        render::say(&format!("{}: {text}", self.name.name()));
    }

    pub(super) fn fail(&self, text: &str) -> Ended {
        render::say(&format!("{}: error: {text}", self.name.name()));
        Ended(1)
    }

    pub(super) fn program(&self) -> &str {
        self.arguments.first().map_or(self.name.name(), String::as_str)
    }

    pub(super) fn words(&self) -> &[String] {
        &self.arguments[1.min(self.arguments.len())..]
    }

    /// The real command of this name, if there is one further down PATH.
    pub(super) fn real(&self) -> Option<PathBuf> {
        real::find(self.name.name(), self.program())
    }

    /// Another command of xCAT.
    pub(super) fn real_called(&self, name: &str) -> Option<PathBuf> {
        real::find(name, self.program())
    }

    /// Lets the real command do it, with the same arguments; it comes back only where that cannot be.
    pub(super) fn hand_on(&self, what: &str, help: &str) -> Ended {
        let name = self.name.name();
        let help = if help.is_empty() { String::new() } else { format!("\n  help: {help}") };
        let Some(path) = self.real() else {
            return self.fail(&format!(
                "{what}, and there is no `{name}` of xCAT further down PATH\n  help: put xCAT's directories after this one in PATH (/opt/xcat/bin, /opt/xcat/sbin), or run xCAT's command by its path{help}"
            ));
        };
        let error = Command::new(&path).args(self.words()).exec();
        self.fail(&format!("{what}, and `{}` cannot be run: {error}", path.display()))
    }

    /// Runs the real command besides, with the same arguments and with this on its standard input.
    pub(super) fn run_real(&self, path: &Path, input: Option<&str>) -> Done {
        let failed = |error: std::io::Error| self.fail(&format!("`{}` cannot be run: {error}", path.display()));
        let mut command = Command::new(path);
        command.args(self.words()).stdin(if input.is_some() { Stdio::piped() } else { Stdio::inherit() });
        let mut child = command.spawn().map_err(failed)?;
        if let (Some(text), Some(mut pipe)) = (input, child.stdin.take()) {
            // It may not read all of it: its exit status says what it thinks.
            let _ = pipe.write_all(text.as_bytes());
        }
        let status = child.wait().map_err(failed)?;
        let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
        if status.success() { Ok(()) } else { Err(Ended(code)) }
    }

    /// The recipes of the workspace; none where it cannot be read.
    pub(super) fn known(&self) -> Option<Known> {
        known(&self.workspace, true, &Overlay::new()).ok()
    }

    /// Whether the workspace has an image of this name; where that cannot be determined, imgbuild's own commands say why.
    pub(super) fn has(&self, image: &str) -> bool {
        let known = match known(&self.workspace, true, &Overlay::new()) {
            Ok(known) => known,
            // A workspace may have no image yet.
            Err(findings) => return !findings.iter().any(|finding| finding.code == "recipe::missing"),
        };
        let is_broken = known.broken.iter().any(|(directory, _)| directory.ends_with(image));
        is_broken || known.images().any(|draft| draft.name().is_some_and(|(name, _)| name == image))
    }

    /// Hands a command for an image on that is xCAT's alone, where there is an xCAT.
    pub(super) fn hand_on_unknown(&self, image: &str) -> Done {
        let Some(path) = self.real().filter(|_| !self.has(image)) else { return Ok(()) };
        self.say(&format!("{image} is not an image of {}: {} gets it", self.workspace.display(), path.display()));
        Err(self.hand_on(&format!("{image} is not an image of the workspace"), ""))
    }

    /// Hands a command on for an image of a CPU for which this imgbuild has no program of the initrd, where there is an xCAT: its own
    /// genimage, packimage and nodeset go together.
    pub(super) fn hand_on_unbuildable(&self, image: &str) -> Done {
        let (Some(path), Some(reason)) = (self.real(), self.unbuildable(image)) else { return Ok(()) };
        self.say(&format!("{reason}: {} gets it", path.display()));
        Err(self.hand_on(&reason, ""))
    }

    /// Why this imgbuild cannot build an image, whatever its recipe says.
    pub(super) fn unbuildable(&self, image: &str) -> Option<String> {
        let recipe = select(&self.workspace, &[image.to_owned()]).ok()?.recipes.into_iter().next()?;
        let error = init_for(recipe.model.image.arch).err()?;
        Some(format!("{image} cannot be built here: {error}"))
    }

    pub(super) fn directory_of(&self, image: &str) -> Option<PathBuf> {
        let known = self.known()?;
        let found = known.images().find(|draft| draft.name().is_some_and(|(name, _)| name == image));
        found.map(|draft| draft.directory.clone())
    }

    /// What the files of a recipe set, as JSON; null where they cannot be read.
    pub(super) fn document(&self, image: &str) -> serde_json::Value {
        let known = self.known();
        let mut images = known.iter().flat_map(Known::images);
        let draft = images.find(|draft| draft.name().is_some_and(|(name, _)| name == image));
        draft.map_or(serde_json::Value::Null, |draft| draft.document.to_json())
    }

    pub(super) fn recipe(&self, image: &str) -> Result<Recipe, Ended> {
        let selected = select(&self.workspace, &[image.to_owned()]).ok();
        let recipe = selected.and_then(|selected| selected.recipes.into_iter().next());
        recipe.ok_or_else(|| self.fail(&format!("the recipe of {image} cannot be read: imgbuild check {image}")))
    }

    pub(super) fn directory(&self) -> PathBuf {
        let program = self.program();
        let directory = match program.rsplit_once('/') {
            Some((directory, _)) => Some(PathBuf::from(if directory.is_empty() { "/" } else { directory })),
            None => std::env::var_os("PATH")
                .and_then(|path| std::env::split_paths(&path).find(|place| place.join(program).exists())),
        };
        let directory = directory.unwrap_or_else(|| PathBuf::from("."));
        directory.canonicalize().unwrap_or(directory)
    }

    /// What a field of a recipe says; nothing where it is not set.
    pub(super) fn value(&self, image: &str, field: &str) -> String {
        let output = self.command(&["show", image, field]).ok().and_then(|mut command| {
            command.stderr(Stdio::null()).output().ok().filter(|output| output.status.success())
        });
        output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
    }

    fn command(&self, arguments: &[&str]) -> Result<Command, Ended> {
        let program = std::env::current_exe()
            .map_err(|error| self.fail(&format!("cannot find the imgbuild program: {error}")))?;
        let mut command = Command::new(program);
        command.arg("-C").arg(&self.workspace).args(arguments);
        recipe_lock::lend(&mut command);
        Ok(command)
    }

    /// Runs a command of imgbuild in the workspace, and says which it is.
    pub(super) fn run(&self, arguments: &[&str]) -> Done {
        let shown: Vec<String> = arguments.iter().map(|word| quoted(word)).collect();
        self.say(&format!("imgbuild -C {} {}", self.workspace.display(), shown.join(" ")));
        self.quietly(arguments)
    }

    pub(super) fn quietly(&self, arguments: &[&str]) -> Done {
        let status = self.command(arguments)?.status();
        match status.map_err(|error| self.fail(&format!("cannot start imgbuild: {error}")))?.success() {
            true => Ok(()),
            false => Err(Ended(1)),
        }
    }

    pub(super) fn output(&self, arguments: &[&str]) -> Result<String, Ended> {
        let (text, done) = self.listing(arguments)?;
        done.map(|()| text)
    }

    /// What a command of imgbuild prints, also where it does not end well; and whether it does.
    pub(super) fn listing(&self, arguments: &[&str]) -> Result<(String, Done), Ended> {
        let output = self.command(arguments)?.stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| self.fail(&format!("cannot start imgbuild: {error}")))?;
        let done = if output.status.success() { Ok(()) } else { Err(Ended(1)) };
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), done))
    }

    pub(super) fn attribute(&self, image: &str, attribute: &str) -> Result<String, Ended> {
        let text = self.output(&["show", image, "-i", attribute])?;
        let value = text.lines().find_map(|line| line.trim_start().strip_prefix(attribute)?.strip_prefix('='));
        Ok(value.unwrap_or_default().to_owned())
    }

    /// Says once which lines of a recipe say what flags said.
    pub(super) fn say_lines(&self, image: &str, lines: &[String]) {
        if !lines.is_empty() {
            self.say(&format!("the same in the recipe of {image}:"));
            for line in lines {
                render::say(&format!("  {line}"));
            }
        }
    }

    /// Says which flags mean nothing here, and why.
    pub(super) fn say_moot(&self, flags: &[(&str, bool, &str)]) {
        for (flag, is_given, reason) in flags {
            if *is_given {
                self.say(&format!("{flag} has no effect: {reason}"));
            }
        }
    }
}
