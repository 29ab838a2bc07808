//! What each command of the control socket does: a look at the server, or an order to the task that owns its course.
//!
//! Owns the way from a command to its outcome, a row each. Invariant: every wait ends: with the order's outcome, or with the task that
//! was to give it.

use std::sync::Arc;
use std::time::Duration;

use bandstand_certificates::acme::Zeal;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot};

use super::look;
use super::protocol::{Command, Scale};
use super::serve::{Outcome, Steps};
use crate::server::orders::{Order, Orders, Progress, Scaling};
use crate::shared::Shared;
use crate::tls::acme;

/// For a change of workers or logs: the task that makes it does not wait for anything else.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where clients are served.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) shared: Arc<Shared>,
    pub(super) orders: Orders,
}

impl Desk {
    /// Does what is asked. Dropped, it gives up waiting; an order that was given is carried out.
    pub(super) async fn answer(self, command: Command, steps: Steps) -> Outcome {
        match command {
            Command::Status { pss } => field("status", look::status(&self.shared, pss).await),
            Command::Requests => field("requests", look::requests(&self.shared)),
            Command::Stacks(whose) => field("stacks", look::stacks(&self.shared, &whose).await?),
            Command::Scale(scale) => self.scale(scale).await,
            Command::Reload => self.reload(steps).await,
            Command::Stop { now } => self.order(if now { Order::StopNow } else { Order::Stop }).await,
            Command::Reopen => self.reopen().await,
            Command::Drain => self.order(Order::DrainWorkers).await,
            Command::Certificates => field("certificates", acme::entries(&self.shared)),
            Command::Renew { force } => {
                let zeal = if force { Zeal::Force } else { Zeal::Now };
                field("outcomes", self.shared.tls.acme.renew(zeal).await?)
            }
            Command::Rehearse => field("outcomes", self.shared.tls.acme.rehearse().await?),
        }
    }

    async fn order(&self, order: Order) -> Outcome {
        match tokio::time::timeout(PATIENCE, self.orders.send(order)).await {
            Ok(Ok(())) => Ok(Map::new()),
            Ok(Err(_)) => Err(ENDING.to_owned()),
            Err(_) => Err("the server is busy with other orders".to_owned()),
        }
    }

    async fn scale(&self, scale: Scale) -> Outcome {
        let to = match scale {
            Scale::To(workers) => Scaling::To(workers),
            Scale::By(workers) => Scaling::By(workers),
        };
        let (reply, answer) = oneshot::channel();
        self.order(Order::Scale { to, reply }).await?;
        field("workers", heard(answer).await?)
    }

    async fn reopen(&self) -> Outcome {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Reopen { reply }).await?;
        heard(answer).await.map(|()| Map::new())
    }

    async fn reload(&self, steps: Steps) -> Outcome {
        let (progress, mut heard) = mpsc::unbounded_channel();
        self.order(Order::Reload { hold: false, progress }).await?;
        while let Some(word) = heard.recv().await {
            match word {
                // The client may have left; the reload goes on.
                Progress::Step(step) => drop(steps.send(step)),
                Progress::Done { generation } => return field("generation", generation),
                Progress::Failed { reason } => return Err(reason),
            }
        }
        Err(ENDING.to_owned())
    }
}

/// What is said when nobody takes orders any more.
const ENDING: &str = "the server is about to end";

async fn heard<T>(answer: oneshot::Receiver<Result<T, String>>) -> Result<T, String> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(ENDING.to_owned()),
        Err(_) => Err("the server is busy with other orders".to_owned()),
    }
}

fn field(name: &str, value: impl serde::Serialize) -> Outcome {
    let value: Value = json!(value);
    Ok(Map::from_iter([(name.to_owned(), value)]))
}
