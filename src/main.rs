//! Arguments in, exit code out.

use std::process::ExitCode;

/// Memory that runs out is an error with a remedy.
#[global_allocator]
static MEMORY: imgbuild::sandbox::Memory = imgbuild::sandbox::Memory;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect();
    imgbuild::sandbox::give_back_at_once();
    // Before any thread starts: entering a user namespace is for single-threaded processes.
    if arguments.get(1).map(String::as_str) == Some(imgbuild::sandbox::helper::ARGUMENT) {
        let operations = imgbuild::stage::operations();
        if !imgbuild::fault::planted("no-process-one") {
            imgbuild::sandbox::set_process_one(imgbuild::stage::init_program());
        }
        return ExitCode::from(imgbuild::sandbox::helper::run(&operations, imgbuild::stage::LEGACY, &arguments[2..]));
    }
    if arguments.get(1).map(String::as_str) == Some(imgbuild::sweep::ARGUMENT) {
        return imgbuild::sweep::run();
    }
    imgbuild::sandbox::interrupt::outlive_limits();
    // What is published is for a web server to read, whatever the caller's umask.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    if let Some(name) = arguments.first().and_then(|program| imgbuild::cli::names::Name::of(program)) {
        return imgbuild::cli::names::run(name, &arguments);
    }
    imgbuild::cli::main()
}
