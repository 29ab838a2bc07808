//! The account at an authority: restored from the disk, or opened.
//!
//! Owns the file of an account and external account binding (RFC 8555 §7.3.4). Invariant: an account is opened once; only when
//! the authority says that it does not know it any more, another one is.

use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};

use super::authority::Authority;
use super::client::Client;
use super::failure::{Failure, is_bad_nonce, patiently};
use super::wish::Wish;
use crate::storage::Storage;

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// As the authority knows it.
    email: Option<String>,
    credentials: AccountCredentials,
}

/// The account, opened if there is none. `client`: for this attempt.
///
/// # Errors
/// The authority is not there or wants no account of ours; the disk does not keep it.
pub(crate) async fn open(
    storage: &Storage,
    wish: &Wish,
    authority: &Authority,
    client: &Client,
) -> Result<Account, Failure> {
    let kept = storage.account(&authority.directory);
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
    let Some(kept) = kept else { return create(storage, wish, authority, client).await };
    let known = kept.email.clone();
    let again = serde_json::to_value(&kept.credentials).map_err(|error| Failure::ours(error.to_string()))?;
    let builder = Account::builder_with_http(Box::new(client.clone()));
    let account =
        builder.from_credentials(kept.credentials).await.map_err(|error| down(authority, &error))?;
    if known != wish.email {
        let contact = contact(wish);
        let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
        patiently!(account.update_contacts(&contact)).map_err(|error| Failure::of(authority, error, &[]))?;
        let credentials = serde_json::from_value(again).map_err(|error| Failure::ours(error.to_string()))?;
        keep(storage, wish, authority, credentials)?;
    }
    Ok(account)
}

/// The authority does not know the account any more.
pub(crate) fn forget(storage: &Storage, authority: &Authority) {
    tracing::warn!(authority = authority.name, "the authority does not know our account; another is opened");
    if let Err(error) = storage.put_account(&authority.directory, None) {
        tracing::warn!(%error, "the file of the account cannot be removed");
    }
}

async fn create(
    storage: &Storage,
    wish: &Wish,
    authority: &Authority,
    client: &Client,
) -> Result<Account, Failure> {
    if authority.needs_binding && wish.binding.is_none() {
        return Err(Failure::authority(
            authority,
            "it opens accounts only with an external account: set acme_eab to what it gave you (kid:key)",
        ));
    }
    let contact = contact(wish);
    let contact: Vec<&str> = contact.iter().map(String::as_str).collect();
    let new = NewAccount { contact: &contact, terms_of_service_agreed: true, only_return_existing: false };
    let binding = wish.binding.as_ref().map(|(id, key)| ExternalAccountKey::new(id.clone(), key));
    let create = || {
        let builder = Account::builder_with_http(Box::new(client.clone()));
        builder.create(&new, authority.directory.clone(), binding.as_ref())
    };
    let (account, credentials) = patiently!(create()).map_err(|error| Failure::of(authority, error, &[]))?;
    keep(storage, wish, authority, credentials)?;
    tracing::info!(authority = authority.name, account = account.id(), "opened an account");
    Ok(account)
}

fn keep(
    storage: &Storage,
    wish: &Wish,
    authority: &Authority,
    credentials: AccountCredentials,
) -> Result<(), Failure> {
    let kept = Kept { email: wish.email.clone(), credentials };
    let text = serde_json::to_vec_pretty(&kept).map_err(|error| Failure::ours(error.to_string()))?;
    storage.put_account(&authority.directory, Some(&text)).map_err(|error| {
        Failure::ours(format!("the account cannot be kept in {}: {error}", storage.root().display()))
    })
}

fn contact(wish: &Wish) -> Vec<String> {
    wish.email.iter().map(|email| format!("mailto:{email}")).collect()
}

fn down(authority: &Authority, error: &Error) -> Failure {
    Failure::authority(authority, &error.to_string())
}
