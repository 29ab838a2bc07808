//! File name to media type, and which types run as a page.
//!
//! Owns one table: what a web project serves. Its values are the registered names (IANA), not what old servers guess.
//! Text types carry `charset=utf-8`, as Django writes UTF-8; JSON has no charset parameter (RFC 8259 §11).
//! Invariant: the table is sorted by extension, a test checks it. Why not a crate of a thousand rows: an unknown extension
//! is better downloaded as bytes than shown as something a browser may run.

/// Sent for an extension that is not in the table.
pub const UNKNOWN: &str = "application/octet-stream";

/// Extension in lower case → media type. Sorted.
static TYPES: &[(&str, &str)] = &[
    ("3gp", "video/3gpp"),
    ("7z", "application/x-7z-compressed"),
    ("aac", "audio/aac"),
    ("apk", "application/vnd.android.package-archive"),
    ("apng", "image/apng"),
    ("atom", "application/atom+xml"),
    ("avi", "video/x-msvideo"),
    ("avif", "image/avif"),
    ("bin", "application/octet-stream"),
    ("bmp", "image/bmp"),
    ("br", "application/x-brotli"),
    ("bz2", "application/x-bzip2"),
    ("cjs", "text/javascript; charset=utf-8"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("cur", "image/x-icon"),
    ("dmg", "application/x-apple-diskimage"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("eot", "application/vnd.ms-fontobject"),
    ("epub", "application/epub+zip"),
    ("flac", "audio/flac"),
    ("geojson", "application/geo+json"),
    ("gif", "image/gif"),
    ("glb", "model/gltf-binary"),
    ("gltf", "model/gltf+json"),
    ("gz", "application/gzip"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/x-icon"),
    ("ics", "text/calendar; charset=utf-8"),
    ("jar", "application/java-archive"),
    ("jfif", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("jsonld", "application/ld+json"),
    ("jxl", "image/jxl"),
    ("less", "text/css; charset=utf-8"),
    ("log", "text/plain; charset=utf-8"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4a", "audio/mp4"),
    ("m4v", "video/mp4"),
    ("map", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mht", "multipart/related"),
    ("mhtml", "multipart/related"),
    ("mid", "audio/midi"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mkv", "video/x-matroska"),
    ("mov", "video/quicktime"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("mpd", "application/dash+xml"),
    ("mpeg", "video/mpeg"),
    ("mpg", "video/mpeg"),
    ("odp", "application/vnd.oasis.opendocument.presentation"),
    ("ods", "application/vnd.oasis.opendocument.spreadsheet"),
    ("odt", "application/vnd.oasis.opendocument.text"),
    ("oga", "audio/ogg"),
    ("ogg", "audio/ogg"),
    ("ogv", "video/ogg"),
    ("opus", "audio/ogg"),
    ("otf", "font/otf"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("po", "text/plain; charset=utf-8"),
    ("ppt", "application/vnd.ms-powerpoint"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("rar", "application/vnd.rar"),
    ("rss", "application/rss+xml"),
    ("rtf", "application/rtf"),
    ("scss", "text/plain; charset=utf-8"),
    ("shtml", "text/html; charset=utf-8"),
    ("sql", "application/sql"),
    ("svg", "image/svg+xml"),
    ("tar", "application/x-tar"),
    ("tif", "image/tiff"),
    ("tiff", "image/tiff"),
    ("toml", "application/toml"),
    ("ts", "video/mp2t"),
    ("tsv", "text/tab-separated-values; charset=utf-8"),
    ("ttc", "font/collection"),
    ("ttf", "font/ttf"),
    ("txt", "text/plain; charset=utf-8"),
    ("vcf", "text/vcard; charset=utf-8"),
    ("vtt", "text/vtt; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("wav", "audio/wav"),
    ("weba", "audio/webm"),
    ("webm", "video/webm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xhtml", "application/xhtml+xml"),
    ("xls", "application/vnd.ms-excel"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml"),
    ("xsl", "application/xslt+xml"),
    ("xslt", "application/xslt+xml"),
    ("xz", "application/x-xz"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
    ("zst", "application/zstd"),
];

/// Longest extension in the table, in bytes; longer ones need no look-up.
const LONGEST_EXTENSION: usize = 11;

/// The media type of a path or file name, by what follows its last dot; ASCII case ignored.
#[must_use]
pub fn of_path(path: &[u8]) -> &'static str {
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let Some(dot) = name.iter().rposition(|&byte| byte == b'.') else { return UNKNOWN };
    of_extension(&name[dot + 1..]).unwrap_or(UNKNOWN)
}

/// The media type of an extension without its dot; ASCII case ignored.
#[must_use]
pub fn of_extension(extension: &[u8]) -> Option<&'static str> {
    let mut lower = [0u8; LONGEST_EXTENSION];
    let lower = lower.get_mut(..extension.len())?;
    lower.copy_from_slice(extension);
    lower.make_ascii_lowercase();
    let row = TYPES.binary_search_by(|(known, _)| known.as_bytes().cmp(lower)).ok()?;
    Some(TYPES[row].1)
}

/// True when a browser that opens it as a page may run script from it: HTML, SVG, every XML, script, MHTML.
/// PDF is not among them: its script runs in the viewer, apart from the site.
#[must_use]
pub fn is_active(media_type: &str) -> bool {
    let essence = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    essence.ends_with("/xml")
        || essence.ends_with("+xml")
        || matches!(
            essence.as_str(),
            "text/html"
                | "text/javascript"
                | "application/javascript"
                | "application/ecmascript"
                | "text/ecmascript"
                | "text/xsl"
                | "multipart/related"
                | "multipart/x-mixed-replace"
                | "message/rfc822"
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_lower_case_and_short_enough() {
        assert!(TYPES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (extension, media_type) in TYPES {
            assert_eq!(*extension, extension.to_ascii_lowercase());
            assert!(extension.len() <= LONGEST_EXTENSION, "{extension}");
            assert!(media_type.contains('/'), "{media_type}");
            assert_eq!(of_extension(extension.as_bytes()), Some(*media_type));
        }
    }

    #[test]
    fn paths() {
        for (path, expected) in [
            ("css/app.css", "text/css; charset=utf-8"),
            ("app.5d41402abc4b.JS", "text/javascript; charset=utf-8"),
            ("a.json", "application/json"),
            ("logo.svg", "image/svg+xml"),
            ("site.webmanifest", "application/manifest+json"),
            ("font.woff2", "font/woff2"),
            ("x.tar.gz", "application/gzip"),
            ("app.js.map", "application/json"),
            ("noext", UNKNOWN),
            ("dir.css/noext", UNKNOWN),
            ("a.", UNKNOWN),
            ("a.unknownlongextension", UNKNOWN),
            ("a.php", UNKNOWN),
            ("", UNKNOWN),
        ] {
            assert_eq!(of_path(path.as_bytes()), expected, "{path}");
        }
    }

    #[test]
    fn active_types() {
        for (path, expected) in [
            ("a.html", true),
            ("a.htm", true),
            ("a.shtml", true),
            ("a.xhtml", true),
            ("a.svg", true),
            ("a.xml", true),
            ("a.xsl", true),
            ("a.rss", true),
            ("a.js", true),
            ("a.mjs", true),
            ("a.mht", true),
            ("a.pdf", false),
            ("a.png", false),
            ("a.txt", false),
            ("a.css", false),
            ("a.json", false),
            ("a.bin", false),
        ] {
            assert_eq!(is_active(of_path(path.as_bytes())), expected, "{path}");
        }
        assert!(is_active("Text/HTML;charset=x"));
        assert!(is_active("application/anything+xml"));
        assert!(!is_active(""));
    }
}
