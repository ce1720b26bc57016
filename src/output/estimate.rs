//! Estimates in words: marked as such, the unknown named.

use super::render::{self, counted};
use build::{Estimate, Facts, Range, Total};

fn seconds(milliseconds: u64) -> String {
    match milliseconds {
        0..950 => "less than 1 s".to_owned(),
        950..100_000 => format!("about {:.0} s", milliseconds as f64 / 1e3),
        _ => format!("about {} min", milliseconds.div_ceil(60_000)),
    }
}

fn about(bytes: u64) -> String {
    format!("about {}", render::bytes(bytes))
}

/// `about 12 s to about 40 s`, or one of them where both are the same.
fn span(range: Range, show: &dyn Fn(u64) -> String) -> String {
    let (least, most) = (show(range.least), show(range.most));
    if least == most { most } else { format!("{least} to {most}") }
}

/// How many actions without a figure are named.
const NAMED: usize = 3;

/// What is expected of all but the unknown: time, bytes written, download.
struct Figures {
    milliseconds: Option<Range>,
    written_bytes: Option<Range>,
    download_bytes: Option<Range>,
    download_packages: Option<Range>,
    has_speed: bool,
    has_unknown: bool,
}

impl Figures {
    /// In words; `of_which` is what takes longest.
    fn words(&self, of_which: &str) -> Vec<String> {
        let mut parts = match self.milliseconds {
            Some(range) => vec![format!("{}{of_which}", span(range, &seconds))],
            // Nothing is known about what never ran here.
            None => vec!["none yet".to_owned()],
        };
        match self.written_bytes {
            // Nothing of what is known writes anything, which says nothing of the rest.
            Some(range) if range.most == 0 && self.has_unknown => {}
            Some(range) => parts.push(format!("writes {}", span(range, &about))),
            None => {}
        }
        parts.push(match (self.download_bytes, self.download_packages) {
            (Some(Range { most: 0, .. }), _) => "downloads nothing".to_owned(),
            (Some(bytes), Some(packages)) => {
                let count = if packages.least == packages.most {
                    packages.most.to_string()
                } else {
                    format!("{} to {}", packages.least, packages.most)
                };
                let speed = if self.has_speed { "" } else { ", speed unknown" };
                format!("downloads {} in {count} packages (exact{speed})", span(bytes, &render::bytes))
            }
            _ => "the download size is known once packages are resolved".to_owned(),
        });
        parts
    }
}

/// One line for people: what is expected, and what is not known.
pub(crate) fn line(estimate: &Estimate) -> String {
    let on_path = estimate.actions.iter().filter(|one| estimate.critical_path.contains(&one.action));
    let longest = on_path.max_by_key(|one| one.milliseconds).filter(|_| estimate.actions.len() > 1);
    let of_which = longest.and_then(|one| Some(format!(", of which {} {}", one.action, seconds(one.milliseconds?))));
    let figures = Figures {
        milliseconds: estimate.milliseconds,
        written_bytes: estimate.written_bytes,
        download_bytes: estimate.download_bytes,
        download_packages: estimate.download_packages,
        has_speed: estimate.download_milliseconds.is_some(),
        has_unknown: !estimate.unknown.is_empty(),
    };
    let mut parts = figures.words(&of_which.unwrap_or_default());
    let unknown = &estimate.unknown;
    if !unknown.is_empty() && estimate.milliseconds.is_some() {
        let named = unknown.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
        let more = if unknown.len() > NAMED { format!(" and {} more", unknown.len() - NAMED) } else { String::new() };
        parts.push(format!("no earlier runs of {named}{more}"));
    }
    format!("estimate: {}", parts.join("; "))
}

/// One line for people: what several images take together.
pub(crate) fn together(total: &Total) -> String {
    let figures = Figures {
        milliseconds: total.milliseconds,
        written_bytes: total.written_bytes,
        download_bytes: total.download_bytes,
        download_packages: total.download_packages,
        has_speed: total.download_milliseconds.is_some(),
        has_unknown: total.unknown > 0,
    };
    let mut parts = figures.words("");
    if total.shared > 0 {
        parts.push(format!("{} are shared and count once", actions(total.shared)));
    }
    if total.unknown > 0 && total.milliseconds.is_some() {
        parts.push(format!("no earlier runs of {}", actions(total.unknown)));
    }
    format!("{} images together: estimate: {}", counted(total.images), parts.join("; "))
}

