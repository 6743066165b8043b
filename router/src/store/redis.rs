//! The store in Redis 7, a single server or a cluster, shared by any number of servers.
//!
//! What belongs together has one hash tag, so that a script finds it in one slot of a cluster. Scripts are
//! the transactions: Redis runs each as a whole.

use std::collections::BTreeSet;

use async_trait::async_trait;
use redis::{FromRedisValue, Script, ScriptInvocation, ToRedisArgs};

use super::link::Link;
use super::redis_config::RedisConfig;
use super::{AccountStore, AccountsSnapshot, Commit, LINEAGE_MAX, StoreError, parse, to_text};
use crate::accounts::{Accounts, AuditEntry, Change, KeyRecord, ModelRecord, TenantRecord, Version};

pub struct RedisStore {
    link: Link,
    prefix: String,
}

impl RedisStore {
    /// Connects; or if nobody is there, does so when somebody is, and fails calls until then.
    ///
    /// # Errors
    /// An address that is none.
    pub async fn connect(config: RedisConfig) -> Result<Self, StoreError> {
        let link = Link::open(&config, accounts_key(&config.prefix, "probe")).await?;
        Ok(Self { link, prefix: config.prefix })
    }

    /// Whether Redis is left alone at present, because it does not answer.
    pub fn is_left_alone(&self) -> bool {
        self.link.is_left_alone()
    }

    /// Why Redis did not do what it was asked last, if so.
    pub fn fault(&self) -> Option<String> {
        self.link.fault()
    }

    /// The eviction policy (`maxmemory-policy`) by which Redis may lose what is kept in it, if it has one and
    /// tells.
    pub fn eviction(&self) -> Option<String> {
        self.link.eviction()
    }

    async fn call<T: FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, StoreError> {
        let value = self.link.call(script).await?;
        T::from_redis_value(value).map_err(|error| StoreError::Corrupt(error.to_string()))
    }

    /// Runs a script on keys of one slot.
    pub(crate) async fn run<T: FromRedisValue>(
        &self,
        script: &str,
        keys: &[String],
        arguments: &[impl ToRedisArgs],
    ) -> Result<T, StoreError> {
        let script = Script::new(script);
        let mut call = script.prepare_invoke();
        for key in keys {
            call.key(key);
        }
        for argument in arguments {
            call.arg(argument);
        }
        self.call(&call).await
    }

    /// Key of something that belongs to a tenant; all of a tenant's keys of one area are in one slot.
    pub(crate) fn key(&self, area: &str, tenant: &str, name: &str) -> String {
        format!("{}:{area}:{{{tenant}}}:{name}", self.prefix)
    }

    /// Key of something that belongs to the accounts.
    fn accounts_key(&self, name: &str) -> String {
        accounts_key(&self.prefix, name)
    }
}

fn accounts_key(prefix: &str, name: &str) -> String {
    format!("{{{prefix}:accounts}}:{name}")
}

/// Defines `version()` over KEYS: version, tenants, keys, sizes. Beside the version stands how many tenants
/// and keys there are; where there are others, something was lost by itself (evicted, deleted, restored in
/// part), and that is another version, which nobody knows and nothing descends from. So is a version that is
/// none. Accounts of an older version have no sizes.
const LOOK: &str = r"
    local function sizes() return redis.call('HLEN', KEYS[2]) .. ',' .. redis.call('HLEN', KEYS[3]) end
    local function version()
        local at, kept = redis.call('GET', KEYS[1]) or '0', redis.call('GET', KEYS[4])
        if not string.match(at, '^%d+$') and not string.match(at, '^%d+:.+$') then return '0:lost-version' end
        if kept and kept ~= sizes() then
            return string.match(at, '^%d+') .. ':lost-' .. string.gsub(sizes(), ',', '-') .. '-of-' .. string.gsub(kept, ',', '-')
        end
        return at
    end
";

/// KEYS: version, tenants, keys, sizes, audit, lineage, models. ARGV: the version expected, the version
/// after, one that is restored or nothing, versions to remember, the audit entry, then kind, id and record of
/// each change. Returns whether it was made.
const COMMIT: &str = r"
    local at = version()
    if at ~= ARGV[1] then return 0 end
    local homes = {tenant = KEYS[2], key = KEYS[3], model = KEYS[7]}
    for i = 6, #ARGV, 3 do redis.call('HSET', homes[ARGV[i]], ARGV[i + 1], ARGV[i + 2]) end
    redis.call('RPUSH', KEYS[5], ARGV[5])
    if redis.call('EXISTS', KEYS[6]) == 0 then redis.call('LPUSH', KEYS[6], at) end
    if ARGV[3] ~= '' then redis.call('LPUSH', KEYS[6], ARGV[3]) end
    redis.call('LPUSH', KEYS[6], ARGV[2])
    redis.call('LTRIM', KEYS[6], 0, ARGV[4] - 1)
    redis.call('SET', KEYS[1], ARGV[2])
    redis.call('SET', KEYS[4], sizes())
    return 1
";

/// KEYS: version, tenants, keys, sizes, lineage, models. ARGV: the version that is known.
const LOAD: &str = r"
    local at = version()
    local is_descendant = ARGV[1] == '0' or ARGV[1] == at or redis.call('LPOS', KEYS[5], ARGV[1])
    if string.find(at, ':lost-', 1, true) and ARGV[1] ~= '0' then is_descendant = false end
    local rows = {redis.call('HGETALL', KEYS[2]), redis.call('HGETALL', KEYS[3]), redis.call('HGETALL', KEYS[6])}
    return {at, rows[1], rows[2], rows[3], is_descendant and 1 or 0}
