//! xCAT's own databases: SQLite, one file for each table.

use std::io::Read;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use base::failure::contained;
use packages::installed::{open_database, sqlite_problem, stored_columns};
use xcat::definitions::{Row, Table, TableKind};

/// How a file of SQLite begins. Source: <https://www.sqlite.org/fileformat.html>, 1.3.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

const TABLES: [TableKind; 8] = [
    TableKind::Osimage,
    TableKind::Linuximage,
    TableKind::Litefile,
    TableKind::Litetree,
    TableKind::Statelite,
    TableKind::Site,
    TableKind::Postscripts,
    TableKind::Passwd,
];

pub(super) fn is_database(path: &Path) -> std::io::Result<bool> {
    let mut begin = Vec::new();
    std::fs::File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == MAGIC)
}

const ROWS: usize = 1_000_000;
/// Bytes of all texts at most.
const TEXTS: usize = 64 << 20;

/// Reads the tables of a database; it is neither locked nor changed, and nothing that it computes is believed.
pub(super) fn read(path: &Path) -> Result<Vec<Table>, String> {
    // The crate panics on some bytes that no database has by itself.
    contained(|| tables(path)).unwrap_or_else(|panic| Err(format!("it cannot be read: {panic}")))
}

fn tables(path: &Path) -> Result<Vec<Table>, String> {
    let database = open_database(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let mut tables = Vec::new();
    let mut bytes = 0;
    for kind in TABLES {
        let columns = stored_columns(&database, kind.name())?;
        if !columns.is_empty() {
            tables.push(Table { kind, rows: rows(&database, kind, &columns, &mut bytes)? });
        }
    }
    Ok(tables)
}

fn rows(database: &Connection, kind: TableKind, columns: &[String], bytes: &mut usize) -> Result<Vec<Row>, String> {
    let said = |error: rusqlite::Error| sqlite_problem(&error);
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let names: Vec<String> = columns.iter().map(quoted).collect();
    let mut query = database.prepare(&format!("select {} from \"{}\"", names.join(", "), kind.name())).map_err(said)?;
    let mut found = query.query([]).map_err(said)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(said)? {
        if rows.len() >= ROWS {
            return Err(format!("the limit of {ROWS} rows of `{}` is reached", kind.name()));
        }
        let mut values = std::collections::BTreeMap::new();
        for (at, column) in columns.iter().enumerate() {
            let text = match row.get_ref(at).map_err(said)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Null => continue,
            };
            *bytes += column.len() + text.len();
            if *bytes > TEXTS {
                return Err(format!("the limit of {TEXTS} bytes of texts is reached"));
            }
            if !text.is_empty() {
                values.insert(column.clone(), text);
            }
        }
        rows.push(Row { values, span: None });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_and_other_tables_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("osimage.sqlite");
        let database = Connection::open(&path).unwrap();
        let text =
            "create table osimage (imagename text, osvers text, disable text); create table nodelist (node text);
            insert into osimage values ('i', 'rocky9.4', null); insert into nodelist values ('n');";
        database.execute_batch(text).unwrap();
        drop(database);
        assert!(is_database(&path).unwrap());
        let tables = read(&path).unwrap();
        assert_eq!(
            (tables.len(), tables[0].rows[0].get("osvers"), tables[0].rows[0].get("disable")),
            (1, Some("rocky9.4"), None)
        );
        std::fs::write(&path, b"SQLite format 3\0 and no more").unwrap();
        assert!(read(&path).is_err());
    }
}
