//! The few rules that join two keys.
//!
//! Owns what no key can say alone: bounds that depend on another key, and names that must differ. It sees values that are each inside
//! their own range. Invariant: every complaint names the place of one key and the origin of the other.

mod https;

use std::collections::BTreeMap;

use crate::paths::PathInterface;
use crate::problem::{Place, Problem};
use crate::raw::Origin;
use crate::value::Value;

/// Adds a problem for each rule that is broken.
pub(crate) fn between_keys(
    values: &BTreeMap<&'static str, Value>,
    origins: &BTreeMap<&'static str, Origin>,
    problems: &mut Vec<Problem>,
) {
    let place_of = |key: &str| origins.get(key).map_or(Place::Nowhere, |origin| Place::of(origin, &(0..0)));
    let set_by = |key: &str| origins.get(key).map_or_else(|| "default".to_owned(), Origin::to_string);
    if let (Some(Value::Count(threads)), Some(Value::Count(most))) =
        (values.get("threads"), values.get("threads_max"))
        && most < threads
    {
        let sentence = format!("`threads_max` is {most}, less than `threads`, {threads}");
        let hint =
            format!("`threads` comes from {}; `threads_max` counts those threads too", set_by("threads"));
        problems.push(Problem::new(place_of("threads_max"), sentence, hint));
    }
    worker_range(values, origins, problems);
    if let (Some(Value::Word("wsgi")), Some(Value::PathRules(rules))) =
        (values.get("interface"), values.get("paths"))
        && let Some((prefix, _)) = rules.all().find(|(_, interface)| *interface == PathInterface::Asgi)
    {
        let sentence = format!("`paths` sends {prefix} over asgi, and `interface` is wsgi");
        let hint = format!(
            "`interface` comes from {}; write \"both\" there, or take the prefix away",
            set_by("interface")
        );
        problems.push(Problem::new(place_of("paths"), sentence, hint));
    }
    https::between_keys(values, origins, problems);
    let url = |key: &str| match values.get(key) {
        Some(Value::Mount { url, .. }) => url.clone(),
        Some(Value::Text(path)) => Some(path.clone()),
        _ => None,
    };
    for (one, other) in [("static", "media"), ("health_path", "ready_path")] {
        if let (Some(first), Some(second)) = (url(one), url(other))
            && first == second
        {
            let wrote = |key: &&str| !matches!(origins.get(key), Some(Origin::Default | Origin::Django(_)));
            let key = [other, one].into_iter().find(|key| wrote(key)).unwrap_or(other);
            let place = origins.get(key).map_or(Place::Nowhere, |origin| Place::of(origin, &(0..0)));
            let sentence = format!("`{one}` and `{other}` are both at {first}");
            problems.push(Problem::new(place, sentence, "give each a path of its own"));
        }
    }
}

/// `workers_min` ≤ `workers` ≤ `workers_max`, and both bounds or none.
fn worker_range(
    values: &BTreeMap<&'static str, Value>,
    origins: &BTreeMap<&'static str, Origin>,
    problems: &mut Vec<Problem>,
) {
    let count = |key: &str| match values.get(key) {
        Some(Value::Count(number)) => Some(*number),
        _ => None,
    };
    let mut refuse = |key: &str, sentence: String, hint: String| {
        let place = origins.get(key).map_or(Place::Nowhere, |origin| Place::of(origin, &(0..0)));
        problems.push(Problem::new(place, sentence, hint));
    };
    let from = |key: &str| origins.get(key).map_or_else(|| "nowhere".to_owned(), |origin| origin.to_string());
    let (least, most) = match (count("workers_min"), count("workers_max")) {
        (None, None) => return,
        (Some(_), None) => {
            let hint = "set both, or none";
            return refuse("workers_min", "`workers_min` needs `workers_max`".into(), hint.into());
        }
        (None, Some(_)) => {
            let hint = "set both, or none";
            return refuse("workers_max", "`workers_max` needs `workers_min`".into(), hint.into());
        }
        (Some(least), Some(most)) => (least, most),
    };
    if most < least {
        let sentence = format!("`workers_max` is {most}, less than `workers_min`, {least}");
        refuse("workers_max", sentence, format!("`workers_min` comes from {}", from("workers_min")));
        return;
    }
    if let Some(workers) = count("workers")
        && !(least..=most).contains(&workers)
    {
        let sentence =
            format!("`workers` is {workers}, outside `workers_min` and `workers_max`, {least} to {most}");
        let hint = format!(
            "leave `workers` out, or move the bounds: {} and {}",
            from("workers_min"),
            from("workers_max")
        );
        refuse("workers", sentence, hint);
    }
}
