//! Proxy selection: environment variables and apt's settings.

pub(crate) mod apt;
pub(crate) mod through;

/// Scheme and host of an address, the host in small letters and without brackets.
fn parts(url: &str) -> Option<(&str, String, Option<&str>)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    Some((scheme, host.to_ascii_lowercase(), port))
}

/// The proxy that the environment names for an address: `http_proxy` or `https_proxy` by its scheme, `all_proxy` for both, in small or
/// capital letters, unless `no_proxy` names the host. Source: curl(1), ENVIRONMENT; wget's manual, "Proxies".
pub(crate) fn of_environment(url: &str) -> Option<String> {
    of_variables(url, &|name| std::env::var(name).ok())
}

fn of_variables(url: &str, variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    let (scheme, host, port) = parts(url)?;
    let either = |name: &str| variable(name).or_else(|| variable(&name.to_ascii_uppercase()));
    let proxy = either(&format!("{scheme}_proxy")).or_else(|| either("all_proxy"))?;
    let proxy = proxy.trim();
    let is_left_out =
        either("no_proxy").is_some_and(|names| names.split([',', ' ']).any(|name| names_host(name, &host, port)));
    (!proxy.is_empty() && !is_left_out).then(|| proxy.to_owned())
}

/// Whether an entry of `no_proxy` names a host: itself, what lies below it, or everything.
fn names_host(entry: &str, host: &str, port: Option<&str>) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    let (name, wanted) = match entry.rsplit_once(':') {
        // More colons are an address of IPv6.
        Some((name, wanted)) if !name.contains(':') || name.ends_with(']') => {
            (name.to_owned(), Some(wanted.to_owned()))
        }
        _ => (entry, None),
    };
    let name = name.trim_start_matches("*.").trim_start_matches('.').trim_matches(['[', ']']);
    if name.is_empty() || wanted.is_some_and(|wanted| Some(wanted.as_str()) != port) {
        return false;
    }
    let is_below = || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    name == "*" || host == name || is_below()
}

/// What of a proxy may be shown in a message.
pub(crate) fn shown(proxy: &str) -> String {
    crate::fetch::credentials::address::split_user(proxy).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_proxy_for_each_scheme() {
        let of = |url: &str, variables: &[(&str, &str)]| {
            of_variables(url, &|name| variables.iter().find(|(known, _)| *known == name).map(|one| one.1.to_owned()))
        };
        let http = ("http_proxy", "http://p:3128");
        assert_eq!(of("http://m/x", &[http]).as_deref(), Some("http://p:3128"));
        assert_eq!(of("https://m/x", &[http]), None);
        assert_eq!(of("https://m/x", &[http, ("HTTPS_PROXY", "http://q:1")]).as_deref(), Some("http://q:1"));
        assert_eq!(of("https://m/x", &[("ALL_PROXY", "http://all")]).as_deref(), Some("http://all"));
        assert_eq!(of("http://m/x", &[("http_proxy", "")]), None);
        for (left_out, is) in [
            ("m.example.org", true),
            ("example.org", true),
            (".example.org", true),
            ("*.example.org", true),
            ("a, EXAMPLE.org", true),
            ("*", true),
            ("example.org:80", false),
            ("example.org:8080", true),
            ("ample.org", false),
            ("", false),
            ("::1", false),
        ] {
            let found = of("http://user@m.example.org:8080/x", &[http, ("no_proxy", left_out)]);
            assert_eq!(found.is_none(), is, "{left_out}");
        }
        assert_eq!(of("http://[::1]:80/x", &[http, ("no_proxy", "::1")]), None);
        assert_eq!(of("http://[::1]:80/x", &[http, ("no_proxy", "[::1]:80")]), None);
    }

    #[test]
    fn a_message_has_no_password() {
        assert_eq!(shown("http://u:secret@p:3128"), "http://p:3128");
    }
}
