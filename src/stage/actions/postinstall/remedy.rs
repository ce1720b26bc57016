//! What an administrator does about a script that failed, or that wrote where nobody looks.

use crate::recipe::{Recipe, package_of};
use crate::source::{Finding, Severity};

/// What the last lines of a script that failed say of its remedy; ends with a line break where it says something.
pub fn remedy(lines: &[String]) -> String {
    let text = lines.join("\n");
    let not_found = lines.iter().find_map(|line| {
        let line = line.trim_end();
        let rest = line.strip_suffix(": not found").or_else(|| line.strip_suffix(": command not found"))?;
        Some(rest.rsplit([' ', ':']).next().unwrap_or(rest).to_owned())
    });
    if text.contains("Unable to locate package") || text.contains("Temporary failure resolving") {
        return "scripts have no network: let ‹[packages]› or ‹[otherpkgs]› install what the image needs; a script that must install packages itself gets those of the lock with ‹[postinstall] packages = \"locked\"›\n".to_owned();
    }
    match not_found {
        Some(program) => format!(
            "`{program}` is not there where the script runs: name the package that brings it in ‹[postinstall] tools = [\"{}\"]›, or run the image's own with chroot \"$1\"\n",
            package_of(&program)
        ),
        None => String::new(),
    }
}

/// What is said of files that a script wrote to the root that it runs in.
pub fn thrown_away_finding(recipe: &Recipe, script: &str, paths: &[String]) -> Option<Finding> {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = paths.iter().take(SHOWN).map(String::as_str).collect();
    let more = if paths.len() > SHOWN { format!(" and {} more", paths.len() - SHOWN) } else { String::new() };
    let first = shown.first()?;
    let text =
        format!("`{script}` wrote to the root that it runs in, which is thrown away: {}{more}", shown.join(", "));
    let mut finding = Finding::nowhere(Severity::Warning, "postinstall::thrown_away", text)
        .help(format!("the image is in the script's first argument: write \"$1{first}\""));
    finding.span = recipe.spans.get("postinstall.script").cloned();
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::remedy;

    #[test]
    fn the_last_lines_of_a_script_say_what_to_do() {
        let said = |line: &str| remedy(&[line.to_owned()]);
        assert!(said("/recipe/x: 3: python3: not found").contains("tools = [\"python3\"]"));
        assert!(said("/recipe/x: line 3: ip: command not found").contains("tools = [\"iproute2\"]"));
        assert!(said("E: Unable to locate package htop").contains("packages = \"locked\""));
        assert_eq!(said("something else"), "");
    }
}
