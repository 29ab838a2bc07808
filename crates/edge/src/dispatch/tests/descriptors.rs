//! Stories of bodies that travel as descriptors.

use super::*;

// Descriptors.

#[tokio::test]
async fn a_spooled_body_comes_with_its_frame() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(8).await;
    let spooled = |name: &str| {
        let descriptor = Some(Arc::new(file(&format!("body of {name}"))));
        house.pool.submit(request(name, descriptor, false))
    };
    // All in one outbox: with and without, one after the other.
    let tickets = [house.get("a"), spooled("b"), house.get("c"), spooled("d"), spooled("e"), house.get("f")];
    for (name, ticket) in ["a", "b", "c", "d", "e", "f"].into_iter().zip(&tickets) {
        let got = worker.begin().await;
        assert_eq!(got.name(), name);
        worker.answer(&got, 1);
        assert_eq!(whole(ticket).await, name);
        let has_body = matches!(name, "b" | "d" | "e");
        assert_eq!(got.descriptor.is_some(), has_body, "{name}");
        if let Some(descriptor) = got.descriptor {
            assert_eq!(content(descriptor), format!("body of {name}"));
        }
    }
}

#[tokio::test]
async fn a_spooled_body_is_given_again_with_its_request() {
    let mut house = House::without_clock(PATIENT);
    let mut dies = house.hire(1).await;
    let descriptor = Some(Arc::new(file("body")));
    let ticket = house.pool.submit(request("x", descriptor, false));
    drop(dies.frame().await);
    drop(dies);
    house.lost(1).await;
    let mut heir = house.hire(1).await;
    let got = heir.begin().await;
    heir.answer(&got, 1);
    assert_eq!(content(got.descriptor.unwrap()), "body");
    assert_eq!(whole(&ticket).await, "x");
}

#[tokio::test]
async fn file_answers_come_with_their_descriptors() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(3).await;
    let tickets: Vec<_> = (0..3).map(|n| house.get(&n.to_string())).collect();
    let files: Vec<_> = (0..3).map(|n| file(&format!("file {n}"))).collect();
    for file in &files {
        let got = worker.begin().await;
        worker.finish(&got);
        let mut bytes = Vec::new();
        Header { kind: Kind::Response, flags: Flags::DESCRIPTOR, ..got.header }
            .write(&head(1, b""), &mut bytes);
        // The first byte carries it; the rest comes later.
        worker.write_with(&bytes[..5], &[file]);
        settle().await;
        worker.raw(&bytes[5..]);
    }
    for (n, ticket) in tickets.iter().enumerate() {
        match event(ticket).await {
            Event::Head(HeadFrame { whole: true, descriptor: Some(descriptor), .. }) => {
                assert_eq!(content(descriptor), format!("file {n}"));
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(house.pool.is_quiet());
}

/// More descriptors than there is room for: some are lost, and the rest would come with the wrong frames.
#[tokio::test]
async fn descriptors_that_were_cut_off_end_the_channel() {
    let mut house = House::without_clock(PATIENT);
    let mut worker = house.hire(1).await;
    let _ticket = house.get("x");
    let got = worker.begin().await;
    let one = file("x");
    let mut bytes = Vec::new();
    Header { kind: Kind::Response, flags: Flags::DESCRIPTOR, ..got.header }.write(&head(1, b""), &mut bytes);
    worker.write_with(&bytes, &[&one; 32]);
    assert!(house.lost(1).await.contains("descriptor"));
}
