//! Pieces of HTML.

use std::fmt::Write;

/// A text in HTML, as content or as the value of an attribute in double quotes.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' if fault::planted("page-markup") => safe.push(letter),
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            '\u{202e}' if fault::planted("page-direction") => safe.push(letter),
            // Nothing that turns the reading direction, nothing unseen.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.push('\u{fffd}'),
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

/// A text as a part of an address.
pub(crate) fn encoded(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => safe.push(char::from(byte)),
            byte => {
                let _ = write!(safe, "%{byte:02X}");
            }
        }
    }
    safe
}

pub(crate) fn bytes(count: u64) -> String {
    match count {
        0..1000 => format!("{count} B"),
        1000..1_000_000 => format!("{:.1} kB", count as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", count as f64 / 1e6),
        _ => format!("{:.2} GB", count as f64 / 1e9),
    }
}

pub(crate) fn page(title: &str, content: &str) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title>\
         <link rel=\"icon\" href=\"data:,\"><link rel=\"stylesheet\" href=\"/-/page.css\"></head><body>\
         <a class=\"skip\" href=\"#main\">Skip to the content</a>\
         <nav aria-label=\"Pages\"><a href=\"/\">Nodes and images</a><a href=\"/metrics\">Metrics</a></nav>\
         <main id=\"main\"><h1>{title}</h1>\n{content}</main>\
         <script src=\"/-/page.js\" defer></script></body></html>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nodes_say_is_a_text_and_no_markup() {
        assert_eq!(escaped("<b a=\"x\" b='y'>&\u{202e}\n"), "&lt;b a=&quot;x&quot; b=&#39;y&#39;&gt;&amp;\u{fffd} ");
        assert_eq!(encoded("a b/c\"é"), "a%20b%2Fc%22%C3%A9");
    }
}
