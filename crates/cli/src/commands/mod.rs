//! One file per verb. Each reads its arguments, does its work and returns why it could not.

pub(crate) mod cert;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod dev;
pub(crate) mod explain;
pub(crate) mod reload;
pub(crate) mod reopen;
pub(crate) mod requests;
pub(crate) mod scale;
pub(crate) mod serve;
pub(crate) mod stacks;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod top;
pub(crate) mod trust;
pub(crate) mod version;
