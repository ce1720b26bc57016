//! What earlier builds in the store took.

use super::Source;
use super::cost::ratio;
use crate::actions::packages::requests::target;
use plan::ActionKind;
use recipe::Recipe;
use store::{PastBuild, Run, Store};

/// How many earlier runs a figure is the middle of.
const RUNS: usize = 3;
/// How many images are looked at for runs of the same kind.
const IMAGES: usize = 20;
/// A run of other packages is scaled by their bytes, but not beyond this.
const SCALE: (f64, f64) = (0.1, 20.0);

/// Earlier runs, read when they are asked for.
pub(crate) struct Experience<'a> {
    pub(super) store: &'a Store,
    pub(super) recipe: &'a Recipe,
    target: String,
    own: Vec<PastBuild>,
    others: std::cell::OnceCell<Vec<PastBuild>>,
}

type Fits<'a> = dyn Fn(&PastBuild, &Run) -> bool + 'a;

fn middle(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// A figure of a run with other packages.
fn scaled(figure: u64, was: u64, now: u64) -> u64 {
    if was == 0 || now == 0 {
        return figure;
    }
    (figure as f64 * (now as f64 / was as f64).clamp(SCALE.0, SCALE.1)) as u64
}

fn cpu_of(target: &str) -> Option<&str> {
    target.rsplit(' ').next()
}

impl<'a> Experience<'a> {
    pub(crate) fn new(store: &'a Store, recipe: &'a Recipe) -> Self {
        let own = store.builds(&recipe.directory, &recipe.model.image.name);
        Self { store, recipe, target: target(recipe), own, others: std::cell::OnceCell::new() }
    }

    /// Builds of all images, this one's too.
    fn all(&self) -> &[PastBuild] {
        self.others.get_or_init(|| self.store.recent_builds(IMAGES))
    }

    /// Time and bytes of an action with so many bytes of packages, that compresses in this form.
    pub(super) fn figure(
        &self,
        action: &str,
        kind: &str,
        packages: u64,
        form: Option<&str>,
    ) -> (Option<(u64, u64)>, Source) {
        let of = |runs: Vec<&Run>| {
            let figure = |of: &dyn Fn(&Run) -> f64| {
                middle(runs.iter().map(|run| scaled(of(run) as u64, run.package_bytes, packages)).collect())
            };
            let more = |run: &Run| ratio(run.form.as_deref(), form);
            let time = figure(&|run| run.milliseconds as f64 * more(run).0)?;
            Some((time, figure(&|run| run.written_bytes as f64 * more(run).1)?))
        };
        let good = |build: &'_ PastBuild, fits: &dyn Fn(&Run) -> bool| -> Vec<Run> {
            build.runs.iter().filter(|run| run.failed.is_none() && fits(run)).cloned().collect()
        };
        let newest = |builds: &[PastBuild], fits: &Fits<'_>| -> Vec<Run> {
            let mut found: Vec<(u64, Run)> = Vec::new();
            for build in builds {
                found.extend(good(build, &|run| fits(build, run)).into_iter().map(|run| (build.began.at, run)));
            }
            found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            found.into_iter().take(RUNS).map(|(_, run)| run).collect()
        };
        let same = newest(&self.own, &|_, run| run.action == action);
        // Those in the same form say more than others.
        let alike: Vec<&Run> = same.iter().filter(|run| run.form.as_deref() == form).collect();
        if let Some(figures) = of(alike) {
            return (Some(figures), Source::Same);
        }
        if let Some(figures) = of(same.iter().collect()) {
            return (Some(figures), Source::Like);
        }
        // What is emulated here takes several times as long.
        let is_native = ActionKind::named(kind).is_some_and(|kind| !kind.runs_programs_of_the_image());
        let name = &self.recipe.model.image.name;
        let tries: [&Fits<'_>; 3] = [
            &|build, run| run.action == action && build.began.target == self.target && build.began.image == *name,
            &|build, run| run.kind == kind && build.began.target == self.target,
            &|build, run| run.kind == kind && (is_native || cpu_of(&build.began.target) == cpu_of(&self.target)),
        ];
        for fits in tries {
            let like = newest(self.all(), fits);
            if let Some(figures) = of(like.iter().collect()) {
                return (Some(figures), Source::Like);
            }
        }
        (None, Source::Unknown)
    }

    /// Bytes a millisecond of earlier downloads.
    pub(super) fn speed(&self) -> Option<f64> {
        let ended = self.all().iter().filter_map(|build| Some((build.began.at, build.end.as_ref()?)));
        let mut ends: Vec<_> = ended.filter(|(_, end)| end.downloaded_bytes > 0).collect();
        ends.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let sum = |of: &dyn Fn(&store::End) -> u64| ends.iter().take(RUNS).map(|(_, end)| of(end)).sum::<u64>();
        let (bytes, time) = (sum(&|end| end.downloaded_bytes), sum(&|end| end.download_milliseconds));
        (bytes > 0).then(|| bytes as f64 / time.max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_packages_scale_a_figure_within_bounds() {
        assert_eq!(scaled(100, 50, 100), 200);
        assert_eq!(scaled(100, 0, 100), 100);
        assert_eq!(scaled(100, 1, 1_000_000), 2_000);
        assert_eq!(middle(vec![9, 1, 5]), Some(5));
        assert_eq!(middle(Vec::new()), None);
    }
}
