//! Device trees that a recipe names: only kernels of some CPUs have them, and their names are paths of the kernel's own.

use super::Reader;
use crate::Arch;
use base::source::Finding;

impl Reader<'_> {
    /// What no kernel package can have: a tree for a CPU without them, or something else than the name of one.
    pub(super) fn check_device_trees(&mut self) {
        let names = self.model.kernel.device_trees.clone();
        let machine = self.model.image.arch.machine();
        if self.model.image.arch != Arch::Aarch64 && !names.is_empty() {
            let problem = format!("kernels for {machine} have no device trees: its firmware describes the machine");
            let finding = Finding::error("kernel::device_tree", &self.span("kernel.device_trees"), problem);
            self.findings.push(finding.help("remove the line; images with ‹[image] arch = \"aarch64\"› have them"));
            return;
        }
        for (index, name) in names.iter().enumerate() {
            let is_path = !name.starts_with('/')
                && name.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
                && !name.contains(|letter: char| letter.is_control() || letter.is_whitespace());
            if is_path && (name.ends_with(".dtb") || name.ends_with('*')) {
                continue;
            }
            let span = self.span(&format!("kernel.device_trees[{index}]"));
            let problem = format!("`{}` is not the name of a device tree", name.escape_debug());
            let help = "write its path below the kernel's folder of device trees, or a pattern: \"broadcom/bcm2711-rpi-4-b.dtb\", \"ti/*\"";
            self.findings.push(Finding::error("kernel::device_tree", &span, problem).help(help));
        }
    }
}
