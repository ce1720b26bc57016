//! What compressors cost beside one another, so that a figure of one says something of another.

use plan::{Action, InputName};

/// Compressor, level, time and bytes written beside those of zstd 3. Measured with the cpio of a Debian image of 270 MB on two
/// processors; they are for guesses, so that a tenth is more than enough.
const COSTS: [(&str, u32, f64, f64); 16] = [
    ("none", 0, 0.6, 3.0),
    ("lz4", 0, 0.65, 1.5),
    ("zstd", 1, 0.9, 1.1),
    ("zstd", 3, 1.0, 1.0),
    ("zstd", 6, 1.7, 0.95),
    ("zstd", 9, 3.0, 0.92),
    ("zstd", 12, 6.0, 0.92),
    ("zstd", 15, 12.0, 0.91),
    ("zstd", 19, 38.0, 0.85),
    ("gzip", 1, 0.6, 1.4),
    ("gzip", 6, 1.3, 1.1),
    ("gzip", 9, 3.5, 1.1),
    ("xz", 0, 12.0, 0.9),
    ("xz", 3, 25.0, 0.84),
    ("xz", 6, 50.0, 0.79),
    ("xz", 9, 50.0, 0.79),
];

/// How an action compresses, as its key says it: `zstd 3`. None for one that does not.
pub(crate) fn form_of(action: &Action) -> Option<String> {
    let value = |name: &str| {
        let input = action.inputs.iter().find(|input| InputName::of(&input.name).parameter() == Some(name));
        input.map(|input| input.value.as_str())
    };
    Some(format!("{} {}", value("compress")?, value("level").unwrap_or("0")))
}

fn cost(form: &str) -> Option<(f64, f64)> {
    let (name, level) = form.split_once(' ')?;
    let level: u32 = level.parse().ok()?;
    let near = COSTS.iter().filter(|(known, ..)| *known == name).min_by_key(|(_, known, ..)| known.abs_diff(level))?;
    Some((near.2, near.3))
}

/// By how much time and bytes of one form are more than those of another; the same where one is not known.
pub(crate) fn ratio(was: Option<&str>, now: Option<&str>) -> (f64, f64) {
    match (was.and_then(cost), now.and_then(cost)) {
        (Some(was), Some(now)) => (now.0 / was.0, now.1 / was.1),
        _ => (1.0, 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::ratio;

    #[test]
    fn a_slow_compressor_takes_longer_and_writes_less() {
        let (time, bytes) = ratio(Some("zstd 3"), Some("xz 6"));
        assert!(time > 20.0 && bytes < 0.9, "{time} {bytes}");
        assert_eq!(ratio(Some("zstd 4"), Some("zstd 3")), (1.0, 1.0));
        assert_eq!(ratio(None, Some("xz 6")), (1.0, 1.0));
        assert_eq!(ratio(Some("other 6"), Some("xz 6")), (1.0, 1.0));
    }
}
