//! The folder as a whole, on real files in a fresh directory: checklist part 2 rows 44–51, and what RFC 9110 asks of files.
//!
//! Time is a value here: files are dated, and `Site::at` moves the clock, so no test waits.

use super::answer::{FileAnswer, FileBody, Outcome, Part};
use super::hashed::HashedNames;
use super::manifest::{AssetError, Manifest, Root};
use super::policy::RootKind;
use bandstand_semantics::Fields;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A fresh directory, removed on drop.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("bandstand-assets-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Folder(path),
                // Left behind by an earlier process of the same number.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Sun, 06 Nov 1994 08:49:37 GMT: the date of all files in these tests, unless a test says otherwise.
const WRITTEN: u64 = 784_111_777;
const WRITTEN_DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

/// A static and a media root in a fresh directory.
struct Site {
    folder: Folder,
    manifest: Manifest,
    now: SystemTime,
}

impl Site {
    fn new(files: &[(&str, &[u8])]) -> Site {
        let folder = Folder::new();
        fs::create_dir(folder.path().join("static")).unwrap();
        fs::create_dir(folder.path().join("media")).unwrap();
        let root = |prefix: &str, dir: &str, kind, hashed| Root {
            prefix: prefix.into(),
            dir: folder.path().join(dir),
            kind,
            hashed,
        };
        let manifest = Manifest::new(vec![
            root("static/", "static", RootKind::Static, HashedNames::Detect),
            root("/media/", "media", RootKind::Media, HashedNames::Never),
        ])
        .unwrap();
        let site = Site { folder, manifest, now: UNIX_EPOCH + Duration::from_secs(WRITTEN + 1_000_000) };
        for (name, content) in files {
            site.write(name, content, WRITTEN);
        }
        site
    }

    fn write(&self, name: &str, content: &[u8], seconds: u64) {
        let path = self.folder.write(name, content);
        File::options()
            .append(true)
            .open(path)
            .unwrap()
            .set_modified(UNIX_EPOCH + Duration::from_secs(seconds))
            .unwrap();
    }

    fn later(&mut self, by: Duration) {
        self.now += by;
    }

    fn outcome(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> Option<FileAnswer> {
        let fields: Fields = fields.iter().copied().collect();
        match self.manifest.respond(method.as_bytes(), path.as_bytes(), &fields, self.now) {
            Outcome::NotMine => None,
            Outcome::Answer(answer) => Some(answer),
        }
    }

    fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)]) -> FileAnswer {
        let answer = self.outcome(method, path, fields).unwrap_or_else(|| panic!("{path} is below no root"));
        if method != "HEAD"
            && let Some(length) = answer.content_length
        {
            assert_eq!(read(&answer.body).len() as u64, length, "{path}: the body is as long as it says");
        }
        answer
    }

    fn get(&self, path: &str, fields: &[(&str, &str)]) -> FileAnswer {
        self.ask("GET", path, fields)
    }
}

fn read(body: &FileBody) -> Vec<u8> {
    let slice = |file: &File, offset: u64, len: u64| {
        let mut bytes = vec![0; len as usize];
        file.read_exact_at(&mut bytes, offset).unwrap();
        bytes
    };
    match body {
        FileBody::Empty => Vec::new(),
        FileBody::Memory(bytes) => bytes.to_vec(),
        FileBody::File { file, offset, len } => slice(file, *offset, *len),
        FileBody::Parts(parts) => parts
            .iter()
            .flat_map(|part| match part {
                Part::Memory(bytes) => bytes.to_vec(),
                Part::File { file, offset, len } => slice(file, *offset, *len),
            })
            .collect(),
    }
}

fn field(answer: &FileAnswer, name: &str) -> Option<String> {
    answer.fields.first(name).map(|value| String::from_utf8(value.to_vec()).unwrap())
}

fn body(answer: &FileAnswer) -> String {
    String::from_utf8(read(&answer.body)).unwrap()
}

