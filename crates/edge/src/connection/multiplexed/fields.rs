//! Fields of an answer in the form that the h2 and h3 crates take.
//!
//! Owns the change of names to lower case (RFC 9113 §8.2.1), the fields that every answer gets, and the end of what has no
//! meaning in a stream. All values of a head share one allocation. A field that the crates would not take was checked before
//! it came here; should one be left, it is dropped.

use std::time::Instant;

use bandstand_semantics::hop::is_hop_by_hop;
use bandstand_semantics::text::{valid_field_name, valid_field_value};
use bandstand_semantics::trailer::may_be_trailer;
use bandstand_wire::head::decode_trailers;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, DATE, SERVER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::send::Asked;
use crate::connection::write::Framing;
use crate::exchange::Answer;
use crate::shared::{DateClock, State};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NAME: HeaderValue = HeaderValue::from_static("bandstand");

/// The head of an answer.
pub(super) fn head(
    clock: &DateClock,
    state: &State,
    answer: &Answer,
    asked: Asked<'_>,
    framing: Framing,
) -> Response<()> {
    let mut head = interim(StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY));
    let values = values(clock, answer, asked);
    let mut at = 0;
    let mut next = |length: usize| {
        at += length;
        // What is no value was dropped by the caller's checks, and by ours: an empty one is sent.
        HeaderValue::from_maybe_shared(values.slice(at - length..at)).unwrap_or(HeaderValue::from_static(""))
    };
    let fields = head.headers_mut();
    fields.reserve(answer.all_fields().count() + 4);
    for (name, value) in answer.all_fields() {
        let value = next(value.len());
        if let Ok(name) = HeaderName::from_bytes(name)
            && !is_hop_by_hop(name.as_str().as_bytes())
        {
            fields.append(name, value);
        }
    }
    let date = next(DATE_BYTES);
    fields.entry(DATE).or_insert(date);
    if state.settings.server_header {
        fields.entry(SERVER).or_insert(NAME);
    }
    if !asked.request_id.is_empty() {
        // It never comes again: kept out of the table of fields, which others are worth more in (RFC 7541 §6.2.3).
        let mut id = next(asked.request_id.len());
        id.set_sensitive(true);
        fields.append(REQUEST_ID, id);
    }
    match framing {
        Framing::Length(length) => drop(fields.insert(CONTENT_LENGTH, length.into())),
        // The length that GET would have (RFC 9110 §9.3.2); a 204 or 1xx must not have one, a 304 needs none.
        Framing::None if asked.head && !answer.is_bodiless() => {
            if let Some(length) = answer.length {
                fields.insert(CONTENT_LENGTH, length.into());
            }
        }
        Framing::None | Framing::Chunked | Framing::Close => {}
    }
    head
}

/// An IMF-fixdate.
const DATE_BYTES: usize = 29;

/// The values of all fields, date and id, one after the other.
fn values(clock: &DateClock, answer: &Answer, asked: Asked<'_>) -> Bytes {
    let bytes: usize = answer.all_fields().map(|(_, value)| value.len()).sum();
    let mut values = Vec::with_capacity(bytes + DATE_BYTES + asked.request_id.len());
    answer.all_fields().for_each(|(_, value)| values.extend_from_slice(value));
    clock.append(Instant::now(), &mut values);
    values.extend_from_slice(asked.request_id);
    values.into()
}

/// An interim head without fields.
pub(super) fn interim(status: StatusCode) -> Response<()> {
    let mut head = Response::new(());
    *head.status_mut() = status;
    head
}

/// Adds one.
pub(super) fn push(fields: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        fields.append(name, value);
    }
}

/// The app's trailers in wire form, without those that may not come after a body. `None`: what came are no valid fields,
/// and a worker that sends them is not to be believed the rest.
pub(super) fn trailers(payload: &[u8]) -> Option<HeaderMap> {
    let mut fields = HeaderMap::new();
    for (name, value) in decode_trailers(payload).ok()?.iter() {
        if !valid_field_name(name) || !valid_field_value(value) {
            return None;
        }
        if may_be_trailer(name) {
            push(&mut fields, name, value);
        }
    }
    Some(fields)
}
