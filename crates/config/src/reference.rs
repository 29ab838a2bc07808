//! The reference page of settings, written from the table.
//!
//! Owns `docs/reference/settings.md`; a test fails when the committed page differs. Nothing about a key is said here that
//! the table does not know.

use std::time::Duration;

use crate::knobs::{Group, Kind, Knob, PLANNED, Place, TABLE, Word};
use crate::units::{show_duration, show_rate, show_size};

/// The whole page.
pub fn markdown() -> String {
    let mut out = String::from(INTRODUCTION);
    for group in Group::ALL {
        out += &format!("\n## {}\n\n| key | value | default | |\n| --- | --- | --- | --- |\n", group.title());
        for knob in TABLE.iter().filter(|knob| knob.group == group) {
            let (kind, range) = words(knob.kind);
            let value = if range.is_empty() { kind } else { format!("{kind}, {range}") };
            let default =
                if knob.default.is_empty() { "–".to_owned() } else { format!("`{}`", knob.default) };
            out += &format!(
                "| {} | {value} | {default} | {} |\n",
                spellings(knob),
                knob.doc.replace('|', "\\|")
            );
        }
    }
    let planned: Vec<String> = PLANNED.iter().map(|key| format!("`{key}`")).collect();
    out += &format!(
        "\n## Not in this version yet\n\nNaming one of these is an error: {}.\n",
        planned.join(", ")
    );
    out
}

/// How a value is named after its flag in `--help`.
pub fn placeholder(kind: Kind) -> &'static str {
    match kind {
        Kind::Switch => "on|off",
        Kind::Choice(_) => "WORD",
        Kind::Count { .. } => "N",
        Kind::Duration { .. } => "TIME",
        Kind::Size { .. } => "SIZE",
        Kind::Rate { .. } => "RATE",
        Kind::Octal => "OCTAL",
        Kind::Text => "NAME",
        Kind::App => "APP",
        Kind::Module => "MODULE",
        Kind::ReadyCheck => "PATH",
        Kind::Path | Kind::Paths | Kind::Program | Kind::Destination => "PATH",
        Kind::UrlPath => "URL_PATH",
        Kind::Binds => "ADDRESS",
        Kind::Networks => "NETWORK",
        Kind::Domains => "NAME",
        Kind::Directories => "URL",
        Kind::Email => "ADDRESS",
        Kind::Eab => "KID:KEY",
        Kind::RequestRate => "RATE",
        Kind::Passwords => "NAME:HASH",
        Kind::Headers => "TABLE",
        Kind::MediaTypes => "TYPE",
        Kind::Protected => "FOLDER",
        Kind::Mount => "FOLDER",
        Kind::Prefix => "URL_PATH",
        Kind::Origins => "ORIGIN",
        Kind::PathRules => "TABLE",
    }
}

const INTRODUCTION: &str = "\
# Settings

<!-- Written from crates/config/src/knobs/table.rs by `bandstand config --reference`; do not edit. -->

One key, three spellings: `max_body = \"20MB\"` in `bandstand.toml` (or under `[tool.bandstand]` in `pyproject.toml`),
`BANDSTAND_MAX_BODY=20MB` in the environment, `--max-body 20MB` on the command line. The first of these that has the key wins:

1. the flag;
2. the environment: `BANDSTAND_*`, the env file's `BANDSTAND_*`, then `PORT`, `WEB_CONCURRENCY` and `FORWARDED_ALLOW_IPS`, which many platforms set;
3. `bandstand.toml`, or the file that `--config` names, which may be a `gunicorn.conf.py`;
4. `[tool.bandstand]` in `pyproject.toml`;
5. the settings of the Django project;
6. the default.

`bandstand config` prints each value with the place it came from. An unknown key or a wrong value is an error (exit status 2) that names the place.

