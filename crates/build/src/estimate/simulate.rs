//! When the last of several pieces of work is done, and which decided it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

#[derive(Debug, Clone, Default)]
pub(super) struct Task {
    /// What must be done before, by index; all are smaller than its own.
    pub needs: Vec<usize>,
    /// What it takes, in milliseconds.
    pub takes: u64,
    /// When its packages are there, in milliseconds.
    pub ready: u64,
}

/// Does as the scheduler does: the first that is ready, in order. Gives when all is done, in milliseconds, and the chain that
/// decided it.
pub(super) fn simulate(tasks: &[Task], workers: usize) -> (u64, Vec<usize>) {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); tasks.len()];
    for (index, task) in tasks.iter().enumerate() {
        task.needs.iter().for_each(|need| users[*need].push(index));
    }
    let mut open: Vec<usize> = tasks.iter().map(|task| task.needs.len()).collect();
    let mut ended = vec![0; tasks.len()];
    let mut because: Vec<Option<usize>> = vec![None; tasks.len()];
    // When each worker is free, and what it did last.
    let mut free: BinaryHeap<Reverse<(u64, usize, Option<usize>)>> =
        (0..workers.max(1)).map(|worker| Reverse((0, worker, None))).collect();
    // Those whose needs will be met at a time, and those whose needs are met when the next worker is free.
    let mut later: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut now: BinaryHeap<Reverse<usize>> = BinaryHeap::new();
    later.extend(open.iter().enumerate().filter(|(_, open)| **open == 0).map(|(index, _)| Reverse((0, index))));
    while let Some(Reverse((at, worker, last))) = free.pop() {
        while let Some(Reverse((_, index))) = later.peek().copied().filter(|Reverse((met, _))| *met <= at) {
            later.pop();
            now.push(Reverse(index));
        }
        let (index, met) = match (now.pop(), later.peek().copied()) {
            (Some(Reverse(index)), _) => (index, met_at(&tasks[index], &ended)),
            (None, Some(Reverse((met, index)))) => {
                later.pop();
                (index, met)
            }
            (None, None) => break,
        };
        let latest = tasks[index].needs.iter().copied().max_by_key(|need| (ended[*need], *need));
        because[index] = if latest.is_some() && met >= at { latest } else { last };
        ended[index] = met.max(at).max(tasks[index].ready) + tasks[index].takes;
        free.push(Reverse((ended[index], worker, Some(index))));
        for user in &users[index] {
            open[*user] -= 1;
            if open[*user] == 0 {
                later.push(Reverse((met_at(&tasks[*user], &ended), *user)));
            }
        }
    }
    let last = (0..tasks.len()).max_by_key(|index| ended[*index]);
    let mut path = Vec::new();
    let mut here = last;
    while let Some(index) = here {
        if tasks[index].takes > 0 {
            path.push(index);
        }
        here = because[index];
    }
    path.reverse();
    (last.map_or(0, |index| ended[index]), path)
}

fn met_at(task: &Task, ended: &[u64]) -> u64 {
    task.needs.iter().map(|need| ended[*need]).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(takes: u64, needs: &[usize]) -> Task {
        Task { needs: needs.to_vec(), takes, ready: 0 }
    }

    #[test]
    fn the_longest_chain_decides() {
        let tasks = [task(5, &[]), task(7, &[0]), task(1, &[0]), task(2, &[1, 2])];
        assert_eq!(simulate(&tasks, 4), (14, vec![0, 1, 3]));
    }

    #[test]
    fn few_workers_take_longer_and_one_takes_the_sum() {
        let tasks = [task(5, &[]), task(5, &[]), task(5, &[]), task(1, &[0, 1, 2])];
        assert_eq!(simulate(&tasks, 3).0, 6);
        assert_eq!(simulate(&tasks, 2).0, 11);
        assert_eq!(simulate(&tasks, 1).0, 16);
    }

    #[test]
    fn work_waits_for_its_download() {
        let tasks = [Task { ready: 30, ..task(5, &[]) }, task(7, &[])];
        assert_eq!(simulate(&tasks, 2).0, 35);
        assert_eq!(simulate(&[], 2), (0, Vec::new()));
    }

    #[test]
    fn many_pieces_are_reckoned_at_once() {
        let tasks: Vec<Task> =
            (0..12_000).map(|at| if at % 12 == 0 { task(1, &[]) } else { task(1, &[at - 1]) }).collect();
        assert_eq!(simulate(&tasks, 4).0, 3_000);
    }
}
