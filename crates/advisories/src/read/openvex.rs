//! OpenVEX. Source: github.com/openvex/spec, 0.2.0. A statement may also say until when it counts: `until`, a date or a time.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde::Deserialize;

use super::few::{List, TextOr};
use super::{MOST_VULNERABILITIES, cut, is_name, title};
use crate::model::{Advisory, Affected, Database, Product, Statement, Status};
use crate::purl::Purl;
use crate::version::Versions;
use crate::{AdvisoryError, Severity};

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    author: String,
    #[serde(default)]
    timestamp: Option<String>,
    statements: List<Said>,
}

#[derive(Deserialize)]
struct Said {
    vulnerability: TextOr<Named>,
    #[serde(default)]
    products: List<TextOr<Thing>>,
    status: String,
    #[serde(default)]
    justification: Option<String>,
    #[serde(default)]
    impact_statement: Option<String>,
    #[serde(default)]
    action_statement: Option<String>,
    #[serde(default)]
    supplier: Option<String>,
    #[serde(default)]
    timestamp: Option<String>,
    #[serde(default)]
    until: Option<String>,
}

/// A vulnerability.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: Option<String>,
    #[serde(rename = "@id", default)]
    id: Option<String>,
    #[serde(default)]
    aliases: List<String>,
}

/// A product or a part of one.
#[derive(Deserialize)]
struct Thing {
    #[serde(rename = "@id", default)]
    id: Option<String>,
    #[serde(default)]
    identifiers: Option<Identifiers>,
    #[serde(default)]
    subcomponents: List<TextOr<Thing>>,
}

#[derive(Deserialize)]
struct Identifiers {
    #[serde(default)]
    purl: Option<String>,
}

/// Adds a document; gives how many statements it has.
pub(super) fn read(database: &mut Database, at: usize, file: &str, bytes: &[u8]) -> Result<usize, AdvisoryError> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| AdvisoryError::json(file, "a document of OpenVEX", &error))?;
    for (index, said) in document.statements.0.iter().enumerate() {
        let statement = statement(said, &document, at);
        let statement =
            statement.map_err(|problem| AdvisoryError::whole(file, format!("statement {}: {problem}", index + 1)))?;
        if said.status == "affected" {
            let affected: Vec<Affected> = statement.products.iter().filter_map(affected).collect();
            let affected: Vec<Affected> = affected.into_iter().filter(|one| database.wants(&one.name)).collect();
            if !affected.is_empty() {
                let action = said.action_statement.as_deref().unwrap_or_default();
                database.keep(Advisory {
                    id: statement.vulnerabilities[0].clone(),
                    vulnerabilities: vec![statement.vulnerabilities[0].clone()],
                    title: title(action),
                    affected,
                    database: at,
                });
            }
        }
        // What is mended is mended in some version: of all others nothing is said.
        let is_fixed = statement.status == Status::Fixed;
        let (kept, unversioned): (Vec<Product>, Vec<Product>) =
            statement.products.iter().cloned().partition(|product| !is_fixed || product.has_version());
        if !unversioned.is_empty() {
            database.keep_statement(Statement { products: unversioned, status: Status::Other, ..statement.clone() });
        }
        if !kept.is_empty() {
            database.keep_statement(Statement { products: kept, ..statement });
        }
    }
    Ok(document.statements.0.len())
}

