//! Scores of EPSS: `#model_version:..`, a line of names, then `CVE,score,percentile` a line.

use super::{MOST_KEPT, is_name, too_much};
use crate::AdvisoryError;
use crate::model::{Database, Epss, WEIGHT};

pub(super) fn read(database: &mut Database, file: &str, bytes: &[u8]) -> Result<usize, AdvisoryError> {
    let mut count = 0;
    for (at, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") || line.starts_with(b"cve,") {
            continue;
        }
        let wrong = || AdvisoryError {
            file: file.to_owned(),
            place: format!(":{}", at + 1),
            problem: "is not a line of EPSS: `CVE,SCORE,PERCENTILE` with numbers from 0 to 1 was expected".to_owned(),
        };
        let text = std::str::from_utf8(line).map_err(|_| wrong())?;
        let fields: Vec<&str> = text.splitn(4, ',').collect();
        let [cve, score, percentile, ..] = fields.as_slice() else { return Err(wrong()) };
        let share = |text: &str| text.trim().parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
        let (Some(score), Some(percentile)) = (share(score), share(percentile)) else { return Err(wrong()) };
        if !is_name(cve) {
            return Err(wrong());
        }
        database.kept += WEIGHT;
        if database.kept > MOST_KEPT {
            return Err(AdvisoryError::whole(file, too_much()));
        }
        database.epss.insert((*cve).to_owned(), Epss { score, percentile });
        count += 1;
    }
    Ok(count)
}
