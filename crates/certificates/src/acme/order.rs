//! One order: names proved, a certificate made and fetched.
//!
//! Owns the course of RFC 8555 §7.4 with instant-acme: authorisations, challenges, waiting, finalisation. What to order and
//! what a failure leads to is `keeper.rs`'s. Invariant: whatever was shown for a proof is taken back at the end, however it ends;
//! every wait has a deadline. Dropped: what is shown is taken back, but for the records of a hook.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationStatus, CertificateIdentifier, ChallengeType, Error, Identifier, KeyAuthorization,
    NewOrder, Order, OrderStatus,
};
use tokio::time::{Instant, sleep};

use super::authority::Authority;
use super::challenge::{self, Shown, Stage};
use super::failure::{Failure, Refused, is_bad_nonce, patiently, refused};
use super::hook::{self, Task};
use super::wish::Wish;
use crate::pem::Pair;

/// Until the authority has judged all names. It looks from several places, and may be slow.
const JUDGED_WITHIN: Duration = Duration::from_secs(300);
/// Until the certificate is made.
const MADE_WITHIN: Duration = Duration::from_secs(180);
/// After one name was refused: for the others to be judged too.
const OTHERS_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks: at first, and at most.
const LOOK_FIRST: Duration = Duration::from_millis(250);
const LOOK_MOST: Duration = Duration::from_secs(5);

/// What is ordered, of whom.
pub(crate) struct Ask<'a> {
    pub(crate) wish: &'a Wish,
    pub(crate) stage: &'a Arc<dyn Stage>,
    pub(crate) authority: &'a Authority,
    pub(crate) account: &'a Account,
    pub(crate) names: &'a [String],
    /// Failures before, which turn the ways over.
    pub(crate) failures: u32,
    /// The certificate that this one takes the place of (RFC 9773 §5).
    pub(crate) replaces: Option<CertificateIdentifier<'static>>,
    /// Set when the authority is told to look: from then on a failure may be counted.
    pub(crate) began: &'a AtomicBool,
}

/// What came of it.
pub(crate) struct Issued {
    pub(crate) pair: Pair,
    /// Key, then chain.
    pub(crate) pem: Vec<u8>,
}