";

/// KEYS: version, tenants, keys, sizes, probe. Writes, so that a server that was demoted does not pass for
/// one that has nothing new.
const VERSION: &str = r"
    redis.call('SET', KEYS[5], '1', 'PX', 60000)
    return version()
";

/// KEYS: the fingerprint. ARGV: one's own, whether it takes the other's place.
const KEY_SECRET: &str = r"
    if ARGV[2] == '1' then redis.call('SET', KEYS[1], ARGV[1]) else redis.call('SET', KEYS[1], ARGV[1], 'NX') end
    return redis.call('GET', KEYS[1])
";

/// A record, unless it is damaged: then its name is among the unreadable.
fn readable<T: serde::de::DeserializeOwned>(
    name: &str,
    row: &[u8],
    unreadable: &mut BTreeSet<String>,
) -> Option<T> {
    let record = serde_json::from_slice(row);
    if let Err(error) = &record {
        tracing::error!(name, %error, "Redis has a tenant, key or model that cannot be read");
        unreadable.insert(name.to_owned());
    }
    record.ok()
}

/// KEYS: audit. ARGV: how many. Newest last.
const AUDIT: &str = "return redis.call('LRANGE', KEYS[1], -tonumber(ARGV[1]), -1)";

#[async_trait]
impl AccountStore for RedisStore {
    async fn version(&self) -> Result<Version, StoreError> {
        let keys = ["version", "tenants", "keys", "sizes", "probe"].map(|name| self.accounts_key(name));
        let version: String = self.run(&format!("{LOOK}{VERSION}"), &keys, &[] as &[&str]).await?;
        Ok(version.parse()?)
    }

    async fn load(&self, known: &Version) -> Result<AccountsSnapshot, StoreError> {
        let names = ["version", "tenants", "keys", "sizes", "lineage", "models"];
        let keys = names.map(|name| self.accounts_key(name));
        type Rows = Vec<(String, Vec<u8>)>;
        let loaded: (String, Rows, Rows, Rows, i64) =
            self.run(&format!("{LOOK}{LOAD}"), &keys, &[known.to_string()]).await?;
        let (version, tenants, keys, models, is_descendant) = loaded;
        let is_lost =
            |version: &str| version.split_once(':').is_some_and(|(_, id)| id.starts_with(Version::LOST));
        if *known == Version::default() && is_lost(&version) {
            tracing::error!(
                version,
                "tenants and keys were lost from Redis by themselves: a key of it was deleted, evicted or restored alone. A \
                 server that knows them gives them back; else restore Redis from a backup"
            );
        }
        let mut accounts = Accounts { version: version.parse()?, ..Accounts::default() };
        for (name, row) in tenants {
            if let Some(tenant) = readable::<TenantRecord>(&name, &row, &mut accounts.unreadable) {
                accounts.tenants.insert(tenant.name.clone(), tenant);
            }
        }
        for (id, row) in keys {
            if let Some(key) = readable::<KeyRecord>(&id, &row, &mut accounts.unreadable) {
                accounts.keys.insert(key.id.clone(), key);
            }
        }
        for (name, row) in models {
            if let Some(model) = readable::<ModelRecord>(&name, &row, &mut accounts.unreadable) {
                accounts.models.insert(model.name.clone(), model);
            }
        }
        // What cannot be read is lost as if it were not there: whoever knows it gives it back.
        let is_whole = accounts.unreadable.is_empty() || *known == Version::default();
        Ok(AccountsSnapshot { accounts, is_descendant: is_descendant == 1 && is_whole })
    }

    async fn commit(&self, commit: Commit<'_>) -> Result<(), StoreError> {
        let Commit { expected, next, restored, changes, audit } = commit;
        let names = ["version", "tenants", "keys", "sizes", "audit", "lineage", "models"];
        let keys = names.map(|name| self.accounts_key(name));
        let restored = restored.map(ToString::to_string).unwrap_or_default();
        let mut arguments = vec![expected.to_string(), next.to_string(), restored];
        arguments.extend([LINEAGE_MAX.to_string(), to_text(audit)?]);
        for change in changes {
            let (kind, id, record) = match change {
                Change::Tenant(tenant) => ("tenant", tenant.name.as_str(), to_text(tenant)?),
                Change::Key(key) => ("key", key.id.as_str(), to_text(key)?),
                Change::Model(model) => ("model", model.name.as_str(), to_text(model)?),
            };
            arguments.extend([kind.to_owned(), id.to_owned(), record]);
        }
        let is_made: i64 = self.run(&format!("{LOOK}{COMMIT}"), &keys, &arguments).await?;
        if is_made == 1 { Ok(()) } else { Err(StoreError::Conflict) }
    }

    async fn key_secret(&self, own: &str, is_replaced: bool) -> Result<String, StoreError> {
        let arguments = [own, if is_replaced { "1" } else { "0" }];
        self.run(KEY_SECRET, &[self.accounts_key("secret")], &arguments).await
    }

    async fn audit(&self, entries_max: usize) -> Result<Vec<AuditEntry>, StoreError> {
        let keys = [self.accounts_key("audit")];
        let lines: Vec<String> = self.run(AUDIT, &keys, &[entries_max.clamp(1, 1 << 32)]).await?;
        lines.iter().rev().map(|line| parse(line)).collect()
    }
}
