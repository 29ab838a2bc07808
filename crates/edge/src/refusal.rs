//! The table of every answer that bandstand gives by itself.
//!
//! Owns the way from a cause to status, name (for records and metrics), `Proxy-Status` error (RFC 9209 §2.3), whether the
//! connection goes on, and the sentence that people read. Nothing else turns a cause into a status.

use bandstand_semantics::negotiate::{Format, prefer_format};
use bytes::Bytes;

use crate::exchange::{Answer, AnswerBody, Exchange};

/// One row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) status: u16,
    pub(crate) name: &'static str,
    /// Error type of RFC 9209.
    proxy_error: &'static str,
    /// What follows on the connection cannot be trusted, or would only be thrown away.
    close: bool,
    /// Seconds after which the client may try again.
    retry_after: Option<u32>,
    sentence: &'static str,
}

macro_rules! refusals {
    ($($variant:ident = $status:literal $name:literal $error:literal $close:ident $retry:expr, $sentence:literal;)*) => {
        /// Why bandstand answers by itself.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Refusal { $($variant,)* }

        impl Refusal {
            /// Every cause, for tests and documents.
            #[cfg(test)]
            pub(crate) const ALL: &'static [Refusal] = &[$(Refusal::$variant,)*];

            /// Its row.
            pub(crate) fn row(self) -> Row {
                match self {
                    $(Refusal::$variant => Row {
                        status: $status, name: $name, proxy_error: $error, close: refusals!(@$close),
                        retry_after: $retry, sentence: $sentence,
                    },)*
                }
            }
        }
    };
    (@close) => { true };
    (@keep) => { false };
}

refusals! {
    MalformedRequest = 400 "malformed_request" "http_request_error" close None, "The request is not well-formed HTTP.";
    BadFraming = 400 "bad_framing" "http_request_error" close None, "The length of the request body is not clear.";
    BadHandshake = 400 "bad_handshake" "http_request_error" close None, "The request for a WebSocket is not valid.";
    BadChunk = 400 "bad_chunk" "http_request_error" close None, "The chunked request body is not well formed.";
    BadTarget = 400 "bad_target" "http_request_error" close None, "The request target is not valid.";
    BadPath = 400 "bad_path" "http_request_error" keep None, "The path of the address is not valid.";
    BadReport = 400 "bad_report" "http_request_error" keep None, "The report is not well formed.";
    BadHost = 400 "bad_host" "http_request_error" close None, "The Host field is missing or not valid.";
    BodyCutShort = 400 "body_cut_short" "http_request_error" close None, "The request body ended before it was complete.";
    PasswordNeeded = 401 "password_needed" "http_request_denied" keep None, "This page asks for a name and a password.";
    AddressDenied = 403 "address_denied" "http_request_denied" keep None, "This page is not for your address.";
    OriginDenied = 403 "origin_denied" "http_request_denied" close None, "Pages of that origin may not open a WebSocket here.";
    NotFound = 404 "not_found" "http_request_error" keep None, "There is nothing at this address.";
    MethodNotAllowed = 405 "method_not_allowed" "http_request_error" keep None, "A file can only be read.";
    ReportsArePosted = 405 "reports_are_posted" "http_request_error" keep None, "Reports are sent by POST.";
    HeadTimeout = 408 "head_timeout" "http_request_error" close None, "The request took too long to arrive.";
    BodyTimeout = 408 "body_timeout" "http_request_error" close None, "The request body arrived too slowly.";
    BodyTooLarge = 413 "body_too_large" "http_request_error" close None, "The request body is larger than this site takes.";
    UnsupportedMediaType = 415 "unsupported_media_type" "http_request_error" keep None, "Only reports are taken here.";
    TargetTooLong = 414 "target_too_long" "http_request_error" close None, "The address is too long.";
    ExpectationFailed = 417 "expectation_failed" "http_request_error" close None, "The Expect field asks for something unknown.";
    HostNotServed = 421 "host_not_served" "http_request_denied" keep None, "This server does not answer for that host.";
    ClientGone = 499 "client_gone" "connection_terminated" close None, "The client has left.";
    TooManyRequests = 429 "too_many_requests" "http_request_denied" keep None, "Too many requests came from your address. Please try again later.";
    WebSocketVersion = 426 "websocket_version" "http_request_error" close None, "This server speaks version 13 of the WebSocket protocol.";
    HeadTooLarge = 431 "head_too_large" "http_request_error" close None, "The request has too many or too large header fields.";
    AppFailed = 500 "app_failed" "http_response_incomplete" keep None, "The application failed. The error was logged.";
    UnsupportedCoding = 501 "unsupported_coding" "http_request_error" close None, "The transfer coding is not supported.";
    UnsupportedMethod = 501 "unsupported_method" "http_request_error" close None, "The request method is not supported.";
    BadFileAnswer = 500 "bad_file_answer" "proxy_internal_error" keep None, "The application named a file that cannot be sent.";
    WorkerDied = 502 "worker_died" "connection_terminated" keep None, "The application stopped while it worked on this request.";
    BadAnswer = 502 "bad_answer" "http_protocol_error" keep None, "The application gave an answer that cannot be sent.";
    Overloaded = 503 "queue_full" "connection_limit_reached" keep Some(1), "The site is overloaded. Please try again shortly.";
    QueueTimeout = 503 "queue_timeout" "connection_timeout" keep Some(2), "The site is overloaded. Please try again shortly.";
    AppDown = 503 "app_down" "destination_unavailable" keep Some(5), "The application does not start. Please try again shortly.";
    Stopping = 503 "stopping" "destination_unavailable" close Some(5), "The site is restarting. Please try again shortly.";
    FilesExhausted = 503 "files_exhausted" "proxy_internal_error" keep Some(2), "The site is overloaded. Please try again shortly.";
    AppTimeout = 504 "app_timeout" "http_response_timeout" keep None, "The application did not answer in time.";
    VersionNotSupported = 505 "version_not_supported" "http_request_error" close None, "This version of HTTP is not supported.";
    SpoolFull = 507 "spool_full" "proxy_internal_error" close Some(10), "The server cannot store the request body at the moment.";
}

