//! Few words for many names.

use std::collections::BTreeMap;

use super::{natural, token};

/// What stands for a number in a pattern: no name has it.
const NUMBER: char = '\0';

/// Names whose numbers take all values of each place, independently of each other.
type Block = Vec<Vec<String>>;

/// Folds names; each number that varies gets brackets.
pub(super) fn fold<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let mut patterns: BTreeMap<String, Vec<Block>> = BTreeMap::new();
    for name in names {
        let (pattern, numbers) = split(name);
        patterns.entry(pattern).or_default().push(numbers.into_iter().map(|number| vec![number]).collect());
    }
    let mut words = Vec::new();
    for (pattern, mut boxes) in patterns {
        let places = boxes.first().map_or(0, Vec::len);
        // From the last number on, as people read racks and nodes in them.
        for place in (0..places).rev() {
            boxes = merged(boxes, place);
        }
        boxes.sort_by(|a, b| {
            let firsts = |one: &Block| one.iter().filter_map(|values| values.first().cloned()).collect::<Vec<_>>();
            let (a, b) = (firsts(a), firsts(b));
            a.iter().zip(&b).map(|(a, b)| natural(a, b)).find(|order| order.is_ne()).unwrap_or(a.len().cmp(&b.len()))
        });
        words.extend(boxes.iter().map(|one| written(&pattern, one)));
    }
    words.join(",")
}

fn split(name: &str) -> (String, Vec<String>) {
    let (mut pattern, mut numbers) = (String::new(), Vec::new());
    let mut rest = name;
    while !rest.is_empty() {
        let (one, after) = token(rest);
        if one.starts_with(|letter: char| letter.is_ascii_digit()) {
            numbers.push(one.to_owned());
            pattern.push(NUMBER);
        } else {
            pattern.push_str(one);
        }
        rest = after;
    }
    (pattern, numbers)
}

/// Puts boxes together that differ in one place alone.
fn merged(boxes: Vec<Block>, place: usize) -> Vec<Block> {
    let mut alike: BTreeMap<Block, Vec<String>> = BTreeMap::new();
    for mut one in boxes {
        let values = one.remove(place);
        alike.entry(one).or_default().extend(values);
    }
    let put = |(mut one, mut values): (Block, Vec<String>)| {
        values.sort_by(|a, b| natural(a, b));
        values.dedup();
        one.insert(place, values);
        one
    };
    alike.into_iter().map(put).collect()
}

fn written(pattern: &str, values: &Block) -> String {
    let mut text = String::new();
    let mut values = values.iter();
    for letter in pattern.chars() {
        match (letter, values.as_slice()) {
            (NUMBER, [first, ..]) => {
                text.push_str(&ranges(first));
                values.next();
            }
            _ => text.push(letter),
        }
    }
    text
}

/// `1`, or `[1-3,5]`.
fn ranges(values: &[String]) -> String {
    if let [one] = values {
        return one.clone();
    }
    let mut parts: Vec<(&str, &str)> = Vec::new();
    for value in values {
        match parts.last_mut() {
            Some((first, last)) if follows(first, last, value) => *last = value,
            _ => parts.push((value, value)),
        }
    }
    let part = |(first, last): &(&str, &str)| match first == last {
        true => (*first).to_owned(),
        false => format!("{first}-{last}"),
    };
    format!("[{}]", parts.iter().map(part).collect::<Vec<_>>().join(","))
}

/// Whether a number is the one after `last` in a range that begins with `first`: of padded ones all have one length.
fn follows(first: &str, last: &str, next: &str) -> bool {
    let padded = |text: &str| text.len() > 1 && text.starts_with('0');
    let fits = if padded(first) { next.len() == last.len() } else { !padded(next) };
    fits && successor(last).trim_start_matches('0') == next.trim_start_matches('0')
}

fn successor(number: &str) -> String {
    let mut digits: Vec<u8> = number.bytes().collect();
    for digit in digits.iter_mut().rev() {
        if *digit == b'9' {
            *digit = b'0';
        } else {
            *digit += 1;
            return String::from_utf8_lossy(&digits).into_owned();
        }
    }
    format!("1{}", String::from_utf8_lossy(&digits))
}
