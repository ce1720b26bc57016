//! A script that submits jobs of Slurm. Source: sbatch(1): --parsable, --dependency, --kill-on-invalid-dep, --wrap.

use std::fmt::Write;

use super::quote::shell;
use super::{Emission, Engine};

/// The script. Where a job cannot be submitted, those before it are taken back.
pub(super) fn text_of(emission: &Emission) -> String {
    let mut text = format!("#!/bin/sh\n{}", emission.head(Engine::Slurm));
    text.push_str(
        "# Run it where the images are; its arguments are sbatch's, for each job: sh FILE --partition=build --cpus-per-task=8\n\
         # It prints the jobs' numbers. A job whose predecessor fails is cancelled, others go on.\n\
         set -eu\n\
         jobs=\n\
         trap 'status=$?; [ $status -eq 0 ] || [ -z \"$jobs\" ] || scancel $jobs; exit $status' EXIT\n",
    );
    for (index, step) in emission.steps.iter().enumerate() {
        let after: String = step.after.iter().map(|one| format!(":$job{one}")).collect();
        let after =
            if after.is_empty() { after } else { format!(" --dependency=afterok{after} --kill-on-invalid-dep=yes") };
        let (name, command) = (shell(step.name()), shell(&emission.command(step)));
        let _ = write!(
            text,
            "job{index}=$(sbatch --parsable --job-name={name}{after} \"$@\" --wrap={command})\n\
             job{index}=${{job{index}%%;*}}\njobs=\"$jobs $job{index}\"\nprintf '%s %s\\n' \"$job{index}\" {name}\n"
        );
    }
    text
}
