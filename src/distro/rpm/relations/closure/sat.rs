//! The search: decisions, what follows from them, what is learnt from contradictions.
//!
//! The steps and their order are libsolv's (solver.c, described and not copied) for an empty system without weak
//! dependencies: seeds first, then the rules in their order, those with only one good choice before others; at the
//! end, a choice whose alternative came in anyway is taken back.

mod search;

use std::collections::BTreeSet;

use super::policy::Liked;
use super::pool::{Id, Pool};
use super::rules::{Reason, Rule};

/// No choice can meet all rules; the numbers of those that show it.
pub(super) struct Contradiction(pub BTreeSet<usize>);

/// A choice among several packages, and which of them were tried.
struct Branch {
    options: Vec<(Id, bool)>,
    level: i32,
}

/// Where in memory the number of the next watching rule stands.
#[derive(Clone, Copy)]
enum Link {
    Head(usize),
    Next(usize, usize),
}

pub(super) struct Solver<'p, 'a> {
    pool: &'p Pool<'a>,
    rules: Vec<Rule>,
    /// Where rules of packages end and seeds begin; where those end.
    seeds: std::ops::Range<usize>,
    /// Rules with one literal.
    assertions: Vec<usize>,
    /// The first rule that watches each literal: negative ones, nothing, positive ones.
    watches: Vec<usize>,
    /// Level of each decision, negative where a package is left out.
    decided: Vec<i32>,
    queue: Vec<Id>,
    /// The rule that forced each decision; none: it was free.
    why: Vec<Option<usize>>,
    propagated: usize,
    branches: Vec<Branch>,
    /// What learnt rules come from.
    learnt_from: Vec<Vec<usize>>,
    first_learnt: usize,
    liked: Liked,
    wishes_at: usize,
    wishes_stale: bool,
}

type Step = Result<i32, Contradiction>;

impl<'p, 'a> Solver<'p, 'a> {
    /// Takes the rules of packages and those of the seeds.
    pub fn new(pool: &'p Pool<'a>, mut rules: Vec<Rule>, seeds: Vec<Rule>) -> Self {
        let start = rules.len();
        rules.extend(seeds);
        let end = rules.len();
        let mut solver = Self {
            pool,
            seeds: start..end,
            assertions: (1..end).filter(|index| rules[*index].literals.len() == 1).collect(),
            watches: vec![0; pool.len() * 2 + 1],
            decided: vec![0; pool.len()],
            queue: Vec::new(),
            why: Vec::new(),
            propagated: 0,
            branches: Vec::new(),
            learnt_from: Vec::new(),
            first_learnt: end,
            liked: Liked::default(),
            wishes_at: 0,
            wishes_stale: false,
            rules,
        };
        for rule in (1..end).rev() {
            solver.watch(rule);
        }
        solver
    }

    pub fn rule(&self, number: usize) -> &Rule {
        &self.rules[number]
    }

    /// The packages that meet all rules, in the order in which they were chosen.
    /// Errors: [`Contradiction`] where none do.
    pub fn solve(&mut self) -> Result<Vec<Id>, Contradiction> {
        let mut level = 0;
        let mut system_level = 1;
        loop {
            if level <= 0 {
                self.assert_rules()?;
                level = 1;
                if let Some(rule) = self.propagate(level) {
                    return Err(self.contradiction(rule));
                }
                system_level = level + 1;
            }
            if level < system_level {
                let before = level;
                level = self.resolve_seeds(level)?;
                if level < before {
                    continue;
                }
                system_level = level + 1;
            }
            system_level = system_level.min(level);
            let before = level;
            level = self.resolve_rules(level)?;
            if level < before {
                continue;
            }
            match self.better_branch() {
                Some((branch, option)) => level = self.take_branch(branch, option)?,
                None => break,
            }
        }
        Ok(self.queue.iter().copied().filter(|id| *id > 0).collect())
    }

    fn slot(&self, literal: Id) -> usize {
        (self.pool.len() as i64 + i64::from(literal)) as usize
    }

    fn watch(&mut self, rule: usize) {
        for side in 0..2 {
            if self.rules[rule].watched[1] == 0 {
                return;
            }
            let slot = self.slot(self.rules[rule].watched[side]);
            self.rules[rule].next[side] = self.watches[slot];
            self.watches[slot] = rule;
        }
    }

