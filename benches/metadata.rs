//! Reads repositories and resolves wishes in them, for `benches/against-libdnf`: `metadata STORE WISHES DIRECTORY...`. Each line of
//! the file WISHES is a set of packages; without lines it only reads.

use std::error::Error;
use std::path::Path;

use packages::rpm::{Repository, RepositorySource, closure, fetch_repository};
use packages::{Fetcher, Progress};
use store::Store;

struct Silent;

impl Progress for Silent {
    fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [store, wishes, directories @ ..] = arguments.as_slice() else {
        // `cargo bench` calls every bench without arguments.
        return Ok(());
    };
    let store = Store::open(Path::new(store), "", (0, 0))?;
    let read = |directory: &String| {
        let source = RepositorySource {
            id: directory.clone(),
            base: vec![format!("file:{directory}")],
            ..RepositorySource::default()
        };
        fetch_repository(&Fetcher::new(), &store, &source, &Silent)
    };
    let repositories: Vec<Repository> = directories.iter().map(read).collect::<Result<_, _>>()?;
    let packages: usize = repositories.iter().map(|one| one.candidates.len()).sum();
    let mut found = 0;
    for line in std::fs::read_to_string(wishes)?.lines() {
        let seeds: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        found += closure(&repositories, &seeds, "x86_64").map_or(0, |chosen| chosen.len());
    }
    println!("{packages} {found}");
    Ok(())
}
