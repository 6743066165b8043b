//! Old names of fields.

/// Fields that have another name by now: the old one and the new.
const RENAMED: [(&str, &str); 3] = [
    ("requests_in_flight_max", "calls_in_flight_max"),
    ("stream_requests_in_flight_max", "stream_calls_in_flight_max"),
    ("queue_requests_max", "queue_sequences_max"),
];

/// What to say beside an error that an old name is unknown.
pub(super) fn renamed(message: &str) -> String {
    let is_named = |(old, _): &&(&str, &str)| message.contains(&format!("unknown field `{old}`"));
    let found = RENAMED.iter().find(is_named);
    found.map_or_else(String::new, |(old, new)| format!("\n`{old}` is called `{new}` now"))
}
