//! An ordered list of header fields in two allocations.
//!
//! Owns storage and look-up by name. Leaves validity to `text.rs` and meaning to the rule files.
//! Names keep the case they came with, values are bytes as sent, order and repeats are kept (RFC 9110 §5.3).
//! Invariant: every span lies within the buffer. Why not a hash map: a request has about fifteen fields; comparing
//! lengths first decides almost every look-up without touching the bytes, and building costs two `memcpy` a field.

use std::fmt;

/// Header fields in the order they were pushed.
///
/// Bounds: a name of at most 65,535 bytes, all bytes together below 4 GiB. A field past that is not stored; the limits
/// on heads are thousands of times smaller and are checked before anything is pushed.
#[derive(Clone, Default)]
pub struct Fields {
    buffer: Vec<u8>,
    spans: Vec<Span>,
}

#[derive(Clone, Copy)]
struct Span {
    name_start: u32,
    value_start: u32,
    value_len: u32,
    name_len: u16,
}

impl Fields {
    /// An empty list; allocates nothing.
    #[must_use]
    pub fn new() -> Fields {
        Fields::default()
    }

    /// An empty list with room for `fields` fields of together `bytes` bytes of names and values.
    #[must_use]
    pub fn with_capacity(fields: usize, bytes: usize) -> Fields {
        Fields { buffer: Vec::with_capacity(bytes), spans: Vec::with_capacity(fields) }
    }

    /// Adds a field at the end, whether or not the name is there already.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        if let Some(span) = self.store(name, value) {
            self.spans.push(span);
        }
    }

    /// Number of fields, repeats counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// True when there is no field.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Every `(name, value)` in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&[u8], &[u8])> + ExactSizeIterator + Clone {
        self.spans.iter().map(|span| (self.name(span), self.value(span)))
    }

    /// The first value of this name, ASCII case ignored.
    #[must_use]
    pub fn first(&self, name: &str) -> Option<&[u8]> {
        self.spans.iter().find(|span| self.is_named(span, name)).map(|span| self.value(span))
    }

    /// Every value of this name in order, ASCII case ignored.
    pub fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a [u8]> + Clone + use<'a> {
        self.spans.iter().filter(move |span| self.is_named(span, name)).map(|span| self.value(span))
    }

    /// True when at least one field has this name, ASCII case ignored.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// Takes out every field of this name; gives how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.spans.len();
        self.retain(|field, _| !field.eq_ignore_ascii_case(name.as_bytes()));
        before - self.spans.len()
    }

    /// Leaves exactly one field of this name, with this value: in the place of the first one, else at the end.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let Some(place) = self.spans.iter().position(|span| self.is_named(span, name)) else {
            return self.push(name.as_bytes(), value);
        };
        let Some(span) = self.store(name.as_bytes(), value) else { return };
        self.spans[place] = span;
        let mut index = 0;
        let Fields { buffer, spans } = self;
        spans.retain(|span| {
            index += 1;
            index - 1 <= place
                || !slice(buffer, span.name_start, span.name_len.into()).eq_ignore_ascii_case(name.as_bytes())
        });
    }

    /// Empties the list and keeps its memory for the next head.
    pub fn clear(&mut self) {
        self.buffer.clear();
        self.spans.clear();
    }

    /// Keeps the fields for which `keep(name, value)` is true, in order.
    pub fn retain(&mut self, mut keep: impl FnMut(&[u8], &[u8]) -> bool) {
        let Fields { buffer, spans } = self;
        spans.retain(|span| {
            keep(
                slice(buffer, span.name_start, span.name_len.into()),
                slice(buffer, span.value_start, span.value_len),
            )
        });
        if self.spans.is_empty() {
            self.buffer.clear();
        }
    }

    /// Sum of the lengths of all names and values present, in bytes.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.spans.iter().map(|span| usize::from(span.name_len) + span.value_len as usize).sum()
    }

    fn store(&mut self, name: &[u8], value: &[u8]) -> Option<Span> {
        let name_start = u32::try_from(self.buffer.len()).ok()?;
        let name_len = u16::try_from(name.len()).ok()?;
        let value_len = u32::try_from(value.len()).ok()?;
        let value_start = name_start.checked_add(name_len.into())?;
        value_start.checked_add(value_len)?;
        self.buffer.extend_from_slice(name);
        self.buffer.extend_from_slice(value);
        Some(Span { name_start, value_start, value_len, name_len })
    }

    #[inline]
    fn is_named(&self, span: &Span, name: &str) -> bool {
        usize::from(span.name_len) == name.len() && self.name(span).eq_ignore_ascii_case(name.as_bytes())
    }

    #[inline]
    fn name(&self, span: &Span) -> &[u8] {
        slice(&self.buffer, span.name_start, span.name_len.into())
    }

    #[inline]
    fn value(&self, span: &Span) -> &[u8] {
        slice(&self.buffer, span.value_start, span.value_len)
    }
}

