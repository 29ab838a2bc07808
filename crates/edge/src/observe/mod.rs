//! What others learn of the edge: records of exchanges, events, and the lines of the app.
//!
//! Nothing here decides anything about a request.

pub(crate) mod counters;
pub(crate) mod logging;
mod pretty;
pub(crate) mod record;
pub(crate) mod request_id;
mod sink;
pub(crate) mod violations;
