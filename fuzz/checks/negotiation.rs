//! Accept-Encoding: what is chosen is there and was not refused, and neither our order nor the cut into lines decides.
//!
//! The first byte says which codings are available; the rest are lines of the field.

use bandstand_semantics::negotiate::{Coding, choose, choose_first, prefer_format};

const ALL: [Coding; 4] = [Coding::Br, Coding::Zstd, Coding::Gzip, Coding::Identity];

pub(crate) fn check(data: &[u8]) {
    let Some((&mask, text)) = data.split_first() else { return };
    let available: Vec<Coding> = ALL
        .into_iter()
        .enumerate()
        .filter(|(bit, _)| mask >> bit & 1 == 1)
        .map(|(_, coding)| coding)
        .collect();
    let lines = || text.split(|&byte| byte == b'\n');
    let chosen = choose(lines(), &available);
    assert!(chosen.is_none_or(|coding| available.contains(&coding)));

    let backwards: Vec<Coding> = available.iter().rev().copied().collect();
    assert_eq!(choose(lines(), &backwards), chosen);
    // Several lines are one list (RFC 9110 §5.3), unless a quote is left open at the end of one.
    if !text.contains(&b'"') {
        let joined = lines().collect::<Vec<_>>().join(&b", "[..]);
        assert_eq!(choose([&joined[..]], &available), chosen);
    }
    // The two orders agree on whether there is anything, and each on what is left once the others are gone.
    let first = choose_first(lines(), &available);
    assert_eq!(first.is_some(), chosen.is_some());
    for coding in available.iter().copied() {
        let alone = choose(lines(), &[coding]);
        assert_eq!(alone, choose_first(lines(), &[coding]));
        assert!(alone.is_none() || chosen.is_some());
        assert!(Some(coding) != chosen || alone == chosen, "what was chosen is acceptable by itself");
    }
    let _ = prefer_format(Some(text));
}
