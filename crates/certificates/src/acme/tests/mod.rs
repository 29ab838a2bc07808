//! Turns against an authority that does what a test says, where Pebble cannot be made to: advice, test twins, limits, a disk that is
//! full, a process that is killed. What Pebble can do is in `tests/test_83_acme.py`.

mod scripted;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use self::scripted::Scripted;
use super::course::{Course, seconds};
use super::*;
use crate::pem::Pair;
use crate::storage::Storage;
use crate::storage::tests::Folder;

struct Dark;

impl Stage for Dark {
    fn put_http(&self, _: &str, _: &str) {}
    fn remove_http(&self, _: &str) {}
    fn put_alpn(&self, _: &str, _: Pair) {}
    fn remove_alpn(&self, _: &str) {}
}

/// A disk, and whoever orders.
struct Site {
    folder: Folder,
    storage: Storage,
    wish: Wish,
}

impl Site {
    fn new(names: &[&str], authorities: &[&Scripted]) -> Self {
        let folder = Folder::new();
        let storage = Storage::at(&folder.0);
        storage.prepare().unwrap();
        let ca = folder.0.join("roots.pem");
        fs::write(&ca, authorities.iter().map(|one| one.root.as_str()).collect::<String>()).unwrap();
        let wish = Wish {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            authorities: authorities.iter().map(|one| Authority::of(&one.directory)).collect(),
            ca: Some(ca),
            email: None,
            binding: None,
            profile: None,
            choice: Choice::Auto,
            can: Ways { http: true, alpn: false, dns: false },
            hook: None,
        };
        Self { folder, storage, wish }
    }

    async fn turn(&self, zeal: Zeal) -> Turn {
        let stage: Arc<dyn Stage> = Arc::new(Dark);
        turn(&self.wish, &self.storage, &stage, zeal).await
    }

    fn course(&self) -> Course {
        Course::read(&self.storage)
    }

    /// Changes what is remembered.
    fn edit(&self, change: impl FnOnce(&mut Course)) {
        let mut course = self.course();
        change(&mut course);
        assert!(course.write(&self.storage));
    }

    fn certificates(&self) -> Vec<(String, Vec<u8>)> {
        self.storage.certificates()
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.0.join("acme").join(below)
    }
}

/// For people, of the only names there are.
fn why(turn: &Turn) -> Option<&str> {
    turn.outcomes.last().unwrap().1.as_deref()
}

fn ordered(authority: &Scripted) -> Vec<Value> {
    authority.script().orders.clone()
}

/// RFC 9773: the window is asked for without a signature, renewal is in it, and the order says what it replaces.
#[tokio::test]
async fn advice_is_followed_and_the_order_says_what_it_replaces() {
    let authority = Scripted::start().await;
    authority.script().window = Some(("2020-01-01T00:00:00Z".into(), "2020-01-02T00:00:00Z".into()));
    let site = Site::new(&["a.test"], &[&authority]);
    let first = site.turn(Zeal::Due).await;
    assert_eq!(first.outcomes, [(vec!["a.test".to_owned()], None)]);
    let paths = |kind: &str| -> Vec<String> {
        authority.script().asked.iter().filter(|path| path.starts_with(kind)).cloned().collect()
    };
    assert_eq!(paths("/renewal").len(), 1);
    // A window that has passed is now, though not in circles.
    assert!(first.next > SystemTime::now() + Duration::from_secs(5 * 3600), "asked again in six hours");
    assert_eq!(site.turn(Zeal::Due).await.outcomes, []);
    site.edit(|course| course.certificates.get_mut("a.test").unwrap().since -= 24 * 3600);
    let before = site.certificates();
    assert_eq!(site.turn(Zeal::Due).await.outcomes.len(), 1);
    assert_ne!(site.certificates(), before);
    let orders = ordered(&authority);
    assert_eq!((orders.len(), &orders[0]["replaces"]), (2, &Value::Null));
    let replaced = orders[1]["replaces"].as_str().unwrap();
    assert_eq!(paths("/renewal")[0], format!("/renewal/{replaced}"));
    assert!(replaced.ends_with(".AQ"), "the serial number 1 in base64url: {replaced}");
}