#[test]
fn a_file_and_its_head() {
    let site = Site::new(&[("static/css/app.css", b"body{}")]);
    let answer = site.get("/static/css/app.css", &[]);
    assert_eq!((answer.status, answer.content_length, body(&answer)), (200, Some(6), "body{}".into()));
    let head: Vec<(String, String)> = answer
        .fields
        .iter()
        .map(|(name, value)| (String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into()))
        .collect();
    let etag = format!("\"{:x}-6\"", u128::from(WRITTEN) * 1_000_000_000);
    let expected = [
        ("content-type", "text/css; charset=utf-8"),
        ("etag", &etag),
        ("last-modified", WRITTEN_DATE),
        ("cache-control", "public, max-age=60"),
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(head, expected);
}

#[test]
fn head_is_get_without_its_body() {
    let large = vec![b'x'; 100_000];
    let site =
        Site::new(&[("static/a.txt", b"hello"), ("static/large.bin", &large), ("static/empty.txt", b"")]);
    for path in ["/static/a.txt", "/static/large.bin", "/static/empty.txt"] {
        let (get, head) = (site.get(path, &[]), site.ask("HEAD", path, &[("Range", "bytes=0-0")]));
        assert_eq!(
            (get.status, get.content_length, &get.fields),
            (head.status, head.content_length, &head.fields)
        );
        assert!(matches!(head.body, FileBody::Empty), "{path}");
    }
    assert_eq!(site.ask("HEAD", "/static/none", &[]).status, 404);
}

#[test]
fn other_methods_are_not_allowed() {
    let site = Site::new(&[("static/a.txt", b"hello")]);
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "get", ""] {
        for path in ["/static/a.txt", "/static/none", "/static/.env", "/media/x"] {
            let answer = site.ask(method, path, &[]);
            assert_eq!(
                (answer.status, field(&answer, "allow")),
                (405, Some("GET, HEAD".into())),
                "{method} {path}"
            );
        }
    }
}

/// Rows 44, 45, 46: what is below a prefix and is not served is 404, and what only looks so belongs to the app.
#[test]
fn paths_that_are_not_served() {
    let site = Site::new(&[
        ("settings.py", b"SECRET"),
        ("static/app.css", b"body{}"),
        ("static/settings.py", b"SECRET"),
        ("static/x.pyc", b"SECRET"),
        ("static/notes.txt~", b"SECRET"),
        ("static/.env", b"SECRET"),
        ("static/.git/config", b"SECRET"),
        ("static/dir/a.txt", b"a"),
        ("static/staticfiles.json", b"{\"paths\": {}}"),
        ("static/%2e%2e", b"odd name"),
        ("static/app.js.map", b"{}"),
        ("media/code.py", b"SECRET"),
    ]);
    for (path, status) in [
        ("/static/app.css", Some(200)),
        ("/static/%61pp.css", Some(200)),
        ("/%73tatic/app.css", Some(200)),
        ("/static/app.js.map", Some(200)),
        ("/static/%252e%252e", Some(200)),
        ("/static/../settings.py", Some(404)),
        ("/static/%2e%2e/settings.py", Some(404)),
        ("/static/..%2fsettings.py", Some(404)),
        ("/static/%252e%252e/settings.py", Some(404)),
        ("/static/..%5csettings.py", Some(404)),
        ("/static//app.css", Some(404)),
        ("/static/dir/../app.css", Some(404)),
        ("/static/dir%2fa.txt", Some(404)),
        ("/static/app.css%00.png", Some(404)),
        ("/static/%c0%ae%c0%ae/settings.py", Some(404)),
        ("/static/%zz", Some(404)),
        ("/static/", Some(404)),
        ("/static/dir", Some(404)),
        ("/static/dir/", Some(404)),
        ("/static/app.css/", Some(404)),
        ("/static/app.css/x", Some(404)),
        ("/static/.env", Some(404)),
        ("/static/.git/config", Some(404)),
        ("/static/settings.py", Some(404)),
        ("/static/SETTINGS.PY", Some(404)),
        ("/static/x.pyc", Some(404)),
        ("/static/notes.txt~", Some(404)),
        ("/static/staticfiles.json", Some(404)),
        ("/static/%73taticfiles.json", Some(404)),
        ("/static/none.css", Some(404)),
        ("/media/code.py", Some(404)),
        ("/static", None),
        ("/static../settings.py", None),
        ("/staticfoo/app.css", None),
        ("//static/app.css", None),
        ("/STATIC/app.css", None),
        ("/", None),
        ("/shop/", None),
    ] {
        let answer = site.outcome("GET", path, &[]);
        assert_eq!(answer.as_ref().map(|answer| answer.status), status, "{path}");
        if let Some(answer) = answer {
            assert!(!body(&answer).contains("SECRET"), "{path}");
        }
    }
    assert_eq!(site.get(&format!("/static/{}", "a/".repeat(4000) + "x"), &[]).status, 404);
    assert_eq!(site.get(&format!("/static/{}", "a".repeat(300)), &[]).status, 404);
}