    fn is_true(&self, literal: Id) -> bool {
        let decided = self.decided[literal.unsigned_abs() as usize];
        if literal > 0 { decided > 0 } else { decided < 0 }
    }

    fn is_false(&self, literal: Id) -> bool {
        let decided = self.decided[literal.unsigned_abs() as usize];
        if literal > 0 { decided < 0 } else { decided > 0 }
    }

    fn decide(&mut self, literal: Id, level: i32, why: Option<usize>) {
        self.decided[literal.unsigned_abs() as usize] = if literal > 0 { level } else { -level };
        self.queue.push(literal);
        self.why.push(why);
    }

    /// Makes all rules with one literal decisions.
    fn assert_rules(&mut self) -> Result<(), Contradiction> {
        for at in 0..self.assertions.len() {
            let rule = self.assertions[at];
            let literal = self.rules[rule].literals[0];
            if self.is_false(literal) {
                let mut shown = BTreeSet::new();
                self.origins(rule, &mut shown);
                let other = self.queue.iter().position(|decided| *decided == -literal);
                if let Some(other) = other.and_then(|other| self.why[other]) {
                    self.origins(other, &mut shown);
                }
                return Err(Contradiction(shown));
            }
            if !self.is_true(literal) {
                self.decide(literal, 1, Some(rule));
            }
        }
        Ok(())
    }

    fn link(&self, link: Link) -> usize {
        match link {
            Link::Head(slot) => self.watches[slot],
            Link::Next(rule, side) => self.rules[rule].next[side],
        }
    }

    fn set_link(&mut self, link: Link, to: usize) {
        match link {
            Link::Head(slot) => self.watches[slot] = to,
            Link::Next(rule, side) => self.rules[rule].next[side] = to,
        }
    }

    /// Draws all conclusions; gives a rule that can no longer hold.
    fn propagate(&mut self, level: i32) -> Option<usize> {
        while self.propagated < self.queue.len() {
            let fallen = -self.queue[self.propagated];
            self.propagated += 1;
            let mut link = Link::Head(self.slot(fallen));
            loop {
                let number = self.link(link);
                if number == 0 {
                    break;
                }
                let side = usize::from(self.rules[number].watched[0] != fallen);
                let other = self.rules[number].watched[1 - side];
                let next = Link::Next(number, side);
                if self.is_true(other) {
                    link = next;
                    continue;
                }
                let rule = &self.rules[number];
                let free = if rule.literals.len() > 2 {
                    rule.literals.iter().copied().find(|literal| *literal != other && !self.is_false(*literal))
                } else {
                    None
                };
                if let Some(free) = free {
                    // The watch moves there; `link` stays where it is.
                    let after = self.link(next);
                    self.set_link(link, after);
                    let slot = self.slot(free);
                    self.rules[number].watched[side] = free;
                    self.rules[number].next[side] = self.watches[slot];
                    self.watches[slot] = number;
                    continue;
                }
                if self.is_false(other) {
                    return Some(number);
                }
                self.decide(other, level, Some(number));
                link = next;
            }
        }
        None
    }

    /// Undoes all decisions above a level.
    fn revert(&mut self, level: i32) {
        while let Some(last) = self.queue.last() {
            let place = last.unsigned_abs() as usize;
            if self.decided[place].abs() <= level {
                break;
            }
            self.decided[place] = 0;
            self.queue.pop();
            self.why.pop();
            self.propagated = self.queue.len();
        }
        while self.branches.last().is_some_and(|branch| branch.level >= level) {
            self.branches.pop();
        }
        if self.wishes_at > self.queue.len() {
            self.wishes_stale = true;
        }
    }

    /// Decides, draws conclusions, learns from contradictions; gives the level that it ends on.
    fn set(&mut self, mut level: i32, decision: Id) -> Step {
        level += 1;
        self.decide(decision, level, None);
        while let Some(rule) = self.propagate(level) {
            if level == 1 {
                return Err(self.contradiction(rule));
            }
            let (lower, learnt) = self.learn(level, rule);
            level = lower;
            let literal = self.rules[learnt].literals[0];
            self.decide(literal, level, Some(learnt));
        }
        Ok(level)
    }

