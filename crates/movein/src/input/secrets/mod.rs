//! What must not get into a recipe: passwords, their hashes, tokens, private keys.

mod files;

pub(crate) use files::{of_content, of_path};

/// Words of a name whose value is a secret.
const NAMES: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "secret",
    "token",
    "api_key",
    "apikey",
    "api-key",
    "access_key",
    "accesskey",
    "private_key",
    "credential",
    "bindpw",
    "rootpw",
    "authtok",
    "activationkey",
];

/// Ends of such names: `StoragePass`, `ROOT_PASS`, `db_pw`, `wpa-psk`.
const ENDS: [&str; 4] = ["pass", "_pw", "-pw", "psk"];

/// Words after which a secret follows without `=`: of ldap.conf, kickstart, netrc and others.
const BEFORE: [&str; 4] = ["bindpw", "rootpw", "password", "secret"];

/// Names that have such a word and are settings: sudoers, cloud-init, nsswitch.conf, systemd, sshd.
const SETTINGS: [&str; 10] = [
    "nopasswd",
    "lock_passwd",
    "lock-passwd",
    "passwordauthentication",
    "permitemptypasswords",
    "ask-password",
    "chpasswd",
    "forcepasswordchange",
    "bypass",
    "compass",
];

/// Values that are no secret.
const PLAIN: [&str; 17] = [
    "", "yes", "no", "true", "false", "on", "off", "null", "none", "x", "*", "!", "!!", "files", "sss", "compat", "all",
];

/// How tokens of well-known services begin.
const TOKENS: [&str; 6] = ["ghp_", "github_pat_", "glpat-", "xoxb-", "hvs.", "AKIA"];

pub(crate) const HASH: &str = "the hash of a password";
pub(crate) const PASSWORD: &str = "a password";
pub(crate) const KEY: &str = "a private key";
pub(crate) const TOKEN: &str = "a token";

/// What stands where a secret was.
pub(crate) const NOT_SHOWN: &str = "(not shown)";

/// What a line has that must not get into a recipe.
pub(crate) fn of_line(line: &str) -> Option<&'static str> {
    if fault::planted("movein-secret-kept") {
        return None;
    }
    if is_private_key(line) {
        return Some(KEY);
    }
    if has_hash(&line.replace('\\', "")) {
        return Some(HASH);
    }
    if has_userinfo(line) || sets_password(line) {
        return Some(PASSWORD);
    }
    if line.split(|c: char| !c.is_ascii_alphanumeric() && !"_-.".contains(c)).any(is_token) {
        return Some(TOKEN);
    }
    assigned(line).or_else(|| follows(line).then_some(PASSWORD))
}

/// Keys of OpenSSL, OpenSSH, OpenPGP and PuTTY.
fn is_private_key(text: &str) -> bool {
    ["PRIVATE KEY-----", "PRIVATE KEY BLOCK-----", "PuTTY-User-Key-File-"].iter().any(|word| text.contains(word))
}

/// What a word of the kernel's command line has. Source: dracut.cmdline(7): `netroot=iscsi:USER:PASSWORD@SERVER`.
pub(crate) fn of_kernel_word(word: &str) -> Option<&'static str> {
    let is_iscsi = word.split_once('=').is_some_and(|(_, value)| value.starts_with("iscsi:") && value.contains('@'));
    of_line(word).or(is_iscsi.then_some(PASSWORD))
}

/// A text of ours that quotes an input, without the words that have a secret.
pub(crate) fn shown(text: &str) -> String {
    let words = text.split_inclusive(char::is_whitespace).map(|word| match of_line(word) {
        None => word.to_owned(),
        Some(_) => format!("{NOT_SHOWN}{}", &word[word.trim_end().len()..]),
    });
    words.collect()
}

/// Whether a text of an input has a secret.
pub(crate) fn is_in(text: &str) -> bool {
    !masked(text, false).lines.is_empty()
}

/// Whether a command writes what its words say.
pub(crate) fn prints(text: &str) -> bool {
    ["echo", "printf", "<<"].iter().any(|word| text.contains(word))
}

