//! What the project's own settings already say, so that nobody says it twice.
//!
//! Owns the reading of the worker's hello (JSON) and the rules that turn `STATIC_URL`, `STATIC_ROOT`, `MEDIA_URL`,
//! `MEDIA_ROOT` and `DATA_UPLOAD_MAX_MEMORY_SIZE` into values of our own keys. Precedence is `load.rs`: anything a person
//! wrote wins. Invariant: every field is optional, an unknown one is ignored, and a folder is only served when the project
//! serves it under its own host from its own disk.
//! Source: Django's settings reference; `LazySettings._add_script_prefix` for relative URLs.

use serde::Deserialize;

use crate::raw::{Raw, What};
use crate::settings::Interface;
use crate::units;

/// The hello of a worker.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ProjectSettings {
    /// Version of the interpreter, as `3.11.7`.
    pub interpreter: Option<String>,
    /// `CPython`.
    pub implementation: Option<String>,
    /// The application that was imported, as `config.wsgi:application`.
    pub app: Option<String>,
    /// How it is called: never `auto`; nothing in the hello of an older worker, which is WSGI.
    pub interface: Option<Interface>,
    /// Why it is called that way, in one sentence.
    pub reason: Option<String>,
    /// The application takes WebSockets; ask `takes_websockets`.
    pub websockets: Option<bool>,
    /// The event loop and its version, as `uvloop 0.21.0`.
    #[serde(rename = "loop")]
    pub event_loop: Option<String>,
    /// The Django settings, when the application is a Django project.
    pub django: Option<DjangoSettings>,
}

/// Django settings that concern the server.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct DjangoSettings {
    /// `django.get_version()`.
    pub version: Option<String>,
    /// `DJANGO_SETTINGS_MODULE`.
    pub settings_module: Option<String>,
    /// `DEBUG`.
    pub debug: bool,
    /// `STATIC_URL`.
    pub static_url: Option<String>,
    /// `STATIC_ROOT`.
    pub static_root: Option<String>,
    /// `MEDIA_URL`.
    pub media_url: Option<String>,
    /// `MEDIA_ROOT`.
    pub media_root: Option<String>,
    /// `ALLOWED_HOSTS`.
    pub allowed_hosts: Vec<String>,
    /// `SECURE_SSL_REDIRECT`.
    pub secure_ssl_redirect: bool,
    /// `SECURE_HSTS_SECONDS`, in seconds.
    pub secure_hsts_seconds: Option<u64>,
    /// `SECURE_HSTS_INCLUDE_SUBDOMAINS`.
    pub secure_hsts_include_subdomains: Option<bool>,
    /// `SECURE_HSTS_PRELOAD`.
    pub secure_hsts_preload: Option<bool>,
    /// `SECURE_CONTENT_TYPE_NOSNIFF`; this and the following are absent where the project neither wrote them nor has the
    /// middleware that acts on them.
    pub secure_content_type_nosniff: Option<bool>,
    /// `SECURE_REFERRER_POLICY`, alternatives joined by commas.
    pub secure_referrer_policy: Option<String>,
    /// `SECURE_CROSS_ORIGIN_OPENER_POLICY`.
    pub secure_cross_origin_opener_policy: Option<String>,
    /// `X_FRAME_OPTIONS`, in upper case.
    pub x_frame_options: Option<String>,
    /// `SECURE_PROXY_SSL_HEADER`: a name as in `META`, and the value that means https.
    pub secure_proxy_ssl_header: Option<(String, String)>,
    /// `USE_X_FORWARDED_HOST`.
    pub use_x_forwarded_host: bool,
    /// `USE_X_FORWARDED_PORT`.
    pub use_x_forwarded_port: bool,
    /// `DATA_UPLOAD_MAX_MEMORY_SIZE`, in bytes; nothing when the project set it to `None`.
    pub data_upload_max_memory_size: Option<u64>,
    /// Dotted path of the storage of static files.
    pub storage: Option<String>,
    /// Dotted path of the default storage, where uploads go.
    pub default_storage: Option<String>,
    /// `FORCE_SCRIPT_NAME`.
    pub force_script_name: Option<String>,
}

