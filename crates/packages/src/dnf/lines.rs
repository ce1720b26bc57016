//! A transaction as our plugins print it: lines among what the solver prints for people.

use crate::rpm::Evr;
use crate::rpm_family::{Answer, Picked};

const MARK: &str = "== answer\t";

/// The transaction; none where no plugin printed one.
pub(super) fn read(said: &str) -> Option<Answer> {
    let mut answer = None;
    for line in said.lines().filter_map(|line| line.strip_prefix(MARK)) {
        let words: Vec<&str> = line.split('\t').collect();
        // Resolved again: only the last one counts.
        if words[..] == ["begin"] && !(answer.is_some() && fault::planted("dnf-first-transaction")) {
            answer = Some(Answer::default());
        }
        let Some(answer) = answer.as_mut() else { continue };
        match words[..] {
            ["stream", name, stream] => answer.modules.push(format!("{name}:{stream}")),
            ["removed", name, ..] => answer.remove.push(name.to_owned()),
            [kind @ ("asked" | "needed"), name, arch, evr, repository] => answer.install.push(Picked {
                name: name.to_owned(),
                arch: arch.to_owned(),
                evr: Evr::parse(evr),
                repository: repository.trim_start_matches('@').to_owned(),
                automatic: kind == "needed",
            }),
            _ => {}
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_transaction_counts() {
        let said = "noise\n== answer\tbegin\n== answer\tasked\tfirst\tnoarch\t1-1\tr\n== answer\tbegin\n\
            == answer\tneeded\ta\tx86_64\t1:2-3\t@r\n== answer\tremoved\tb\tnoarch\t1-1\t@System\n== answer\tstream\tnodejs\t18\n";
        let answer = read(said).unwrap();
        let [one] = &answer.install[..] else { panic!("{answer:?}") };
        assert_eq!((one.name.as_str(), one.evr.epoch, one.repository.as_str(), one.automatic), ("a", 1, "r", true));
        assert_eq!((answer.remove, answer.modules), (vec!["b".to_owned()], vec!["nodejs:18".to_owned()]));
        assert_eq!(read("Installing:\n a noarch 1-1 r 1 k\n"), None);
    }
}
