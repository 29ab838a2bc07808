//! All open connections: how many, whose, which are at rest.
//!
//! Owns the limits on connections and the way to wake those at rest, when room is needed or the server stops. A busy
//! connection is never closed for another.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

/// Marks a connection that works on a request.
const BUSY: u64 = u64::MAX;

/// What others may know of, and tell, a connection.
pub(crate) struct Handle {
    /// Microseconds since the registry was made at which it came to rest; `BUSY` while it works.
    rests_since: AtomicU64,
    close: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// The address that a connection came in by, as far as its connections are concerned.
#[derive(Debug, Default)]
pub(crate) struct Door {
    closed: AtomicBool,
}

impl Door {
    /// Its connections close as they come to rest, as all do when the server stops. Those at rest have to be woken.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

/// All connections.
pub(crate) struct Registry {
    started: Instant,
    inner: Mutex<Inner>,
}

struct Inner {
    most: usize,
    most_each: Option<usize>,
    next: u64,
    open: HashMap<u64, Arc<Handle>>,
    each: HashMap<IpAddr, usize>,
}

/// A connection's place, given back on drop.
pub(crate) struct Place {
    pub(crate) handle: Arc<Handle>,
    registry: Arc<crate::shared::Shared>,
    number: u64,
    address: Option<IpAddr>,
    door: Option<Arc<Door>>,
}

/// Why a connection may not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// All places are taken by connections that work.
    All,
    /// This address has its share.
    Address,
}

impl Registry {
    pub(crate) fn new(most: usize, most_each: Option<usize>) -> Self {
        let inner = Inner { most, most_each, next: 0, open: HashMap::new(), each: HashMap::new() };
        Self { started: Instant::now(), inner: Mutex::new(inner) }
    }

    /// Other limits, for those who come from now on.
    pub(crate) fn set_limits(&self, most: usize, most_each: Option<usize>) {
        let mut inner = self.lock();
        (inner.most, inner.most_each) = (most, most_each);
    }

    /// Number of open connections.
    pub(crate) fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Wakes every connection at rest, so that it sees what has changed.
    pub(crate) fn wake_all(&self) {
        let handles: Vec<_> = self.lock().open.values().cloned().collect();
        handles.iter().for_each(|handle| handle.wake());
    }

    /// Closes every connection at rest now.
    pub(crate) fn close_resting(&self) {
        let handles: Vec<_> = self.lock().open.values().cloned().collect();
        for handle in handles.iter().filter(|handle| handle.rests_since.load(Ordering::Relaxed) != BUSY) {
            handle.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a place for a new connection. `address` counts against the share of one address; `None` is exempt.
pub(crate) fn enter(shared: &Arc<crate::shared::Shared>, address: Option<IpAddr>) -> Result<Place, Full> {
    let registry = &shared.connections;
    let mut inner = registry.lock();
    if let (Some(address), Some(most)) = (address, inner.most_each)
        && inner.each.get(&address).copied().unwrap_or(0) >= most
    {
        return Err(Full::Address);
    }
    if inner.open.len() >= inner.most {
        // The one that has rested longest makes room. It leaves a moment later; until then it is not asked again, so each
        // newcomer costs one of those at rest, however many come at once.
        let staying = inner.open.values().filter(|handle| !handle.close.load(Ordering::Relaxed));
        let longest = staying.min_by_key(|handle| handle.rests_since.load(Ordering::Relaxed));
        match longest {
            Some(handle) if handle.rests_since.load(Ordering::Relaxed) != BUSY => handle.close(),
            _ => return Err(Full::All),
        }
    }
    if let Some(address) = address {
        *inner.each.entry(address).or_default() += 1;
    }
    let number = inner.next;
    inner.next += 1;
    let handle = Arc::new(Handle {
        rests_since: AtomicU64::new(registry.started.elapsed().as_micros() as u64),
        close: AtomicBool::new(false),
        waker: Mutex::new(None),
    });
    inner.open.insert(number, handle.clone());
    Ok(Place { handle, registry: shared.clone(), number, address, door: None })
}

/// One IPv6 client has a /64 of addresses; they count as one.
pub(crate) fn counted_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let bits = v6.to_bits() >> 64 << 64;
            IpAddr::V6(bits.into())
        }
        v4 => v4,
    }
}

impl Place {
    /// The same, of a connection that came in by this door.
    pub(crate) fn through(mut self, door: Arc<Door>) -> Self {
        self.door = Some(door);
        self
    }

    /// It is this address's from now on: a proxy has said whose it is.
    ///
    /// # Errors
    /// The address has its share.
    pub(crate) fn count(&mut self, address: IpAddr) -> Result<(), Full> {
        let mut inner = self.registry.connections.lock();
        let most = inner.most_each.unwrap_or(usize::MAX);
        let count = inner.each.entry(address).or_default();
        if *count >= most {
            return Err(Full::Address);
        }
        *count += 1;
        debug_assert!(self.address.is_none(), "a connection is counted once");
        self.address = Some(address);
        Ok(())
    }

    /// Whether the connection is to close once it is at rest, since its address is no longer served.
    pub(crate) fn is_leaving(&self) -> bool {
        self.door.as_ref().is_some_and(|door| door.closed.load(Ordering::Acquire))
    }

    /// The connection works on a request.
    pub(crate) fn busy(&self) {
        self.handle.rests_since.store(BUSY, Ordering::Relaxed);
    }

    /// The connection waits for the next request. `now` spares a look at the clock.
    pub(crate) fn rests(&self, now: Instant) {
        let since = now.saturating_duration_since(self.registry.connections.started).as_micros() as u64;
        self.handle.rests_since.store(since, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.registry.connections.lock();
        inner.open.remove(&self.number);
        if let Some(address) = self.address
            && let Some(count) = inner.each.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                inner.each.remove(&address);
            }
        }
    }
}

impl Handle {
    /// Whether it was told to close. Registers for being told.
    pub(crate) fn poll_closed(&self, context: &Context<'_>) -> bool {
        let mut waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        drop(waker);
        self.close.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.close.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::h1::tests::shared;

    #[test]
    fn many_newcomers_at_once_are_paid_for_by_as_many_at_rest() {
        let shared = shared(|settings| settings.max_connections = 3.try_into().unwrap());
        let first: Vec<_> = (0..3).map(|_| enter(&shared, None).unwrap()).collect();
        first[1].busy();
        let second: Vec<_> = (0..2).map(|_| enter(&shared, None).unwrap()).collect();
        let told = |place: &&Place| place.handle.close.load(Ordering::Relaxed);
        assert_eq!(first.iter().chain(&second).filter(told).count(), 2);
        assert!(!told(&&first[1]), "one that works stays");
        first.iter().chain(&second).for_each(Place::busy);
        assert_eq!(enter(&shared, None).err(), Some(Full::All), "those that work stay");
        drop(first);
        assert!(enter(&shared, None).is_ok());
    }

    #[test]
    fn an_address_has_its_share() {
        let shared = shared(|settings| settings.max_connections_per_ip = 1.try_into().ok());
        let one = counted_address("2001:db8::1".parse().unwrap());
        let same = counted_address("2001:db8::2".parse().unwrap());
        let place = enter(&shared, Some(one)).unwrap();
        assert_eq!(enter(&shared, Some(same)).err(), Some(Full::Address));
        assert!(enter(&shared, None).is_ok(), "proxies and loopback are not counted");
        drop(place);
        assert!(enter(&shared, Some(same)).is_ok());
    }
}
