//! The shape of APP: `package.module`, `package.module:attribute` or `package.module:factory(…)`.
//!
//! Owns only the spelling, so that a typing mistake is a sentence and not a traceback; the worker imports and calls.
//! Source: gunicorn's `module:app` pattern; SURFACE "Commands".

/// Whether `text` can name an application.
///
/// # Errors
/// Sentence and hint.
pub(crate) fn check(text: &str) -> Result<(), (String, String)> {
    let (module, attribute) = match text.split_once(':') {
        Some((module, attribute)) => (module, Some(attribute)),
        None => (text, None),
    };
    if module.contains('/') || module.ends_with(".py") {
        let dotted = module.trim_start_matches("./").trim_end_matches(".py").replace('/', ".");
        return Err((
            format!("{text:?} is a path, not a module"),
            format!("write {dotted}:application, and --chdir for another folder"),
        ));
    }
    let callee = attribute.map(|name| name.split_once('(').map_or(name, |(callee, _)| callee));
    let closed = attribute.is_none_or(|name| !name.contains('(') || name.ends_with(')'));
    match is_dotted(module) && callee.is_none_or(is_dotted) && closed {
        true => Ok(()),
        false => Err((
            format!("{text:?} does not name an application"),
            "write package.module:attribute, or package.module:create() for a factory".to_owned(),
        )),
    }
}

/// Python identifiers joined by points.
pub(crate) fn is_dotted(text: &str) -> bool {
    text.split('.').all(|name| {
        name.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications() {
        for (text, fine) in [
            ("config.wsgi", true),
            ("config.wsgi:application", true),
            ("shop:create()", true),
            ("shop:create('eu', debug=False)", true),
            ("shop:site.app", true),
            ("_a1", true),
            ("", false),
            (":app", false),
            ("shop:", false),
            ("shop..x:app", false),
            ("1shop:app", false),
            ("shop:create(", false),
            ("shop:create()x", false),
            ("config/wsgi.py", false),
            ("wsgi.py:application", false),
            ("my-shop:app", false),
        ] {
            assert_eq!(check(text).is_ok(), fine, "{text:?}");
        }
        let (_, hint) = check("config/wsgi.py").unwrap_err();
        assert!(hint.contains("config.wsgi:application"), "{hint}");
    }
}