/// A window that is far away puts renewal off; one that an authority takes back is asked for again.
#[tokio::test]
async fn advice_is_asked_for_again() {
    let authority = Scripted::start().await;
    authority.script().window = Some(("2999-01-01T00:00:00Z".into(), "2999-01-02T00:00:00Z".into()));
    let site = Site::new(&["a.test"], &[&authority]);
    site.turn(Zeal::Due).await;
    authority.script().window = Some(("2020-01-01T00:00:00Z".into(), "2020-01-02T00:00:00Z".into()));
    let (day, now) = (24 * 3600, seconds(SystemTime::now()));
    for (ask, wanted) in [(now + 3600, 1), (now - 1, 2), (now + 4000 * day, 3)] {
        site.edit(|course| {
            let origin = course.certificates.get_mut("a.test").unwrap();
            (origin.ask, origin.since) = (ask, now - day);
        });
        site.turn(Zeal::Due).await;
        assert_eq!(authority.script().issued, wanted, "asked again at {ask}, and it is {now}");
    }
}

#[tokio::test]
async fn a_profile_is_asked_for_where_there_is_one() {
    let authority = Scripted::start().await;
    authority.script().profiles = vec!["classic", "shortlived"];
    let mut site = Site::new(&["a.test"], &[&authority]);
    for (profile, wanted) in [("shortlived", json!("shortlived")), ("no-such-kind", Value::Null)] {
        site.wish.profile = Some(profile.to_owned());
        assert_eq!(site.turn(Zeal::Force).await.outcomes.len(), 1);
        assert_eq!(ordered(&authority).last().unwrap()["profile"], wanted, "{profile}");
    }
}

/// Row 69: after three failures the test twin is asked first; what it refuses is not ordered, and what it is down for is.
#[tokio::test]
async fn row_69_repeated_failures_are_rehearsed_at_the_twin() {
    let (authority, twin) = (Scripted::start().await, Scripted::start().await);
    let mut site = Site::new(&["a.test"], &[&authority, &twin]);
    site.wish.authorities.truncate(1);
    site.wish.authorities[0].staging = Some(twin.directory.clone());
    twin.script().refuses.insert("a.test".into(), "dns");
    let an_hour_ago = SystemTime::now() - Duration::from_secs(2 * 3600);
    let fail = |course: &mut Course, failures: u32| {
        course.fail("a.test", "", super::backoff::Cost::Nothing, an_hour_ago, 0.0);
        let trouble = course.names.get_mut("a.test").unwrap();
        (trouble.failures, trouble.next) = (failures, 0);
    };
    site.edit(|course| fail(course, 3));
    let refused = site.turn(Zeal::Due).await;
    assert!(why(&refused).unwrap().contains("could not verify it by http-01"), "{refused:?}");
    assert_eq!((ordered(&authority).len(), ordered(&twin).len()), (0, 1));
    assert!(site.course().names["a.test"].failed.is_empty(), "the authority has counted nothing");
    // With fewer failures, nobody is asked before.
    authority.script().refuses.insert("a.test".into(), "dns");
    site.edit(|course| fail(course, 2));
    site.turn(Zeal::Due).await;
    assert_eq!((ordered(&authority).len(), ordered(&twin).len()), (1, 1));
    // The twin agrees: no certificate is made there, and one is made here.
    authority.script().refuses.clear();
    twin.script().refuses.clear();
    site.edit(|course| fail(course, 4));
    assert_eq!(why(&site.turn(Zeal::Due).await), None);
    assert_eq!((authority.script().issued, twin.script().issued), (1, 0));
    assert_eq!(ordered(&twin).len(), 2);
    assert!(site.course().names.is_empty());
    // It is down.
    twin.script().busy = Some((503, "serverInternal", 60));
    site.edit(|course| fail(course, 4));
    assert_eq!(why(&site.turn(Zeal::Force).await), None);
}

