//! The JSON of Debian's security tracker: `{SOURCE: {CVE: {releases: {CODENAME: {status, fixed_version, urgency}}}}}`. Source: its page
//! "data.json", and what vunnel reads of it.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use recipe::Distro;

use super::few::{Pairs, begin};
use super::{MOST_KEPT, is_name, title, too_much};
use crate::model::{Advisory, Affected, Database, Names};
use crate::platform::Scope;
use crate::version::Versions;
use crate::{AdvisoryError, Severity};

#[derive(Deserialize)]
struct Issue {
    #[serde(default)]
    description: Option<String>,
    releases: Pairs<Release>,
}

#[derive(Deserialize)]
struct Release {
    status: String,
    #[serde(default)]
    fixed_version: Option<String>,
    #[serde(default)]
    urgency: Option<String>,
}

/// Keeps of the sources those that are wanted: all of them take ten times the memory of the file.
struct Sources<'a> {
    database: &'a mut Database,
    at: usize,
}

impl<'de> Visitor<'de> for Sources<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names of source packages to their vulnerabilities")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let mut count = 0;
        while let Some(source) = map.next_key::<String>()? {
            count += map.next_value_seed(Issues { database: &mut *self.database, at: self.at, source: &source })?;
        }
        Ok(count)
    }
}

/// The issues of a source, one after another.
struct Issues<'a> {
    database: &'a mut Database,
    at: usize,
    source: &'a str,
}

impl<'de> DeserializeSeed<'de> for Issues<'_> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Issues<'_> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from names of vulnerabilities to what is known of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<usize, A::Error> {
        let is_wanted = self.database.wants(self.source);
        let mut count = 0;
        while let Some(id) = map.next_key::<String>()? {
            count += 1;
            self.database.meet(&id);
            if !is_wanted {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            begin();
            let issue = map.next_value::<Issue>()?;
            // What has no CVE yet has a temporary name here (`TEMP-0841234-1F3A2B`), which changes.
            if id.starts_with("CVE-") && is_name(&id) {
                add(self.database, self.at, self.source, id, issue);
            }
            if self.database.kept > MOST_KEPT {
                return Err(A::Error::custom(too_much()));
            }
        }
        Ok(count)
    }
}

/// Adds the tracker's issues; gives how many they are.
pub(super) fn read(database: &mut Database, at: usize, file: &str, bytes: &[u8]) -> Result<usize, AdvisoryError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let count = reader.deserialize_map(Sources { database, at }).and_then(|count| reader.end().map(|()| count));
    match count {
        Ok(0) => Err(AdvisoryError::whole(
            file,
            "has no vulnerabilities: OSV, CSAF, OpenVEX, Debian's tracker or CISA's catalogue was expected",
        )),
        Ok(count) => Ok(count),
        Err(error) => Err(AdvisoryError::json(file, "the JSON of Debian's security tracker", &error)),
    }
}

fn add(database: &mut Database, at: usize, source: &str, id: String, issue: Issue) {
    let mut affected = Vec::new();
    for (release, known) in issue.releases.0 {
        let versions = match (known.status.as_str(), known.fixed_version.as_deref()) {
            // `0`: this release never had it.
            (_, Some("0")) => continue,
            ("resolved", Some(fixed)) => Versions::before(fixed),
            ("open", _) => Versions::all(),
            // Not looked at yet, or solved in a way that no version tells.
            _ => continue,
        };
        affected.push(Affected {
            name: source.to_owned(),
            names: Names::Source,
            scope: Scope::Release(Distro::Debian, release),
            versions,
            severity: known.urgency.as_deref().and_then(Severity::of_word).unwrap_or_default(),
            arch: None,
            module: None,
        });
    }
    if !affected.is_empty() {
        database.keep(Advisory {
            vulnerabilities: vec![id.clone()],
            id,
            title: title(&issue.description.unwrap_or_default()),
            affected,
            database: at,
        });
    }
}
