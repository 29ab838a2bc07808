//! Certificates for `domains`: keeps them up to date while the server runs, and gives them to the store.
//!
//! Owns the thread that takes the turns of `bandstand_certificates::acme`, what wakes it (the time, a reload, `cert renew`,
//! another process that has put a certificate there), and the way from settings to a wish. What is ordered when is that
//! crate's. A thread of its own, because signing, `fsync` and name lookups would make clients wait.
//! Invariant: whatever fails, what was served before is served on, and nothing here keeps the server from starting.

use std::io;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bandstand_certificates::acme::{self, Authority, Choice, Entry, Stage, Turn, Ways, Wish, Zeal};
use bandstand_certificates::pem::Pair;
use bandstand_certificates::preflight;
use bandstand_certificates::storage::Storage;
use bandstand_config::{AcmeChallenge, Settings};
use base64::Engine as _;
use tokio::sync::{Notify, oneshot};

use super::challenges::Challenges;
use super::store::Source;
use crate::shared::Shared;

/// Between two looks at the folder, which another process may have put a certificate into.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// After the folder could not be used.
const FOLDER_AGAIN: Duration = Duration::from_secs(60);

/// What is said to the thread.
#[derive(Default)]
pub(crate) struct Acme {
    runs: AtomicBool,
    wake: Arc<Notify>,
    /// Who waits for a turn, at most as many as the control socket has clients.
    asked: Mutex<Vec<Asked>>,
}

struct Asked {
    what: What,
    reply: oneshot::Sender<Result<Vec<Outcome>, String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Turn(Zeal),
    Rehearsal,
}

/// Names, and why there is no new certificate for them; `None`: there is. Of a rehearsal the authority, and why it would not
/// issue.
pub(crate) type Outcome = (Vec<String>, Option<String>);

impl Acme {
    /// Asks for a turn, which may take minutes.
    ///
    /// # Errors
    /// A sentence: nothing is to be had.
    pub(crate) async fn renew(&self, zeal: Zeal) -> Result<Vec<Outcome>, String> {
        self.ask(What::Turn(zeal)).await
    }

    /// Asks for a rehearsal at the authorities' test twins.
    ///
    /// # Errors
    /// As `renew`.
    pub(crate) async fn rehearse(&self) -> Result<Vec<Outcome>, String> {
        self.ask(What::Rehearsal).await
    }

    async fn ask(&self, what: What) -> Result<Vec<Outcome>, String> {
        let (reply, answer) = oneshot::channel();
        if !self.runs.load(Ordering::Acquire) {
            return Err(NO_DOMAINS.to_owned());
        }
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(Asked { what, reply });
        self.wake.notify_one();
        answer.await.unwrap_or_else(|_| Err("the server is about to end".to_owned()))
    }

    fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const NO_DOMAINS: &str = "there are no `domains` to have certificates for";

/// To be called whenever the settings have changed: serves what is on the disk, and sees to the rest beside.
pub(crate) fn follow(shared: &Arc<Shared>) {
    let state = shared.state();
    let acme = &shared.tls.acme;
    let Some(wish) = wish(&state.settings) else {
        shared.tls.store.replace(Source::Acme, Vec::new());
        acme.wake.notify_one();
        return;
    };
    load(shared, &Storage::at(&state.settings.state_dir), &wish);
    if acme.runs.swap(true, Ordering::AcqRel) {
        acme.wake.notify_one();
        return;
    }
    let shared = shared.clone();
    let thread = std::thread::Builder::new().name("bandstand-acme".to_owned());
    if let Err(error) = thread.spawn(move || keep(&shared)) {
        tracing::error!(%error, "no thread for certificates: they are not renewed");
    }
}

/// The thread. It ends with the process: an order that is cut then is made again at the next start.
fn keep(shared: &Arc<Shared>) {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(shared)),
        Err(error) => tracing::error!(%error, "certificates are not renewed"),
    }
}

