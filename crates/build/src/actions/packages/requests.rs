//! What a recipe asks the package manager for, transaction by transaction.

use std::collections::BTreeMap;

use base::source::Span;
use packages::{Pass, manager};
use recipe::{Generator, Lock, PassRole, Recipe};
use xcat::PassList;

pub(crate) fn target(recipe: &Recipe) -> String {
    let image = &recipe.model.image;
    format!("{} {} {}", image.distro.name(), image.release, image.arch.machine())
}

/// The kernel package: the recipe's, a list's, or the distribution's default.
pub(crate) fn kernel_package(recipe: &Recipe) -> String {
    let listed = || recipe.kernel_in_list.as_ref().map(|(name, _)| name.clone());
    recipe.model.kernel.package.clone().or_else(listed).unwrap_or_else(|| manager(recipe).names(recipe).kernel)
}

/// What is asked for of a directory of kernels: the package that the recipe names, or the one of its release, or the only one.
fn kernel_of_directory(recipe: &Recipe) -> String {
    let kernel = &recipe.model.kernel;
    match (&kernel.package, &kernel.version) {
        (Some(package), _) => package.clone(),
        (None, Some(version)) => format!("the kernel {version} of [kernel] dir"),
        (None, None) => "the kernel of [kernel] dir".to_owned(),
    }
}

/// One transaction that the recipe asks for: its name, what to say to the package manager, and where it was asked.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackageRequest {
    pub name: String,
    pub pass: Pass,
    /// Where each name was asked for.
    pub spans: BTreeMap<String, Span>,
    pub variables: Vec<(String, String)>,
}

impl PackageRequest {
    pub(crate) fn role(&self) -> PassRole {
        PassRole::of(&self.name)
    }
}

/// All transactions of a recipe, in order; tools come first.
pub(crate) fn package_requests(recipe: &Recipe) -> Vec<PackageRequest> {
    let named = |name: &str, install: Vec<String>| PackageRequest {
        name: name.to_owned(),
        pass: Pass { install, ..Pass::default() },
        ..PackageRequest::default()
    };
    // What imgbuild adds is there because of a field: that field is the place.
    let because = |package_request: &mut PackageRequest, field: &str| {
        if let Some(span) = recipe.spans.get(field) {
            for name in &package_request.pass.install {
                let plain = manager(recipe).plain_name(name).to_owned();
                package_request.spans.entry(plain).or_insert_with(|| span.clone());
                package_request.spans.entry(name.clone()).or_insert_with(|| span.clone());
            }
        }
    };
    let names = manager(recipe).names(recipe);
    let mut all = vec![named("tools", names.tools)];
    if !names.solver.is_empty() {
        all.push(named(PassRole::SOLVER_TOOLS, names.solver));
    }
    all.push(match &recipe.model.image.from {
        None => named(PassRole::BASE, names.base),
        Some(from) => {
            let mut base = named(PassRole::BASE, vec![from.clone()]);
            base.spans.extend(recipe.spans.get("image.from").map(|span| (from.clone(), span.clone())));
            base
        }
    });
    all.extend(crate::actions::kernel::drivers::package_request(recipe));
    if let Some(table) = &recipe.model.postinstall {
        let mut tools = named(PassRole::POSTINSTALL_TOOLS, names.script_tools);
        tools.pass.install.extend(table.tools.iter().cloned());
        tools.pass.aside = true;
        for (index, name) in table.tools.iter().enumerate() {
            if let Some(span) = recipe.spans.get(&format!("postinstall.tools[{index}]")) {
                tools.spans.insert(name.clone(), span.clone());
            }
        }
        because(&mut tools, "postinstall.script");
        all.push(tools);
    }
    all.extend(role_tools(recipe).map(|(install, spans)| {
        let mut tools = named(PassRole::ROLE_TOOLS, install);
        tools.pass.aside = true;
        tools.spans = spans;
        because(&mut tools, "role[0].ansible");
        tools
    }));
    if recipe.model.initrd.generator == Generator::Dracut {
        let more = &recipe.model.initrd.dracut_packages;
        let mut tools = named(PassRole::DRACUT_TOOLS, names.dracut);
        tools.pass.install.extend(more.iter().cloned());
        tools.pass.aside = true;
        for (index, name) in more.iter().enumerate() {
            if let Some(span) = recipe.spans.get(&format!("initrd.dracut_packages[{index}]")) {
                tools.spans.insert(name.clone(), span.clone());
            }
        }
        because(&mut tools, "initrd.generator");
        all.push(tools);
    }
    // A container image has what its maker took for the least.
    let first = if recipe.model.image.from.is_some() { Vec::new() } else { names.first };
    let passes = if recipe.packages.passes.is_empty() && !first.is_empty() {
        vec![PassList::default()]
    } else {
        recipe.packages.passes.clone()
    };
    for (index, list) in passes.iter().enumerate() {
        let mut package_request = wish_of(recipe, &format!("packages-{}", index + 1), list);
        if index == 0 {
            package_request.pass.install.splice(0..0, first.iter().cloned());
            because(&mut package_request, "packages.base");
        }
        all.push(package_request);
    }
    for (index, list) in recipe.otherpkgs.passes.iter().enumerate() {
        all.push(wish_of(recipe, &format!("otherpkgs-{}", index + 1), list));
    }
    let package = kernel_package(recipe);
    let package = recipe.kernel_files.kernels.as_ref().map_or(package, |_| kernel_of_directory(recipe));
    let mut kernel = named("kernel", vec![package.clone()]);
    kernel.pass.install.extend(recipe.model.kernel.firmware_packages.iter().cloned());
    for (index, name) in recipe.model.kernel.firmware_packages.iter().enumerate() {
        if let Some(span) = recipe.spans.get(&format!("kernel.firmware_packages[{index}]")) {
            kernel.spans.insert(name.clone(), span.clone());
        }
    }
    if let Some((name, span)) = &recipe.kernel_in_list {
        kernel.spans.insert(name.clone(), span.clone());
    } else if let Some(span) = recipe.spans.get("kernel.package") {
        kernel.spans.insert(package.clone(), span.clone());
    }
    if let Some(span) = recipe.spans.get("kernel.dir") {
        kernel.spans.entry(package).or_insert_with(|| span.clone());
    }
    all.push(kernel);
    all
}

