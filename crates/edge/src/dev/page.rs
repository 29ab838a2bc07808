//! The page instead of the app while its newest code does not start.
//!
//! Owns how a traceback looks: to browsers a page with the lines around each frame of the project, which loads again by
//! itself when the next generation is up; to others JSON or text. Needs nothing from elsewhere. Invariant: every text of the
//! traceback and of source files is escaped; a name that a browser could be led to from another site (DNS rebinding) is
//! not shown source code.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bandstand_semantics::negotiate::{Format, prefer_format};
use bytes::Bytes;

use super::traceback::{Frame, Traceback};
use crate::exchange::{Answer, AnswerBody, Exchange};

/// Lines shown before and after the line of a frame.
const AROUND: usize = 4;

/// A source file larger than this is not shown: it is no source file.
const FILE_MOST: u64 = 4 << 20;

/// Frames of the project that are shown with their lines.
const FRAMES_MOST: usize = 12;

/// What is shown while the code is as it is: made once, when it failed.
#[derive(Debug)]
pub(crate) struct Broken {
    html: Bytes,
    json: Bytes,
    text: Bytes,
    files: Vec<PathBuf>,
}

impl Broken {
    /// Reads the source lines now: later they may be others. Blocks on the disk.
    pub(crate) fn new(reason: &str, project: &Path) -> Self {
        let traceback = Traceback::read(reason);
        let place = traceback.place(project);
        let at = place.map(|frame| format!("{}:{}", show_path(&frame.file, project), frame.line));
        let json = serde_json::json!({
            "status": 500, "error": "broken", "message": traceback.headline,
            "file": place.map(|frame| frame.file.to_string_lossy()), "line": place.map(|frame| frame.line),
            "traceback": traceback.text,
        });
        let text = match &at {
            Some(at) => format!("{}\n{at}\n\n{}\n", traceback.headline, traceback.text),
            None => format!("{}\n", traceback.text),
        };
        Self {
            html: html(&traceback, at.as_deref(), project).into(),
            json: format!("{json}\n").into(),
            text: text.into(),
            files: traceback
                .frames
                .iter()
                .filter(|frame| frame.is_of(project))
                .map(|f| f.file.clone())
                .collect(),
        }
    }

    /// The project's files on the way to the exception: one of them has to change.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The answer in the form that the client likes best.
    pub(crate) fn answer(&self, exchange: &Exchange) -> Answer {
        let (media_type, body) = match prefer_format(exchange.fields.first("accept")) {
            Format::Html => ("text/html; charset=utf-8", &self.html),
            Format::Json => ("application/json", &self.json),
            Format::Text => ("text/plain; charset=utf-8", &self.text),
        };
        let mut answer = Answer::new(500);
        answer.fields.push(b"Content-Type", media_type.as_bytes());
        answer.fields.push(b"Cache-Control", b"no-store");
        answer.fields.push(b"Vary", b"Accept");
        answer.fields.push(b"X-Content-Type-Options", b"nosniff");
        answer.length = Some(body.len() as u64);
        answer.body = AnswerBody::Memory(body.clone());
        answer.refusal = Some("broken");
        answer
    }
}

/// Whether whoever asks for this name is on this machine or knows the project's own names: an address, `localhost`.
pub(crate) fn may_see(host: &str, hosts: Option<&[String]>) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let is_address = host.starts_with('[') || host.parse::<std::net::IpAddr>().is_ok();
    let local = host.eq_ignore_ascii_case("localhost") || host.to_ascii_lowercase().ends_with(".localhost");
    let known =
        |hosts: &[String]| hosts.iter().any(|known| known.trim_start_matches('.').eq_ignore_ascii_case(host));
    host.is_empty() || is_address || local || hosts.is_some_and(known)
}

fn html(traceback: &Traceback, at: Option<&str>, project: &Path) -> String {
    let (name, message) = split_headline(&traceback.headline);
    let mut page = String::with_capacity(16 * 1024);
    let title = escape(&traceback.headline);
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
        <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
        <style>{STYLE}</style></head>\n<body><header><div class=\"wide\">\n<p class=\"kind\">{}</p>\n<h1>{}</h1>\n",
        escape(name),
        escape(message)
    );
    if let Some(at) = at {
        let _ = writeln!(page, "<p class=\"at\">{}</p>", escape(at));
    }
    page.push_str("<p class=\"wait\"><i></i>The newest code does not start. Save a file, and this page loads again.</p>\n");
    page.push_str("</div></header>\n<main class=\"wide\">\n");
    frames(&mut page, traceback, project);
    let open = if traceback.frames.is_empty() { " open" } else { "" };
    let _ = write!(
        page,
        "<details{open}><summary>As Python says it</summary><pre class=\"all\">{}</pre></details>\n\
        </main>\n<script src=\"/-/dev/reload.js\" defer></script>\n</body></html>\n",
        escape(&traceback.text)
    );
    page
}

