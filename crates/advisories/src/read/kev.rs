//! The catalogue of vulnerabilities that are known to be exploited, as CISA publishes it in JSON.

use serde::Deserialize;

use super::few::List;
use super::{cut, is_name};
use crate::AdvisoryError;
use crate::model::{Database, Exploited, WEIGHT};

#[derive(Deserialize)]
struct Catalogue {
    vulnerabilities: List<Entry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(rename = "cveID")]
    cve: String,
    #[serde(default)]
    date_added: String,
    #[serde(default)]
    due_date: String,
    #[serde(default)]
    known_ransomware_campaign_use: String,
}

pub(super) fn read(database: &mut Database, file: &str, bytes: &[u8]) -> Result<usize, AdvisoryError> {
    let what = "CISA's catalogue of exploited vulnerabilities";
    let catalogue: Catalogue =
        serde_json::from_slice(bytes).map_err(|error| AdvisoryError::json(file, what, &error))?;
    let count = catalogue.vulnerabilities.0.len();
    database.kept += WEIGHT * count;
    for entry in catalogue.vulnerabilities.0.into_iter().filter(|entry| is_name(&entry.cve)) {
        let ransomware = entry.known_ransomware_campaign_use.eq_ignore_ascii_case("known");
        let known = Exploited { since: cut(&entry.date_added, 40), due: cut(&entry.due_date, 40), ransomware };
        database.exploited.insert(entry.cve, known);
    }
    Ok(count)
}
