//! How far a build is: `5 of 9, 1 min 3 s, about 40 s left`.

use std::time::{Duration, Instant};

use super::render;

/// Counts the steps of all images of a build.
#[derive(Debug)]
pub(crate) struct Steps {
    began: Instant,
    total: usize,
    done: usize,
    /// What all of it is expected to take, in milliseconds; none where something has no figure.
    expected: Option<u64>,
}

impl Default for Steps {
    fn default() -> Self {
        Self { began: Instant::now(), total: 0, done: 0, expected: None }
    }
}

impl Steps {
    /// Steps that an image needs, and what they are expected to take. Images that are built side by side add up in steps; the
    /// longest one says the time.
    pub(crate) fn add(&mut self, steps: usize, milliseconds: Option<u64>) {
        let is_first = self.total == 0;
        self.total += steps;
        self.expected = match (self.expected, milliseconds) {
            (_, Some(new)) if is_first => Some(new + self.elapsed()),
            (Some(known), Some(new)) => Some(known.max(new + self.elapsed())),
            _ => None,
        };
    }

    pub(crate) fn one_done(&mut self) {
        self.done += 1;
    }

    /// A step that was counted does not run.
    pub(crate) fn one_less(&mut self) {
        self.total = self.total.saturating_sub(1);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// What stands before the name of what runs.
    pub(crate) fn line(&self) -> String {
        self.at(self.elapsed())
    }

    fn at(&self, elapsed: u64) -> String {
        let took = render::took(Duration::from_secs(elapsed / 1000));
        // What was renewed on the way was not counted before.
        let step = match self.total {
            0 => String::new(),
            total => format!("step {} of {}, ", (self.done + 1).min(total.max(self.done)), total.max(self.done)),
        };
        let left = match self.expected.map(|expected| expected.saturating_sub(elapsed) / 1000) {
            None | Some(0) => String::new(),
            Some(left @ 1..100) => format!(", about {left} s left"),
            Some(left) => format!(", about {} min left", left.div_ceil(60)),
        };
        format!("{step}{}{left}", took.replace(".0 s", " s").replace("0 ms", "0 s"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_the_step_the_time_and_what_is_left() {
        let mut steps = Steps::default();
        assert_eq!(steps.at(3_200), "3 s");
        steps.add(9, Some(63_000));
        assert_eq!(steps.at(0), "step 1 of 9, 0 s, about 63 s left");
        (0..4).for_each(|_| steps.one_done());
        assert_eq!(steps.at(12_900), "step 5 of 9, 12 s, about 50 s left");
        // It takes longer than it was expected to.
        assert_eq!(steps.at(163_000), "step 5 of 9, 2 min 43 s");
        // Another image beside it, of which nothing is known.
        steps.add(3, None);
        assert_eq!(steps.at(1_000), "step 5 of 12, 1 s");
        (0..9).for_each(|_| steps.one_done());
        assert_eq!(steps.at(1_000), "step 13 of 13, 1 s");
        // What turned out to be as before is no step.
        let mut fewer = Steps::default();
        fewer.add(9, None);
        (0..4).for_each(|_| fewer.one_done());
        (0..4).for_each(|_| fewer.one_less());
        assert_eq!(fewer.at(1_000), "step 5 of 5, 1 s");
        let mut long = Steps::default();
        long.add(2, Some(600_000));
        assert_eq!(long.at(1_000), "step 1 of 2, 1 s, about 10 min left");
    }
}
