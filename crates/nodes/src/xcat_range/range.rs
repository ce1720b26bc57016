//! Atoms that count: `n01-n04`, `n[01-04]`, `n01+3`.

use super::{shown, wrong};
use crate::set::{MOST_NODES, SetError, are_too_long};
use base::source::counted;

/// Bytes of one atom: names of hosts have 253 at most, lists in brackets more.
const LONGEST_ATOM: usize = 1 << 20;
/// Digits of a number. No host has more in its name.
const MOST_DIGITS: usize = 18;

/// The names that an atom means; a text in no other form is itself.
pub(super) fn names(text: &str) -> Result<Vec<String>, SetError> {
    if text.len() > LONGEST_ATOM {
        let message = format!("`{}` is longer than the limit of {LONGEST_ATOM} bytes", shown(text));
        return Err(wrong(text, message, "write ranges with fewer places"));
    }
    if text.contains(['[', ']']) {
        return brackets(text);
    }
    if let Some((base, count)) = text.rsplit_once('+')
        && !count.is_empty()
        && count.bytes().all(|letter| letter.is_ascii_digit())
    {
        return counting(text, base, count);
    }
    for operator in [':', '-'] {
        if let Some((left, right)) = middle(text, operator) {
            return bounds(text, left, right);
        }
    }
    Ok(vec![text.to_owned()])
}

/// Cuts at the middle one of an odd count.
fn middle(text: &str, operator: char) -> Option<(&str, &str)> {
    let places: Vec<usize> = text.match_indices(operator).map(|(at, _)| at).collect();
    let at = *places.get(places.len() / 2).filter(|_| places.len() % 2 == 1)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Runs of digits and of other letters.
fn runs(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let is_number = rest.starts_with(|letter: char| letter.is_ascii_digit());
        let end = rest.find(|letter: char| letter.is_ascii_digit() != is_number).unwrap_or(rest.len());
        found.push(&rest[..end]);
        rest = &rest[end..];
    }
    found
}

/// `L-R`: one run of digits differs, all else is the same; else it is a name.
fn bounds(text: &str, left: &str, right: &str) -> Result<Vec<String>, SetError> {
    let (first, last) = (runs(left), runs(right));
    let differs: Vec<usize> = (0..first.len().min(last.len())).filter(|at| first[*at] != last[*at]).collect();
    let number = |text: &str| text.starts_with(|letter: char| letter.is_ascii_digit());
    let (Some(at), true) = (differs.first(), first.len() == last.len() && differs.len() < 2) else {
        return match left == right && !left.is_empty() {
            true => Ok(vec![left.to_owned()]),
            false => Ok(vec![text.to_owned()]),
        };
    };
    if !number(first[*at]) || !number(last[*at]) {
        return Ok(vec![text.to_owned()]);
    }
    let values = numbers(text, first[*at], last[*at], text.len())?;
    let (before, after) = (first[..*at].concat(), first[*at + 1..].concat());
    Ok(values.iter().map(|value| format!("{before}{value}{after}")).collect())
}

/// From one number to another, with the padding of the first; `length` is that of a name.
fn numbers(text: &str, first: &str, last: &str, length: usize) -> Result<Vec<String>, SetError> {
    let (Some(low), Some(high)) = (number(first), number(last)) else {
        return Err(too_large(text));
    };
    if first.len() > last.len() {
        let message = format!("`{}` counts from {} digits to {}", shown(text), first.len(), last.len());
        return Err(wrong(
            text,
            message,
            "write both numbers with as many digits: xCAT finds no node here, and says nothing",
        ));
    }
    if low > high {
        let help = format!("write {last} after {first}: xCAT counts on to all nines here");
        return Err(wrong(text, format!("`{}` counts backwards", shown(text)), &help));
    }
    many(text, high - low, length)?;
    let width = if fault::planted("range-padding-lost") { 0 } else { first.len() };
    Ok((low..=high).map(|number| format!("{number:0width$}")).collect())
}

/// A number of digits that can be counted with.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|_| text.len() <= MOST_DIGITS)
}

fn too_large(text: &str) -> SetError {
    let message = format!("`{}` has a number that is too large", shown(text));
    wrong(text, message, &format!("the limit is {MOST_DIGITS} digits"))
}

/// Whether so many names of so many bytes are not too many.
fn many(text: &str, count: u64, length: usize) -> Result<(), SetError> {
    match count >= MOST_NODES as u64 || are_too_long(count, length) {
        true => {
            let problem = format!("`{}` means more than {} nodes", shown(text), counted(MOST_NODES));
            Err(wrong(text, problem, "correct the range"))
        }
        false => Ok(()),
    }
}

/// `x+N` counts on from the digits at the end of x, or before its domain.
fn counting(text: &str, base: &str, count: &str) -> Result<Vec<String>, SetError> {
    let (host, domain) = match base.split_once('.') {
        Some((host, _)) if fault::planted("range-domain-lost") => (host, String::new()),
        Some((host, domain)) => (host, format!(".{domain}")),
        None => (base, String::new()),
    };
    let start = host.trim_end_matches(|letter: char| letter.is_ascii_digit()).len();
    let (name, digits) = host.split_at(start);
    if digits.is_empty() {
        let message = format!("`{}` has no number to count on from", shown(base));
        return Err(wrong(text, message, "write for instance n01+3"));
    }
    let (Some(low), Some(more)) = (number(digits), number(count)) else { return Err(too_large(text)) };
    many(text, more, text.len())?;
    let width = digits.len();
    Ok((low..=low.saturating_add(more)).map(|number| format!("{name}{number:0width$}{domain}")).collect())
}

/// One bracket after the other, each bound glued to what is around it.
fn brackets(text: &str) -> Result<Vec<String>, SetError> {
    let mut found = vec![String::new()];
    let mut rest = text;
    loop {
        let (open, close) = match (rest.find('['), rest.find(']')) {
            (Some(open), Some(close)) if open < close => (open, close),
            _ => {
                let length = found.iter().map(String::len).max().unwrap_or_default() + rest.len();
                many(text, found.len() as u64, length)?;
                found.iter_mut().for_each(|name| name.push_str(rest));
                return Ok(found);
            }
        };
        let (before, inner, after) = (&rest[..open], &rest[open + 1..close], &rest[close + 1..]);
        if before.is_empty() && after.is_empty() && found.iter().all(String::is_empty) {
            // A name that no one has: `[1-3]`.
            return Ok(vec![text.to_owned()]);
        }
        let mut values = Vec::new();
        let around = found.iter().map(String::len).max().unwrap_or_default() + before.len();
        let mut length = 0;
        for part in inner.split(',') {
            match part.split_once(['-', ':']) {
                Some((left, right)) => values.extend(letters_or_numbers(text, left, right)?),
                None => values.push(part.to_owned()),
            }
            length = length.max(around + part.len());
            many(text, (values.len() as u64).saturating_mul(found.len() as u64), length)?;
        }
        found =
            found.iter().flat_map(|name| values.iter().map(move |value| format!("{name}{before}{value}"))).collect();
        rest = after;
    }
}

/// Numbers between two, or two names where the bounds are letters.
fn letters_or_numbers(text: &str, left: &str, right: &str) -> Result<Vec<String>, SetError> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_digit());
    if digits(left) && digits(right) {
        return numbers(text, left, right, right.len());
    }
    let message = format!("`{}` counts from `{}` to `{}`", shown(text), shown(left), shown(right));
    Err(wrong(text, message, "numbers are counted, letters are not: name each"))
}
