//! Values that are numbers, with a unit or without: counts, durations, sizes, rates of bytes, file modes.
//!
//! Owns their ranges and the words that may stand in their place. Units are `units.rs`. Invariant: what is returned lies in the range.

use std::time::Duration;

use super::{Complaint, complain};
use crate::knobs::Word;
use crate::raw::{Raw, What};
use crate::units;
use crate::value::Value;

/// `auto`, `off` or 0, where the row allows the word.
fn in_place_of_a_number(word: Word, raw: &Raw) -> Option<Value> {
    let (spelling, value) = match word {
        Word::None => return None,
        Word::Auto => ("auto", Value::Auto),
        Word::Off => ("off", Value::Off),
    };
    let named = match &raw.what {
        What::Text(text) => text.trim() == spelling || text.trim() == "0",
        What::Integer { value, .. } => *value == 0,
        What::Switch(on) => word == Word::Off && !on,
        _ => false,
    };
    named.then_some(value)
}

pub(super) fn count(low: u64, high: u64, word: Word, raw: &Raw) -> Result<Value, Complaint> {
    if let Some(value) = in_place_of_a_number(word, raw) {
        return Ok(value);
    }
    let number = match &raw.what {
        What::Integer { value, .. } => u64::try_from(*value).ok(),
        What::Text(text) => text.trim().parse().ok(),
        _ => None,
    };
    let hint = format!("a whole number from {low} to {high}{}", or_word(word));
    within(number, low, high, raw, "a whole number", hint, u64::to_string).map(Value::Count)
}

pub(super) fn duration(low: Duration, high: Duration, word: Word, raw: &Raw) -> Result<Value, Complaint> {
    if let Some(value) = in_place_of_a_number(word, raw) {
        return Ok(value);
    }
    let show = |d: &Duration| units::show_duration(*d);
    let hint = format!(
        "a duration such as \"30s\", \"500ms\" or \"2m\" (plain numbers are seconds), from {} to {}{}",
        show(&low),
        show(&high),
        or_word(word)
    );
    let read = number_text(raw).and_then(|text| units::read_duration(&text));
    within(read, low, high, raw, "a duration", hint, show).map(Value::Duration)
}

pub(super) fn size(low: u64, high: u64, word: Word, raw: &Raw) -> Result<Value, Complaint> {
    if let Some(value) = in_place_of_a_number(word, raw) {
        return Ok(value);
    }
    let show = |bytes: &u64| units::show_size(*bytes);
    let hint = format!(
        "a size such as \"20MB\" or \"64KiB\" (plain numbers are bytes), from {} to {}{}",
        show(&low),
        show(&high),
        or_word(word)
    );
    let read = number_text(raw).and_then(|text| units::read_size(&text));
    within(read, low, high, raw, "a size", hint, show).map(Value::Size)
}

pub(super) fn rate(low: u64, high: u64, word: Word, raw: &Raw) -> Result<Value, Complaint> {
    if let Some(value) = in_place_of_a_number(word, raw) {
        return Ok(value);
    }
    let show = |bytes: &u64| units::show_rate(*bytes);
    let hint = format!("a rate such as \"500B/s\", from {} to {}{}", show(&low), show(&high), or_word(word));
    let read = number_text(raw).and_then(|text| units::read_rate(&text));
    within(read, low, high, raw, "a rate", hint, show).map(Value::Rate)
}

fn within<T: PartialOrd>(
    read: Option<T>,
    low: T,
    high: T,
    raw: &Raw,
    noun: &str,
    hint: String,
    show: impl Fn(&T) -> String,
) -> Result<T, Complaint> {
    match read {
        Some(value) if value < low => {
            complain(raw, format!("{} is below the least, {}", raw.quoted(), show(&low)), hint)
        }
        Some(value) if value > high => {
            complain(raw, format!("{} is above the most, {}", raw.quoted(), show(&high)), hint)
        }
        Some(value) => Ok(value),
        None => complain(raw, format!("{} is not {noun}", raw.quoted()), hint),
    }
}

fn or_word(word: Word) -> &'static str {
    match word {
        Word::None => "",
        Word::Auto => ", or auto",
        Word::Off => ", or off",
    }
}

/// A number as text, so that `30`, `1.5` and `"30s"` take one road.
fn number_text(raw: &Raw) -> Option<String> {
    match &raw.what {
        What::Text(text) => Some(text.clone()),
        What::Integer { value, .. } => Some(value.to_string()),
        What::Float(value) => Some(value.to_string()),
        _ => None,
    }
}

pub(super) fn octal(raw: &Raw) -> Result<Value, Complaint> {
    let hint = "octal digits as text, such as \"022\"";
    let bits = match &raw.what {
        What::Integer { value, octal: true } => u32::try_from(*value).ok(),
        // 18 and 22 are both somebody's 0o22: a decimal number is not guessed at.
        What::Text(text) => u32::from_str_radix(text.trim().trim_start_matches("0o"), 8).ok(),
        _ => None,
    };
    match bits {
        Some(bits) if bits <= 0o777 => Ok(Value::Octal(bits)),
        _ => complain(raw, format!("{} is no file mode", raw.quoted()), hint),
    }
}
