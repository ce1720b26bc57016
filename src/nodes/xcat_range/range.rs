//! Atoms that count: `n01-n04`, `n[01-04]`, `n01+3`.

use super::wrong;
use crate::fault;
use crate::nodes::set::{MOST_NODES, SetError};
use crate::source::counted;

/// The names that an atom means; a text in no other form is itself.
pub fn names(text: &str) -> Result<Vec<String>, SetError> {
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
    let values = numbers(text, first[*at], last[*at])?;
    let (before, after) = (first[..*at].concat(), first[*at + 1..].concat());
    Ok(values.iter().map(|value| format!("{before}{value}{after}")).collect())
}

/// From one number to another, with the padding of the first.
fn numbers(text: &str, first: &str, last: &str) -> Result<Vec<String>, SetError> {
    let parse = |number: &str| number.parse::<u64>().ok().filter(|number| *number < u64::MAX / 2);
    let (Some(low), Some(high)) = (parse(first), parse(last)) else {
        return Err(wrong(text, format!("`{text}` has a number that is too large"), "correct it"));
    };
    if first.len() > last.len() {
        let message = format!("`{text}` counts from {} digits to {}", first.len(), last.len());
        return Err(wrong(
            text,
            message,
            "write both numbers with as many digits: xCAT finds no node here, and says nothing",
        ));
    }
    if low > high {
        let help = format!("write {last} after {first}: xCAT counts on to all nines here");
        return Err(wrong(text, format!("`{text}` counts backwards"), &help));
    }
    many(text, high - low)?;
    let width = if fault::planted("range-padding-lost") { 0 } else { first.len() };
    Ok((low..=high).map(|number| format!("{number:0width$}")).collect())
}

fn many(text: &str, count: u64) -> Result<(), SetError> {
    match count >= MOST_NODES as u64 {
        true => {
            Err(wrong(text, format!("`{text}` means more than {} nodes", counted(MOST_NODES)), "correct the range"))
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
    let (Ok(low), Ok(more)) = (digits.parse::<u64>(), count.parse::<u64>()) else {
        return Err(wrong(text, format!("`{base}` has no number to count on from"), "write for instance n01+3"));
    };
    many(text, more)?;
    let width = digits.len();
    Ok((low..=low.saturating_add(more)).map(|number| format!("{name}{number:0width$}{domain}")).collect())
}

/// One bracket at a time, each bound glued to what is around it.
fn brackets(text: &str) -> Result<Vec<String>, SetError> {
    let (Some(open), Some(close)) = (text.find('['), text.find(']')) else { return Ok(vec![text.to_owned()]) };
    if open > close {
        return Ok(vec![text.to_owned()]);
    }
    let (before, inner, after) = (&text[..open], &text[open + 1..close], &text[close + 1..]);
    if before.is_empty() && after.is_empty() {
        // A name that no one has: `[1-3]`.
        return Ok(vec![text.to_owned()]);
    }
    let mut found = Vec::new();
    for part in inner.split(',') {
        let values = match part.split_once(['-', ':']) {
            Some((left, right)) => letters_or_numbers(text, left, right)?,
            None => vec![part.to_owned()],
        };
        for value in values {
            let name = format!("{before}{value}{after}");
            match after.contains('[') {
                true => found.extend(brackets(&name)?),
                false => found.push(name),
            }
            many(text, found.len() as u64)?;
        }
    }
    Ok(found)
}

/// Numbers between two, or two names where the bounds are letters.
fn letters_or_numbers(text: &str, left: &str, right: &str) -> Result<Vec<String>, SetError> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|letter| letter.is_ascii_digit());
    if digits(left) && digits(right) {
        return numbers(text, left, right);
    }
    let message = format!("`{text}` counts from `{left}` to `{right}`");
    Err(wrong(text, message, "numbers are counted, letters are not: name each"))
}