/// What the project says about our keys, and what a person should know about the rest.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// Key, value, and the Django setting it comes from.
    pub(crate) values: Vec<(&'static str, Raw, &'static str)>,
    pub(crate) notes: Vec<String>,
    /// Prefixes to use with a folder that a person named without one.
    pub(crate) static_url: Option<String>,
    pub(crate) media_url: Option<String>,
}

impl DjangoSettings {
    /// The project was made for life behind a proxy: it reads the fields that one would write.
    pub fn reads_forwarded(&self) -> bool {
        self.secure_proxy_ssl_header.is_some() || self.use_x_forwarded_host || self.use_x_forwarded_port
    }

    /// `SECURE_PROXY_SSL_HEADER` as a field of HTTP: its name in lower case, and the value that means https. `None`: it is not
    /// set, or names no field that a request could have.
    pub fn https_field(&self) -> Option<(String, &str)> {
        let (name, value) = self.secure_proxy_ssl_header.as_ref()?;
        let name = name.strip_prefix("HTTP_").filter(|name| !name.is_empty())?;
        let is_token = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_value = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b',');
        (is_token && is_value).then(|| (name.to_ascii_lowercase().replace('_', "-"), value.as_str()))
    }

    /// What is wrong with `SECURE_PROXY_SSL_HEADER`, in one sentence.
    fn proxy_header_note(&self) -> Option<String> {
        let (name, value) = self.secure_proxy_ssl_header.as_ref()?;
        if self.https_field().is_none() {
            return Some(format!(
                "SECURE_PROXY_SSL_HEADER = ({name:?}, {value:?}) can match no request: the name is written as in META, as \
                 \"HTTP_X_FORWARDED_PROTO\"; it is not needed here, and can be taken out"
            ));
        }
        value.eq_ignore_ascii_case("http").then(|| {
            format!(
                "SECURE_PROXY_SSL_HEADER = ({name:?}, {value:?}) calls plain HTTP secure; it is not needed here, and can be \
                 taken out"
            )
        })
    }
}

impl ProjectSettings {
    /// Reads the hello's JSON.
    ///
    /// # Errors
    /// What serde_json says, as text: the worker's fault, not the operator's.
    pub fn from_json(json: &[u8]) -> Result<ProjectSettings, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }

    /// Whether WebSockets reach the application; without its own word, whether it has an event loop.
    pub fn takes_websockets(&self) -> bool {
        self.websockets.unwrap_or(matches!(self.interface, Some(Interface::Asgi | Interface::Both)))
    }

    /// The project's word on our keys. `max_body` is the default in force, in bytes.
    pub(crate) fn said(&self, max_body: u64) -> Said {
        let mut said = Said::default();
        let Some(django) = &self.django else { return said };
        let script = django.force_script_name.as_deref().unwrap_or("");
        said.static_url = django.static_url.as_deref().and_then(|url| prefix(url, script).ok());
        said.media_url = django.media_url.as_deref().and_then(|url| prefix(url, script).ok());
        match mount(
            "STATIC",
            django.static_url.as_deref(),
            django.static_root.as_deref(),
            &django.storage,
            script,
        ) {
            Ok(raw) => said.values.push(("static", raw, "STATIC_URL, STATIC_ROOT")),
            Err(note) => said.notes.extend(note),
        }
        match mount(
            "MEDIA",
            django.media_url.as_deref(),
            django.media_root.as_deref(),
            &django.default_storage,
            script,
        ) {
            Ok(raw) => said.values.push(("media", raw, "MEDIA_URL, MEDIA_ROOT")),
            Err(note) => said.notes.extend(note),
        }
        said.notes.extend(django.proxy_header_note());
        // A project that raised this expects bodies that large; refusing them at the edge would break it.
        if let Some(bytes) = django.data_upload_max_memory_size.filter(|bytes| *bytes > max_body) {
            said.values.push((
                "max_body",
                Raw::text(&units::show_size(bytes)),
                "DATA_UPLOAD_MAX_MEMORY_SIZE",
            ));
        }
        said
    }
}

