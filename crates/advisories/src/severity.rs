//! How bad a vulnerability is, in the words of all who publish advisories.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How bad a vulnerability is, least first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Debian's `unimportant`, Ubuntu's `negligible`, a CVSS score of 0.
    Negligible,
    /// Low.
    Low,
    /// No file rates it; it counts as medium.
    #[default]
    Unknown,
    /// Medium; Red Hat's and SUSE's `moderate`.
    Medium,
    /// High; Red Hat's and SUSE's `important`.
    High,
    /// Critical.
    Critical,
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Self; 6] = [Self::Critical, Self::High, Self::Medium, Self::Unknown, Self::Low, Self::Negligible];

    /// Its name in tables and documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::Negligible => "negligible",
            Self::Low => "low",
            Self::Unknown => "unknown",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }

    /// Whether it counts where so much is asked for: what is unknown counts as medium.
    pub fn is_at_least(self, least: Self) -> bool {
        let known = |one: Self| if one == Self::Unknown { Self::Medium } else { one };
        known(self) >= known(least)
    }

    /// By a word of Debian, Ubuntu, Red Hat, SUSE or CVSS; stars of Debian's urgencies do not count.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Some(match word.trim().trim_end_matches('*').to_ascii_lowercase().as_str() {
            "critical" => Self::Critical,
            "high" | "important" => Self::High,
            "medium" | "moderate" => Self::Medium,
            "low" | "minor" => Self::Low,
            "negligible" | "unimportant" | "none" => Self::Negligible,
            _ => return None,
        })
    }

    /// By a score of CVSS, as version 3.1 names them (section 5).
    pub(crate) fn of_score(score: f64) -> Option<Self> {
        Some(match score {
            0.0 => Self::Negligible,
            0.1..4.0 => Self::Low,
            4.0..7.0 => Self::Medium,
            7.0..9.0 => Self::High,
            9.0..=10.0 => Self::Critical,
            _ => return None,
        })
    }

    /// By a score or a vector of CVSS 3; other vectors are not rated.
    pub(crate) fn of_cvss(text: &str) -> Option<Self> {
        match text.parse::<f64>() {
            Ok(score) => Self::of_score(score),
            Err(_) => Self::of_score(base_score(text)?),
        }
    }

    /// The worst of several; none where none is known.
    pub(crate) fn worst(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().filter(|one| *one != Self::Unknown).max().unwrap_or_default()
    }
}

/// The base score of a CVSS 3 vector. Source: FIRST, CVSS 3.1 specification, 7.1 and appendix A.
fn base_score(vector: &str) -> Option<f64> {
    let metrics = vector.strip_prefix("CVSS:3.0/").or_else(|| vector.strip_prefix("CVSS:3.1/"))?;
    let metric = |name: &str| metrics.split('/').find_map(|one| one.strip_prefix(name)?.strip_prefix(':'));
    let is_changed = match metric("S")? {
        "C" => true,
        "U" => false,
        _ => return None,
    };
    let value = |name: &str, values: &[(&str, f64)]| {
        let word = metric(name)?;
        values.iter().find(|(known, _)| *known == word).map(|(_, value)| *value)
    };
    let privileges: &[(&str, f64)] =
        if is_changed { &[("N", 0.85), ("L", 0.68), ("H", 0.5)] } else { &[("N", 0.85), ("L", 0.62), ("H", 0.27)] };
    let exploitability = 8.22
        * value("AV", &[("N", 0.85), ("A", 0.62), ("L", 0.55), ("P", 0.2)])?
        * value("AC", &[("L", 0.77), ("H", 0.44)])?
        * value("PR", privileges)?
        * value("UI", &[("N", 0.85), ("R", 0.62)])?;
    let loss = |name: &str| value(name, &[("H", 0.56), ("L", 0.22), ("N", 0.0)]).map(|value| 1.0 - value);
    let sub_score = 1.0 - loss("C")? * loss("I")? * loss("A")?;
    let impact = match is_changed {
        true => 7.52 * (sub_score - 0.029) - 3.25 * (sub_score - 0.02).powi(15),
        false => 6.42 * sub_score,
    };
    if impact <= 0.0 {
        return Some(0.0);
    }
    let sum = if is_changed { 1.08 * (impact + exploitability) } else { impact + exploitability };
    // Rounded up to a tenth, by integers as appendix A has it.
    let scaled = (sum.min(10.0) * 100_000.0).round();
    Some((scaled / 10_000.0).ceil() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_the_scores_of_the_specifications_examples() {
        // FIRST, CVSS 3.1 examples: CVE-2013-1937, CVE-2013-0375, CVE-2014-3566, CVE-2012-1516, CVE-2009-0783, CVE-2014-0160.
        for (vector, score) in [
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
            ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4),
            ("CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:L/I:N/A:N", 3.1),
            ("CVSS:3.1/AV:N/AC:L/PR:L/UI:N/S:C/C:H/I:H/A:H", 9.9),
            ("CVSS:3.0/AV:L/AC:L/PR:H/UI:N/S:U/C:L/I:L/A:L", 4.2),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5),
            ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0.0),
        ] {
            assert_eq!(base_score(vector), Some(score), "{vector}");
        }
        for vector in ["", "CVSS:4.0/AV:N", "CVSS:3.1/AV:X/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", "CVSS:3.1/AV:N"] {
            assert_eq!(Severity::of_cvss(vector), None, "{vector}");
        }
        assert_eq!(Severity::of_cvss("7.8"), Some(Severity::High));
    }

    #[test]
    fn what_no_one_rates_counts_as_medium() {
        assert!(Severity::Unknown.is_at_least(Severity::Medium) && !Severity::Unknown.is_at_least(Severity::High));
        assert!(Severity::Medium.is_at_least(Severity::Unknown) && !Severity::Low.is_at_least(Severity::Unknown));
        assert_eq!(Severity::worst([Severity::Low, Severity::Unknown]), Severity::Low);
        assert_eq!(Severity::of_word("high**"), Some(Severity::High));
        assert_eq!(Severity::of_word("not yet assigned"), None);
    }
}