    /// Finds what a contradiction comes from, and makes a rule of it that would have forbidden it earlier.
    fn learn(&mut self, level: i32, conflict: usize) -> (i32, usize) {
        let mut seen = vec![false; self.pool.len()];
        let (mut open, mut open_first, mut back_to) = (0usize, 0usize, 1);
        let mut literals: Vec<Id> = Vec::new();
        let mut first: Id = 0;
        let mut from = Vec::new();
        let mut at = self.queue.len();
        let mut number = conflict;
        'rules: loop {
            from.push(number);
            for literal in &self.rules[number].literals {
                let place = literal.unsigned_abs() as usize;
                if self.is_true(*literal) || std::mem::replace(&mut seen[place], true) {
                    continue;
                }
                match self.decided[place].abs() {
                    1 => open_first += 1,
                    own if own == level => open += 1,
                    own => {
                        literals.push(*literal);
                        back_to = back_to.max(own);
                    }
                }
            }
            loop {
                if open == 0 {
                    // Only decisions of the first level are left; they are followed for the explanation alone.
                    if open_first == 0 {
                        break 'rules;
                    }
                    open_first -= 1;
                    if open_first == 0 {
                        break 'rules;
                    }
                }
                let decided = loop {
                    if at == 0 {
                        break 'rules;
                    }
                    at -= 1;
                    if seen[self.queue[at].unsigned_abs() as usize] {
                        break self.queue[at];
                    }
                };
                seen[decided.unsigned_abs() as usize] = false;
                if open > 0 {
                    open -= 1;
                    if open == 0 {
                        first = -decided;
                        if open_first == 0 {
                            break 'rules;
                        }
                        for literal in &literals {
                            seen[literal.unsigned_abs() as usize] = false;
                        }
                        open_first += 1;
                        continue;
                    }
                }
                if let Some(why) = self.why[at] {
                    number = why;
                    break;
                }
            }
        }
        self.revert(back_to);
        let learnt = self.rules.len();
        let all = std::iter::once(first).chain(literals).collect();
        self.rules.push(Rule::new(all, Reason::Learnt));
        self.learnt_from.push(from);
        if self.rules[learnt].literals.len() > 1 {
            self.watch_highest(learnt);
            self.watch(learnt);
        } else {
            self.assertions.push(learnt);
        }
        (back_to, learnt)
    }

    /// Watches, beside the first literal, the one that was decided last.
    fn watch_highest(&mut self, number: usize) {
        let rule = &self.rules[number];
        if rule.literals.len() <= 2 {
            return;
        }
        let mut highest = 0;
        let mut watched = rule.watched[1];
        for literal in &rule.literals[1..] {
            let level = self.decided[literal.unsigned_abs() as usize].abs();
            if level > highest {
                highest = level;
                watched = *literal;
            }
        }
        self.rules[number].watched[1] = watched;
    }

    /// The rules of packages and seeds that a rule comes from.
    fn origins(&self, number: usize, shown: &mut BTreeSet<usize>) {
        let mut stack = vec![number];
        while let Some(number) = stack.pop() {
            if shown.insert(number)
                && let Some(from) = number.checked_sub(self.first_learnt).and_then(|at| self.learnt_from.get(at))
            {
                stack.extend(from);
            }
        }
    }

    /// All that a contradiction on the first level comes from.
    fn contradiction(&self, conflict: usize) -> Contradiction {
        let mut shown = BTreeSet::new();
        let mut involved = vec![false; self.pool.len()];
        let take = |solver: &Self, number: usize, shown: &mut BTreeSet<usize>, involved: &mut Vec<bool>| {
            solver.origins(number, shown);
            for literal in &solver.rules[number].literals {
                if !solver.is_true(*literal) {
                    involved[literal.unsigned_abs() as usize] = true;
                }
            }
        };
        take(self, conflict, &mut shown, &mut involved);
        for at in (0..self.queue.len()).rev() {
            if involved[self.queue[at].unsigned_abs() as usize]
                && let Some(why) = self.why[at]
            {
                take(self, why, &mut shown, &mut involved);
            }
        }
        shown.retain(|number| *number < self.first_learnt);
        Contradiction(shown)
    }
}