/// Storages that keep files elsewhere: mounting a local folder for them would serve nothing, or old copies.
const REMOTE_STORAGES: &[&str] =
    &["storages.backends.", "cloudinary_storage.", "minio_storage.", "azure_storage."];

/// `{ url, root }` of one of the two trees; else a note, or nothing to say when the project does not use it.
fn mount(
    name: &str,
    url: Option<&str>,
    root: Option<&str>,
    storage: &Option<String>,
    script: &str,
) -> Result<Raw, Option<String>> {
    // Django turns an empty MEDIA_URL into "/" when it is read.
    let Some(url) = url.filter(|url| !url.is_empty() && *url != "/") else { return Err(None) };
    if let Some(remote) =
        storage.as_deref().filter(|path| REMOTE_STORAGES.iter().any(|r| path.starts_with(r)))
    {
        return Err(Some(format!("{name} files are kept by {remote}: they are not served from disk")));
    }
    let url = prefix(url, script)
        .map_err(|why| Some(format!("{name}_URL {url:?} {why}: those files are not served")))?;
    let Some(root) = root.filter(|root| !root.is_empty()) else {
        let why = format!("{name}_ROOT is not set: {url} is left to the application");
        return Err((name == "STATIC").then_some(why));
    };
    let entry = |key: &str, text: &str| (key.to_owned(), 0..0, Raw::text(text));
    Ok(Raw { what: What::Table(vec![entry("url", &url), entry("root", root)]), span: 0..0 })
}

