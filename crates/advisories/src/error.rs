//! Errors of reading advisories.

/// Why a file of advisories is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{file}{place}: {problem}")]
#[diagnostic(
    code(advisories::read),
    help(
        "download the file again; `audit` reads zips and records of OSV, the JSON of Debian's security tracker, CSAF 2.0, OpenVEX, updateinfo.xml, CISA's catalogue of exploited vulnerabilities (JSON) and EPSS (CSV), plain or in gzip, xz, zstd or bzip2"
    )
)]
pub struct AdvisoryError {
    /// The file, and in an archive its member: `all.zip: CVE-2024-1.json`.
    pub file: String,
    /// `:LINE:COLUMN` or `: byte N`; empty for what concerns the whole file.
    pub place: String,
    /// What is wrong, and what was expected.
    pub problem: String,
}

impl AdvisoryError {
    pub(crate) fn whole(file: &str, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), place: String::new(), problem: problem.into() }
    }

    pub(crate) fn json(file: &str, kind: &str, error: &serde_json::Error) -> Self {
        let text = error.to_string();
        let what = text.split(" at line ").next().unwrap_or_default();
        let place = if error.line() == 0 { String::new() } else { format!(":{}:{}", error.line(), error.column()) };
        Self { file: file.to_owned(), place, problem: format!("not {kind}: {what}") }
    }
}
