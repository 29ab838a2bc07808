//! Which URL patterns the rules of `[paths]` pin.
//!
//! Owns the comparison of a prefix with a pattern: of a pattern only the part before its first variable is known. Invariant: a route is
//! called pinned only when every path it matches is; a rule that reaches some of them is named beside the way of the rest.
//! Source: Django's URL dispatcher, `path()` and `re_path()`.

use bandstand_config::PathRules;
use bandstand_config::describe::{Road, Route};

/// Marks `route` if `rules` pin it.
pub(super) fn apply(rules: &PathRules, root_path: &str, route: &mut Route) {
    let (known, whole) = known_part(&route.pattern);
    let number = route.pattern.trim_start_matches('^').starts_with(&format!("{known}<int:"));
    let known = format!("{root_path}/{known}");
    // Of a pattern that goes on, the last segment may be half: `/ap<x>` is not yet below `/ap`.
    let base = if whole { &known[..] } else { &known[..=known.rfind('/').unwrap_or(0)] };
    if let Some(interface) = rules.interface_for(base.as_bytes()) {
        route.road = Road::Pinned;
        route.why = format!("[paths] sends it over {}", interface.as_str());
    }
    // A rule that goes on where the pattern has a number reaches it only with a digit.
    let reaches = |prefix: &str| match prefix.strip_prefix(&known[..]) {
        Some(tail) if number => tail.starts_with(|c: char| c.is_ascii_digit()),
        tail => tail.is_some(),
    };
    let some = rules.all().filter(|(prefix, _)| !whole && reaches(prefix));
    for (prefix, interface) in some {
        route.why += &format!("; below {prefix} [paths] sends it over {}", interface.as_str());
    }
}

/// The fixed beginning of a pattern, and whether that is all of it. A pattern may be put together of both kinds, by `include()`.
fn known_part(pattern: &str) -> (&str, bool) {
    let regex = pattern.starts_with('^');
    let pattern = pattern.strip_prefix('^').unwrap_or(pattern);
    if regex && has_alternatives(pattern) {
        return ("", false);
    }
    // In an expression much can vary, in `path()` only `<…>`; the rest of the second list begins an expression.
    let varies: &[char] = match regex {
        true => &['<', '(', '[', '\\', '$', '.', '?', '*', '+', '{', '^'],
        false => &['<', '^', '(', '\\', '$'],
    };
    let Some(at) = pattern.find(varies) else { return (pattern, !regex) };
    let (known, rest) = pattern.split_at(at);
    match rest.as_bytes()[0] {
        b'$' if rest.len() == 1 => (known, true),
        // The character before may be missing.
        b'?' | b'*' | b'{' => (known.strip_suffix(|_: char| true).unwrap_or(known), false),
        _ => (known, false),
    }
}

/// A `|` outside of all brackets: the beginning is one of several.
fn has_alternatives(expression: &str) -> bool {
    let mut depth = 0_usize;
    expression.chars().any(|c| {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == '|' && depth == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use bandstand_config::{Sources, load};

    #[test]
    fn fixed_beginnings() {
        for (pattern, wanted) in [
            ("", ("", true)),
            ("shop/", ("shop/", true)),
            ("robots.txt", ("robots.txt", true)),
            ("shop/<slug:slug>/", ("shop/", false)),
            ("^shop/$", ("shop/", true)),
            ("^shop/(?P<n>[0-9]+)/$", ("shop/", false)),
            ("^shops?/$", ("shop", false)),
            ("^a|b", ("", false)),
            ("^shop/", ("shop/", false)),
            ("^shop/(a|b)/$", ("shop/", false)),
            ("shop/^new/$", ("shop/", false)),
            ("^shop/<int:n>/", ("shop/", false)),
            ("^", ("", false)),
            ("<", ("", false)),
        ] {
            assert_eq!(known_part(pattern), wanted, "{pattern}");
        }
    }

    #[test]
    fn pinned_routes() {
        let folder = std::env::temp_dir().join(format!("bandstand-pins-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let text = "[paths.'/api']\ninterface = 'asgi'\n[paths.'/api/v1']\ninterface = 'wsgi'\n[paths.'/s/x']\ninterface = 'asgi'\n";
        std::fs::write(folder.join("bandstand.toml"), text).unwrap();
        let sources = Sources {
            flags: vec![],
            app_env: vec![],
            env: vec![],
            cwd: folder.clone(),
            cpus: std::num::NonZeroUsize::MIN,
            pid: 1,
            root: false,
        };
        let rules = load(sources).unwrap().settings.paths;
        std::fs::remove_dir_all(&folder).unwrap();
        for (root, pattern, road, why) in [
            ("", "", Road::Thread, "sync view"),
            ("", "api", Road::Pinned, "[paths] sends it over asgi"),
            ("", "api/<slug:v>/", Road::Pinned, "over asgi; below /api/v1 [paths] sends it over wsgi"),
            ("", "api/v1/<int:n>/", Road::Pinned, "over wsgi"),
            ("", "apis/", Road::Thread, "sync view"),
            ("", "api<x>/", Road::Thread, "sync view"),
            ("", "<slug>/", Road::Thread, "sync view; below"),
            ("", "s/<slug>/", Road::Thread, "sync view; below /s/x [paths]"),
            ("/s", "x/<y>", Road::Pinned, "over asgi"),
            ("/s", "api/", Road::Thread, "sync view"),
        ] {
            let mut route =
                Route { pattern: pattern.to_owned(), why: "sync view".to_owned(), ..Route::default() };
            apply(&rules, root, &mut route);
            assert_eq!(route.road, road, "{root}/{pattern}: {}", route.why);
            assert!(route.why.contains(why), "{root}/{pattern}: {}", route.why);
        }
        let mut route = Route { pattern: "api/<int:n>/".to_owned(), ..Route::default() };
        apply(&rules, "", &mut route);
        assert_eq!(route.why, "[paths] sends it over asgi", "v1 is no number");
    }
}
