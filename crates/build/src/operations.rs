//! All that the helper process can be asked for.

use super::{actions, examine, inside, published};
use sandbox::helper::{Operation, answer};

pub fn operations() -> Vec<(&'static str, Operation)> {
    let mut all: Vec<(&'static str, Operation)> = vec![
        ("kernel", |request, news| answer(request, news, actions::kernel::payload::inside)),
        ("driver-build", |request, news| answer(request, news, actions::kernel::drivers::build_inside)),
        ("check-drivers", |request, news| answer(request, news, actions::kernel::drivers::check_inside)),
        ("initrd", |request, news| answer(request, news, actions::initrd::compose::inside)),
        ("dracut", |request, news| answer(request, news, actions::initrd::dracut::inside)),
        ("system", |request, news| answer(request, news, actions::system::inside::inside)),
        ("sync", |request, news| answer(request, news, actions::sync::inside::inside)),
        ("postinstall", |request, news| answer(request, news, actions::postinstall::script::inside)),
        ("role", |request, news| answer(request, news, actions::postinstall::roles::inside::inside)),
        ("services", |request, news| answer(request, news, actions::services::inside::inside)),
        ("pack", |request, news| answer(request, news, actions::pack::inside::inside)),
        ("container-layers", |request, news| answer(request, news, published::oci::inside::inside)),
        ("publish-tree", |request, news| answer(request, news, published::unpacked::inside)),
        ("read-file", |request, news| answer(request, news, actions::gate::checks::read_file)),
        ("driver-options", |request, news| answer(request, news, actions::gate::options::inside)),
        ("foreign-programs", |request, news| answer(request, news, actions::gate::programs::inside)),
        ("shell", |request, news| answer(request, news, examine::shell::inside)),
        ("package-lists", |request, news| answer(request, news, examine::size::lists_inside)),
    ];
    all.extend(inside::operations());
    all.extend(packages::operations());
    all
}