/// `bindpw ...`, `rootpw --plaintext ...`, `password ...`, and netrc's `login ... password ...`. Lines of pam.d have more words.
fn follows(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().take_while(|word| !word.starts_with('#')).collect();
    let is = |word: &str, name: &str| word.eq_ignore_ascii_case(name);
    let is_value = |word: &str| !word.starts_with('-') && !is_plain(word.trim_matches(['"', '\'']));
    let is_netrc = words.windows(3).any(|three| is(three[1], "password") && is_value(three[2]))
        && words.iter().any(|word| is(word, "login"));
    let Some((first, rest)) = words.split_first().filter(|(first, _)| BEFORE.iter().any(|name| is(first, name))) else {
        return is_netrc;
    };
    let is_long = is(first, "bindpw") || is(first, "rootpw");
    is_netrc || (is_long || rest.len() == 1) && rest.iter().any(|word| is_value(word))
}

/// A value that is no secret: a word of settings, or the place of one.
fn is_plain(value: &str) -> bool {
    PLAIN.contains(&value.to_ascii_lowercase().as_str()) || value.starts_with(['$', '/', '%', '{', '<'])
}

/// Hashes as crypt(5) has them.
fn has_hash(line: &str) -> bool {
    let kinds = ["$1$", "$2a$", "$2b$", "$2y$", "$5$", "$6$", "$7$", "$y$", "$gy$", "$sha1$", "$md5"];
    kinds.iter().flat_map(|kind| line.match_indices(kind).map(|(at, kind)| at + kind.len())).any(|at| {
        let is_of = |c: &char| c.is_ascii_alphanumeric() || "./$=,".contains(*c);
        line[at..].chars().take_while(is_of).count() >= 12
    })
}

