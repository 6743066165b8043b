//! How much a tenant keeps under its idempotency keys, by the hour in which it is forgotten. So nothing has
//! to be counted down: an hour that is past is left out.

use async_trait::async_trait;
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use crate::store::{EmbeddedStore, RedisStore, StoreError, unavailable};
use units::WallTime;

/// By tenant and hour since 1970: answers and their bytes.
const ANSWER_ROOM: TableDefinition<(&str, u64), (u64, u64)> = TableDefinition::new("answer_room");
const MS_PER_HOUR: u64 = 60 * 60 * 1000;

/// How much is kept, or may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    pub answers: u64,
    /// Their bytes, as stored.
    pub bytes: u64,
}

/// Counts what is kept.
#[async_trait]
pub trait AnswerRoom: Send + Sync {
    /// What is kept for a tenant.
    async fn used(&self, now: WallTime, tenant: &str) -> Result<Room, StoreError>;

    /// Counts an answer that is kept until `until`. Returns what is kept for the tenant with it.
    async fn add(&self, now: WallTime, tenant: &str, until: WallTime, bytes: u64)
    -> Result<Room, StoreError>;
}

fn hour(moment: WallTime) -> u64 {
    moment.0 / MS_PER_HOUR
}

#[async_trait]
impl AnswerRoom for EmbeddedStore {
    async fn used(&self, now: WallTime, tenant: &str) -> Result<Room, StoreError> {
        let tenant = tenant.to_owned();
        self.run(move |database| {
            let read = database.begin_read().map_err(unavailable)?;
            match read.open_table(ANSWER_ROOM) {
                Ok(rooms) => sum(&rooms, &tenant, hour(now)),
                // Nothing was kept yet.
                Err(TableError::TableDoesNotExist(_)) => Ok(Room::default()),
                Err(error) => Err(unavailable(error)),
            }
        })
        .await
    }

    async fn add(
        &self,
        now: WallTime,
        tenant: &str,
        until: WallTime,
        bytes: u64,
    ) -> Result<Room, StoreError> {
        let tenant = tenant.to_owned();
        self.run(move |database| add(database, &tenant, (hour(now), hour(until)), bytes)).await
    }
}

fn sum(
    rooms: &impl ReadableTable<(&'static str, u64), (u64, u64)>,
    tenant: &str,
    from: u64,
) -> Result<Room, StoreError> {
    let mut used = Room::default();
    for row in rooms.range((tenant, from)..=(tenant, u64::MAX)).map_err(unavailable)? {
        let (answers, bytes) = row.map_err(unavailable)?.1.value();
        used.answers = used.answers.saturating_add(answers);
        used.bytes = used.bytes.saturating_add(bytes);
    }
    Ok(used)
}

fn add(database: &Database, tenant: &str, (now, until): (u64, u64), bytes: u64) -> Result<Room, StoreError> {
    let mut write = database.begin_write().map_err(unavailable)?;
    // What is lost with a power failure is a count, and the next change that is safe makes it safe, too.
    write.set_durability(Durability::None).map_err(unavailable)?;
    let used = {
        let mut rooms = write.open_table(ANSWER_ROOM).map_err(unavailable)?;
        let past = rooms.extract_from_if((tenant, 0)..(tenant, now), |_, _| true).map_err(unavailable)?;
        for row in past {
            row.map_err(unavailable)?;
        }
        let (answers, old) =
            rooms.get((tenant, until)).map_err(unavailable)?.map_or((0, 0), |row| row.value());
        rooms
            .insert((tenant, until), (answers.saturating_add(1), old.saturating_add(bytes)))
            .map_err(unavailable)?;
        sum(&rooms, tenant, now)?
    };
    write.commit().map_err(unavailable)?;
    Ok(used)
}

/// KEYS: a tenant's hours. ARGV: this hour; and to count an answer its last hour, its bytes, and milliseconds
/// to live. Returns answers and bytes.
const COUNT: &str = r"
    if ARGV[2] then
        redis.call('HINCRBY', KEYS[1], ARGV[2] .. ':answers', 1)
        redis.call('HINCRBY', KEYS[1], ARGV[2] .. ':bytes', ARGV[3])
        redis.call('PEXPIRE', KEYS[1], ARGV[4])
    end
    local used = {answers = 0, bytes = 0}
    local fields = redis.call('HGETALL', KEYS[1])
    for i = 1, #fields, 2 do
        local hour, kind = string.match(fields[i], '^(%d+):(%l+)$')
        if tonumber(hour) < tonumber(ARGV[1]) then
            redis.call('HDEL', KEYS[1], fields[i])
        else
            used[kind] = used[kind] + tonumber(fields[i + 1])
        end
    end
    return {used.answers, used.bytes}
";

impl RedisStore {
    async fn count(&self, tenant: &str, arguments: &[String]) -> Result<Room, StoreError> {
        let (answers, bytes) = self.run(COUNT, &[self.key("idempotency", tenant, "room")], arguments).await?;
        Ok(Room { answers, bytes })
    }
}

#[async_trait]
impl AnswerRoom for RedisStore {
    async fn used(&self, now: WallTime, tenant: &str) -> Result<Room, StoreError> {
        self.count(tenant, &[hour(now).to_string()]).await
    }

    async fn add(
        &self,
        now: WallTime,
        tenant: &str,
        until: WallTime,
        bytes: u64,
    ) -> Result<Room, StoreError> {
        let life = until.since(now).as_millis() as u64 + MS_PER_HOUR;
        let arguments = [hour(now), hour(until), bytes, life].map(|number| number.to_string());
        self.count(tenant, &arguments).await
    }
}
