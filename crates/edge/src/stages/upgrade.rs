//! Is it a WebSocket, and may it be one?
//!
//! Owns both halves of the handshake: whether the client may open one here (the project takes WebSockets, the handshake is
//! valid, the page's origin is let in), and what of the app's acceptance goes into the 101. Its rules are
//! `semantics::websocket::handshake`, what comes after the 101 is `connection::websocket`. Where the project takes none, the
//! `Upgrade` is ignored and the request is a plain one (RFC 9110 §7.8). In a stream of HTTP/2 the request is an extended CONNECT
//! (RFC 8441), and the connection makes a 200 of the 101.

use bandstand_semantics::host::parse_host;
use bandstand_semantics::text::{valid_field_name, valid_field_value};
use bandstand_semantics::websocket::handshake::{HandshakeError, Offer};
use bandstand_semantics::{Fields, Scheme, hop};
use bandstand_wire::ResponseHead;

use crate::dispatch::Ticket;
use crate::exchange::{Answer, AnswerBody, Exchange};
use crate::pipeline::Step;
use crate::refusal::Refusal;
use crate::shared::State;

/// The word for the request's own origin, among the setting's origins.
const SAME: &str = "same";

pub(crate) fn run(state: &State, exchange: &mut Exchange) -> Step {
    let Some(upgrade) = exchange.upgrade.take() else { return Step::Next };
    if !state.project.as_ref().is_some_and(|project| project.said.takes_websockets()) {
        // A CONNECT is no plain request without what it asks for (RFC 9220 §3).
        return if exchange.is_connect { Step::Refuse(Refusal::UnsupportedMethod) } else { Step::Next };
    }
    let mut offer = match *upgrade {
        Ok(offer) => offer,
        Err(HandshakeError::Version) => return Step::Refuse(Refusal::WebSocketVersion),
        Err(HandshakeError::Key | HandshakeError::Body) => return Step::Refuse(Refusal::BadHandshake),
    };
    if !may_come_from(exchange, &state.settings.websocket_origins) {
        return Step::Refuse(Refusal::OriginDenied);
    }
    offer.deflate = offer.deflate.filter(|_| state.settings.websocket_compress);
    exchange.websocket = Some(Box::new(offer));
    Step::Next
}

/// Whether a page of this origin may open a WebSocket (RFC 6455 §10.2). Browsers always say whose page it is; where
/// origins are set, whoever does not say is not let in, as with Channels' own check.
fn may_come_from(exchange: &Exchange, allowed: &[String]) -> bool {
    if allowed.is_empty() {
        return true;
    }
    let mut origins = exchange.fields.all("origin");
    let (Some(origin), None) = (origins.next(), origins.next()) else { return false };
    allowed.iter().any(|allowed| {
        if allowed == SAME {
            is_own(origin, exchange)
        } else {
            origin.eq_ignore_ascii_case(allowed.as_bytes())
        }
    })
}

/// Scheme, host and port are those of the request, as the client wrote them; a default port may be left out.
fn is_own(origin: &[u8], exchange: &Exchange) -> bool {
    let scheme = if exchange.https { Scheme::Https } else { Scheme::Http };
    let prefix: &[u8] = if exchange.https { b"https://" } else { b"http://" };
    let Some((start, rest)) = origin.split_at_checked(prefix.len()) else { return false };
    let Ok(host) = parse_host(rest) else { return false };
    let own_port = exchange.host.port.unwrap_or(scheme.default_port());
    start.eq_ignore_ascii_case(prefix)
        && !host.name.is_empty()
        && host.is(exchange.host.name())
        && host.port.unwrap_or(scheme.default_port()) == own_port
}

/// The app has accepted: the 101, with those of its fields that may stand in it.
///
/// # Errors
/// It chose a subprotocol that was not offered (RFC 6455 §4.2.2), or fields that cannot be sent.
pub(crate) fn accept(payload: &[u8], ticket: Ticket, exchange: &Exchange) -> Result<Answer, Refusal> {
    let offer = exchange.websocket.as_deref().ok_or(Refusal::BadAnswer)?;
    let (head, view, _) = ResponseHead::decode(payload).map_err(|_| Refusal::BadAnswer)?;
    if head.status != 101 {
        return Err(Refusal::BadAnswer);
    }
    let mut answer = Answer::new(101);
    answer.fields = agreed(offer);
    let mut protocol = None;
    for (name, value) in view.iter() {
        if !valid_field_name(name) || !valid_field_value(value) {
            return Err(Refusal::BadAnswer);
        }
        if name.eq_ignore_ascii_case(b"sec-websocket-protocol") {
            if protocol.replace(value).is_some() {
                return Err(Refusal::BadAnswer);
            }
        } else if !is_ours(name) {
            answer.fields.push(name, value);
        }
    }
    if let Some(protocol) = protocol {
        if !offer.protocols.iter().any(|offered| offered.as_bytes() == protocol) {
            tracing::error!(
                request_id = exchange.request_id.as_str(),
                protocol = %protocol.escape_ascii(),
                "the app accepted a WebSocket with a subprotocol that the client had not offered"
            );
            return Err(Refusal::BadAnswer);
        }
        answer.fields.push(b"Sec-WebSocket-Protocol", protocol);
    }
    answer.body = AnswerBody::Upgrade(ticket);
    Ok(answer)
}

/// What the edge itself has to say in the 101; `Upgrade` and `Connection` are the connection's.
fn agreed(offer: &Offer) -> Fields {
    let mut fields = Fields::with_capacity(6, 256);
    if let Some(accept) = &offer.accept {
        fields.push(b"Sec-WebSocket-Accept", accept);
    }
    if let Some(deflate) = offer.deflate {
        let mut value = Vec::new();
        deflate.write_answer(&mut value);
        fields.push(b"Sec-WebSocket-Extensions", &value);
    }
    fields
}

/// Fields of the 101 that an app has no say in: dropped, as framing fields of any answer are.
fn is_ours(name: &[u8]) -> bool {
    const PREFIX: &[u8] = b"sec-websocket-";
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
        || name.eq_ignore_ascii_case(b"content-length")
        || hop::is_hop_by_hop(name)
}
