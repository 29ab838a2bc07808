//! The spelling of `ready_check`: paths that are asked for, and words for what Django connects to.
//!
//! Owns what may stand there. A path may have a query; a fragment never reaches a server, so one is a mistake. Source: RFC 9112
//! section 3.2.1 (origin-form).

use super::lists::items;
use super::{Complaint, complain, text};
use crate::raw::Raw;
use crate::ready::{CACHES, DATABASES, ReadyCheck};
use crate::value::Value;

pub(super) fn read(raw: &Raw) -> Result<Value, Complaint> {
    let mut check = ReadyCheck::default();
    for item in items(raw)? {
        match text(&item)? {
            DATABASES => check.databases = true,
            CACHES => check.caches = true,
            path if is_target(path) => {
                if !check.paths.iter().any(|known| known == path) {
                    check.paths.push(path.to_owned());
                }
            }
            other => {
                let hint = "write paths that begin with /, such as \"/health/\", or databases, or caches";
                return complain(&item, format!("{other:?} cannot be checked"), hint);
            }
        }
    }
    Ok(Value::ReadyCheck(check))
}

fn is_target(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_words() {
        let check = |paths: &[&str], databases, caches| {
            Some(ReadyCheck { paths: paths.iter().map(|path| path.to_string()).collect(), databases, caches })
        };
        for (written, wanted, words) in [
            ("/", check(&["/"], false, false), ""),
            ("/health/, /health/", check(&["/health/"], false, false), ""),
            ("/a?b=c,databases", check(&["/a?b=c"], true, false), "databases"),
            ("caches,databases", check(&[], true, true), "databases,caches"),
            ("", check(&[], false, false), ""),
            ("health", None, ""),
            ("http://x/", None, ""),
            ("/a#b", None, ""),
            ("/a b", None, ""),
            ("/ü", None, ""),
            ("Databases", None, ""),
        ] {
            let read = read(&Raw::text(written)).ok();
            let Some(wanted) = wanted else {
                assert_eq!(read, None, "{written}");
                continue;
            };
            assert_eq!(wanted.words(), words, "{written}");
            assert_eq!(read, Some(Value::ReadyCheck(wanted)), "{written}");
        }
    }
}
