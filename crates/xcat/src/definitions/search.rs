//! Where xCAT looks for a file that a definition does not name (section 1.3).

/// A file's name with the place that it has in xCAT's two orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searched {
    /// Names in the order of SvrUtils::get_file_name (copycds, synclists), best first.
    pub names: Vec<String>,
    /// The same names in the order of genimage without a definition.
    pub by_genimage: Vec<String>,
}

/// The names of a distribution's release that a file may carry, best first.
pub fn search_list(osvers: &str) -> Vec<String> {
    let base = osvers.split('-').next().unwrap_or(osvers);
    let mut parts: Vec<&str> = base.split('.').collect();
    let mut names: Vec<String> = Vec::new();
    let mut add = |name: String| {
        if !names.contains(&name) {
            names.push(name);
        }
    };
    while parts.len() > 1 {
        let last = parts[parts.len() - 1];
        let has_zero_in_front = last.len() > 1 && last.starts_with('0');
        let Some(number) = last.parse::<u16>().ok().filter(|number| !has_zero_in_front && *number < 100) else {
            break;
        };
        parts.pop();
        let stem = parts.join(".");
        for one in (0..=number).rev() {
            add(format!("{stem}.{one:0width$}", width = last.len()));
            add(format!("{stem}.{one}"));
        }
    }
    add(parts.join("."));
    if base.starts_with("leap15") {
        add("sle15".to_owned());
    }
    names
}

/// The folder below `netboot` and `install` that a release's files lie in.
pub fn platform(osvers: &str) -> Option<&'static str> {
    [
        ("rh", "rh"),
        ("sle", "sles"),
        ("leap15", "sles"),
        ("centos", "centos"),
        ("alma", "alma"),
        ("rocky", "rocky"),
        ("ol", "ol"),
        ("fedora", "fedora"),
        ("SL", "SL"),
        ("ubuntu", "ubuntu"),
        ("debian", "debian"),
    ]
    .into_iter()
    .find_map(|(start, folder)| osvers.starts_with(start).then_some(folder))
}

/// The names of a file of a kind (`pkglist`, `exlist`, ...) for a profile, a release and a CPU.
pub fn search_names(profile: &str, osvers: &str, arch: &str, kind: &str) -> Searched {
    let mut releases = vec![osvers.to_owned()];
    releases.extend(search_list(osvers).into_iter().filter(|one| one != osvers));
    let with_arch = |release: &String| format!("{profile}.{release}.{arch}.{kind}");
    let without = |release: &String| format!("{profile}.{release}.{kind}");
    let (arch_only, plain) = (format!("{profile}.{arch}.{kind}"), format!("{profile}.{kind}"));
    let mut names: Vec<String> = releases.iter().flat_map(|one| [with_arch(one), without(one)]).collect();
    names.extend([arch_only.clone(), plain.clone()]);
    let mut by_genimage: Vec<String> = releases.iter().map(with_arch).collect();
    by_genimage.push(arch_only);
    by_genimage.extend(releases.iter().map(without));
    by_genimage.push(plain);
    Searched { names, by_genimage }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_count_down() {
        assert_eq!(search_list("rhels9.4"), ["rhels9.4", "rhels9.3", "rhels9.2", "rhels9.1", "rhels9.0", "rhels9"]);
        assert_eq!(search_list("ubuntu24.04"), ["ubuntu24.04"]);
        assert_eq!(search_list("ubuntu24.04.1"), ["ubuntu24.04.1", "ubuntu24.04.0", "ubuntu24.04"]);
        assert_eq!(search_list("rhels7.10")[..4], ["rhels7.10", "rhels7.09", "rhels7.9", "rhels7.08"]);
        assert_eq!(search_list("rhels7.6-alternate")[0], "rhels7.6");
        assert_eq!(search_list("centos-stream8"), ["centos"]);
        let leap = search_list("leap15.6");
        assert_eq!(
            (leap[0].as_str(), &leap[leap.len() - 2..]),
            ("leap15.6", &["leap15".to_owned(), "sle15".to_owned()][..])
        );
        assert!(search_list("rhels9.99999999999").len() < 3);
    }

    /// Section 14.6, L1 to L8: which of the files that are there is taken.
    #[test]
    fn vectors() {
        let taken = |osvers: &str, there: &[&str]| {
            let searched = search_names("c", osvers, "x86_64", "pkglist");
            let first = |names: &[String]| names.iter().find(|name| there.contains(&name.as_str())).cloned();
            (first(&searched.names), first(&searched.by_genimage))
        };
        let both = |name: &str| (Some(name.to_owned()), Some(name.to_owned()));
        assert_eq!(taken("rhels9.4", &["c.rhels9.x86_64.pkglist", "c.pkglist"]), both("c.rhels9.x86_64.pkglist"));
        assert_eq!(
            taken("rhels9.4", &["c.x86_64.pkglist", "c.rhels9.pkglist"]),
            (Some("c.rhels9.pkglist".to_owned()), Some("c.x86_64.pkglist".to_owned()))
        );
        assert_eq!(
            taken("rhels9.4", &["c.rhels9.4.pkglist", "c.rhels9.x86_64.pkglist"]),
            (Some("c.rhels9.4.pkglist".to_owned()), Some("c.rhels9.x86_64.pkglist".to_owned()))
        );
        assert_eq!(
            taken("rhels9.4", &["c.rhels9.3.x86_64.pkglist", "c.rhels9.x86_64.pkglist"]),
            both("c.rhels9.3.x86_64.pkglist")
        );
        assert_eq!(taken("rhels9.4", &["c.rhels9.5.x86_64.pkglist"]), (None, None));
        assert_eq!(taken("ubuntu24.04", &["c.ubuntu24.pkglist"]), (None, None));
        assert_eq!(taken("leap15.6", &["c.sle15.pkglist"]), both("c.sle15.pkglist"));
        assert_eq!(taken("rhels7.6-alternate", &["c.rhels7.x86_64.pkglist"]), both("c.rhels7.x86_64.pkglist"));
        assert_eq!(
            (platform("leap15.6"), platform("rocky9.4"), platform("rhels9.4")),
            (Some("sles"), Some("rocky"), Some("rh"))
        );
    }
}
