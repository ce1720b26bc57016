//! The order in which packages are chosen: seeds, rules, and choices that turned out not to be needed.

use super::super::policy::{self, Liked};
use super::super::pool::Id;
use super::{Branch, Solver, Step};

impl Solver<'_, '_> {
    /// Brings the wishes of what is chosen up to date.
    fn update_wishes(&mut self) {
        if self.wishes_stale {
            self.liked = Liked::default();
            self.wishes_at = 0;
            self.wishes_stale = false;
        }
        while self.wishes_at < self.queue.len() {
            let id = self.queue[self.wishes_at];
            self.wishes_at += 1;
            if id > 0 {
                self.liked.add(self.pool, id);
            }
        }
    }

    fn filter(&mut self, ids: &mut Vec<Id>, reorder: bool) {
        if ids.len() > 1 {
            self.update_wishes();
            let decided = &self.decided;
            let chosen = |id: Id| decided[id as usize] > 0;
            policy::filter(self.pool, ids, &self.liked, &chosen, reorder);
        }
    }

    fn choose(&mut self, level: i32, mut ids: Vec<Id>) -> Step {
        self.filter(&mut ids, true);
        if ids.len() > 1 {
            let options = ids.iter().enumerate().map(|(at, id)| (*id, at == 0)).collect();
            self.branches.push(Branch { options, level });
        }
        match ids.first() {
            Some(best) => self.set(level, *best),
            None => Ok(level),
        }
    }

    /// The undecided packages of which one meets a rule; none where it is met or does not apply.
    fn open(&self, number: usize) -> Option<Vec<Id>> {
        let mut ids = Vec::new();
        for literal in &self.rules[number].literals {
            let decided = self.decided[literal.unsigned_abs() as usize];
            if *literal < 0 {
                if decided <= 0 {
                    return None;
                }
            } else if decided > 0 {
                return None;
            } else if decided == 0 {
                ids.push(*literal);
            }
        }
        (!ids.is_empty()).then_some(ids)
    }

    pub(super) fn resolve_seeds(&mut self, mut level: i32) -> Step {
        let lowest = level;
        let mut number = self.seeds.start;
        while number < self.seeds.end {
            if let Some(ids) = self.open(number) {
                let before = level;
                level = self.choose(level, ids)?;
                if level == before {
                    continue;
                }
                if level < before {
                    if level < lowest {
                        return Ok(level);
                    }
                    number = self.seeds.start;
                    continue;
                }
            }
            number += 1;
        }
        Ok(level)
    }

    pub(super) fn resolve_rules(&mut self, mut level: i32) -> Step {
        let lowest = level;
        // Rules with several good choices wait until no other rule is open.
        let mut postponed: Option<usize> = None;
        let mut waiting = true;
        let (mut number, mut looked_at) = (1, 1);
        loop {
            if looked_at >= self.rules.len() {
                let Some(first) = postponed.filter(|_| waiting) else { break };
                number = first;
                waiting = false;
                looked_at = 1;
            }
            if number >= self.rules.len() {
                number = 1;
            }
            if let Some(mut ids) = self.open(number).filter(|ids| ids.len() > 1) {
                if waiting {
                    self.filter(&mut ids, false);
                }
                if waiting && ids.len() > 1 {
                    postponed.get_or_insert(number);
                } else {
                    level = self.choose(level, ids)?;
                    if level < lowest {
                        break;
                    }
                    // Something changed, so that all rules are looked at again.
                    looked_at = 0;
                }
            }
            number += 1;
            looked_at += 1;
        }
        Ok(level)
    }

    /// A choice that was not needed: one of its alternatives came in later anyway, or is recommended now.
    pub(super) fn better_branch(&mut self) -> Option<(usize, usize)> {
        if self.branches.is_empty() {
            return None;
        }
        self.update_wishes();
        let chosen = |id: Id| self.decided[id as usize] > 0;
        let mut found = None;
        for (at, branch) in self.branches.iter().enumerate().rev() {
            let mut recommended = None;
            let mut came_in = false;
            for (option, (id, tried)) in branch.options.iter().enumerate() {
                if *tried {
                    continue;
                }
                if self.decided[*id as usize] > branch.level {
                    found = Some((at, option));
                    came_in = true;
                    break;
                }
                if recommended.is_none() && self.liked.is_recommended(self.pool, *id, &chosen) {
                    recommended = Some(option);
                }
            }
            if let Some(option) = recommended.filter(|_| !came_in) {
                let replaces = branch.options.iter().any(|(id, tried)| {
                    *tried
                        && self.decided[*id as usize] == branch.level + 1
                        && !self.liked.is_recommended(self.pool, *id, &chosen)
                });
                if replaces {
                    found = Some((at, option));
                }
            }
        }
        found
    }

    /// Goes back to a choice and takes another of its packages.
    pub(super) fn take_branch(&mut self, branch: usize, option: usize) -> Step {
        self.branches.truncate(branch + 1);
        let Some(last) = self.branches.pop() else { return Ok(0) };
        let Branch { mut options, level } = last;
        let (id, tried) = &mut options[option];
        let id = *id;
        *tried = true;
        self.revert(level);
        self.branches.push(Branch { options, level });
        self.set(level, id)
    }
}
