//! The table of settings: one row per key, read by the parser, the command line, `bandstand config` and the reference page.
//!
//! Owns what a row is: name, kind, range, default and the sentence that explains it; the rows are `knobs/table.rs`. What a value means is `syntax.rs`;
//! which of several writers wins is `load.rs`. A default is text, read by the same parser as a user's text, so it can
//! never break a range. Invariant: keys are unique, and every default parses (tested below).
//! Source: the names follow gunicorn, nginx, uvicorn and Caddy where they have a word for it.

mod table;

use std::time::Duration;

pub use table::{PLANNED, TABLE};

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Knob {
    /// The name in files: lower case, words joined by `_`. Flag and variable are spelled from it.
    pub key: &'static str,
    /// The heading it stands under in `--help` and in the reference.
    pub group: Group,
    /// What may be written, with unit and range.
    pub kind: Kind,
    /// The default as a user would write it; empty when the setting is simply absent.
    pub default: &'static str,
    /// One sentence for people.
    pub doc: &'static str,
    /// The one-letter flag, as in gunicorn.
    pub short: Option<char>,
    /// Other spellings of the flag, for the habits of gunicorn users.
    pub aliases: &'static [&'static str],
    /// A variable that platforms set and gunicorn honours; `BANDSTAND_*` wins over it.
    pub platform: Option<&'static str>,
    /// Where it may be written.
    pub place: Place,
    /// Its value is never printed.
    pub secret: bool,
}

/// Headings of the reference page, in its order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// Which application is served.
    Application,
    /// Where clients are heard, and in which versions of HTTP.
    Listening,
    /// Certificates and what follows from having them.
    Https,
    /// Processes and threads.
    Workers,
    /// When a worker is replaced though nothing is wrong with it.
    Recycling,
    /// What a WebSocket may do, and who may open one.
    WebSockets,
    /// What a client may ask for, and how slowly.
    Limits,
    /// Who may ask, and how often.
    Access,
    /// What answers gain on their way.
    Answers,
    /// Memory and disk for bodies and answers.
    Buffers,
    /// Files served without the application.
    Files,
    /// Access log and events.
    Logs,
    /// The process itself.
    Process,
    /// What only `bandstand dev` does.
    Development,
}

/// The places a setting may be written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Flag, environment and file.
    Anywhere,
    /// The command line only.
    Flag,
    /// A settings file only, because it is a table of tables.
    File,
}

/// What may be written for a key. Ranges are inclusive.
#[allow(missing_docs)] // `low`, `high` and `word` say what they are
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `on` or `off`, `true` or `false`.
    Switch,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A whole number, or one of the words `auto` and `off` where allowed.
    Count { low: u64, high: u64, word: Word },
    /// `"30s"`, `"500ms"`, `"2m"`; a plain number is seconds.
    Duration { low: Duration, high: Duration, word: Word },
    /// `"20MB"`, `"64KiB"`; a plain number is bytes.
    Size { low: u64, high: u64, word: Word },
    /// `"500B/s"`; a plain number is bytes a second.
    Rate { low: u64, high: u64, word: Word },
    /// File mode bits in octal text, as `"022"`.
    Octal,
    /// Any text without control characters.
    Text,
    /// `package.module:attribute`, or a call of a factory.
    App,
    /// `package.module`, or the path of a Python file.
    Module,
    /// Requests and words that a generation must answer before it is given clients.
    ReadyCheck,
    /// A path, counted from the project folder when relative.
    Path,
    /// Several paths.
    Paths,
    /// An interpreter: a path, or a bare name looked up on `PATH`.
    Program,
    /// `-` for standard output, `off`, or the path of a file.
    Destination,
    /// A URL path of bandstand's own answers, or `off`.
    UrlPath,
    /// Addresses to listen on.
    Binds,
    /// Addresses, CIDR networks and preset names.
    Networks,
    /// Names of hosts, `*.` before one for all below it.
    Domains,
    /// Names or URLs of ACME directories.
    Directories,
    /// An address of electronic mail.
    Email,
    /// `kid:key`, the key in base64url (RFC 8555 section 7.3.4).
    Eab,
    /// `10/s`, `100/m burst 20`, or `off`.
    RequestRate,
    /// `name:hash` texts, the path of an htpasswd file, or `off`.
    Passwords,
    /// A table of header fields.
    Headers,
    /// `type/subtype` or `type/*`.
    MediaTypes,
    /// Folders by URL prefix.
    Protected,
    /// A folder behind a URL prefix, or `off`.
    Mount,
    /// A URL prefix without its closing `/`; empty for none.
    Prefix,
    /// Web origins (RFC 6454): `https://example.com`, or `same`.
    Origins,
    /// A table of URL prefixes, each with a table of its own.
    PathRules,
}