/// What runs Ansible.
const ANSIBLE: &str = "ansible-core";

/// Packages of the root in which roles run, and where each is asked for; none without roles.
fn role_tools(recipe: &Recipe) -> Option<(Vec<String>, BTreeMap<String, Span>)> {
    let roles = &recipe.model.role;
    let (mut install, mut spans) = (Vec::new(), BTreeMap::new());
    for (number, role) in roles.iter().enumerate() {
        for (index, name) in role.tools.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            if install.contains(name) {
                continue;
            }
            install.push(name.clone());
            let span = recipe.spans.get(&format!("role[{number}].tools[{index}]"));
            spans.extend(span.map(|span| (name.clone(), span.clone())));
        }
    }
    // A release whose Ansible has another name.
    if !install.iter().any(|name: &String| manager(recipe).plain_name(name).starts_with("ansible")) {
        install.insert(0, ANSIBLE.to_owned());
    }
    (!roles.is_empty()).then_some((install, spans))
}

/// The same as a lock has cut them into parts.
pub(crate) fn package_requests_in(recipe: &Recipe, lock: &Lock) -> Vec<PackageRequest> {
    let mut all = Vec::new();
    for whole in package_requests(recipe) {
        let parts = lock.parts(&whole.name);
        let names: Vec<&String> = parts.iter().flat_map(|part| &part.install).collect();
        if parts.len() < 2 || !names.into_iter().eq(&whole.pass.install) {
            all.push(whole);
            continue;
        }
        all.extend(parts.into_iter().map(|part| PackageRequest {
            name: part.name,
            pass: Pass { install: part.install, ..whole.pass.clone() },
            ..whole.clone()
        }));
    }
    all
}

fn wish_of(recipe: &Recipe, name: &str, list: &PassList) -> PackageRequest {
    // A folder stays in front of the name: it selects the repository.
    let word = |item: &xcat::Item| match &item.subdirectory {
        Some(folder) => format!("{folder}/{}", item.name),
        None => item.name.clone(),
    };
    let names = |items: &[xcat::Item]| items.iter().map(word).collect::<Vec<_>>();
    let mut spans = BTreeMap::new();
    for item in list.install.iter().chain(&list.remove_before).chain(&list.remove_after) {
        spans.insert(word(item), item.span.clone());
        spans.insert(manager(recipe).plain_name(&item.name).to_owned(), item.span.clone());
    }
    for variable in &list.environment {
        // No package has such a name.
        spans.insert(format!("#ENV {}", variable.name), variable.span.clone());
    }
    PackageRequest {
        name: name.to_owned(),
        pass: Pass {
            install: names(&list.install),
            remove: names(&list.remove_before),
            remove_after: names(&list.remove_after),
            aside: false,
        },
        spans,
        variables: list.environment.iter().map(|variable| (variable.name.clone(), variable.value.clone())).collect(),
    }
}
