//! xCAT's own databases: SQLite, one file for each table.

use std::io::Read;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::xcat::definitions::{Row, Table, TableKind};

/// How a file of SQLite begins. Source: <https://www.sqlite.org/fileformat.html>, 1.3.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// The tables that say something of images.
const TABLES: [TableKind; 7] = [
    TableKind::Osimage,
    TableKind::Linuximage,
    TableKind::Litefile,
    TableKind::Litetree,
    TableKind::Statelite,
    TableKind::Site,
    TableKind::Postscripts,
];

/// Whether a file is a database.
pub fn is_database(path: &Path) -> std::io::Result<bool> {
    let mut begin = Vec::new();
    std::fs::File::open(path)?.take(MAGIC.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == MAGIC)
}

/// Reads the tables of a database; it is neither locked nor changed.
pub fn read(path: &Path) -> Result<Vec<Table>, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags).map_err(|error| error.to_string())?;
    let mut tables = Vec::new();
    for kind in TABLES {
        let is_there: i64 = database
            .query_row("select count(*) from sqlite_master where type = 'table' and name = ?1", [kind.name()], |row| {
                row.get(0)
            })
            .map_err(|error| error.to_string())?;
        if is_there > 0 {
            tables.push(Table { kind, rows: rows(&database, kind).map_err(|error| error.to_string())? });
        }
    }
    Ok(tables)
}

fn rows(database: &Connection, kind: TableKind) -> rusqlite::Result<Vec<Row>> {
    let mut query = database.prepare(&format!("select * from \"{}\"", kind.name()))?;
    let columns: Vec<String> = query.column_names().map(str::to_owned).collect();
    let mut found = query.query([])?;
    let mut rows = Vec::new();
    while let Some(row) = found.next()? {
        let mut values = std::collections::BTreeMap::new();
        for (at, column) in columns.iter().enumerate() {
            let text = match row.get_ref(at)? {
                ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                ValueRef::Integer(number) => number.to_string(),
                ValueRef::Real(number) => number.to_string(),
                ValueRef::Null => continue,
            };
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
