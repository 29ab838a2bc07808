//! What an app says about the connection stops here (RFC 9110 §7.6.1): the connection is ours.

use bandstand_semantics::hop;

use crate::exchange::Answer;

pub(crate) fn apply(answer: &mut Answer) {
    let connection = hop::connection_tokens(&answer.fields);
    if connection.close {
        answer.close = true;
    }
    let listed: Vec<Vec<u8>> = connection.listed.iter().map(|name| name.to_vec()).collect();
    answer.fields.retain(|name, _| {
        !hop::is_hop_by_hop(name) && !listed.iter().any(|listed| listed.eq_ignore_ascii_case(name))
    });
}