impl Ask<'_> {
    /// A certificate for all the names.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) async fn obtain(&self) -> Result<Issued, Failure> {
        let mut order = self.prove().await?;
        let key = patiently!(order.finalize()).map_err(|error| self.failure(error))?;
        self.wait_until(&mut order, OrderStatus::Valid, MADE_WITHIN).await?;
        let chain = patiently!(order.certificate()).map_err(|error| self.failure(error))?;
        let chain = chain.ok_or_else(|| Failure::authority(self.authority, "there is no certificate"))?;
        let pair = Pair::from_pem(chain.as_bytes(), key.as_bytes())
            .map_err(|error| Failure::authority(self.authority, &format!("of its certificate, {error}")))?;
        if let Some(name) = self.names.iter().find(|name| !pair.facts.names.contains(name)) {
            let why = format!("its certificate is not for {name}");
            return Err(Failure::authority(self.authority, &why));
        }
        let pem = format!("{}\n{}\n", key.trim_end(), chain.trim_end()).into_bytes();
        Ok(Issued { pair, pem })
    }

    /// The names proved, and no certificate made: what is left costs nothing and can only fail at the authority.
    ///
    /// # Errors
    /// See [`Failure`].
    pub(crate) async fn rehearse(&self) -> Result<(), Failure> {
        self.prove().await.map(|_| ())
    }

    async fn prove(&self) -> Result<Order, Failure> {
        let mut order = self.new_order().await?;
        let mut shown = Proofs::default();
        let outcome = self.answer(&mut order, &mut shown).await;
        shown.take_back(self).await;
        outcome.map(|()| order)
    }

    async fn new_order(&self) -> Result<Order, Failure> {
        let identifiers: Vec<Identifier> = self.names.iter().map(|name| identifier(name)).collect();
        let mut new = NewOrder::new(&identifiers);
        if let Some(profile) = &self.wish.profile {
            match self.account.profiles().any(|offered| offered.name == profile) {
                true => new = new.profile(profile),
                false => {
                    tracing::warn!(authority = self.authority.name, profile, "no such acme_profile there")
                }
            }
        }
        if let Some(replaces) = &self.replaces {
            // It may be replaced already, or unknown there: an order that says nothing of it is as good.
            let mut replacing = NewOrder::new(&identifiers).replaces(replaces.clone());
            if let Some(profile) = &self.wish.profile
                && self.account.profiles().any(|offered| offered.name == profile)
            {
                replacing = replacing.profile(profile);
            }
            match patiently!(self.account.new_order(&replacing)) {
                Ok(order) => return Ok(order),
                Err(error) => tracing::debug!(%error, "ordered without `replaces`"),
            }
        }
        patiently!(self.account.new_order(&new)).map_err(|error| self.failure(error))
    }

    /// Shows a proof for every name that wants one, and waits for the judgement.
    async fn answer(&self, order: &mut Order, shown: &mut Proofs) -> Result<(), Failure> {
        patiently!(fetch(order)).map_err(|error| self.failure(error))?;
        self.show(order, shown).await?;
        self.began.store(!shown.ready.is_empty(), Ordering::Relaxed);
        patiently!(ready(order, shown)).map_err(|error| self.failure(error))?;
        self.wait_until(order, OrderStatus::Ready, JUDGED_WITHIN).await
    }

    async fn show(&self, order: &mut Order, shown: &mut Proofs) -> Result<(), Failure> {
        let mut authorizations = order.authorizations();
        while let Some(one) = authorizations.next().await {
            let mut one = one.map_err(|error| self.failure(error))?;
            if one.status != AuthorizationStatus::Pending {
                continue;
            }
            let name = one.identifier().to_string();
            let ways =
                challenge::ways(self.wish.choice, self.wish.can, name.starts_with("*."), self.failures);
            let offered = |way: &&ChallengeType| one.challenges.iter().any(|offer| offer.r#type == **way);
            let Some(way) = ways.iter().find(offered).cloned() else {
                return Err(Failure::ours(no_way(&name, &ways, self.authority)));
            };
            let url = one.url().to_owned();
            let Some(challenge) = one.challenge(way.clone()) else { continue };
            let (token, proof) = (challenge.token.clone(), challenge.key_authorization());
            self.show_one(&name, &way, &token, &proof, shown).await.map_err(Failure::Ours)?;
            shown.ready.push((url, way));
        }
        Ok(())
    }

    async fn show_one(
        &self,
        name: &str,
        way: &ChallengeType,
        token: &str,
        proof: &KeyAuthorization,
        shown: &mut Proofs,
    ) -> Result<(), String> {
        match way {
            ChallengeType::Http01 => shown.here.push(Shown::token(self.stage, token, proof)?),
            ChallengeType::TlsAlpn01 => shown.here.push(Shown::certificate(self.stage, name, proof)?),
            _ => {
                let hook = self
                    .wish
                    .hook
                    .clone()
                    .ok_or_else(|| format!("{name} is proved by dns-01, and that needs acme_dns_hook"))?;
                let value = proof.dns_value();
                // Before it has run: what it did half is taken back too.
                shown.records.push((hook.clone(), name.to_owned(), value.clone()));
                hook::run(self.stage, &hook, Task::Present, name, &value).await?;
            }
        }
        Ok(())
    }

    async fn wait_until(
        &self,
        order: &mut Order,
        wanted: OrderStatus,
        within: Duration,
    ) -> Result<(), Failure> {
        let deadline = Instant::now() + within;
        let mut pause = LOOK_FIRST;
        loop {
            let state = patiently!(order.refresh()).map_err(|error| self.failure(error))?;
            match state.status {
                status if status == wanted => return Ok(()),
                OrderStatus::Valid => return Ok(()),
                OrderStatus::Invalid => {
                    let problem = state.error.clone();
                    let refused = self.blame(order).await?;
                    return Err(match problem {
                        Some(problem) if refused.is_empty() => self.failure(Error::Api(problem)),
                        _ => Failure::Names(refused),
                    });
                }
                _ if Instant::now() > deadline => {
                    let why = format!("it has not decided within {} s", within.as_secs());
                    return Err(Failure::authority(self.authority, &why));
                }
                _ => {}
            }
            sleep(pause).await;
            pause = pause.mul_f32(1.5).min(LOOK_MOST);
        }
    }

    /// Which names were refused, and why; the others are given time to be judged.
    async fn blame(&self, order: &mut Order) -> Result<Vec<Refused>, Failure> {
        let deadline = Instant::now() + OTHERS_WITHIN;
        loop {
            let (mut bad, mut open) = (Vec::new(), Vec::new());
            let mut authorizations = order.authorizations();
            while let Some(one) = authorizations.next().await {
                let mut one = one.map_err(|error| self.failure(error))?;
                patiently!(one.refresh()).map_err(|error| self.failure(error))?;
                if one.status == AuthorizationStatus::Pending {
                    open.push(Refused {
                        name: one.identifier().to_string(),
                        why: format!("{} has not judged it in time", self.authority.name),
                        elsewhere: false,
                    });
                }
                if one.status == AuthorizationStatus::Invalid {
                    let judged = one.challenges.iter().find(|challenge| challenge.error.is_some());
                    let way = judged.map_or("any way", |challenge| challenge::word(&challenge.r#type));
                    let problem = judged.and_then(|challenge| challenge.error.as_ref());
                    bad.push(refused(self.authority, &one.identifier().to_string(), way, problem));
                }
            }
            if open.is_empty() {
                return Ok(bad);
            }
            // What is judged later may be refused: to order it at once would count twice.
            if Instant::now() > deadline {
                bad.extend(open);
                return Ok(bad);
            }
            sleep(LOOK_FIRST * 4).await;
        }
    }

    fn failure(&self, error: Error) -> Failure {
        Failure::of(self.authority, error, self.names)
    }
}

/// What is shown for an order.
#[derive(Default)]
struct Proofs {
    here: Vec<Shown>,
    /// Hook, name, value.
    records: Vec<(PathBuf, String, String)>,
    /// Address of the authorisation, and the way that is ready for it.
    ready: Vec<(String, ChallengeType)>,
}

impl Proofs {
    async fn take_back(self, ask: &Ask<'_>) {
        drop(self.here);
        for (hook, name, value) in self.records {
            if let Err(error) = hook::run(ask.stage, &hook, Task::Cleanup, &name, &value).await {
                tracing::warn!("{error}");
            }
        }
    }
}

/// All authorisations. One that could not be fetched is when this is called again.
async fn fetch(order: &mut Order) -> Result<(), Error> {
    let mut authorizations = order.authorizations();
    while let Some(one) = authorizations.next().await {
        one?;
    }
    Ok(())
}

/// Says that proofs can be looked at. Called again, it goes on with those that were not told yet. An authority that looks at once
/// says what it found already here: that is no failure of this step, and `blame` reads it in its place.
async fn ready(order: &mut Order, shown: &mut Proofs) -> Result<(), Error> {
    let mut judged = None;
    let mut authorizations = order.authorizations();
    while let Some(one) = authorizations.next().await {
        let mut one = one?;
        let Some(place) = shown.ready.iter().position(|(url, _)| url == one.url()) else { continue };
        let way = shown.ready[place].1.clone();
        let told = match one.challenge(way) {
            Some(mut challenge) => challenge.set_ready().await,
            None => Ok(()),
        };
        match told {
            Err(error @ Error::Api(_)) if !is_bad_nonce(&error) => judged = Some(error),
            told => told?,
        }
        shown.ready.swap_remove(place);
    }
    match judged {
        Some(error) if order.refresh().await?.status != OrderStatus::Invalid => Err(error),
        _ => Ok(()),
    }
}

fn identifier(name: &str) -> Identifier {
    match name.parse() {
        Ok(address) => Identifier::Ip(address),
        Err(_) => Identifier::Dns(name.to_owned()),
    }
}

fn no_way(name: &str, ways: &[ChallengeType], authority: &Authority) -> String {
    let words: Vec<&str> = ways.iter().map(challenge::word).collect();
    match words.is_empty() {
        true => format!(
            "{name} cannot be proved: this server listens on no TCP address, and there is no acme_dns_hook"
        ),
        false => format!("{} does not offer to verify {name} by {}", authority.name, words.join(" or ")),
    }
}
