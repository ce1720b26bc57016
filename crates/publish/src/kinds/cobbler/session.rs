//! A session with Cobbler: calls in turn, with the token that a login gives. Source: cobbler 3.3, cobbler/remote.py.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use base64ct::{Base64, Encoding};

use super::xmlrpc::{self, Answer, Value};
use crate::Error;
use crate::kinds::servers::{Client, Method};

/// How long writing the boot files of all systems may take.
const SYNC_WITHIN: Duration = Duration::from_secs(600);
const LOOKS_EACH: Duration = Duration::from_millis(250);

const CREDENTIALS: &str = "write user and password for this address into ~/.config/imgbuild/credentials.toml or ~/.netrc (docs/security.md, Credentials); \
    on Cobbler's machine user = \"\" with password_file = \"/var/lib/cobbler/web.ss\" is enough";

pub(super) struct Session<'a> {
    url: &'a str,
    client: Client,
    token: Option<String>,
}

impl<'a> Session<'a> {
    /// Begins one that only asks.
    /// Errors: [`Error::Server`] where no Cobbler 3.3 answers.
    pub(super) fn open(url: &'a str) -> Result<Self, Error> {
        let session = Self { url, client: Client::default(), token: None };
        let version = session.call("extended_version", &[])?;
        let version = version.field("version");
        if !version.starts_with("3.3.") {
            let help = "publish to Cobbler 3.3, or write files for it with `tree:DIRECTORY`";
            return Err(
                session.error(format!("it is Cobbler `{}`; only 3.3 is supported", version.escape_debug()), help)
            );
        }
        Ok(session)
    }

    pub(super) fn error(&self, problem: String, help: &str) -> Error {
        Error::Server { url: self.url.to_owned(), problem, help: help.to_owned() }
    }

    /// Gets what opens all that writes.
    /// Errors: [`Error::Server`] where no user and no password are known, or Cobbler refuses them.
    pub(super) fn log_in(&mut self) -> Result<(), Error> {
        let known = self.client.authorization(self.url)?;
        let (user, password) = known.as_deref().and_then(user_of).ok_or_else(|| {
            self.error("Cobbler wants a user and a password, and none is known".to_owned(), CREDENTIALS)
        })?;
        let answer = self.raw("login", &[Value::Text(user), Value::Text(password)])?;
        match answer {
            Answer::Value(Value::Text(token)) => self.token = Some(token),
            _ => return Err(self.error("Cobbler does not accept the user or the password".to_owned(), CREDENTIALS)),
        }
        Ok(())
    }

    fn raw(&self, method: &str, arguments: &[Value]) -> Result<Answer, Error> {
        let text = xmlrpc::call(method, arguments);
        let answer = self.client.ask(&Method::POST, self.url, Some(("text/xml", text.as_bytes())))?.good()?;
        xmlrpc::answer(&answer.body).map_err(|problem| {
            let help =
                "the address of Cobbler's API is http://HOST/cobbler_api, or http://127.0.0.1:25151 on its machine";
            self.error(format!("it does not speak XML-RPC: {problem}"), help)
        })
    }

    /// Errors: [`Error::Server`] with Cobbler's own words where it refuses.
    pub(super) fn call(&self, method: &str, arguments: &[Value]) -> Result<Value, Error> {
        match self.raw(method, arguments)? {
            Answer::Value(value) => Ok(value),
            Answer::Fault(text) => {
                let text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
                let help = "systems boot what they booted before; repeat the command once that is mended";
                Err(self.error(format!("Cobbler refuses `{method}`: {text}"), help))
            }
        }
    }

    /// The same, with the token at the end.
    pub(super) fn call_as_user(&self, method: &str, arguments: &[Value]) -> Result<Value, Error> {
        let token = Value::text(self.token.as_deref().unwrap_or_default());
        self.call(method, &arguments.iter().cloned().chain([token]).collect::<Vec<_>>())
    }

    /// A distro, profile or system; none where that name is free.
    pub(super) fn item(&self, what: &str, name: &str) -> Result<Option<Value>, Error> {
        let answer = self.call("get_item", &[Value::text(what), Value::text(name)])?;
        Ok(Some(answer).filter(|answer| matches!(answer, Value::Map(_))))
    }

    /// Makes or changes an item, and saves it, in one call: if this program is ended the item is as it was, or as it is to be.
    /// Source: cobbler/remote.py, `xapi_object_edit`.
    pub(super) fn save(
        &self,
        what: &str,
        name: &str,
        is_new: bool,
        fields: Vec<(&'static str, Value)>,
    ) -> Result<(), Error> {
        let mut all: BTreeMap<String, Value> =
            fields.into_iter().map(|(field, value)| (field.to_owned(), value)).collect();
        if is_new {
            all.insert("name".to_owned(), Value::text(name));
        }
        let how = if is_new { "add" } else { "edit" };
        self.call_as_user(
            "xapi_object_edit",
            &[Value::text(what), Value::text(name), Value::text(how), Value::Map(all)],
        )?;
        fault::point("publish.document");
        Ok(())
    }

    /// Has the boot files of systems written, and waits for it. Cobbler's whole sync would remove those of all systems for a while.
    /// Source: cobbler/remote.py, `background_syncsystems`, `get_task_status`; cobbler/actions/sync.py, `clean_trees`.
    pub(super) fn sync(&self, systems: Vec<Value>) -> Result<(), Error> {
        let help = "documents are saved; run `cobbler sync` on its machine";
        let what = Value::Map([("systems".to_owned(), Value::List(systems))].into());
        let task = self.call_as_user("background_syncsystems", &[what])?;
        let began = Instant::now();
        while began.elapsed() < SYNC_WITHIN {
            let status = self.call("get_task_status", std::slice::from_ref(&task))?;
            let Value::List(status) = status else { break };
            match status.get(2).and_then(Value::as_text) {
                Some("complete") => return Ok(()),
                Some("failed") => {
                    return Err(self.error("Cobbler's sync failed; its log says why".to_owned(), help));
                }
                _ => std::thread::sleep(LOOKS_EACH),
            }
        }
        Err(self.error(format!("Cobbler's sync has not ended after {} s", SYNC_WITHIN.as_secs()), help))
    }
}

/// User and password of a header.
fn user_of(header: &str) -> Option<(String, String)> {
    let text = Base64::decode_vec(header.strip_prefix("Basic ")?).ok()?;
    let (user, password) = std::str::from_utf8(&text).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_comes_from_a_header() {
        assert_eq!(user_of(&packages::basic("", "a:b")), Some((String::new(), "a:b".to_owned())));
        assert_eq!(user_of("Bearer abc"), None);
    }
}
