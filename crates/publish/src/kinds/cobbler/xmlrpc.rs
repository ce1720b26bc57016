//! XML-RPC: calls and answers, as far as Cobbler has them. Source: xmlrpc.com/spec; Python's xmlrpc.client, which Cobbler uses.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io::BufRead;

use base::xml::{Event, Reader};

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(f64),
    Bool(bool),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl Value {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A field of a map.
    pub(super) fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Map(all) => all.get(name),
            _ => None,
        }
    }

    /// A text in a field; empty if it has no such field. Cobbler writes nothing as `~`: cobbler/utils.py, `strip_none`.
    pub(super) fn field(&self, name: &str) -> &str {
        self.get(name).and_then(Self::as_text).filter(|text| *text != "~").unwrap_or_default()
    }

    fn write(&self, out: &mut String) {
        out.push_str("<value>");
        match self {
            Self::Text(text) => {
                out.push_str("<string>");
                escape(text, out);
                out.push_str("</string>");
            }
            Self::Number(number) if number.fract() == 0.0 && number.abs() < 2e9 => {
                let _ = write!(out, "<int>{number:.0}</int>");
            }
            Self::Number(number) => {
                let _ = write!(out, "<double>{number}</double>");
            }
            Self::Bool(value) => {
                let _ = write!(out, "<boolean>{}</boolean>", u8::from(*value));
            }
            Self::List(all) => {
                out.push_str("<array><data>");
                all.iter().for_each(|one| one.write(out));
                out.push_str("</data></array>");
            }
            Self::Map(all) => {
                out.push_str("<struct>");
                for (name, value) in all {
                    out.push_str("<member><name>");
                    escape(name, out);
                    out.push_str("</name>");
                    value.write(out);
                    out.push_str("</member>");
                }
                out.push_str("</struct>");
            }
        }
        out.push_str("</value>");
    }
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            // XML has no other control characters.
            c if c.is_control() && !"\t\n\r".contains(c) => out.push(' '),
            c => out.push(c),
        }
    }
}

/// A call as it is sent.
pub(super) fn call(method: &str, arguments: &[Value]) -> String {
    let mut out = format!("<?xml version=\"1.0\"?>\n<methodCall><methodName>{method}</methodName><params>");
    for argument in arguments {
        out.push_str("<param>");
        argument.write(&mut out);
        out.push_str("</param>");
    }
    out.push_str("</params></methodCall>\n");
    out
}

/// What a server answers.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Value(Value),
    /// It refuses, in its words.
    Fault(String),
}

enum Step {
    Start(String),
    End(String, String),
}

struct Answers<R>(Reader<R>);

impl<R: BufRead> Answers<R> {
    fn next(&mut self) -> Result<Step, String> {
        match self.0.event()? {
            Some(Event::Start { name, .. }) => Ok(Step::Start(name.to_owned())),
            Some(Event::End { name, text }) => Ok(Step::End(name.to_owned(), text.to_owned())),
            None => Err("it ends early".to_owned()),
        }
    }

    fn start(&mut self, wanted: &str) -> Result<(), String> {
        match self.next()? {
            Step::Start(name) if name == wanted => Ok(()),
            Step::Start(name) | Step::End(name, _) => Err(format!("`{}` instead of `{wanted}`", name.escape_debug())),
        }
    }

    fn end(&mut self, wanted: &str) -> Result<String, String> {
        match self.next()? {
            Step::End(name, text) if name == wanted => Ok(text),
            Step::Start(name) | Step::End(name, _) => {
                Err(format!("`{}` instead of the end of `{wanted}`", name.escape_debug()))
            }
        }
    }

    /// What stands in `value`, whose start was read.
    fn value(&mut self) -> Result<Value, String> {
        let name = match self.next()? {
            // Without a type it is a text.
            Step::End(_, text) => return Ok(Value::Text(text)),
            Step::Start(name) => name,
        };
        let value = match name.as_str() {
            "array" => self.list()?,
            "struct" => self.map()?,
            _ => scalar(&name, self.end(&name)?)?,
        };
        self.end("value")?;
        Ok(value)
    }

    fn list(&mut self) -> Result<Value, String> {
        self.start("data")?;
        let mut all = Vec::new();
        loop {
            match self.next()? {
                Step::Start(name) if name == "value" => all.push(self.value()?),
                Step::End(name, _) if name == "data" => break,
                Step::Start(name) | Step::End(name, _) => return Err(format!("`{}` in an array", name.escape_debug())),
            }
        }
        self.end("array")?;
        Ok(Value::List(all))
    }