async fn run(shared: &Arc<Shared>) {
    let stage: Arc<dyn Stage> = Arc::new(Here(shared.tls.challenges.clone()));
    let mut looked = None;
    loop {
        let state = shared.state();
        let storage = Storage::at(&state.settings.state_dir);
        let asked = shared.tls.acme.take_asked();
        let wait = match wish(&state.settings).map(|wish| without_own(shared, wish)) {
            Some(wish) if !wish.names.is_empty() => match storage.prepare() {
                Ok(()) => {
                    if looked.as_ref() != Some(&wish.names) {
                        looked = Some(wish.names.clone());
                        warn_before(&storage, &wish).await;
                    }
                    attend(shared, &storage, &stage, &wish, asked).await
                }
                Err(error) => {
                    tracing::error!("{error}");
                    answer(asked, &Err(error));
                    FOLDER_AGAIN
                }
            },
            _ => {
                answer(asked, &Err(NO_DOMAINS.to_owned()));
                LOOK_AGAIN
            }
        };
        let _ = tokio::time::timeout(wait, shared.tls.acme.wake.notified()).await;
    }
}

/// One turn; how long to wait for the next.
async fn attend(
    shared: &Arc<Shared>,
    storage: &Storage,
    stage: &Arc<dyn Stage>,
    wish: &Wish,
    asked: Vec<Asked>,
) -> Duration {
    let (rehearsals, asked): (Vec<_>, Vec<_>) =
        asked.into_iter().partition(|asked| asked.what == What::Rehearsal);
    if !rehearsals.is_empty() {
        let outcomes = acme::rehearse(wish, storage, stage).await;
        let outcomes = outcomes.into_iter().map(|one| (vec![one.authority], one.error)).collect();
        answer(rehearsals, &Ok(outcomes));
    }
    let zeals = asked.iter().filter_map(|asked| match asked.what {
        What::Turn(zeal) => Some(zeal),
        What::Rehearsal => None,
    });
    let zeal = zeals.max().unwrap_or(Zeal::Due);
    let turn = tokio::select! {
        turn = acme::turn(wish, storage, stage, zeal) => turn,
        // The next turn is for what the settings say now.
        () = changed(shared, wish) => {
            answer(asked, &Err("the settings have changed meanwhile".to_owned()));
            return Duration::ZERO;
        }
    };
    load(shared, storage, wish);
    let Turn { next, outcomes, was_busy } = turn;
    match was_busy {
        true => answer(asked, &Err("another process is at it, with the same state_dir".to_owned())),
        false => answer(asked, &Ok(outcomes)),
    }
    next.duration_since(SystemTime::now()).unwrap_or_default().clamp(Duration::from_secs(1), LOOK_AGAIN)
}

/// Ends when the settings want something else.
async fn changed(shared: &Shared, wish: &Wish) {
    let acme = &shared.tls.acme;
    loop {
        acme.wake.notified().await;
        let now = self::wish(&shared.state().settings).map(|now| without_own(shared, now));
        if now.as_ref() != Some(wish) {
            return;
        }
        // Somebody asks for a turn meanwhile: it is the next one's.
    }
}

fn answer(asked: Vec<Asked>, outcome: &Result<Vec<Outcome>, String>) {
    for one in asked {
        let _ = one.reply.send(outcome.clone());
    }
}

/// Serves what is on the disk.
fn load(shared: &Shared, storage: &Storage, wish: &Wish) {
    let held = acme::held(storage, &wish.names);
    let pairs = acme::best(&held, &wish.names);
    let now = SystemTime::now();
    for pair in pairs.iter().filter(|pair| pair.facts.not_after < now) {
        tracing::error!(
            names = pair.facts.names.join(", "),
            "the certificate is over, and is served on until there is another"
        );
    }
    shared.tls.store.replace(Source::Acme, pairs);
}