#[inline]
fn slice(buffer: &[u8], start: u32, len: u32) -> &[u8] {
    &buffer[start as usize..start as usize + len as usize]
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, V)> for Fields {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Fields {
        let mut fields = Fields::new();
        for (name, value) in pairs {
            fields.push(name.as_ref(), value.as_ref());
        }
        fields
    }
}

/// Equal when names (byte for byte), values and order are.
impl PartialEq for Fields {
    fn eq(&self, other: &Fields) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl fmt::Debug for Fields {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self
            .iter()
            .map(|(name, value)| (name.escape_ascii().to_string(), value.escape_ascii().to_string()));
        out.debug_map().entries(pairs).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Fields {
        [("Host", "a"), ("Accept", "x"), ("accept", "y"), ("X", "")].into_iter().collect()
    }

    fn pairs(fields: &Fields) -> Vec<(String, String)> {
        fields
            .iter()
            .map(|(name, value)| {
                (String::from_utf8_lossy(name).into(), String::from_utf8_lossy(value).into())
            })
            .collect()
    }

    fn owned(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn keeps_order_case_and_repeats() {
        let fields = sample();
        assert_eq!(fields.len(), 4);
        assert_eq!(pairs(&fields), owned(&[("Host", "a"), ("Accept", "x"), ("accept", "y"), ("X", "")]));
        assert_eq!(fields.byte_len(), 4 + 1 + 6 + 1 + 6 + 1 + 1);
    }

    #[test]
    fn finds_by_name_in_any_case() {
        let fields = sample();
        assert_eq!(fields.first("ACCEPT"), Some(&b"x"[..]));
        assert_eq!(fields.all("Accept").collect::<Vec<_>>(), [b"x", b"y"]);
        assert_eq!(fields.all("Accept").next_back(), Some(&b"y"[..]));
        assert_eq!(fields.first("x"), Some(&b""[..]));
        assert!(fields.contains("host"));
        assert!(!fields.contains("hos"));
        assert!(!fields.contains("hostt"));
        assert_eq!(fields.all("none").count(), 0);
    }

    #[test]
    fn removes_all_of_a_name() {
        let mut fields = sample();
        assert_eq!(fields.remove("accept"), 2);
        assert_eq!(fields.remove("accept"), 0);
        assert_eq!(pairs(&fields), owned(&[("Host", "a"), ("X", "")]));
    }

    #[test]
    fn set_leaves_one_in_the_first_place() {
        let mut fields = sample();
        fields.set("accept", b"longer than before");
        assert_eq!(pairs(&fields), owned(&[("Host", "a"), ("accept", "longer than before"), ("X", "")]));
        fields.set("New", b"1");
        assert_eq!(fields.iter().next_back(), Some((&b"New"[..], &b"1"[..])));
    }

    #[test]
    fn retain_and_clear() {
        let mut fields = sample();
        fields.retain(|name, value| name != b"Host" && !value.is_empty());
        assert_eq!(pairs(&fields), owned(&[("Accept", "x"), ("accept", "y")]));
        let room = fields.buffer.capacity();
        fields.clear();
        assert!(fields.is_empty());
        assert_eq!(fields.buffer.capacity(), room);
        assert_eq!(fields.first("accept"), None);
    }

    #[test]
    fn a_name_past_the_bound_is_not_stored() {
        let mut fields = sample();
        fields.push(&[b'n'; 65_536], b"v");
        assert_eq!(fields.len(), 4);
        fields.push(&[b'n'; 65_535], b"v");
        assert_eq!(fields.len(), 5);
    }

    #[test]
    fn equality_is_by_content_not_by_layout() {
        let mut fields = sample();
        fields.push(b"Gone", b"1");
        fields.remove("gone");
        assert_eq!(fields, sample());
        fields.set("x", b"1");
        assert_ne!(fields, sample());
    }
}