impl Refusal {
    /// The answer, in the form that the client prefers.
    pub(crate) fn answer(self, exchange: &Exchange) -> Answer {
        let format = prefer_format(exchange.fields.first("accept"));
        self.render(format, exchange.request_id.as_str())
    }

    /// The answer to bytes that never became a request.
    pub(crate) fn bare_answer(self, request_id: &str) -> Answer {
        self.render(Format::Text, request_id)
    }

    fn render(self, format: Format, request_id: &str) -> Answer {
        let row = self.row();
        let phrase = phrase(row.status);
        let (media_type, body) = match format {
            Format::Html => ("text/html; charset=utf-8", html(&row, phrase, request_id)),
            Format::Json => (
                "application/json",
                format!(
                    "{{\"status\":{},\"error\":\"{}\",\"message\":\"{}\",\"request_id\":\"{request_id}\"}}\n",
                    row.status, row.name, row.sentence
                ),
            ),
            Format::Text => (
                "text/plain; charset=utf-8",
                format!("{} {phrase}\n{}\nRequest {request_id}\n", row.status, row.sentence),
            ),
        };
        let mut answer = Answer::new(row.status);
        answer.fields.push(b"Content-Type", media_type.as_bytes());
        answer.fields.push(b"Cache-Control", b"no-store");
        answer.fields.push(b"Vary", b"Accept");
        answer.fields.push(
            b"Proxy-Status",
            format!("bandstand; error={}; details=\"{}\"", row.proxy_error, row.name).as_bytes(),
        );
        if row.status == 405 {
            let methods = if self == Refusal::ReportsArePosted { &b"POST"[..] } else { b"GET, HEAD" };
            answer.fields.push(b"Allow", methods);
        }
        if row.status == 401 {
            answer.fields.push(b"WWW-Authenticate", b"Basic realm=\"Restricted\", charset=\"UTF-8\"");
        }
        if row.status == 426 {
            answer.fields.push(b"Sec-WebSocket-Version", b"13");
        }
        if let Some(seconds) = row.retry_after {
            answer.fields.push(b"Retry-After", seconds.to_string().as_bytes());
        }
        answer.length = Some(body.len() as u64);
        answer.body = AnswerBody::Memory(Bytes::from(body));
        answer.close = row.close;
        answer.refusal = Some(row.name);
        answer
    }
}

/// A page without scripts, images or fonts from anywhere: it must come up when nothing else does.
fn html(row: &Row, phrase: &str, request_id: &str) -> String {
    let (status, sentence) = (row.status, row.sentence);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{status} {phrase}</title>\n\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:18vh auto 0;padding:0 1.5rem;color:#222;\
         background:#fff}}h1{{font-size:1.4rem}}p.id{{color:#767676;font-size:.85rem}}\
         @media(prefers-color-scheme:dark){{body{{color:#ddd;background:#181818}}}}</style></head>\n\
         <body><h1>{status} {phrase}</h1><p>{sentence}</p><p class=\"id\">Request {request_id}</p></body></html>\n"
    )
}

/// The phrase that stands in the registry for a status (RFC 9110 §15 and IANA); empty for an unknown one.
pub(crate) fn phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        // nginx's number for a record of nobody being there; it is never received by anyone.
        499 => "Client Closed Request",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_can_be_sent_in_every_form() {
        for &refusal in Refusal::ALL {
            let row = refusal.row();
            assert!(!phrase(row.status).is_empty(), "{}", row.name);
            for format in [Format::Html, Format::Json, Format::Text] {
                let answer = refusal.render(format, "abc");
                let AnswerBody::Memory(body) = &answer.body else { panic!("a body") };
                let text = std::str::from_utf8(body).unwrap();
                assert!(text.contains("abc") && text.contains(row.sentence), "{}", row.name);
                assert_eq!(answer.length, Some(body.len() as u64));
                assert!(answer.fields.contains("proxy-status"));
                if format == Format::Json {
                    assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "{text}");
                }
            }
            assert_eq!(row.retry_after.is_some(), matches!(row.status, 503 | 507), "{}", row.name);
        }
    }
}
