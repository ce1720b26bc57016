//! How many nodes at once, and at which time of the day.

use std::str::FromStr;

/// A number of nodes, or a part of the range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Count {
    /// So many nodes.
    Nodes(usize),
    /// So many in a hundred.
    Percent(f64),
}

impl Count {
    /// How many nodes of so many: rounded down, but at least one.
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Nodes(count) => count.max(1),
            Self::Percent(percent) => ((percent * all as f64 / 100.0 + 1e-9).floor() as usize).max(1),
        }
    }
}

impl FromStr for Count {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let count = match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.parse::<f64>().ok();
                percent.filter(|percent| *percent > 0.0 && *percent <= 100.0).map(Self::Percent)
            }
            None => text.parse().ok().filter(|count| (1..=1_000_000).contains(count)).map(Self::Nodes),
        };
        count.ok_or_else(|| "a number of nodes, or a percentage of the range: 10 or 5%".to_owned())
    }
}

/// A part of the day, by the minutes since midnight; the end does not belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// First minute.
    pub from: u16,
    /// The minute after the last one.
    pub to: u16,
}

impl Window {
    /// Whether a minute of the day is in it.
    pub fn has(self, minute: u16) -> bool {
        match self.from < self.to || fault::planted("roll-window-at-midnight") {
            true => (self.from..self.to).contains(&minute),
            false => minute >= self.from || minute < self.to,
        }
    }
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "two times of the day, HH:MM-HH:MM: 22:00-06:00".to_owned();
        let minute = |text: &str| -> Option<u16> {
            let (hours, minutes) = text.split_once(':')?;
            let number = |text: &str, below: u16| {
                let is_plain = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>().ok().filter(|number| is_plain && *number < below)
            };
            (text == "24:00").then_some(24 * 60).or_else(|| Some(number(hours, 24)? * 60 + number(minutes, 60)?))
        };
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let (from, to) = (minute(from).ok_or_else(wrong)?, minute(to).ok_or_else(wrong)?);
        match from == to || from == 24 * 60 {
            true => Err(wrong()),
            false => Ok(Self { from, to }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_range_is_never_more_than_it_says_and_at_least_one_node() {
        for (text, all, nodes) in [
            ("5%", 100, 5),
            ("5%", 39, 1),
            ("5%", 3, 1),
            ("10%", 25, 2),
            ("100%", 7, 7),
            ("3", 40, 3),
            ("29%", 100, 29),
        ] {
            assert_eq!(text.parse::<Count>().unwrap().of(all), nodes, "{text} of {all}");
        }
        for bad in ["", "0", "-1", "0%", "101%", "1.5", "x", "nan%", "inf%", "%"] {
            assert!(bad.parse::<Count>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_window_goes_past_midnight() {
        let night: Window = "22:00-06:00".parse().unwrap();
        for (minute, is_open) in
            [(22 * 60, true), (23 * 60 + 59, true), (0, true), (359, true), (360, false), (1319, false)]
        {
            assert_eq!(night.has(minute), is_open, "{minute}");
        }
        let day: Window = "8:30-24:00".parse().unwrap();
        assert!(day.has(510) && day.has(1439) && !day.has(509) && !day.has(0));
        for bad in
            ["", "22:00", "22-06", "24:01-06:00", "22:60-06:00", "22:00-22:00", "a:b-c:d", "+1:00-06:00", "24:00-06:00"]
        {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }
}