Durations: `500ms`, `30s`, `2m`, `1h`, `1d`; a plain number is seconds. Sizes: `KB`, `MB`, `GB` are powers of 1000, `KiB`, `MiB`, `GiB` and the bare
letters `K`, `M`, `G` powers of 1024; a plain number is bytes. Lists: several values in `[…]` in a file, separated by commas in a variable or flag; a
list's flag may also be repeated. Relative paths count from the project folder (`chdir`).

The env file: `NAME=value` lines; `#` begins a comment at the start of a line or after a blank; `export ` before a name is allowed. In `'…'` everything is
literal; in `\"…\"` the escapes `\\n \\r \\t \\\\ \\\" \\$` count; both may span lines. `$` is never expanded. A later line wins over an
earlier one, and a variable that is already set wins over the file.
";

/// Key, and the other names of its flag and variable.
fn spellings(knob: &Knob) -> String {
    let mut all = vec![format!("`{}`", knob.key)];
    all.extend(knob.short.map(|letter| format!("`-{letter}`")));
    all.extend(knob.aliases.iter().map(|alias| format!("`--{alias}`")));
    all.extend(knob.platform.map(|name| format!("`{name}`")));
    match knob.place {
        Place::Anywhere => {}
        Place::Flag => all.push("(flag only)".to_owned()),
        Place::File => all.push("(file only)".to_owned()),
    }
    all.join(" ")
}

/// Kind and range, in words.
fn words(kind: Kind) -> (String, String) {
    let or = |word| match word {
        Word::None => "",
        Word::Auto => " or `auto`",
        Word::Off => " or `off`",
    };
    let span = |low: String, high: String, word| format!("{low} to {high}{}", or(word));
    let time = |d: Duration| show_duration(d);
    match kind {
        Kind::Switch => ("`on` or `off`".into(), String::new()),
        Kind::Choice(words) => {
            (words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", "), String::new())
        }
        Kind::Count { low, high, word } => ("number".into(), span(low.to_string(), high.to_string(), word)),
        Kind::Duration { low, high, word } => ("duration".into(), span(time(low), time(high), word)),
        Kind::Size { low, high, word } => ("size".into(), span(show_size(low), show_size(high), word)),
        Kind::Rate { low, high, word } => ("rate".into(), span(show_rate(low), show_rate(high), word)),
        Kind::Octal => ("octal digits".into(), "`000` to `777`".into()),
        Kind::Text => ("text".into(), String::new()),
        Kind::App => ("`package.module:attribute`".into(), String::new()),
        Kind::Module => ("module, or path of a `.py` file".into(), String::new()),
        Kind::ReadyCheck => ("list of `/path`, `databases`, `caches`".into(), String::new()),
        Kind::Path => ("path".into(), String::new()),
        Kind::Paths => ("list of paths".into(), String::new()),
        Kind::Program => ("path or name".into(), String::new()),
        Kind::Destination => ("`-`, path or `off`".into(), String::new()),
        Kind::UrlPath => ("URL path or `off`".into(), String::new()),
        Kind::Binds => ("list of addresses".into(), String::new()),
        Kind::Networks => ("list of networks".into(), String::new()),
        Kind::Domains => ("list of names".into(), String::new()),
        Kind::Directories => ("list of names or URLs".into(), String::new()),
        Kind::Email => ("e-mail address".into(), String::new()),
        Kind::Eab => ("`kid:key`".into(), String::new()),
        Kind::RequestRate => ("requests in a time, or `off`".into(), String::new()),
        Kind::Passwords => ("list of `name:hash`, path or `off`".into(), String::new()),
        Kind::Headers => ("table".into(), String::new()),
        Kind::MediaTypes => ("list of media types".into(), String::new()),
        Kind::Protected => ("folder, list, table or `off`".into(), String::new()),
        Kind::Mount => ("folder, table or `off`".into(), String::new()),
        Kind::Prefix => ("URL path".into(), String::new()),
        Kind::Origins => ("list of origins".into(), String::new()),
        Kind::PathRules => ("table".into(), String::new()),
    }
}