/// A word allowed in place of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Only numbers.
    None,
    /// `auto`: bandstand chooses. 0 means the same.
    Auto,
    /// `off`: no limit. 0 means the same.
    Off,
}

/// The row of `key`.
pub fn find(key: &str) -> Option<&'static Knob> {
    TABLE.iter().find(|knob| knob.key == key)
}

impl Knob {
    /// The long flag without its dashes: `max-body`.
    pub fn flag(&self) -> String {
        self.key.replace('_', "-")
    }

    /// The environment variable: `BANDSTAND_MAX_BODY`.
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.key.to_ascii_uppercase())
    }

    const fn short(mut self, letter: char) -> Knob {
        self.short = Some(letter);
        self
    }

    const fn aliases(mut self, names: &'static [&'static str]) -> Knob {
        self.aliases = names;
        self
    }

    const fn platform(mut self, variable: &'static str) -> Knob {
        self.platform = Some(variable);
        self
    }

    const fn flag_only(mut self) -> Knob {
        self.place = Place::Flag;
        self
    }

    const fn secret(mut self) -> Knob {
        self.secret = true;
        self
    }

    const fn file_only(mut self) -> Knob {
        self.place = Place::File;
        self
    }
}

impl Group {
    /// All headings, in order.
    pub const ALL: [Group; 14] = [
        Group::Application,
        Group::Listening,
        Group::Https,
        Group::Workers,
        Group::Recycling,
        Group::WebSockets,
        Group::Limits,
        Group::Access,
        Group::Answers,
        Group::Buffers,
        Group::Files,
        Group::Logs,
        Group::Process,
        Group::Development,
    ];

    /// The heading itself.
    pub fn title(self) -> &'static str {
        match self {
            Group::Application => "Application",
            Group::Listening => "Listening",
            Group::Https => "HTTPS",
            Group::Workers => "Workers",
            Group::Recycling => "Recycling",
            Group::WebSockets => "WebSockets",
            Group::Limits => "Limits",
            Group::Access => "Access",
            Group::Answers => "Answers",
            Group::Buffers => "Buffers",
            Group::Files => "Files",
            Group::Logs => "Logs",
            Group::Process => "Process",
            Group::Development => "Development",
        }
    }
}

/// What every variable of bandstand begins with.
pub const PREFIX: &str = "BANDSTAND_";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::Raw;
    use crate::syntax;

    #[test]
    fn keys_flags_and_letters_are_unique() {
        let mut flags: Vec<String> = TABLE.iter().map(Knob::flag).collect();
        flags.extend(TABLE.iter().flat_map(|k| k.aliases).map(|alias| alias.to_string()));
        let mut letters: Vec<char> = TABLE.iter().filter_map(|k| k.short).collect();
        let (flag_count, letter_count) = (flags.len(), letters.len());
        flags.sort();
        flags.dedup();
        letters.sort();
        letters.dedup();
        assert_eq!((flags.len(), letters.len()), (flag_count, letter_count));
    }

    #[test]
    fn every_default_is_what_a_user_may_write() {
        for knob in TABLE.iter().filter(|k| !k.default.is_empty()) {
            let read = syntax::read(knob.kind, &Raw::text(knob.default));
            assert!(read.is_ok(), "{}: {read:?}", knob.key);
        }
    }

    #[test]
    fn planned_keys_are_not_in_the_table() {
        assert!(PLANNED.iter().all(|key| find(key).is_none()));
    }

    #[test]
    fn every_row_has_one_sentence() {
        for knob in TABLE {
            assert!(knob.doc.ends_with('.'), "{}", knob.key);
            assert!(
                knob.key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{}",
                knob.key
            );
        }
    }
}
