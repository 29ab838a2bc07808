//! One file a stage; their order is `pipeline.rs`.

pub(crate) mod access;
pub(crate) mod admit;
pub(crate) mod assets;
pub(crate) mod dispatch;
pub(crate) mod identify;
pub(crate) mod queue;
pub(crate) mod receive;
pub(crate) mod redirect;
pub(crate) mod route;
pub(crate) mod upgrade;