fn statement(said: &Said, document: &Document, database: usize) -> Result<Statement, String> {
    let vulnerabilities: Vec<String> = match &said.vulnerability {
        TextOr::Text(name) => vec![name.clone()],
        TextOr::Fields(Named { name, id, aliases }) => name.iter().chain(id).chain(&aliases.0).cloned().collect(),
    };
    if vulnerabilities.len() > MOST_VULNERABILITIES {
        return Err(format!("names more than {MOST_VULNERABILITIES} vulnerabilities: the limit"));
    }
    if vulnerabilities.is_empty() || !vulnerabilities.iter().all(|name| is_name(name)) {
        return Err("names no vulnerability: write \"vulnerability\": { \"name\": \"CVE-..\" }".to_owned());
    }
    let products: Vec<Product> = said.products.0.iter().map(product).collect::<Result<_, _>>()?;
    if products.is_empty() {
        return Err(
            "names no product: write \"products\": [{ \"@id\": \"pkg:deb/debian/openssl\" }], or the name of an image"
                .to_owned(),
        );
    }
    let status = match said.status.as_str() {
        "not_affected" => Status::NotAffected,
        "fixed" => Status::Fixed,
        "affected" | "under_investigation" => Status::Other,
        other => {
            let other = other.escape_default();
            return Err(format!(
                "has the status `{other}`: not_affected, fixed, affected or under_investigation was expected"
            ));
        }
    };
    let reasons = [&said.justification, &said.impact_statement];
    let reasons: Vec<String> =
        reasons.into_iter().flatten().map(|text| cut(text, 300)).filter(|text| !text.is_empty()).collect();
    if status == Status::NotAffected && reasons.is_empty() {
        return Err("has no reason: write \"justification\" or \"impact_statement\"".to_owned());
    }
    let author = said.supplier.as_deref().unwrap_or(&document.author);
    if author.trim().is_empty() && status != Status::Other {
        return Err("does not say who makes it: write \"author\" into the document or \"supplier\" into the statement"
            .to_owned());
    }
    let time =
        said.timestamp.as_deref().or(document.timestamp.as_deref()).map(|text| time(text, "timestamp")).transpose()?;
    let until = said.until.as_deref().map(time_until).transpose()?;
    let (reason, author) = (reasons.join(": "), cut(author, 100));
    Ok(Statement { vulnerabilities, products, status, reason, author, time, until, database })
}

fn time(text: &str, field: &str) -> Result<Timestamp, String> {
    let wrong = || format!("has `{field}` {}: a time was expected, 2027-01-31T12:00:00Z", text.escape_default());
    text.parse().map_err(|_| wrong())
}

/// The end of a day in UTC, or a time.
fn time_until(text: &str) -> Result<Timestamp, String> {
    match text.parse::<Date>() {
        Ok(date) if !text.contains('T') => {
            let next = date.checked_add(1.day()).and_then(|next| next.to_zoned(TimeZone::UTC));
            next.map(|next| next.timestamp()).map_err(|error| format!("has `until` {}: {error}", text.escape_default()))
        }
        _ => time(text, "until").map_err(|problem| problem.replace("a time was", "a date or a time was")),
    }
}

/// A product: a package URL, an image's name, or one of them with parts.
fn product(thing: &TextOr<Thing>) -> Result<Product, String> {
    let (id, parts) = match thing {
        TextOr::Text(id) => (Some(id), None),
        TextOr::Fields(Thing { id, identifiers, subcomponents }) => {
            let purl = identifiers.as_ref().and_then(|all| all.purl.as_ref());
            (purl.or(id.as_ref()), Some(subcomponents))
        }
    };
    let Some(id) = id.filter(|id| is_name(id)) else {
        return Err(
            "has a product without `@id`: a package URL (pkg:deb/debian/openssl) or the name of an image was expected"
                .to_owned(),
        );
    };
    let parts = parts.into_iter().flat_map(|parts| &parts.0);
    let parts: Vec<Product> = parts.map(product).collect::<Result<_, _>>()?;
    // An image that is called by a package URL has parts.
    let is_image =
        |purl: &Purl| purl.kind == "oci" || !parts.is_empty() && !matches!(purl.kind.as_str(), "deb" | "rpm");
    match Purl::parse(id) {
        Some(purl) if is_image(&purl) => {
            // Builds are not compared with digests: the statement would count for all of them.
            if purl.version.is_some() || purl.qualifier("tag").is_some() {
                return Err(format!(
                    "has `{}`, one version of an image, but counts for all its builds: leave the version out, or name packages with their versions",
                    id.escape_default()
                ));
            }
            Ok(Product::Image { name: purl.name, packages: parts })
        }
        Some(purl) => Ok(Product::of_purl(&purl)),
        None if id.starts_with("pkg:") => Err(format!("has `{}`, which is not a package URL", id.escape_default())),
        None => Ok(Product::Image { name: id.clone(), packages: parts }),
    }
}

fn affected(product: &Product) -> Option<Affected> {
    let Product::Package { names, name, version, arch, scope, module } = product else { return None };
    let versions = version.as_deref().map_or_else(Versions::all, Versions::only);
    let (names, name, arch, scope) = (*names, name.clone(), arch.clone(), scope.clone());
    let severity = Severity::Unknown;
    Some(Affected { name, names, scope, versions, severity, arch, module: module.clone() })
}
