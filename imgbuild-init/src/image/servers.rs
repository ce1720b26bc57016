//! The servers of an image: that of `imgurl=`, and those that take its place when it is gone or gives something else.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cmdline::{Parameters, origin};
use crate::say;

/// The addresses of an image, and whose turn it is.
pub(crate) struct Servers {
    urls: Vec<String>,
    report: Option<String>,
    turn: AtomicUsize,
}

impl Servers {
    /// Those of a command line; the first one's turn it is.
    pub(crate) fn of(parameters: &Parameters) -> Self {
        let urls = parameters.url.iter().chain(&parameters.other_urls).cloned().collect();
        Self { urls, report: parameters.report.clone(), turn: AtomicUsize::new(0) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.urls.len()
    }

    /// The address of the image on the server whose turn it is; empty where there is no image.
    pub(crate) fn url(&self) -> &str {
        let turn = self.turn.load(Ordering::Relaxed) % self.urls.len().max(1);
        self.urls.get(turn).map_or("", String::as_str)
    }

    /// Gives the turn to the next one.
    pub(crate) fn next(&self) {
        self.turn.fetch_add(1, Ordering::Relaxed);
    }

    /// Gives the turn to the next one, unless another thread did so: this address is not the right one.
    pub(crate) fn leave(&self, url: &str) {
        let turn = self.turn.load(Ordering::Relaxed);
        if self.urls.get(turn % self.urls.len().max(1)).is_some_and(|one| one == url) {
            // Where it is another one's by now, that is all that was wanted.
            let _ = self.turn.compare_exchange(turn, turn.wrapping_add(1), Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Asks one after the other until one gives what is wanted; it keeps the turn.
    ///
    /// # Errors
    /// What each of them does wrong.
    pub(crate) fn ask<T>(&self, ask: impl Fn(&str) -> Result<T, String>) -> Result<T, String> {
        let mut problems: Vec<String> = Vec::new();
        loop {
            let problem = match ask(self.url()) {
                Ok(answer) => return Ok(answer),
                Err(problem) => problem,
            };
            self.next();
            problems.push(problem);
            if problems.len() >= self.urls.len() {
                return Err(problems.join("; "));
            }
            say!("{}; asking {}", problems.last().map_or("", String::as_str), origin(self.url()));
        }
    }

    /// Where this node reports, the server first whose turn it is: a report goes to the others only where it is for the server
    /// of the image. Each has the same tokens, or does not take it.
    pub(crate) fn reports(&self) -> Vec<String> {
        let Some(report) = &self.report else { return Vec::new() };
        let (Some(first), Some(path)) = (self.urls.first(), report.strip_prefix(origin(report))) else {
            return vec![report.clone()];
        };
        if origin(first) != origin(report) {
            return vec![report.clone()];
        }
        let turn = self.turn.load(Ordering::Relaxed);
        let mut all: Vec<String> = Vec::new();
        for step in 0..self.urls.len() {
            let server = origin(&self.urls[(turn + step) % self.urls.len()]);
            let address = format!("{server}{path}");
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_take_turns_and_who_answered_is_told() {
        let parameters = Parameters::parse(
            "imgurl=http://a/x,http://b:81/x,https://[fd00::1]/x imgbuild.report=http://a/-/report/cn1/0",
        );
        let servers = Servers::of(&parameters);
        assert_eq!((servers.count(), servers.url()), (3, "http://a/x"));
        let answer = servers.ask(|url| if url.contains("fd00") { Ok(7) } else { Err(format!("{url}: no")) });
        assert_eq!((answer, servers.url()), (Ok(7), "https://[fd00::1]/x"));
        let path = "/-/report/cn1/0";
        assert_eq!(
            servers.reports(),
            ["https://[fd00::1]", "http://a", "http://b:81"].map(|one| format!("{one}{path}"))
        );
        let problem = servers.ask(|url| Err::<(), _>(format!("{url}: no"))).unwrap_err();
        assert_eq!(problem, "https://[fd00::1]/x: no; http://a/x: no; http://b:81/x: no");
        // A server of reports elsewhere gets all of them.
        let parameters = Parameters::parse("imgurl=http://a/x,http://b/x imgbuild.report=http://m/-/report/cn1/0");
        assert_eq!(Servers::of(&parameters).reports(), ["http://m/-/report/cn1/0"]);
        let none = Servers::of(&Parameters::parse("root=nfs:h:/x"));
        assert_eq!((none.url(), none.reports().len()), ("", 0));
        none.next();
        assert_eq!(none.ask(|_| Err::<(), _>("no".to_owned())), Err("no".to_owned()));
    }
}
