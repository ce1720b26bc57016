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

pub(super) struct Solver<'p, 'a> {
    pool: &'p Pool<'a>,
    rules: Vec<Rule>,
    /// Where rules of packages end and seeds begin; where those end.
    seeds: std::ops::Range<usize>,
    /// The rules that have each literal: negative ones, nothing, positive ones.
    rules_with: Vec<Vec<usize>>,
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
    pub(super) fn new(pool: &'p Pool<'a>, rules: Vec<Rule>, seeds: Vec<Rule>) -> Self {
        let mut solver = Self {
            pool,
            seeds: rules.len()..rules.len() + seeds.len(),
            first_learnt: rules.len() + seeds.len(),
            rules_with: vec![Vec::new(); pool.len() * 2 + 1],
            decided: vec![0; pool.len()],
            queue: Vec::new(),
            why: Vec::new(),
            propagated: 0,
            branches: Vec::new(),
            learnt_from: Vec::new(),
            liked: Liked::default(),
            wishes_at: 0,
            wishes_stale: false,
            rules: Vec::new(),
        };
        rules.into_iter().chain(seeds).for_each(|rule| solver.add(rule));
        solver
    }

    fn add(&mut self, rule: Rule) {
        for literal in &rule.literals {
            let slot = self.slot(*literal);
            self.rules_with[slot].push(self.rules.len());
        }
        self.rules.push(rule);
    }

    pub(super) fn rule(&self, number: usize) -> &Rule {
        &self.rules[number]
    }

    /// The packages that meet all rules, in the order in which they were chosen.
    /// Errors: [`Contradiction`] where none do.
    pub(super) fn solve(&mut self) -> Result<Vec<Id>, Contradiction> {
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

    fn assert_rules(&mut self) -> Result<(), Contradiction> {
        for rule in 1..self.rules.len() {
            if self.rules[rule].literals.len() != 1 {
                continue;
            }
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

    /// Draws all conclusions; gives a rule that can no longer hold.
    fn propagate(&mut self, level: i32) -> Option<usize> {
        while self.propagated < self.queue.len() {
            let fallen = self.slot(-self.queue[self.propagated]);
            self.propagated += 1;
            for at in 0..self.rules_with[fallen].len() {
                let number = self.rules_with[fallen][at];
                let mut open = self.rules[number].literals.iter().copied().filter(|literal| !self.is_false(*literal));
                match (open.next(), open.next()) {
                    (None, _) => return Some(number),
                    (Some(last), None) if !self.is_true(last) => self.decide(last, level, Some(number)),
                    _ => {}
                }
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
        let (mut open, mut back_to) = (0usize, 1);
        let mut literals: Vec<Id> = vec![0];
        let mut from = Vec::new();
        // The rule before all else, then those that forced what it stands on, the last one first.
        let mut waiting = Some(conflict);
        for at in (0..self.queue.len()).rev() {
            if let Some(rule) = waiting.take() {
                from.push(rule);
                for literal in &self.rules[rule].literals {
                    let place = literal.unsigned_abs() as usize;
                    if self.is_true(*literal) || std::mem::replace(&mut seen[place], true) {
                        continue;
                    }
                    match self.decided[place].abs() {
                        own if own == level => open += 1,
                        // What the first level says holds anyway; it is followed for the explanation alone.
                        1 => {}
                        own => {
                            literals.push(*literal);
                            back_to = back_to.max(own);
                        }
                    }
                }
            }
            let place = self.queue[at].unsigned_abs() as usize;
            let own = self.decided[place].abs();
            if !seen[place] || own != level && own != 1 {
                continue;
            }
            if own == level {
                open -= 1;
                if open == 0 {
                    literals[0] = -self.queue[at];
                    continue;
                }
            }
            waiting = self.why[at];
        }
        from.extend(waiting);
        self.revert(back_to);
        self.add(Rule { literals, reason: Reason::Learnt });
        self.learnt_from.push(from);
        (back_to, self.rules.len() - 1)
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