/// What would fail is said before it does, in the words of whoever can change it. It stops nothing: who looks from here may
/// see something else than the authority.
async fn warn_before(storage: &Storage, wish: &Wish) {
    for finding in preflight::storage(storage) {
        tracing::warn!("{finding}");
    }
    let entries = acme::report(storage, &wish.names);
    let without = entries.into_iter().filter(|entry| entry.not_after.is_none());
    let names: Vec<String> = without.flat_map(|entry| entry.names).collect();
    for finding in preflight::names(&names, wish, true).await {
        tracing::warn!("{finding}");
    }
}

/// Names that the user's own files are for need nobody else's.
fn without_own(shared: &Shared, mut wish: Wish) -> Wish {
    let all = shared.tls.store.all();
    let own: Vec<_> = all.iter().filter(|(source, _)| *source == Source::Files).collect();
    wish.names.retain(|name| !own.iter().any(|(_, facts)| facts.covers(name) || facts.names.contains(name)));
    wish
}

/// Everything that is served or waited for, for people.
pub(crate) fn entries(shared: &Shared) -> Vec<Entry> {
    let state = shared.state();
    let ours = wish(&state.settings).map(|wish| without_own(shared, wish).names).unwrap_or_default();
    let mut entries = acme::report(&Storage::at(&state.settings.state_dir), &ours);
    for (source, facts) in shared.tls.store.all() {
        let source = match source {
            Source::Acme => continue,
            Source::Files => "files",
            Source::Local => "local",
        };
        let not_after = facts.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        entries.push(Entry {
            names: facts.names.clone(),
            source: source.to_owned(),
            issuer: facts.issuer.clone(),
            serial: facts.serial.clone(),
            not_after: Some(not_after),
            ..Entry::default()
        });
    }
    entries
}

/// What the settings want of authorities; `None`: nothing.
pub fn wish(settings: &Settings) -> Option<Wish> {
    settings.uses_acme().then(|| Wish {
        names: settings.domains.clone(),
        authorities: settings.acme_directory.iter().map(|text| Authority::of(text)).collect(),
        ca: settings.acme_ca.clone(),
        email: settings.acme_email.clone(),
        binding: settings.acme_eab.as_ref().and_then(|secret| binding(secret.reveal())),
        profile: settings.acme_profile.clone(),
        choice: match settings.acme_challenge {
            AcmeChallenge::Auto => Choice::Auto,
            AcmeChallenge::Http01 => Choice::Http01,
            AcmeChallenge::TlsAlpn01 => Choice::TlsAlpn01,
            AcmeChallenge::Dns01 => Choice::Dns01,
        },
        can: Ways {
            http: settings.bind.iter().any(|bind| !settings.speaks_tls(bind)),
            alpn: settings.bind.iter().any(|bind| settings.speaks_tls(bind)),
            dns: settings.acme_dns_hook.is_some(),
        },
        hook: settings.acme_dns_hook.clone(),
    })
}

/// `kid:key`, the key in base64url with or without padding.
fn binding(text: &str) -> Option<(String, Vec<u8>)> {
    let (id, key) = text.split_once(':')?;
    let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(key.trim_end_matches('='));
    Some((id.to_owned(), key.ok()?))
}

/// Where the authority finds proofs: the server's own addresses.
struct Here(Arc<Challenges>);

impl Stage for Here {
    fn put_http(&self, token: &str, answer: &str) {
        self.0.put_http(token, answer);
    }

    fn remove_http(&self, token: &str) {
        self.0.remove(token);
    }

    fn put_alpn(&self, name: &str, pair: Pair) {
        self.0.put_alpn(name, &pair);
    }

    fn remove_alpn(&self, name: &str) {
        self.0.remove(name);
    }

    fn start(&self, command: &mut Command) -> io::Result<Child> {
        bandstand_supervisor::start_own(|| command.spawn())
    }

    fn wait(&self, child: Child) -> io::Result<ExitStatus> {
        bandstand_supervisor::wait_own(child)
    }
}
