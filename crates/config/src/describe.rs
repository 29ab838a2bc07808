//! What a worker tells of a project when it is asked to describe it instead of serving it.
//!
//! Owns the reading of that JSON: the hello (`django.rs`) with the routes, the middleware and the findings beside it. Who asks is the
//! program. Invariant: every field is optional, and an unknown one is ignored, so that an older or newer worker is understood.

use serde::{Deserialize, Serialize};

use crate::django::ProjectSettings;

/// A project, described by its own Python.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Description {
    /// What the hello of a worker says.
    #[serde(flatten)]
    pub project: ProjectSettings,
    /// Why the project does not import: one line, then the traceback. Nothing else is said then.
    pub failed: Option<String>,
    /// URL patterns, in the order in which they are tried.
    pub routes: Vec<Route>,
    /// Patterns of WebSockets.
    pub websocket_routes: Vec<WebSocketRoute>,
    /// The middleware, outermost first.
    pub middleware: Vec<Middleware>,
    /// What a person should know, from Django's checks and from the way the project is served.
    pub findings: Vec<Finding>,
}

/// A URL pattern with its view.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Route {
    /// The whole pattern, as `shop/<slug>/`, without the `/` that every path begins with.
    pub pattern: String,
    /// Name for `reverse`.
    pub name: Option<String>,
    /// Dotted path of the view.
    pub view: String,
    /// The view is a coroutine function.
    #[serde(rename = "async")]
    pub is_async: bool,
    /// The way its requests take.
    pub road: Road,
    /// Why, in a few words.
    pub why: String,
}

/// The ways a request can take through a worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Road {
    /// The WSGI handler, on a thread.
    #[default]
    Thread,
    /// Middleware on a thread, the view's coroutine on the loop.
    Bridge,
    /// The ASGI handler, on the loop.
    Loop,
    /// As `[paths]` says.
    Pinned,
}

/// A pattern of WebSockets with what answers it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct WebSocketRoute {
    /// The whole pattern.
    pub pattern: String,
    /// Dotted path of the consumer.
    pub consumer: String,
}

/// A middleware, and how it can be called.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Middleware {
    /// Dotted path.
    pub name: String,
    /// Can be called by a thread.
    pub sync: bool,
    /// Can be called by the loop, without a hop to a thread.
    #[serde(rename = "async")]
    pub is_async: bool,
}

/// One thing worth knowing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Finding {
    /// How bad it is.
    pub level: Weight,
    /// What was found.
    pub what: String,
    /// Where it was set or written; may be empty.
    #[serde(rename = "where")]
    pub place: String,
    /// What to do; may be empty.
    #[serde(rename = "do")]
    pub advice: String,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// The project cannot be served like this.
    #[serde(alias = "critical")]
    Error,
    /// Good to know.
    #[serde(alias = "debug")]
    Info,
    /// It can, and somebody will be sorry. A word that is not known means this.
    #[default]
    #[serde(other)]
    Warning,
}

impl Description {
    /// Reads the JSON.
    ///
    /// # Errors
    /// What serde_json says, as text.
    pub fn from_json(json: &[u8]) -> Result<Description, String> {
        serde_json::from_slice(json).map_err(|error| error.to_string())
    }
}

impl Road {
    /// The word in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Road::Thread => "thread",
            Road::Bridge => "bridge",
            Road::Loop => "loop",
            Road::Pinned => "pinned",
        }
    }
}

impl Weight {
    /// The word in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Weight::Error => "error",
            Weight::Warning => "warning",
            Weight::Info => "info",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Interface;

    #[test]
    fn the_hello_and_what_stands_beside_it() {
        let json = br#"{
            "interface": "both", "app": "config.wsgi + config.asgi", "reason": "r", "loop": "asyncio", "new": {},
            "django": {"static_url": "/static/"},
            "routes": [{"pattern": "<slug>/", "view": "shop.views.product", "async": true, "road": "bridge", "why": "w", "x": 1}],
            "websocket_routes": [{"pattern": "ws/", "consumer": "shop.Ticker"}],
            "middleware": [{"name": "m", "sync": true, "async": false}],
            "findings": [{"level": "info", "what": "a", "where": "b", "do": "c"}, {"level": "odd"}, {"level": "critical"}]
        }"#;
        let read = Description::from_json(json).unwrap();
        assert_eq!(read.project.interface, Some(Interface::Both));
        assert_eq!(read.project.event_loop.as_deref(), Some("asyncio"));
        assert_eq!(read.project.django.unwrap().static_url.as_deref(), Some("/static/"));
        let [route] = &read.routes[..] else { panic!("{:?}", read.routes) };
        assert_eq!((route.road, route.is_async, route.name.as_deref()), (Road::Bridge, true, None));
        assert_eq!(read.websocket_routes[0].consumer, "shop.Ticker");
        assert!(read.middleware[0].sync && !read.middleware[0].is_async);
        let weights: Vec<Weight> = read.findings.iter().map(|finding| finding.level).collect();
        assert_eq!(weights, [Weight::Info, Weight::Warning, Weight::Error]);
        assert_eq!((read.findings[0].place.as_str(), read.findings[0].advice.as_str()), ("b", "c"));
    }

    #[test]
    fn little_is_enough_and_nonsense_is_refused() {
        assert_eq!(Description::from_json(b"{}").unwrap(), Description::default());
        for json in ["", "[]", "{\"routes\": 1}", "{\"routes\": [{\"road\": \"sky\"}]}", "{\"interface\": 1}"]
        {
            assert!(Description::from_json(json.as_bytes()).is_err(), "{json:?}");
        }
    }
}