fn is_token(word: &str) -> bool {
    TOKENS.iter().any(|begin| {
        let rest = word.strip_prefix(begin).unwrap_or_default();
        rest.len() >= 16 && rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// `scheme://user:password@host`, and a token in the place of both.
pub(crate) fn has_userinfo(line: &str) -> bool {
    line.match_indices("://").any(|(at, _)| {
        let scheme = line[..at].rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
        let rest = &line[at + 3..];
        let authority = rest.split(|c: char| c.is_whitespace() || "/'\"<>?#".contains(c)).next().unwrap_or_default();
        let user = authority.rsplit_once('@').map(|(user, _)| user);
        user.is_some_and(|user| {
            let is_variable = user.split(':').next_back().is_some_and(|word| word.starts_with('$'));
            !is_variable && (user.contains(':') || scheme.starts_with("http"))
        })
    })
}

/// Commands that set a password.
fn sets_password(line: &str) -> bool {
    let words: Vec<&str> =
        line.split(|c: char| c.is_whitespace() || "|;&()".contains(c)).filter(|word| !word.is_empty()).collect();
    let is = |name: &str| words.iter().any(|word| word.rsplit('/').next() == Some(name));
    let has = |names: &[&str]| words.iter().any(|word| names.contains(word));
    let after = |names: &[&str]| {
        words.windows(2).any(|pair| names.contains(&pair[0]) && !pair[1].trim_matches(['"', '\'']).starts_with('$'))
    };
    let pipe = line.find('|').is_some_and(|at| line[at..].contains("passwd"));
    is("chpasswd") && (line.contains('|') || line.contains("<<"))
        || is("passwd") && (has(&["--stdin"]) || pipe || line.contains("<<<"))
        || (is("usermod") || is("useradd")) && after(&["-p", "--password"])
        || is("openssl")
            && has(&["passwd"])
            && words.last().is_some_and(|word| !word.starts_with('-') && !word.starts_with('$'))
        || has(&["password_pbkdf2"])
        || is("sshpass") && words.iter().any(|word| word.starts_with("-p"))
        || is("curl") && words.windows(2).any(|pair| ["-u", "--user"].contains(&pair[0]) && pair[1].contains(':'))
        || after(&["--password", "--passwd", "--token", "--secret", "--activationkey", "--api-key", "--rootpw"])
}

/// `password=...`, `token: ...`.
fn assigned(line: &str) -> Option<&'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    for (at, _) in line.match_indices(['=', ':']) {
        let before = line[..at].trim_end().trim_end_matches(['"', '\'']);
        let name = &before[before
            .rfind(|c: char| !is_name(c))
            .map_or(0, |start| start + before[start..].chars().next().map_or(1, char::len_utf8))..];
        let lower = name.to_ascii_lowercase();
        let word = NAMES.iter().find(|word| lower.contains(*word));
        let Some(word) = word.or_else(|| ENDS.iter().find(|end| lower.ends_with(*end))) else { continue };
        if SETTINGS.iter().any(|setting| lower.contains(setting)) || lower.ends_with("_file") || lower.ends_with("file")
        {
            continue;
        }
        let rest = line[at + 1..].trim_start_matches(['=', ':', '>']).trim_start();
        let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
        let rest = rest.trim_start_matches(['"', '\'']);
        let value = match quote {
            Some(quote) => rest.split(quote).next().unwrap_or_default(),
            None => rest.split(|c: char| c.is_whitespace() || c == ';').next().unwrap_or_default(),
        };
        if !is_plain(value) {
            return Some(if word.contains("token") { TOKEN } else { PASSWORD });
        }
    }
    None
}

/// A script without its secrets: each line, or lines that a backslash joins, with a command that does nothing in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Masked {
    pub(crate) text: String,
    /// Lines that were left out, from 1, and what they had.
    pub(crate) lines: Vec<(usize, &'static str)>,
}

/// A text without its secrets. Lines of accounts and passwords are some where chpasswd is fed, here or by another text.
pub(crate) fn masked(text: &str, is_fed: bool) -> Masked {
    let lines: Vec<&str> = text.lines().collect();
    let is_fed = is_fed || text.contains("chpasswd");
    let (mut shown, mut found) = (Vec::new(), Vec::new());
    // In a key: how it ends.
    let (mut at, mut in_key) = (0, None);
    while at < lines.len() {
        let end = (at..lines.len()).find(|index| !lines[*index].ends_with('\\')).unwrap_or(lines.len() - 1);
        let whole = lines[at..=end].join("\n");
        let problem = match in_key {
            Some(_) => Some(KEY),
            None => {
                lines[at..=end].iter().find_map(|line| of_line(line)).or_else(|| of_line(&whole.replace("\\\n", " ")))
            }
        };
        let problem = problem.or_else(|| (is_fed && is_account(&whole)).then_some(PASSWORD));
        in_key = match in_key {
            Some(end) => Some(end).filter(|end| !whole.contains(*end)),
            None if whole.contains("PuTTY-User-Key-File-") => Some("Private-MAC").filter(|end| !whole.contains(*end)),
            None if whole.contains("-----BEGIN") && whole.contains("PRIVATE KEY") => {
                Some("-----END").filter(|end| !whole.contains(*end))
            }
            None => None,
        };
        match problem {
            None => shown.extend(lines[at..=end].iter().map(|line| (*line).to_owned())),
            Some(problem) => {
                found.push((at + 1, problem));
                shown.push(format!(": # line {} was left out: it has {problem}", at + 1));
                shown.extend((at..end).map(|_| String::new()));
            }
        }
        at = end + 1;
    }
    Masked { text: shown.join("\n") + "\n", lines: found }
}

/// Whether a line has `account:password`.
pub(crate) fn is_account(line: &str) -> bool {
    if line.contains("chown") || line.contains("://") {
        return false;
    }
    line.split(|c: char| c.is_whitespace() || "\"'".contains(c)).any(|word| {
        word.split_once(':').is_some_and(|(name, value)| {
            let is_name = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c));
            is_name && !value.is_empty() && !value.starts_with(['$', ':', '/', '-'])
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known() {
        for line in [
            "echo made-up | passwd root --stdin",
            "echo 'root:made-up' | chpasswd",
            "usermod -p 'x' root",
            "password=\"$6$abcdefgh$0123456789abcdefghij\"",
            "sed -i 's|root:\\*|root:\\$6\\$abcdefgh\\$0123456789ab|' /etc/shadow",
            "https://user:word@repo.example/x",
            "export REGISTRY_TOKEN=abc123",
            "StoragePass: x\nStoragePassword=made-up",
            "ldap_default_authtok = made-up",
            "subscription-manager register --username a --password made-up",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
            "curl -u me:word https://x.example/",
            "  password: made-up",
            "openssl passwd -6 made-up",
            "StoragePass=hunter2",
            "ROOT_PASS=hunter2",
            "db_pw: hunter2",
            "wpa-psk=hunter22",
            "bindpw hunter2",
            "bindpw hun ter2",
            "rootpw --plaintext hunter2",
            "  password hunter2",
            "secret hunter2 # of radius",
            "machine x.example login me password hunter2",
            "-----BEGIN PGP PRIVATE KEY BLOCK-----",
            "PuTTY-User-Key-File-3: ssh-ed25519",
        ] {
            assert!(of_line(line).is_some(), "{line}");
        }
        for line in [
            "%wheel ALL=(ALL) NOPASSWD: ALL",
            "passwd:     files sss systemd",
            "PasswordAuthentication yes",
            "lock_passwd: true",
            "password    sufficient    pam_unix.so",
            "chown munge:munge /etc/munge",
            "passwd -l root",
            "PASSWORD_FILE=/etc/x",
            "token=$TOKEN",
            "https://repo.example/x?arch=$basearch",
            "git@host.example:a/b",
            "echo $1$VERSION",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5 admin",
            "rootpw --lock",
            "bindpw $PW",
            "password include system-auth",
            "iommu.bypass=7",
        ] {
            assert_eq!(of_line(line), None, "{line}");
        }
        assert_eq!(of_path("/etc/ssh/ssh_host_rsa_key"), Some(KEY));
        assert_eq!((of_path("etc/ssh/ssh_host_rsa_key.pub"), of_path("etc/motd")), (None, None));
        assert!(of_path("/opt/x/munge.key").is_some() && of_path("etc/shadow").is_some());
        for path in [
            "etc/apt/auth.conf",
            "etc/ipsec.secrets",
            "etc/slurm/slurmdbd.conf",
            "etc/slurm/jwt.key",
            "etc/security/opasswd",
            "root/.my.cnf",
            "etc/x.keytab",
            "etc/wireguard/wg0.conf",
            "root/.docker/config.json",
            "etc/gshadow-",
            "etc/machine-id",
        ] {
            assert!(of_path(path).is_some(), "{path}");
        }
        for path in ["etc/sudoers", "root/.ssh/authorized_keys", "etc/slurm/slurm.conf", "etc/passwd", "etc/fstab"] {
            assert_eq!(of_path(path), None, "{path}");
        }
    }

    #[test]
    fn secrets_are_found_wherever_they_stand_in_a_file() {
        let text = format!("{}\nStoragePass=hunter2\n", "a line\n".repeat(60_000));
        assert_eq!(of_content(text.as_bytes()), Some(PASSWORD));
        assert_eq!(of_content(&[5, 2, 0, 0, 0, 60]), Some(KEY));
        assert_eq!(of_content(b"\0-----BEGIN PGP PRIVATE KEY BLOCK-----\n"), Some(KEY));
        let putty = "cat >/k <<E\nPuTTY-User-Key-File-3: x\nPrivate-Lines: 1\nABC\nPrivate-MAC: 00\nE\n";
        let found = masked(putty, false);
        assert!(!found.text.contains("ABC") && found.text.ends_with("\nE\n"), "{}", found.text);
    }

    #[test]
    fn words_of_the_input_in_our_texts_are_masked() {
        assert_eq!(shown("https://me:hunter2@x.example/a, b"), "(not shown) b");
        let ours = crate::plan::secret(PASSWORD);
        assert_eq!(shown(&ours), ours);
        assert!(of_kernel_word("netroot=iscsi:me:hunter2@10.0.0.1::::iqn.x").is_some());
        assert!(of_kernel_word("rd.iscsi.password=hunter2").is_some() && of_kernel_word("console=ttyS0").is_none());
    }

    #[test]
    fn a_script_loses_its_secrets_and_stays_a_script() {
        let text = "#!/bin/bash\nif true; then\n  echo x:y | \\\n    chpasswd\nfi\ncat >/tmp/p <<EOF\nroot:made-up\nEOF\nchpasswd </tmp/p\nchown a:b /x\n\
            cat >/k <<EOF\n-----BEGIN RSA PRIVATE KEY-----\nABC\n-----END RSA PRIVATE KEY-----\nEOF\necho end\n";
        let found = masked(text, false);
        assert_eq!(found.lines.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [3, 7, 12, 13, 14]);
        assert_eq!(found.text.lines().count(), text.lines().count());
        for word in ["x:y", "made-up", "ABC"] {
            assert!(!found.text.contains(word), "{}", found.text);
        }
        assert!(found.text.contains("chown a:b") && found.text.contains("echo end"), "{}", found.text);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "(.|\n|\\$6\\$|://|@|password=|é|'){0,120}") {
            let _ = masked(&text, true);
            let _ = shown(&text);
            let _ = of_content(text.as_bytes());
        }
    }
}
