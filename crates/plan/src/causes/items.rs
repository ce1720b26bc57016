//! Items of a list that came together, said as one.

use crate::{Cause, Reason};

/// Says items of one list that are all new, `make[0] = -C` and `make[1] = .`, as one: `make = -C .`.
pub(crate) fn joined(causes: Vec<Cause>) -> Vec<Cause> {
    /// The list, which item it is, and its value.
    fn item(cause: &Cause) -> Option<(&str, usize, &str)> {
        let Reason::Added { what, now } = &cause.reason else { return None };
        let (list, index) = what.strip_suffix(']')?.rsplit_once('[')?;
        Some((list, index.parse().ok()?, now))
    }
    let mut all: Vec<Cause> = Vec::new();
    // How many items the last one has.
    let mut items = 0;
    for cause in causes {
        let Some((list, index, value)) = item(&cause) else {
            items = 0;
            all.push(cause);
            continue;
        };
        let of_list = |last: &&mut Cause| matches!(&last.reason, Reason::Added { what, .. } if what == list);
        if let Some(last) = all.last_mut().filter(|_| items == index).filter(of_list)
            && let Reason::Added { now, .. } = &mut last.reason
        {
            let more = format!(" {value}");
            now.push_str(&more);
            last.message.push_str(&more);
        } else if let (0, Some(start)) = (index, cause.message.strip_suffix(&format!("{list}[0] = {value}"))) {
            items = 0;
            let (message, reason) =
                (format!("{start}{list} = {value}"), Reason::Added { what: list.to_owned(), now: value.to_owned() });
            all.push(Cause { message, reason, ..cause });
        } else {
            all.push(cause);
            continue;
        }
        items += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_of_a_new_list_are_said_as_one() {
        let added = |what: &str, now: &str| Cause {
            message: format!("image.toml:3 {what} = {now}"),
            file: Some("image.toml".to_owned()),
            line: Some(3),
            ..Reason::Added { what: what.to_owned(), now: now.to_owned() }.cause(None)
        };
        let all = [
            ("b[0].make[0]", "-C"),
            ("b[0].make[1]", "."),
            ("b[0].x", "y"),
            ("l[1]", "z"),
            ("l[0]", "a"),
            ("l[1]", "b"),
        ];
        let causes = joined(all.iter().map(|(what, now)| added(what, now)).collect());
        let words: Vec<&str> = causes.iter().map(|cause| cause.message.trim_start_matches("image.toml:3 ")).collect();
        assert_eq!(words, ["b[0].make = -C .", "b[0].x = y", "l[1] = z", "l = a b"]);
        assert!(matches!(&causes[0].reason, Reason::Added { what, now } if what == "b[0].make" && now == "-C ."));
    }
}