/// Row 47.
#[test]
fn links_leave_no_root() {
    let site =
        Site::new(&[("secret.txt", b"SECRET"), ("media/a.txt", b"inside"), ("media/sub/b.txt", b"inside")]);
    let media = site.folder.path().join("media");
    symlink("/etc/passwd", media.join("passwd.txt")).unwrap();
    symlink("../secret.txt", media.join("climbs.txt")).unwrap();
    symlink("..", media.join("up")).unwrap();
    symlink("a.txt", media.join("beneath.txt")).unwrap();
    symlink("../a.txt", media.join("sub/also-beneath.txt")).unwrap();
    symlink("none", media.join("dangling.txt")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, media.join("fifo"), rustix::fs::FileType::Fifo, 0o644.into(), 0)
        .unwrap();
    for (path, status) in [
        ("/media/a.txt", 200),
        ("/media/beneath.txt", 200),
        ("/media/sub/also-beneath.txt", 200),
        ("/media/passwd.txt", 404),
        ("/media/climbs.txt", 404),
        ("/media/up/secret.txt", 404),
        ("/media/dangling.txt", 404),
        ("/media/fifo", 404),
    ] {
        assert_eq!(site.get(path, &[]).status, status, "{path}");
    }
}

#[test]
fn an_unreadable_file_is_not_found() {
    let site = Site::new(&[("static/a.txt", b"a")]);
    let path = site.folder.path().join("static/a.txt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // The superuser reads it all the same; `open.rs` tests the mapping of EACCES for everyone.
    let expected = if File::open(&path).is_ok() { 200 } else { 404 };
    assert_eq!(site.get("/static/a.txt", &[]).status, expected);
}

/// Row 49.
#[test]
fn ranges_of_small_and_large_files() {
    let digits = b"0123456789";
    let large: Vec<u8> = digits.iter().copied().cycle().take(100_000).collect();
    let site = Site::new(&[("static/s.txt", digits), ("static/l.txt", &large), ("static/empty.txt", b"")]);
    let many = format!("bytes={}", vec!["0-"; 1000].join(","));
    for (path, range, status, content_range, expected) in [
        ("/static/s.txt", "bytes=0-0", 206, Some("bytes 0-0/10"), "0"),
        ("/static/s.txt", "bytes=2-4", 206, Some("bytes 2-4/10"), "234"),
        ("/static/s.txt", "bytes=-3", 206, Some("bytes 7-9/10"), "789"),
        ("/static/s.txt", "bytes=-99", 206, Some("bytes 0-9/10"), "0123456789"),
        ("/static/s.txt", "bytes=0-3,2-5", 206, Some("bytes 0-5/10"), "012345"),
        ("/static/s.txt", "bytes=10-", 416, Some("bytes */10"), ""),
        ("/static/s.txt", "bytes=", 200, None, "0123456789"),
        ("/static/s.txt", "bytes=4-2", 200, None, "0123456789"),
        ("/static/s.txt", "lines=1-2", 200, None, "0123456789"),
        ("/static/s.txt", &many, 200, None, "0123456789"),
        ("/static/l.txt", "bytes=99998-", 206, Some("bytes 99998-99999/100000"), "89"),
        ("/static/l.txt", "bytes=100000-", 416, Some("bytes */100000"), ""),
        ("/static/empty.txt", "bytes=0-", 416, Some("bytes */0"), ""),
        ("/static/empty.txt", "bytes=-1", 200, None, ""),
    ] {
        let answer = site.get(path, &[("Range", range)]);
        assert_eq!(
            (answer.status, field(&answer, "content-range").as_deref()),
            (status, content_range),
            "{path} {range}"
        );
        assert_eq!(body(&answer), expected, "{path} {range}");
    }
    let twice = site.get("/static/s.txt", &[("Range", "bytes=0-0"), ("Range", "bytes=1-1")]);
    assert_eq!(twice.status, 200);
}

#[test]
fn several_ranges_come_in_parts() {
    let large = vec![b'x'; 100_000];
    let site = Site::new(&[("static/s.txt", b"0123456789"), ("static/l.bin", &large)]);
    let answer = site.get("/static/s.txt", &[("Range", "bytes=7-8,0-1")]);
    let media_type = field(&answer, "content-type").unwrap();
    let boundary = media_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
    let part = |range: &str, text: &str| {
        format!(
            "--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Range: bytes {range}/10\r\n\r\n{text}\r\n"
        )
    };
    assert_eq!(answer.status, 206);
    assert_eq!(field(&answer, "content-range"), None);
    assert_eq!(body(&answer), part("7-8", "78") + &part("0-1", "01") + &format!("--{boundary}--\r\n"));
    let other = site.get("/static/s.txt", &[("Range", "bytes=7-8,0-1")]);
    assert_ne!(field(&other, "content-type"), Some(media_type));
    let large = site.get("/static/l.bin", &[("Range", "bytes=0-9,50000-50009")]);
    assert_eq!(large.status, 206);
    assert!(
        matches!(&large.body, FileBody::Parts(parts) if parts.iter().any(|part| matches!(part, Part::File { offset: 50_000, len: 10, .. })))
    );
}

#[test]
fn conditional_requests() {
    let site = Site::new(&[("static/a.txt", b"0123456789")]);
    let etag = field(&site.get("/static/a.txt", &[]), "etag").unwrap();
    let weak = format!("W/{etag}");
    for (fields, status) in [
        (&[("If-None-Match", etag.as_str())][..], 304),
        (&[("If-None-Match", &weak)], 304),
        (&[("If-None-Match", "\"other\"")], 200),
        (&[("If-None-Match", "\"other\""), ("If-Modified-Since", WRITTEN_DATE)], 200),
        (&[("If-Modified-Since", WRITTEN_DATE)], 304),
        (&[("If-Modified-Since", "Sun, 06 Nov 1994 08:49:36 GMT")], 200),
        (&[("If-Match", &etag)], 200),
        (&[("If-Match", "\"other\"")], 412),
        (&[("If-Unmodified-Since", "Sun, 06 Nov 1994 08:49:36 GMT")], 412),
        (&[("If-Range", &etag), ("Range", "bytes=0-1")], 206),
        (&[("If-Range", WRITTEN_DATE), ("Range", "bytes=0-1")], 206),
        (&[("If-Range", "\"other\""), ("Range", "bytes=0-1")], 200),
        (&[("If-Range", &weak), ("Range", "bytes=0-1")], 200),
        (&[("If-Range", "\"other\""), ("Range", "bytes=99-")], 200),
        (&[("If-None-Match", &etag), ("Range", "bytes=0-1")], 304),
        (&[("If-None-Match", &etag), ("Range", "bytes=99-")], 304),
    ] {
        let answer = site.get("/static/a.txt", fields);
        assert_eq!(answer.status, status, "{fields:?}");
        if status == 304 {
            assert_eq!(field(&answer, "etag"), Some(etag.clone()));
            assert_eq!(field(&answer, "cache-control").as_deref(), Some("public, max-age=60"));
            assert_eq!((field(&answer, "content-type"), answer.content_length), (None, None));
        }
    }
}

#[test]
fn siblings_are_chosen_by_weight() {
    let site = Site::new(&[
        ("static/app.css", b"original"),
        ("static/app.css.br", b"brotli"),
        ("static/app.css.zst", b"zstandard"),
        ("static/app.css.gz", b"gzip"),
        ("static/alone.css", b"alone"),
        ("static/only.js", b"original"),
        ("static/only.js.gz", b"gzip"),
    ]);
    for (path, accept, coding, expected) in [
        ("/static/app.css", "gzip, deflate, br, zstd", Some("br"), "brotli"),
        ("/static/app.css", "gzip, zstd", Some("zstd"), "zstandard"),
        ("/static/app.css", "gzip", Some("gzip"), "gzip"),
        ("/static/app.css", "br;q=0.5, gzip", Some("gzip"), "gzip"),
        ("/static/app.css", "br;q=0, *", Some("zstd"), "zstandard"),
        ("/static/app.css", "deflate", None, "original"),
        ("/static/app.css", "*;q=0", None, "original"),
        ("/static/only.js", "br, gzip;q=0.1", Some("gzip"), "gzip"),
        ("/static/only.js", "br", None, "original"),
    ] {
        let answer = site.get(path, &[("Accept-Encoding", accept)]);
        assert_eq!(
            (field(&answer, "content-encoding").as_deref(), body(&answer)),
            (coding, expected.into()),
            "{accept}"
        );
        assert_eq!(field(&answer, "vary").as_deref(), Some("accept-encoding"), "{accept}");
        assert!(field(&answer, "content-type").unwrap().starts_with("text/"), "{accept}");
    }
    let alone = site.get("/static/alone.css", &[("Accept-Encoding", "gzip")]);
    assert_eq!((field(&alone, "vary"), body(&alone)), (None, "alone".into()));
    let direct = site.get("/static/app.css.gz", &[]);
    assert_eq!(
        (field(&direct, "content-encoding"), field(&direct, "content-type").as_deref()),
        (None, Some("application/gzip"))
    );
}

/// Row 50: every variant has its own tag, and ranges are of the variant's bytes.
#[test]
fn variants_have_their_own_validators() {
    let site = Site::new(&[("static/app.css", b"0123456789"), ("static/app.css.br", b"BROTLI")]);
    let br = ("Accept-Encoding", "br");
    let plain_tag = field(&site.get("/static/app.css", &[]), "etag").unwrap();
    let br_tag = field(&site.get("/static/app.css", &[br]), "etag").unwrap();
    assert_ne!(plain_tag, br_tag);
    assert!(br_tag.ends_with("-br\""));
    let part = site.get("/static/app.css", &[br, ("Range", "bytes=-2"), ("If-Range", &br_tag)]);
    assert_eq!(
        (part.status, body(&part), field(&part, "content-range").as_deref()),
        (206, "LI".into(), Some("bytes 4-5/6"))
    );
    assert_eq!(field(&part, "content-encoding").as_deref(), Some("br"));
    let stale = site.get("/static/app.css", &[br, ("Range", "bytes=-2"), ("If-Range", &plain_tag)]);
    assert_eq!((stale.status, body(&stale)), (200, "BROTLI".into()));
    let kept = site.get("/static/app.css", &[br, ("If-None-Match", &br_tag)]);
    assert_eq!((kept.status, field(&kept, "vary").as_deref()), (304, Some("accept-encoding")));
    assert_eq!(site.get("/static/app.css", &[br, ("If-None-Match", &plain_tag)]).status, 200);
}

#[test]
fn siblings_that_do_not_count() {
    let site = Site::new(&[
        ("static/app.css", b"original"),
        ("media/a.txt", b"original"),
        ("media/a.txt.gz", b"another upload"),
    ]);
    site.write("static/app.css.br", b"of an earlier original", WRITTEN - 1);
    fs::create_dir(site.folder.path().join("static/app.css.gz")).unwrap();
    for path in ["/static/app.css", "/media/a.txt"] {
        let answer = site.get(path, &[("Accept-Encoding", "br, gzip")]);
        assert_eq!((body(&answer), field(&answer, "vary")), ("original".into(), None), "{path}");
    }
}

#[test]
fn hashed_names_are_immutable() {
    let mut site = Site::new(&[
        ("static/app.css", b"a"),
        ("static/app.0123456789ab.css", b"a"),
        ("static/app.ffffffffffff.css", b"b"),
        ("media/app.0123456789ab.css", b"a"),
    ]);
    let immutable = Some("public, max-age=31536000, immutable".to_owned());
    let short = Some("public, max-age=60".to_owned());
    let control = |site: &Site, path: &str| field(&site.get(path, &[]), "cache-control");
    assert_eq!(control(&site, "/static/app.css"), short);
    assert_eq!(control(&site, "/static/app.0123456789ab.css"), immutable);
    assert_eq!(control(&site, "/static/app.ffffffffffff.css"), immutable);
    assert_eq!(control(&site, "/media/app.0123456789ab.css"), Some("private, max-age=3600".into()));
    site.write("static/staticfiles.json", br#"{"paths": {"app.css": "app.0123456789ab.css"}}"#, WRITTEN);
    assert_eq!(control(&site, "/static/app.ffffffffffff.css"), immutable, "within the second");
    site.later(Duration::from_secs(1));
    assert_eq!(control(&site, "/static/app.0123456789ab.css"), immutable);
    assert_eq!(control(&site, "/static/app.ffffffffffff.css"), short, "a manifest without this name came");
}

/// Row 51.
#[test]
fn uploads_cannot_run_as_a_page() {
    let site = Site::new(&[
        ("media/page.html", b"<script>"),
        ("media/drawing.svg", b"<svg/>"),
        ("media/script.js", b"alert()"),
        ("media/photo.png", b"png"),
        ("media/noext", b"<script>"),
        ("media/evil.PhP", b"<script>"),
        ("static/page.html", b"<script>"),
    ]);
    for (path, media_type, fenced) in [
        ("/media/page.html", "text/html; charset=utf-8", true),
        ("/media/drawing.svg", "image/svg+xml", true),
        ("/media/script.js", "text/javascript; charset=utf-8", true),
        ("/media/photo.png", "image/png", false),
        ("/media/noext", "application/octet-stream", false),
        ("/media/evil.PhP", "application/octet-stream", false),
        ("/static/page.html", "text/html; charset=utf-8", false),
    ] {
        for range in [&[][..], &[("Range", "bytes=0-0")]] {
            let answer = site.get(path, range);
            assert_eq!(field(&answer, "content-type").as_deref(), Some(media_type), "{path}");
            assert_eq!(field(&answer, "x-content-type-options").as_deref(), Some("nosniff"), "{path}");
            let policy = field(&answer, "content-security-policy").unwrap_or_default();
            assert_eq!(policy.contains("sandbox") && policy.contains("default-src 'none'"), fenced, "{path}");
            assert_eq!(
                field(&answer, "content-disposition").as_deref() == Some("attachment"),
                fenced,
                "{path}"
            );
        }
    }
}

#[test]
fn a_file_is_looked_at_once_a_second() {
    let mut site = Site::new(&[("static/a.txt", b"one")]);
    assert_eq!(body(&site.get("/static/a.txt", &[])), "one");
    site.write("static/a.txt", b"two", WRITTEN + 5);
    assert_eq!(body(&site.get("/static/a.txt", &[])), "one", "from memory, without a look");
    site.later(Duration::from_secs(1));
    let answer = site.get("/static/a.txt", &[]);
    assert_eq!(body(&answer), "two");
    site.write("static/a.txt.gz", b"zipped", WRITTEN + 5);
    site.later(Duration::from_secs(1));
    assert_eq!(body(&site.get("/static/a.txt", &[("Accept-Encoding", "gzip")])), "zipped");
    fs::remove_file(site.folder.path().join("static/a.txt")).unwrap();
    assert_eq!(site.get("/static/a.txt", &[]).status, 200);
    site.later(Duration::from_secs(1));
    assert_eq!(site.get("/static/a.txt", &[]).status, 404);
    site.write("static/a.txt", b"three", WRITTEN + 9);
    assert_eq!(body(&site.get("/static/a.txt", &[])), "three", "what is missing is not remembered");
}

#[test]
fn an_unchanged_file_keeps_its_head_and_its_memory() {
    let mut site = Site::new(&[("static/a.txt", b"one")]);
    let first = site.get("/static/a.txt", &[]);
    site.later(Duration::from_secs(5));
    let second = site.get("/static/a.txt", &[]);
    assert!(std::sync::Arc::ptr_eq(&first.fields, &second.fields));
    let (FileBody::Memory(first), FileBody::Memory(second)) = (first.body, second.body) else { panic!() };
    assert_eq!(first.as_ptr(), second.as_ptr());
}

#[test]
fn a_large_file_replaced_while_sent_stays_the_old_one() {
    let large = vec![b'x'; 100_000];
    let mut site = Site::new(&[("static/l.bin", &large)]);
    let answer = site.get("/static/l.bin", &[]);
    assert!(matches!(answer.body, FileBody::File { offset: 0, len: 100_000, .. }));
    site.write("static/new", &[b'y'; 100_001], WRITTEN);
    let root = site.folder.path().join("static");
    fs::rename(root.join("new"), root.join("l.bin")).unwrap();
    assert_eq!(read(&answer.body), large);
    site.later(Duration::from_secs(1));
    let answer = site.get("/static/l.bin", &[]);
    assert_eq!((answer.content_length, read(&answer.body)[0]), (Some(100_001), b'y'));
}

/// Written twice in the same tick of the file system's clock, with the same length: the stamp does not tell.
#[test]
fn a_file_just_written_is_read_again() {
    let mut site = Site::new(&[]);
    let now = site.now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    site.write("static/a.txt", b"one", now);
    let first = site.get("/static/a.txt", &[]);
    site.later(Duration::from_secs(1));
    let second = site.get("/static/a.txt", &[]);
    assert!(!std::sync::Arc::ptr_eq(&first.fields, &second.fields), "not settled: read again");
    site.later(Duration::from_secs(3));
    let third = site.get("/static/a.txt", &[]);
    site.later(Duration::from_secs(3));
    assert!(std::sync::Arc::ptr_eq(&third.fields, &site.get("/static/a.txt", &[]).fields));
}

#[test]
fn a_date_in_the_future_is_not_sent() {
    let site = Site::new(&[]);
    site.write("static/a.txt", b"one", 4_000_000_000);
    let answer = site.get("/static/a.txt", &[]);
    assert_eq!((answer.status, field(&answer, "last-modified")), (200, None));
    assert!(field(&answer, "etag").is_some());
}

#[test]
fn sixty_four_kibibytes_are_the_border() {
    let border = vec![b'x'; 64 * 1024];
    let above = vec![b'x'; 64 * 1024 + 1];
    let site = Site::new(&[("static/border", &border), ("static/above", &above)]);
    assert!(matches!(site.get("/static/border", &[]).body, FileBody::Memory(_)));
    assert!(matches!(site.get("/static/above", &[]).body, FileBody::File { .. }));
}

#[test]
fn the_longest_prefix_is_asked_first() {
    let folder = Folder::new();
    folder.write("outer/admin/a.txt", "outer");
    folder.write("inner/a.txt", "inner");
    let root = |prefix: &str, dir: &str| Root {
        prefix: prefix.into(),
        dir: folder.path().join(dir),
        kind: RootKind::Static,
        hashed: HashedNames::Detect,
    };
    let manifest = Manifest::new(vec![root("/static/", "outer"), root("/static/admin", "inner")]).unwrap();
    let found = manifest.respond(b"GET", b"/static/admin/a.txt", &Fields::new(), SystemTime::now());
    assert!(matches!(found, Outcome::Answer(answer) if body(&answer) == "inner"));
}

#[test]
fn roots_that_cannot_be_served() {
    let folder = Folder::new();
    let file = folder.write("file", "");
    let root = |prefix: &str, dir: &Path| Root {
        prefix: prefix.into(),
        dir: dir.to_owned(),
        kind: RootKind::Static,
        hashed: HashedNames::Detect,
    };
    let error = Manifest::new(vec![root("/static/", &file)]).unwrap_err();
    assert!(
        error.to_string().contains("/static/") && error.to_string().contains("Not a directory"),
        "{error}"
    );
    for prefix in ["/", "", "//", "https://cdn.example/static/", "/a/../b/", "/a//b/", "/%41/"] {
        let error = Manifest::new(vec![root(prefix, folder.path())]).unwrap_err();
        assert_eq!(error, AssetError::Prefix { prefix: prefix.into() });
    }
    let twice = Manifest::new(vec![root("/a/", folder.path()), root("a", folder.path())]).unwrap_err();
    assert_eq!(twice, AssetError::Twice { prefix: "/a/".into() });
}

#[test]
fn a_missing_root_is_a_warning_and_may_come_later() {
    let folder = Folder::new();
    let dir = folder.path().join("media");
    let root = Root {
        prefix: "/media/".into(),
        dir: dir.clone(),
        kind: RootKind::Media,
        hashed: HashedNames::Never,
    };
    let manifest = Manifest::new(vec![root]).unwrap();
    let [warning] = manifest.warnings() else { panic!("{:?}", manifest.warnings()) };
    assert!(warning.to_string().contains("does not exist"), "{warning}");
    let ask = |now: u64| {
        let now = UNIX_EPOCH + Duration::from_secs(now);
        match manifest.respond(b"GET", b"/media/a.txt", &Fields::new(), now) {
            Outcome::Answer(answer) => answer.status,
            Outcome::NotMine => 0,
        }
    };
    assert_eq!(ask(WRITTEN), 404);
    folder.write("media/a.txt", "first upload");
    assert_eq!(ask(WRITTEN + 1), 200);
}