    fn map(&mut self) -> Result<Value, String> {
        let mut all = BTreeMap::new();
        loop {
            match self.next()? {
                Step::Start(name) if name == "member" => {}
                Step::End(name, _) if name == "struct" => return Ok(Value::Map(all)),
                Step::Start(name) | Step::End(name, _) => return Err(format!("`{}` in a struct", name.escape_debug())),
            }
            self.start("name")?;
            let name = self.end("name")?;
            self.start("value")?;
            let value = self.value()?;
            self.end("member")?;
            if all.insert(name, value).is_some() {
                return Err("a struct has a member twice".to_owned());
            }
        }
    }
}

fn scalar(kind: &str, text: String) -> Result<Value, String> {
    let odd = || format!("`{}` is not of type {}", text.escape_debug(), kind.escape_debug());
    Ok(match kind {
        "int" | "i4" | "i8" | "double" => Value::Number(text.trim().parse().map_err(|_| odd())?),
        "boolean" => match text.trim() {
            "0" => Value::Bool(false),
            "1" => Value::Bool(true),
            _ => return Err(odd()),
        },
        "nil" => Value::text("~"),
        "string" | "dateTime.iso8601" | "base64" => Value::Text(text),
        _ => return Err(odd()),
    })
}

/// Reads an answer.
/// Errors: A text about what is not XML-RPC.
pub(super) fn answer(bytes: &[u8]) -> Result<Answer, String> {
    let mut answers = Answers(Reader::new(bytes).without_doctype());
    answers.start("methodResponse")?;
    match answers.next()? {
        Step::Start(name) if name == "params" => {
            answers.start("param")?;
            answers.start("value")?;
            let value = answers.value()?;
            answers.end("param")?;
            answers.end("params")?;
            answers.end("methodResponse")?;
            Ok(Answer::Value(value))
        }
        Step::Start(name) if name == "fault" => {
            answers.start("value")?;
            let value = answers.value()?;
            Ok(Answer::Fault(value.field("faultString").to_owned()))
        }
        Step::Start(name) | Step::End(name, _) => Err(format!("`{}` instead of an answer", name.escape_debug())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(value: &str) -> String {
        format!(
            "<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n{value}\n</param>\n</params>\n</methodResponse>\n"
        )
    }

    #[test]
    fn what_is_written_is_read() {
        let map = [
            ("a<b".to_owned(), Value::List(vec![Value::Bool(true), Value::Number(-7.0)])),
            ("e".to_owned(), Value::text("")),
        ];
        let value = Value::Map(map.into());
        let text = call("m", std::slice::from_ref(&value));
        assert!(text.contains("<methodName>m</methodName>") && text.contains("<int>-7</int>"), "{text}");
        let inner = &text[text.find("<value>").unwrap()..text.rfind("</param>").unwrap()];
        assert_eq!(answer(around(inner).as_bytes()), Ok(Answer::Value(value)));
    }

    #[test]
    fn answers_of_python_are_read() {
        for (text, value) in [
            ("<value><string>a &amp; b</string></value>", Value::text("a & b")),
            ("<value>plain</value>", Value::text("plain")),
            ("<value><double>3.31</double></value>", Value::Number(3.31)),
            (
                "<value><array><data>\n<value><int>1</int></value>\n</data></array></value>",
                Value::List(vec![Value::Number(1.0)]),
            ),
            ("<value><struct>\n</struct></value>", Value::Map(BTreeMap::new())),
            ("<value><nil/></value>", Value::text("~")),
        ] {
            assert_eq!(answer(around(text).as_bytes()), Ok(Answer::Value(value)), "{text}");
        }
        let fault = "<methodResponse><fault><value><struct><member><name>faultCode</name><value><int>1</int></value></member>\
            <member><name>faultString</name><value><string>login failed</string></value></member></struct></value></fault></methodResponse>";
        assert_eq!(answer(fault.as_bytes()), Ok(Answer::Fault("login failed".to_owned())));
    }

    #[test]
    fn all_else_is_refused() {
        for text in [
            "",
            "<html><body>404</body></html>",
            "<!DOCTYPE a [<!ENTITY b \"c\">]><methodResponse/>",
            "<methodResponse><params><param><value><int>x</int></value></param></params></methodResponse>",
            "<methodResponse><params><param><value><boolean>2</boolean></value></param></params></methodResponse>",
            "<methodResponse><params><param><value><array><value/></array></value></param></params></methodResponse>",
            "<methodResponse><params><param><value><struct><name>a</name></struct></value></param></params></methodResponse>",
            "<methodResponse><params><param><value><string>a",
        ] {
            assert!(answer(text.as_bytes()).is_err(), "{text}");
        }
        let deep = format!("{}{}", "<value><array><data>".repeat(5000), "</data></array></value>".repeat(5000));
        assert!(answer(around(&deep).as_bytes()).is_err());
    }
}