/// The prefix on this host that a `*_URL` stands for: absolute path, `/` at the end.
fn prefix(url: &str, script: &str) -> Result<String, &'static str> {
    if url.contains("://") || url.starts_with("//") {
        return Err("is on another host");
    }
    let path = match url.starts_with('/') {
        true => url.to_owned(),
        false => format!("{}/{url}", script.trim_end_matches('/')),
    };
    match path.ends_with('/') {
        true => Ok(path),
        false => Ok(path + "/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(django: &str) -> Said {
        let json = format!("{{\"interpreter\": \"3.11.7\", \"new\": 1, \"django\": {django}}}");
        ProjectSettings::from_json(json.as_bytes()).unwrap().said(20_000_000)
    }

    fn mounted(said: &Said, key: &str) -> Option<String> {
        let (_, raw, _) = said.values.iter().find(|(name, _, _)| *name == key)?;
        let What::Table(entries) = &raw.what else { return None };
        Some(entries.iter().map(|(_, _, raw)| raw.quoted()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn which_trees_are_mounted() {
        for (django, statics, media, note) in [
            (r#"{"static_url": "/static/", "static_root": "/s"}"#, Some(r#""/static/" "/s""#), None, ""),
            (r#"{"static_url": "static/", "static_root": "/s"}"#, Some(r#""/static/" "/s""#), None, ""),
            (
                r#"{"static_url": "a", "static_root": "/s", "force_script_name": "/x/"}"#,
                Some(r#""/x/a/" "/s""#),
                None,
                "",
            ),
            (r#"{"static_url": "https://cdn.example/s/", "static_root": "/s"}"#, None, None, "another host"),
            (r#"{"static_url": "//cdn.example/s/", "static_root": "/s"}"#, None, None, "another host"),
            (r#"{"static_url": "/static/", "static_root": null}"#, None, None, "STATIC_ROOT is not set"),
            (
                r#"{"static_url": "/static/", "static_root": "/s", "storage": "storages.backends.s3.S3Storage"}"#,
                None,
                None,
                "S3Storage",
            ),
            (r#"{"media_url": "/media/", "media_root": "/m"}"#, None, Some(r#""/media/" "/m""#), ""),
            (r#"{"media_url": "/", "media_root": ""}"#, None, None, ""),
            (r#"{"media_url": "", "media_root": "/m"}"#, None, None, ""),
            (
                r#"{"media_url": "/m/", "media_root": "/m", "default_storage": "storages.backends.gcloud.X"}"#,
                None,
                None,
                "gcloud",
            ),
            ("null", None, None, ""),
            ("{}", None, None, ""),
        ] {
            let said = said(django);
            assert_eq!(mounted(&said, "static").as_deref(), statics, "{django}");
            assert_eq!(mounted(&said, "media").as_deref(), media, "{django}");
            assert_eq!(said.notes.is_empty(), note.is_empty(), "{django}: {:?}", said.notes);
            assert!(said.notes.iter().all(|line| line.contains(note)), "{django}: {:?}", said.notes);
        }
    }

    #[test]
    fn what_secure_proxy_ssl_header_means() {
        for (pair, field, note) in [
            (r#"["HTTP_X_FORWARDED_PROTO", "https"]"#, Some(("x-forwarded-proto", "https")), ""),
            (r#"["HTTP_X_SCHEME", "https"]"#, Some(("x-scheme", "https")), ""),
            (r#"["HTTP_X_FORWARDED_SSL", "on"]"#, Some(("x-forwarded-ssl", "on")), ""),
            (r#"["X-Forwarded-Proto", "https"]"#, None, "can match no request"),
            (r#"["HTTP_", "https"]"#, None, "can match no request"),
            (r#"["HTTP_X_A\n", "https"]"#, None, "can match no request"),
            (r#"["HTTP_X_A", "a\r\nb: c"]"#, None, "can match no request"),
            (
                r#"["HTTP_X_FORWARDED_PROTO", "http"]"#,
                Some(("x-forwarded-proto", "http")),
                "calls plain HTTP secure",
            ),
            ("null", None, ""),
        ] {
            let json = format!(r#"{{"django": {{"secure_proxy_ssl_header": {pair}}}}}"#);
            let django = ProjectSettings::from_json(json.as_bytes()).unwrap().django.unwrap();
            let found = django.https_field();
            assert_eq!(found.as_ref().map(|(name, value)| (name.as_str(), *value)), field, "{pair}");
            assert_eq!(django.reads_forwarded(), pair != "null");
            let notes = said(&format!(r#"{{"secure_proxy_ssl_header": {pair}}}"#)).notes;
            assert_eq!(notes.is_empty(), note.is_empty(), "{pair}: {notes:?}");
            assert!(notes.iter().all(|line| line.contains(note)), "{pair}: {notes:?}");
        }
    }

    #[test]
    fn a_larger_form_limit_raises_max_body() {
        for (limit, raised) in [("2621440", false), ("20000000", false), ("52428800", true), ("null", false)]
        {
            let said = said(&format!("{{\"data_upload_max_memory_size\": {limit}}}"));
            assert_eq!(said.values.iter().any(|(key, _, _)| *key == "max_body"), raised, "{limit}");
        }
    }

    #[test]
    fn websockets_follow_the_interface_unless_said() {
        for (json, wanted) in [
            ("{}", false),
            (r#"{"interface": "wsgi"}"#, false),
            (r#"{"interface": "asgi", "loop": "asyncio"}"#, true),
            (r#"{"interface": "both", "reason": "both were found"}"#, true),
            (r#"{"interface": "both", "websockets": false}"#, false),
        ] {
            assert_eq!(
                ProjectSettings::from_json(json.as_bytes()).unwrap().takes_websockets(),
                wanted,
                "{json}"
            );
        }
    }

    #[test]
    fn damaged_hellos_are_refused() {
        for json in ["", "3", "{\"django\": 5}", "{\"interpreter\": 3}", "{\"interface\": \"fcgi\"}"] {
            assert!(ProjectSettings::from_json(json.as_bytes()).is_err(), "{json:?}");
        }
    }
}
