//! What is known, for the person in front of the console. There is no shell: an initrd has nothing to run one with.

use crate::cmdline::Parameters;
use crate::network::interfaces;
use crate::network::lease::Lease;

/// Prints interfaces, drivers, lease, URL and the last problems.
pub(crate) fn show(parameters: &Parameters, lease: Option<&Lease>, errors: &[String]) {
    println!("\n== imgbuild rescue ==");
    println!("kernel        {}", crate::sys::kernel_release());
    println!("command line  {}", crate::words_of(&parameters.text));
    println!("image         {}", parameters.url.as_deref().unwrap_or("(no imgurl=)"));
    for other in &parameters.other_urls {
        println!("or            {other}");
    }
    println!("index digest  {}", parameters.digest.as_deref().unwrap_or("(no imgdigest=)"));
    println!("memory free   {} MiB", crate::sys::memory_available() >> 20);
    let found = interfaces();
    if found.is_empty() {
        println!("interfaces    none");
    }
    for interface in found {
        let folder = format!("/sys/class/net/{}", interface.name);
        let driver = std::fs::read_link(format!("{folder}/device/driver")).ok();
        let driver = driver.and_then(|path| path.file_name().map(|name| name.to_string_lossy().into_owned()));
        let link = std::fs::read_to_string(format!("{folder}/carrier")).unwrap_or_default();
        let link = match link.trim() {
            "1" => "link",
            "0" => "no link",
            _ => "down",
        };
        println!(
            "interface     {} {} driver {} {link}",
            interface.name,
            interface.mac,
            driver.unwrap_or_else(|| "?".to_owned())
        );
    }
    if let Some(lease) = lease {
        println!("lease         {}/{} gateway {:?}", lease.address, lease.prefix, lease.gateway);
    }
    let modules = std::fs::read_to_string("/proc/modules").unwrap_or_default();
    let names: Vec<&str> = modules.lines().filter_map(|line| line.split_whitespace().next()).collect();
    println!("modules       {}", names.join(" "));
    for error in errors.iter().rev().take(5) {
        println!("problem       {}", crate::words_of(&error.to_string()));
    }
    println!("== end ==\n");
}