fn actions(number: usize) -> String {
    format!("{} action{}", counted(number), if number == 1 { "" } else { "s" })
}

/// One line that sets what was expected of several images beside what they took.
pub(crate) fn together_beside(total: &Total, facts: &Facts) -> String {
    let ranges = (total.milliseconds, total.written_bytes, total.download_bytes);
    let more = if total.unknown > 0 { format!(", without {}", actions(total.unknown)) } else { String::new() };
    format!("{} images together: {}", counted(total.images), set_beside(ranges, &more, facts))
}

/// One line that sets what was expected beside what it took.
pub(crate) fn beside(estimate: &Estimate, facts: &Facts) -> String {
    let more = match estimate.unknown.len() {
        0 => String::new(),
        1 => format!(", without {}", estimate.unknown[0]),
        count => format!(", without {count} actions that never ran here"),
    };
    set_beside((estimate.milliseconds, estimate.written_bytes, estimate.download_bytes), &more, facts)
}

fn set_beside(
    (milliseconds, written_bytes, download_bytes): (Option<Range>, Option<Range>, Option<Range>),
    more: &str,
    facts: &Facts,
) -> String {
    let took = format!("took {}", render::took(std::time::Duration::from_millis(facts.milliseconds)));
    let wrote = format!("wrote {}", render::bytes(facts.written_bytes));
    let downloaded = format!("downloaded {}", render::bytes(facts.downloaded_bytes));
    let parts = [
        milliseconds.map_or(took.clone(), |range| format!("estimated {}{more}, {took}", span(range, &seconds))),
        written_bytes.map_or(wrote.clone(), |range| format!("estimated to write {}, {wrote}", span(range, &about))),
        download_bytes
            .map_or(downloaded.clone(), |range| format!("to download {}, {downloaded}", span(range, &render::bytes))),
    ];
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use build::{ActionEstimate, Source};

    fn estimate() -> Estimate {
        let one = |action: &str, milliseconds| ActionEstimate {
            action: action.to_owned(),
            surely: true,
            milliseconds,
            written_bytes: milliseconds,
            from: if milliseconds.is_some() { Source::Same } else { Source::Unknown },
        };
        Estimate {
            milliseconds: Some(Range { least: 12_000, most: 40_000 }),
            written_bytes: Some(Range { least: 2_000_000, most: 2_000_000 }),
            download_bytes: Some(Range { least: 0, most: 0 }),
            download_packages: Some(Range { least: 0, most: 0 }),
            download_milliseconds: Some(0),
            workers: 4,
            critical_path: vec!["rootfs/packages-1".to_owned()],
            unknown: Vec::new(),
            actions: vec![one("rootfs/packages-1", Some(21_000)), one("pack/rootimg", Some(9_000))],
        }
    }

    #[test]
    fn a_guess_is_called_one_and_the_unknown_is_named() {
        insta::assert_snapshot!(line(&estimate()), @"estimate: about 12 s to about 40 s, of which rootfs/packages-1 about 21 s; writes about 2.0 MB; downloads nothing");
        let nothing = Estimate {
            milliseconds: None,
            written_bytes: None,
            download_bytes: Some(Range { least: 5_000_000, most: 5_000_000 }),
            download_packages: Some(Range { least: 3, most: 3 }),
            download_milliseconds: None,
            unknown: ["a", "b", "c", "d"].map(str::to_owned).to_vec(),
            ..estimate()
        };
        insta::assert_snapshot!(line(&nothing), @"estimate: none yet; downloads 5.0 MB in 3 packages (exact, speed unknown)");
        let facts = Facts { milliseconds: 3_400, written_bytes: 2_100_000, downloaded_bytes: 5_000_000 };
        insta::assert_snapshot!(beside(&nothing, &facts), @"took 3.4 s; wrote 2.1 MB; to download 5.0 MB, downloaded 5.0 MB");
        let facts = Facts { milliseconds: 38_200, written_bytes: 2_100_000, downloaded_bytes: 0 };
        insta::assert_snapshot!(beside(&estimate(), &facts), @"estimated about 12 s to about 40 s, took 38.2 s; estimated to write about 2.0 MB, wrote 2.1 MB; to download 0 B, downloaded 0 B");
    }
}