/// Frames of the project with their lines, the innermost first; what lies between is counted.
fn frames(page: &mut String, traceback: &Traceback, project: &Path) {
    let (mut shown, mut between) = (0, 0);
    for (depth, frame) in traceback.frames.iter().rev().enumerate() {
        if !frame.is_of(project) && depth > 0 || shown == FRAMES_MOST {
            between += 1;
            continue;
        }
        skipped(page, &mut between);
        shown += 1;
        let function = match frame.function.as_deref() {
            Some("<module>") => " <span>while it was imported</span>".to_owned(),
            Some(function) => format!(" <span>in</span> {}", escape(function)),
            None => " <span>cannot be read as Python</span>".to_owned(),
        };
        let path = escape(&show_path(&frame.file, project));
        let _ = writeln!(page, "<section><h2><b>{path}</b>:{}{function}</h2>", frame.line);
        source(page, frame);
        page.push_str("</section>\n");
    }
    skipped(page, &mut between);
}

fn skipped(page: &mut String, between: &mut usize) {
    let _ = match std::mem::take(between) {
        0 => Ok(()),
        1 => writeln!(page, "<p class=\"between\">called by 1 line of installed code</p>"),
        n => writeln!(page, "<p class=\"between\">called by {n} lines of installed code</p>"),
    };
}

/// The lines around the frame's, as they are on the disk now.
fn source(page: &mut String, frame: &Frame) {
    let Some(text) = read(&frame.file) else { return };
    let first = frame.line.saturating_sub(AROUND).max(1);
    let lines: Vec<(usize, &str)> = text
        .lines()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
        .skip(first - 1)
        .take(2 * AROUND + 1)
        .collect();
    if lines.is_empty() {
        return;
    }
    page.push_str("<pre class=\"code\">");
    for (number, line) in lines {
        let class = if number == frame.line { " class=\"here\"" } else { "" };
        let _ = write!(page, "<code{class} data-n=\"{number}\">{}\n</code>", escape(line));
    }
    page.push_str("</pre>\n");
}

fn read(file: &Path) -> Option<String> {
    let found = std::fs::metadata(file).ok()?;
    if !found.is_file() || found.len() > FILE_MOST {
        return None;
    }
    Some(String::from_utf8_lossy(&std::fs::read(file).ok()?).into_owned())
}

/// `ImportError` and the rest of the line.
fn split_headline(headline: &str) -> (&str, &str) {
    match headline.split_once(": ") {
        Some((name, message)) if !name.contains(' ') && !message.is_empty() => (name, message),
        _ => ("The application could not be started", headline),
    }
}

fn show_path(file: &Path, project: &Path) -> String {
    file.strip_prefix(project).unwrap_or(file).to_string_lossy().into_owned()
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

const STYLE: &str = include_str!("page.css");

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str, project: &Path) -> String {
        String::from_utf8(Broken::new(text, project).html.to_vec()).unwrap()
    }

    #[test]
    fn the_place_is_on_top_with_its_lines() {
        let folder = std::env::temp_dir().join(format!("bandstand-page-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("views.py");
        let lines: String = (1..=20).map(|n| format!("line_{n} = \"<{n}>\"\n")).collect();
        std::fs::write(&file, lines).unwrap();
        let text = format!(
            "NameError: name '<b>' is not defined\n\nTraceback (most recent call last):\n  File \"/v/lib/python3.11/site-packages/d.py\", line 9, in run\n    x\n  File \"{}\", line 10, in load\n    <b>\nNameError: x\n",
            file.display()
        );
        let page = page(&text, &folder);
        std::fs::remove_dir_all(&folder).unwrap();
        for wanted in [
            "<p class=\"kind\">NameError</p>",
            "<h1>name &#39;&lt;b&gt;&#39; is not defined</h1>",
            "<p class=\"at\">views.py:10</p>",
            "<code class=\"here\" data-n=\"10\">line_10 = &quot;&lt;10&gt;&quot;\n</code>",
            "data-n=\"6\"",
            "data-n=\"14\"",
            "called by 1 line of installed code",
            "/-/dev/reload.js",
        ] {
            assert!(page.contains(wanted), "{wanted}\n{page}");
        }
        for unwanted in ["<b>' is", "data-n=\"5\"", "data-n=\"15\"", "http://", "https://"] {
            assert!(!page.contains(unwanted), "{unwanted}\n{page}");
        }
    }

    #[test]
    fn any_text_makes_a_page() {
        for text in ["", "killed by signal 9", "X: </pre><script>", "X\n  File \"/dev/zero\", line 1, in f"] {
            let page = page(text, Path::new("/p"));
            assert!(page.ends_with("</html>\n") && !page.contains("</pre><script>"), "{page}");
        }
    }

    #[test]
    fn who_may_see_it() {
        let own = ["shop.example".to_owned(), ".example.org".to_owned()];
        for (host, seen) in [
            ("127.0.0.1", true),
            ("192.168.1.7", true),
            ("[::1]", true),
            ("localhost", true),
            ("Shop.Localhost.", true),
            ("", true),
            ("shop.example", true),
            ("example.org", true),
            ("evil.example", false),
            ("notlocalhost", false),
        ] {
            assert_eq!(may_see(host, Some(&own)), seen, "{host}");
        }
        assert!(!may_see("shop.example", None));
    }
}
