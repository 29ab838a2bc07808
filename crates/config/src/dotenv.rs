//! The env file: `NAME=value` lines.
//!
//! Owns the quoting rules, stated once: blank lines and lines that begin with `#` are skipped; `export ` before a name is
//! allowed, and blanks round `=`. An unquoted value ends at the line's end or at ` #`, and loses the blanks around it. In `'…'`
//! everything is literal. In `"…"` the escapes `\n \r \t \\ \" \$` count and any other backslash stays. Both may span lines.
//! `$` is never expanded: passwords contain it. A later line wins over an earlier one.
//! Source: there is no standard; this is the common part of Docker Compose, python-dotenv and systemd, minus expansion.

use std::ops::Range;

/// One variable: name, value, and the line (from 1) of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) line: usize,
}

/// What is wrong, and where in the text.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) sentence: &'static str,
    pub(crate) span: Range<usize>,
}

/// Reads a whole file.
pub(crate) fn parse(text: &str) -> Result<Vec<Variable>, Fault> {
    let mut found: Vec<Variable> = Vec::new();
    let mut at = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    while at < text.len() {
        let line = line_at(text, at);
        if line.trim().is_empty() || line.trim_start().starts_with('#') {
            at += line.len() + 1;
            continue;
        }
        let (name, value_at) = name(text, at, line)?;
        let (value, next) = value(text, value_at)?;
        if value.contains('\0') {
            return Err(Fault { sentence: "a variable cannot hold a zero byte", span: value_at..next });
        }
        found.retain(|variable| variable.name != name);
        found.push(Variable { name, value, line: text[..at].matches('\n').count() + 1 });
        at = next + 1;
    }
    Ok(found)
}

/// The rest of the line that `at` stands in, without its end.
fn line_at(text: &str, at: usize) -> &str {
    let rest = &text[at..];
    &rest[..rest.find('\n').unwrap_or(rest.len())]
}

/// The name on `line`, and where its value begins.
fn name(text: &str, at: usize, line: &str) -> Result<(String, usize), Fault> {
    let whole = at..at + line.trim_end().len();
    let Some(equals) = line.find('=') else {
        return Err(Fault { sentence: "this line has no =", span: whole });
    };
    let written = line[..equals].trim();
    let name = written.strip_prefix("export ").unwrap_or(written).trim();
    let fits =
        |(index, b): (usize, u8)| b == b'_' || b.is_ascii_alphabetic() || (index > 0 && b.is_ascii_digit());
    if name.is_empty() || !name.bytes().enumerate().all(fits) {
        return Err(Fault { sentence: "this is not the name of a variable", span: at..at + equals.max(1) });
    }
    let after = at + equals + 1;
    let blanks = line_at(text, after).len() - line_at(text, after).trim_start_matches([' ', '\t']).len();
    Ok((name.to_owned(), after + blanks))
}

/// The value that begins at `at`, and the end of its last line.
fn value(text: &str, at: usize) -> Result<(String, usize), Fault> {
    let (value, end) = match text[at..].chars().next() {
        Some('\'') => single(text, at)?,
        Some('"') => double(text, at)?,
        _ => {
            let line = line_at(text, at);
            // A # begins a comment at the start or after a blank; `a#b` is a value.
            let comment =
                line.match_indices('#').map(|(i, _)| i).find(|&i| i == 0 || line[..i].ends_with([' ', '\t']));
            return Ok((line[..comment.unwrap_or(line.len())].trim().to_owned(), at + line.len()));
        }
    };
    let rest = line_at(text, end);
    match rest.trim_start() {
        "" => Ok((value, end + rest.len())),
        comment if comment.starts_with('#') => Ok((value, end + rest.len())),
        _ => Err(Fault {
            sentence: "there is something after the closing quote",
            span: end..end + rest.trim_end().len(),
        }),
    }
}

/// `'…'`: the value, and the byte after the closing quote.
fn single(text: &str, at: usize) -> Result<(String, usize), Fault> {
    let body = &text[at + 1..];
    match body.find('\'') {
        Some(end) => Ok((body[..end].to_owned(), at + 1 + end + 1)),
        None => Err(Fault { sentence: "this quote is not closed", span: at..at + 1 }),
    }
}

/// `"…"`: the value, and the byte after the closing quote.
fn double(text: &str, at: usize) -> Result<(String, usize), Fault> {
    let mut value = String::new();
    let mut characters = text[at + 1..].char_indices();
    while let Some((offset, character)) = characters.next() {
        match character {
            '"' => return Ok((value, at + 1 + offset + 1)),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, 't')) => value.push('\t'),
                Some((_, plain @ ('\\' | '"' | '$'))) => value.push(plain),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            _ => value.push(character),
        }
    }
    Err(Fault { sentence: "this quote is not closed", span: at..at + 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_rules() {
        for (text, wanted) in [
            ("A=1", vec![("A", "1", 1)]),
            ("A=1\nB=2\n", vec![("A", "1", 1), ("B", "2", 2)]),
            ("\n# c\n  # d\nexport A = x y  \n", vec![("A", "x y", 4)]),
            ("A=\r\nB=2\r\n", vec![("A", "", 1), ("B", "2", 2)]),
            ("A=a#b # c", vec![("A", "a#b", 1)]),
            ("A=#x", vec![("A", "", 1)]),
            ("A=it's", vec![("A", "it's", 1)]),
            ("A=$HOME ${X}", vec![("A", "$HOME ${X}", 1)]),
            ("A='a # \\n $b' # c", vec![("A", "a # \\n $b", 1)]),
            ("A=\"a\\n\\\"b\\\" \\$ \\d\"", vec![("A", "a\n\"b\" $ \\d", 1)]),
            ("A=\"1\n2\"\nB='3\n4'\nC=5", vec![("A", "1\n2", 1), ("B", "3\n4", 3), ("C", "5", 5)]),
            ("A=1\nA=2", vec![("A", "2", 2)]),
            ("A=b=c", vec![("A", "b=c", 1)]),
            ("\u{feff}A=ö", vec![("A", "ö", 1)]),
            ("", vec![]),
        ] {
            let found = parse(text).unwrap();
            let found: Vec<_> = found.iter().map(|v| (v.name.as_str(), v.value.as_str(), v.line)).collect();
            assert_eq!(found, wanted, "{text:?}");
        }
    }

    #[test]
    fn faults_point_at_the_part_to_blame() {
        for (text, sentence, blamed) in [
            ("A=1\nB\n", "this line has no =", "B"),
            ("1A=x", "this is not the name of a variable", "1A"),
            ("=x", "this is not the name of a variable", "="),
            ("a-b=x", "this is not the name of a variable", "a-b"),
            ("A='x", "this quote is not closed", "'"),
            ("A=\"x\\", "this quote is not closed", "\""),
            ("A='x' y", "there is something after the closing quote", " y"),
        ] {
            let fault = parse(text).unwrap_err();
            assert_eq!((fault.sentence, &text[fault.span.clone()]), (sentence, blamed), "{text:?}");
        }
        assert_eq!(parse("A=\0").unwrap_err().sentence, "a variable cannot hold a zero byte");
    }

    #[test]
    fn no_text_cut_anywhere_panics() {
        let text = "# é\nexport A = \"ü\\n\\\" x\" # c\nB='1\n2'\r\nC=x #y\n";
        for end in (0..=text.len()).filter(|&end| text.is_char_boundary(end)) {
            let _ = parse(&text[..end]);
        }
    }
}
