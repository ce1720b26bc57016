//! Arguments in, exit code out.

use std::process::ExitCode;

/// Memory that runs out is an error with a remedy.
#[global_allocator]
static MEMORY: sandbox::Memory = sandbox::Memory;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    sandbox::give_back_at_once();
    // Before any thread starts: entering a user namespace is for single-threaded processes.
    if arguments.get(1).map(String::as_str) == Some(sandbox::helper::ARGUMENT) {
        let operations = build::operations();
        if !fault::planted("no-process-one") {
            sandbox::set_process_one(build::init_program());
        }
        return ExitCode::from(sandbox::helper::run(&operations, build::LEGACY, &arguments[2..]));
    }
    if arguments.get(1).map(String::as_str) == Some(files::sweep::ARGUMENT) {
        return files::sweep::run();
    }
    sandbox::interrupt::outlive_limits();
    // What is published is for a web server to read, whatever the caller's umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if let Some(name) = arguments.first().and_then(|program| imgbuild::names::Name::of(program)) {
        return imgbuild::names::run(name, &arguments);
    }
    imgbuild::main()
}
