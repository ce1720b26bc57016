//! The site's own lines for dnsmasq. It reads a copy of them, which was checked: an error that is written into them later takes DHCP from
//! no node.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::machine::{cannot_write, check};
use super::process::write_aside;
use super::{Places, Plan};
use crate::error::ServeError;
use crate::site::modified;

/// The lines as they are used.
pub(super) struct OwnLines {
    /// Where the site writes them.
    path: PathBuf,
    /// When the file was written that was looked at last; none without one.
    looked: Option<SystemTime>,
    has_any: bool,
}

impl OwnLines {
    /// Takes them over as they are, and writes dnsmasq's configuration with them.
    /// Errors: dnsmasq refuses them, or they cannot be read or written.
    pub(super) fn first(path: PathBuf, plan: &Plan, places: &Places) -> Result<Self, ServeError> {
        let mut own = Self { path, looked: None, has_any: false };
        own.looked = modified(&own.path);
        own.take(plan, places)?;
        Ok(own)
    }

    /// Takes them over again where they have changed; whether dnsmasq has to read them.
    /// Errors: The same, once for each change; what it had before stays.
    pub(super) fn again(&mut self, plan: &Plan, places: &Places) -> Result<bool, ServeError> {
        let now = modified(&self.path);
        if now == self.looked {
            return Ok(false);
        }
        self.looked = now;
        self.take(plan, places).map(|()| true)
    }

    fn take(&mut self, plan: &Plan, places: &Places) -> Result<(), ServeError> {
        let unwritable = |error: std::io::Error| cannot_write("its configuration", &error);
        let lines = match fs::read_to_string(&self.path) {
            Ok(lines) => Some(lines),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => {
                let problem = format!("`{}` cannot be read: {error}", self.path.display());
                return Err(ServeError::dhcp_input(problem, "it holds lines of dnsmasq's configuration, as text"));
            }
        };
        let (copy, tried) = (places.own_lines(), places.home.join("own-lines.new"));
        let text = |own: Option<&Path>| plan.text(places, None, own);
        if let Some(lines) = &lines {
            write_aside(&tried, lines).map_err(unwritable)?;
        }
        let trial = places.home.join("dnsmasq.conf.new");
        write_aside(&trial, &text(lines.as_ref().map(|_| tried.as_path()))).map_err(unwritable)?;
        let checked = check(&trial, (&tried, &self.path));
        let _ = fs::remove_file(&trial);
        if let Err(error) = checked {
            let _ = fs::remove_file(&tried);
            return Err(error);
        }
        if lines.is_some() {
            fs::rename(&tried, &copy).map_err(unwritable)?;
        }
        write_aside(&places.conf(), &text(lines.as_ref().map(|_| copy.as_path()))).map_err(unwritable)?;
        self.has_any = lines.is_some();
        Ok(())
    }

    pub(super) fn has_any(&self) -> bool {
        self.has_any
    }
}