/// Row 69: an hour sees three validations in vain, whoever asks for more; other names are not held back.
#[tokio::test]
async fn row_69_an_hour_sees_three_failed_validations() {
    let authority = Scripted::start().await;
    authority.script().refuses.insert("bad.test".into(), "connection");
    let site = Site::new(&["a.test", "bad.test"], &[&authority]);
    for zeal in [Zeal::Due, Zeal::Now, Zeal::Force, Zeal::Now, Zeal::Due, Zeal::Now, Zeal::Now] {
        site.turn(zeal).await;
    }
    let validated = authority.script().validated.clone();
    let times = |name: &str| validated.iter().filter(|one| *one == name).count();
    assert_eq!(times("bad.test"), 3);
    assert!(authority.script().issued > 0 && !site.course().names.contains_key("a.test"));
}

/// Row 69: a refusal by one authority counts, also when the next one is down; both would be asked again within the minute else.
#[tokio::test]
async fn row_69_what_the_first_has_refused_counts_although_the_second_is_down() {
    let (first, second) = (Scripted::start().await, Scripted::start().await);
    first.script().refuses.insert("a.test".into(), "caa");
    second.script().busy = Some((503, "serverInternal", 1));
    let site = Site::new(&["a.test"], &[&first, &second]);
    for _ in 0..8 {
        site.turn(Zeal::Now).await;
        site.edit(|course| course.busy.clear());
    }
    assert_eq!(first.script().validated.len(), 3);
}

/// Row 69: killed in the middle of every validation, the server asks three times an hour and no more.
#[tokio::test]
async fn row_69_a_server_that_is_killed_in_the_middle() {
    let authority = Scripted::start().await;
    authority.script().forgets.insert("a.test".into());
    let site = Site::new(&["a.test"], &[&authority]);
    for _ in 0..3 {
        tokio::select! {
            turn = site.turn(Zeal::Due) => panic!("{turn:?}"),
            () = authority.looks.notified() => {}
        }
    }
    assert_eq!(site.turn(Zeal::Now).await.outcomes, []);
    assert_eq!(authority.script().validated.len(), 3);
}

/// An authority that asks for patience gets it, over a restart too; meanwhile the next one is asked.
#[tokio::test]
async fn who_is_busy_is_not_asked() {
    let (first, second) = (Scripted::start().await, Scripted::start().await);
    first.script().busy = Some((429, "rateLimited", 7200));
    let site = Site::new(&["a.test"], &[&first, &second]);
    assert_eq!(why(&site.turn(Zeal::Due).await), None);
    assert_eq!((second.script().issued, ordered(&first).len()), (1, 1));
    let asked = first.script().asked.len();
    site.turn(Zeal::Force).await;
    assert_eq!(second.script().issued, 2);
    assert_eq!(first.script().asked.len(), asked);
    // Alone, nobody is asked at all, and the sentence says why.
    let mut alone = Site::new(&["b.test"], &[&first, &second]);
    alone.wish.authorities.truncate(1);
    alone.turn(Zeal::Due).await;
    let said = alone.turn(Zeal::Now).await;
    assert!(why(&said).unwrap().contains("asked not to be asked for 120 min more"), "{said:?}");
}

/// Rows 67 and 69: what cannot be remembered is not asked for, and what serves is not touched.
#[tokio::test]
async fn row_67_nothing_is_ordered_while_nothing_can_be_kept() {
    let authority = Scripted::start().await;
    let site = Site::new(&["a.test"], &[&authority]);
    site.turn(Zeal::Due).await;
    let serves = site.certificates();
    // A folder in the place of a file fails as a full disk does, for root as well.
    for blocked in ["course.json", "certificates/room"] {
        let _ = fs::remove_file(site.path(blocked));
        fs::create_dir_all(site.path(blocked).join("full")).unwrap();
        let said = site.turn(Zeal::Force).await;
        assert!(why(&said).unwrap().contains("nothing is ordered while nothing can be kept in"), "{said:?}");
        assert!(said.next >= SystemTime::now(), "not in circles");
        fs::remove_dir_all(site.path(blocked)).unwrap();
    }
    assert_eq!((ordered(&authority).len(), authority.script().issued), (1, 1));
    assert_eq!(site.certificates(), serves);
}

