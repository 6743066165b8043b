//! What tenants manage themselves, in the document of our API.

use protocols::openapi::{Api, CALLER, CHANGE, Content, KEYS, Operation};
use router::accounts::KeyView;
use serde_json::json;

use super::made::{CreatedKey, KnownKey};
use super::{CreateKey, Page, RotateKey};
use crate::usage_report;

/// Adds the routes of keys and of usage.
pub(crate) fn describe(api: &mut Api) {
    const TAG: &str = "Keys and usage";
    api.tag(TAG, "What tenants manage themselves.");
    let (query, report) = usage_report::schemas(api);
    let mut content = Content::from([("application/json", json!({"schema": report}))]);
    content.insert("text/csv", json!({"schema": {"type": "string"}}));
    let usage =
        Operation::new("get", "/v1/ml/usage", TAG, "Shows what your tenant used; owners see what it costs")
            .described("Needs the role viewer. At most 366 days, by default the last 30.")
            .query(&query)
            .answers_with(200, "The report, as `format` asks.", content)
            .fails(CALLER);
    let (page, key) = (api.read_whole::<Page>(), api.written::<KeyView>());
    let keys = json!({
        "type": "object", "required": ["keys"],
        "properties": {
            "keys": {"type": "array", "items": key},
            "next": {"type": "string", "description": "The `after` of the next page; the last one has none."},
        },
    });
    let needs_admin = "Needs the role admin.";
    let list = Operation::new("get", "/v1/ml/keys", TAG, "Lists your tenant's keys")
        .described(needs_admin)
        .query(&page)
        .answers(200, "A page of keys, by id.", &keys)
        .fails(KEYS);
    let (created, known) = (api.written::<CreatedKey<'_>>(), api.written::<KnownKey<'_>>());
    let made = |operation: Operation| {
        let again = "Made by the same request before: all but the key itself.";
        operation
            .described(needs_admin)
            .change_headers()
            .answers(200, again, &known)
            .shows(&["Idempotency-Replayed"])
            .answers(201, "The new key; it is shown this once.", &created)
            .fails(CHANGE)
    };
    let new = api.read::<CreateKey>();
    let create = made(Operation::new("post", "/v1/ml/keys", TAG, "Creates a key").body(&new))
        .leads_to("post_v1_ml_keys_id_rotate", "id", "id")
        .leads_to("delete_v1_ml_keys_id", "id", "id");
    let id = json!({"type": "string", "minLength": 1});
    let example = "key_01M8GK573W5KXPBT4RAH1YYH0P";
    let how = api.read::<RotateKey>();
    let rotate = Operation::new("post", "/v1/ml/keys/{id}/rotate", TAG, "Replaces a key, with an overlap")
        .path_part("id", &id, example)
        .body(&how);
    let rotate = made(rotate).leads_to("delete_v1_ml_keys_id", "id", "id");
    let revoke = Operation::new("delete", "/v1/ml/keys/{id}", TAG, "Revokes a key")
        .described(needs_admin)
        .path_part("id", &id, example)
        .answers(200, "The key as it is now; the same if it was revoked before.", &key)
        .fails(KEYS);
    for operation in [usage, list, create, rotate, revoke] {
        api.add(operation);
    }
}
