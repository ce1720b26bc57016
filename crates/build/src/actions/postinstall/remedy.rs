//! What an administrator does about a script that failed, or that wrote where no one looks.

use base::source::{Finding, Severity};
use recipe::{Recipe, package_of};

/// Programs that bring something from elsewhere.
const FETCHERS: [&str; 13] =
    ["curl", "wget", "git", "pip", "pip3", "npm", "apt", "apt-get", "dnf", "yum", "zypper", "scp", "sftp"];

/// What the lines that a script printed say of its remedy; ends with a line break where it says something.
pub(crate) fn remedy(lines: &[String], status: i32) -> String {
    // A shell's own answer is on its standard error, which a script may have turned away.
    if status == 127 && lines.iter().all(|line| line.trim().is_empty()) {
        return "it printed nothing: 127 means that a program was not found, or could not be started for want of its loader or a library: add `set -x` to the script to see which, and name the package that provides it in ‹[postinstall] tools = [\"NAME\"]›\n".to_owned();
    }
    let has = |words: &[&str]| lines.iter().any(|line| words.iter().any(|word| line.contains(word)));
    let not_found = lines.iter().find_map(|line| {
        let line = line.trim_end();
        let rest = line.strip_suffix(": not found").or_else(|| line.strip_suffix(": command not found"))?;
        Some(rest.rsplit([' ', ':']).next().unwrap_or(rest).to_owned())
    });
    if has(&[
        "Unable to locate package",
        "Temporary failure resolving",
        "name resolution",
        "Network is unreachable",
        "ould not resolve",
        "nable to resolve",
    ]) {
        return "scripts have no network: let ‹[packages]› or ‹[otherpkgs]› install what the image needs; a script that must install packages itself gets those of the lock with ‹[postinstall] packages = \"locked\"›\n".to_owned();
    }
    if let Some(program) = not_found.as_deref().filter(|program| FETCHERS.contains(program)) {
        return format!(
            "scripts have no network, so `{program}` could fetch nothing: put what it fetches next to the recipe and name it in ‹[postinstall] inputs = [\"NAME\"]›, or let ‹[packages]› install it\n"
        );
    }
    if let Some(program) = not_found {
        return format!(
            "`{program}` does not exist in the script's root: name the package that provides it in ‹[postinstall] tools = [\"{}\"]›, or run the image's own with chroot \"$1\"\n",
            package_of(&program)
        );
    }
    let names_device = |line: &String| line.contains("mknod") || line.contains("special file");
    if lines.iter().any(|line| names_device(line) && line.contains("Operation not permitted")) {
        return "no build makes such a device node: nodes get theirs from the kernel (devtmpfs) when they start; for others, add a line in the image's /etc/tmpfiles.d\n".to_owned();
    }
    if has(&["chown", "chgrp", "useradd", "adduser", "install:"]) && has(&["Invalid argument"]) {
        return format!(
            "an owner's number may be too large for this machine, which has {} for an image's ids; a longer range in /etc/subuid and /etc/subgid gives more\n",
            sandbox::ids_here()
        );
    }
    let foreign = lines.iter().filter(|line| line.contains("No such file")).find_map(|line| {
        let words = line.split(['\'', '"', ' ', ':', '\u{2018}', '\u{2019}']);
        words.map(str::trim).find(|word| {
            word.starts_with('/') && word.len() > 1 && !["/target/", "/recipe/"].iter().any(|own| word.starts_with(own))
        })
    });
    if let Some(path) = foreign {
        return format!(
            "scripts cannot read this machine's files, so `{path}` does not exist for them: name it in ‹[postinstall] inputs = [\"{path}\"]› and allow it in [workspace] allow, or copy it next to the recipe and name that copy; a file of the image is \"$1{path}\"\n"
        );
    }
    if has(&["No such file", "Permission denied"]) {
        return "scripts can read only what `inputs` of ‹[postinstall]› names, and write only below their first argument\n".to_owned();
    }
    String::new()
}

/// What is said of files that a script wrote to the root that it runs in.
pub(crate) fn thrown_away_finding(recipe: &Recipe, script: &str, paths: &[String]) -> Option<Finding> {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = paths.iter().take(SHOWN).map(String::as_str).collect();
    let more = if paths.len() > SHOWN { format!(" and {} more", paths.len() - SHOWN) } else { String::new() };
    let first = shown.first()?;
    let text = format!("`{script}` wrote to its own root, which is discarded: {}{more}", shown.join(", "));
    let mut finding = Finding::nowhere(Severity::Warning, "postinstall::thrown_away", text).help(
        match paths.iter().any(|path| path == "/etc/.pwd.lock" || path == "/etc/passwd") {
            true => "for accounts of the image: ‹[users.NAME] uid = 1000›, or useradd and groupadd with -R \"$1\""
                .to_owned(),
            false => format!("the image is in the script's first argument: write \"$1{first}\""),
        },
    );
    finding.span = recipe.spans.nearest("postinstall.script").cloned();
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::remedy;

    #[test]
    fn the_last_lines_of_a_script_say_what_to_do() {
        let said = |line: &str| remedy(&[line.to_owned()], 1);
        assert!(said("/recipe/x: 3: python3: not found").contains("tools = [\"python3\"]"));
        assert!(said("/recipe/x: line 3: ip: command not found").contains("tools = [\"iproute2\"]"));
        assert!(said("/recipe/x: 3: curl: not found").contains("scripts have no network"));
        assert!(said("cat: /etc/site.conf: No such file or directory").contains("\"$1/etc/site.conf\""));
        assert!(said("E: Unable to locate package htop").contains("packages = \"locked\""));
        assert!(said("cat: /install/issue: No such file or directory").contains("`/install/issue`"));
        assert!(said("cp: cannot stat 'site/motd': No such file or directory").contains("inputs"));
        assert!(said("mknod: /target/dev/x: Operation not permitted").contains("tmpfiles.d"));
        assert!(said("chown: changing ownership of 'x': Invalid argument").contains("/etc/subuid"));
        assert_eq!(said("something else"), "");
    }

    #[test]
    fn a_script_that_fails_without_a_word_is_explained() {
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        assert!(remedy(&[], 127).contains("set -x") && remedy(&lines("\n \n"), 127).contains("set -x"));
        assert_eq!(remedy(&[], 1), "");
        assert!(remedy(&lines("post.sh: 3: rsync: not found"), 127).contains("`rsync` does not exist"));
    }
}