/// Rows 67 and 69: a disk that fills up in between costs a few certificates a week at most, and the old one serves.
#[tokio::test]
async fn row_67_a_disk_that_fills_up_in_the_middle() {
    let authority = Scripted::start().await;
    let site = Site::new(&["a.test"], &[&authority]);
    site.turn(Zeal::Due).await;
    let old = fs::read(site.path("certificates/a.test.pem")).unwrap();
    let path = site.path("certificates/a.test.pem");
    let aside = site.path("certificates/aside.pem");
    fs::rename(&path, &aside).unwrap();
    let full = path.clone();
    authority.script().before_handing_out =
        Some(Box::new(move || fs::create_dir_all(full.join("full")).unwrap()));
    for _ in 0..12 {
        let said = site.turn(Zeal::Force).await;
        assert!(said.outcomes.iter().all(|(_, why)| why.is_some()), "{said:?}");
        let _ = fs::remove_dir_all(&path);
    }
    assert_eq!(authority.script().issued, 4, "of the five that Let's Encrypt allows");
    let said = site.turn(Zeal::Force).await;
    assert!(
        why(&said).unwrap().contains("4 certificates of the same names in a week are enough"),
        "{said:?}"
    );
    assert_eq!(fs::read(aside).unwrap(), old);
    let served = best(&held(&site.storage, &site.wish.names), &site.wish.names);
    assert_eq!(served.len(), 1, "the old one");
}

/// Two processes: who comes second does nothing and says so.
#[tokio::test]
async fn whoever_has_no_lock_asks_nobody() {
    let authority = Scripted::start().await;
    let site = Site::new(&["a.test"], &[&authority]);
    let lock = site.storage.try_lock().unwrap().unwrap();
    let second = site.turn(Zeal::Force).await;
    assert!(second.was_busy && second.outcomes.is_empty());
    assert_eq!(authority.script().asked.len(), 0);
    drop(lock);
    assert_eq!(why(&site.turn(Zeal::Due).await), None);
}

/// More names than fit into one order, and one in ASCII that was written in another script.
#[tokio::test]
async fn many_names_and_names_of_other_scripts() {
    let authority = Scripted::start().await;
    let mut site = Site::new(&["xn--bcher-kva.test"], &[&authority]);
    site.wish.names.extend((0..149).map(|number| format!("n{number}.test")));
    let turn = site.turn(Zeal::Due).await;
    assert_eq!(
        turn.outcomes.iter().map(|(names, why)| (names.len(), why.is_none())).collect::<Vec<_>>(),
        [(100, true), (50, true)]
    );
    let served = best(&held(&site.storage, &site.wish.names), &site.wish.names);
    assert!(site.wish.names.iter().all(|name| served.iter().any(|pair| pair.facts.covers(name))));
    assert_eq!(site.turn(Zeal::Due).await.outcomes, []);
}

/// Row 69: the authority is down and the certificate is over; it is what is served.
#[tokio::test]
async fn row_69_what_is_over_is_served_while_the_authority_is_down() {
    let authority = Scripted::start().await;
    let site = Site::new(&["a.test"], &[&authority]);
    let mut over = rcgen::CertificateParams::new(["a.test".to_owned()]).unwrap();
    let now = SystemTime::now();
    over.not_before = (now - Duration::from_secs(20 * 24 * 3600)).into();
    over.not_after = (now - Duration::from_secs(24 * 3600)).into();
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = key.serialize_pem() + &over.self_signed(&key).unwrap().pem();
    site.storage.put_certificate("a.test", pem.as_bytes()).unwrap();
    authority.script().busy = Some((503, "serverInternal", 600));
    let said = site.turn(Zeal::Due).await;
    assert!(why(&said).is_some());
    let served = best(&held(&site.storage, &site.wish.names), &site.wish.names);
    assert!(served[0].facts.not_after < now);
    assert!(said.next < now + Duration::from_secs(3700), "it is tried again within the hour");
}
