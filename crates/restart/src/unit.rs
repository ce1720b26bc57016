//! What a unit file of systemd says of programs and paths. Source: systemd.syntax(7), systemd.service(5), systemd.exec(5).

use std::collections::BTreeSet;

/// Kinds of units that can be started again by themselves, without others noticing.
pub(crate) const KINDS: [&str; 4] = [".service", ".socket", ".timer", ".path"];

/// Longest value of one key, in bytes, its continued lines together.
const LONGEST_VALUE: usize = 1 << 16;
/// Most paths of one unit.
const MOST_PATHS: usize = 1000;

/// A unit, with its drop-ins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its file without a slash in front.
    pub(crate) path: String,
    /// The programs of `ExecStart=` and its kin, as written.
    pub(crate) programs: BTreeSet<String>,
    /// All absolute paths in it, programs included.
    pub(crate) paths: BTreeSet<String>,
    /// Whether it has an `[Install]` section: it runs if it is enabled. Without one it is started by others.
    pub(crate) installs: bool,
    pub(crate) one_shot: bool,
    pub(crate) remains: bool,
    /// Whether `systemctl` may not stop or start it.
    pub(crate) refuses: bool,
    /// Units that start with it.
    pub(crate) pulls: BTreeSet<String>,
}

/// Keys whose units start with a unit. Source: systemd.unit(5).
const PULLS: [&str; 5] = ["Wants", "Requires", "Requisite", "BindsTo", "Upholds"];

fn is_yes(value: &str) -> bool {
    ["yes", "true", "on", "1"].iter().any(|yes| value.eq_ignore_ascii_case(yes))
}

impl Unit {
    /// Takes the text of its file or of a drop-in.
    pub(crate) fn add(&mut self, text: &str) {
        let mut section = String::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            let mut line = line.trim().to_owned();
            if line.starts_with(['#', ';']) {
                continue;
            }
            while line.ends_with('\\') && line.len() < LONGEST_VALUE {
                line.pop();
                let Some(next) = lines.next().map(str::trim) else { break };
                // Comments may stand between continued lines.
                match next.starts_with(['#', ';']) {
                    true => line.push('\\'),
                    false => line.extend([" ", next]),
                }
            }
            if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                name.clone_into(&mut section);
                continue;
            }
            let Some((key, value)) = line.split_once('=') else { continue };
            self.key(&section, key.trim(), value.trim());
        }
    }

    fn key(&mut self, section: &str, key: &str, value: &str) {
        match (section, key) {
            ("Install", _) => self.installs = true,
            ("Service", "Type") => self.one_shot = value == "oneshot",
            ("Service", "RemainAfterExit") => self.remains = is_yes(value),
            ("Unit", "RefuseManualStop" | "RefuseManualStart") => self.refuses |= is_yes(value),
            ("Unit", key) if PULLS.contains(&key) && self.pulls.len() < MOST_PATHS => {
                self.pulls.extend(value.split_whitespace().take(MOST_PATHS).map(str::to_owned));
            }
            _ => {}
        }
        if key.starts_with("Exec")
            && let Some(word) = value.split_whitespace().next()
        {
            let program = word.trim_start_matches(['@', '-', ':', '+', '!', '|']).trim_matches(['"', '\'']);
            if !program.is_empty() && self.programs.len() < MOST_PATHS {
                self.programs.insert(program.trim_start_matches('/').to_owned());
            }
        }
        for path in value.split_whitespace().filter_map(path_in) {
            if self.paths.len() < MOST_PATHS {
                self.paths.insert(path.to_owned());
            }
        }
    }
}

/// The absolute path of a word, without its slash: `-/etc/default/x`, `--config=/etc/x`, `name:/etc/x`.
pub(crate) fn path_in(word: &str) -> Option<&str> {
    let word = word.trim_matches(['"', '\'', ';', ')', '(', '`', ',', '}', '{']);
    let start = word.find('/')?;
    let is_start = start == 0 || word[..start].ends_with(['=', ':', '-', '!', '|', '@', '+', '"', '\'', '<', '>']);
    let path = word[start..].trim_matches('/');
    (is_start && !path.is_empty()).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_paths_of_a_unit() {
        let mut unit = Unit::default();
        unit.add(
            "[Unit]\nConditionPathExists=!/etc/no\n# ExecStart=/not/this\n[Service]\nType=notify\nEnvironmentFile=-/etc/default/x\n\
             ExecStartPre=-!/usr/bin/pre\nExecStart=/usr/sbin/x --config=/etc/x.conf \\\n ; a comment\n  -f \"/srv/a\"\n[Install]\nWantedBy=multi-user.target\n",
        );
        assert_eq!(unit.programs.iter().map(String::as_str).collect::<Vec<_>>(), ["usr/bin/pre", "usr/sbin/x"]);
        let paths = ["etc/default/x", "etc/no", "etc/x.conf", "srv/a", "usr/bin/pre", "usr/sbin/x"];
        assert_eq!(unit.paths.iter().map(String::as_str).collect::<Vec<_>>(), paths);
        assert!(unit.installs && !unit.one_shot && !unit.refuses);
        unit.add("[Service]\nType=oneshot\n");
        assert!(unit.one_shot && !unit.remains);
        unit.add("[Service]\nRemainAfterExit=yes\n");
        assert!(unit.remains);
        unit.add("[Unit]\nRefuseManualStop=Yes\nWants=a.service b.socket\nBindsTo=c.service\nAfter=d.service\n");
        assert!(unit.refuses);
        assert_eq!(unit.pulls.into_iter().collect::<Vec<_>>(), ["a.service", "b.socket", "c.service"]);
        for odd in ["", "[", "=", "[Service]\n\\", "Exec=\\\n\\\n", "ExecStart=", "ExecStart=-"] {
            Unit::default().add(odd);
        }
        assert_eq!(["a/b", "/", "x=/", "http://a", "a:/b"].map(path_in), [None, None, None, Some("a"), Some("b")]);
    }
}
