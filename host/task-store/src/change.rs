//! What changes, as the writer carries it out.

use sqlx::{Any, Executor, Row as _, query::Query};
use uuid::Uuid;
use witan_database::Writer as Transaction;

use crate::{
    Row, State,
    files::{INPUT, RESULT},
    row::signed,
};

/// A task to be accepted.
#[derive(Clone, Debug)]
pub struct New {
    /// The task. Its state is queued.
    pub row: Row,
    /// What it works on.
    pub input: Vec<u8>,
    /// The key of the request, if it has one.
    pub key: Option<Key>,
}

/// What tells a request that is repeated from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The key with all that it is scoped to, as a digest.
    pub key: String,
    /// A digest of the request.
    pub fingerprint: String,
    /// Until when it is kept, in milliseconds since the Unix epoch.
    pub expires_ms: u64,
}

/// A key that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownKey {
    /// The digest of the request that came with it first.
    pub fingerprint: String,
    /// The task of that.
    pub task: Uuid,
}

/// Whether a task was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It was.
    New,
    /// Its key is known, and it was not.
    Known(KnownKey),
}

/// How a task has ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The task.
    pub id: Uuid,
    /// Its last state.
    pub state: State,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What it came to.
    pub result: Vec<u8>,
    /// What is to be delivered because of it.
    pub deliveries: Vec<Delivery>,
}

/// Something to be sent to somebody until it has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Its id, the same at each try.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: String,
    /// The task that it tells of.
    pub task: Uuid,
    /// What is to be sent where.
    pub body: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_ms: u64,
    /// When it is to be tried next.
    pub due_ms: u64,
}

#[derive(Clone, Debug)]
pub(crate) enum Change {
    Accept { new: Box<New>, input: Option<Vec<u8>> },
    Begin { id: Uuid, attempt: u32, at_ms: u64, deliveries: Vec<Delivery> },
    Hold { id: Uuid, state: State },
    End { ended: Box<Ended>, result: Option<Vec<u8>> },
    Deliver(Vec<Delivery>),
    Delivered { id: Uuid },
    Postpone { id: Uuid, attempts: u32, due_ms: u64 },
    Forget(Vec<Uuid>),
    ForgetKeys { before_ms: u64 },
    Seal { id: Uuid, callback: Option<String>, input: Option<Option<Vec<u8>>>, deliveries: Vec<(Uuid, String)> },
}

/// What one statement is.
type Statement<'q> = Query<'q, Any, sqlx::any::AnyArguments>;

async fn run(transaction: &mut Transaction, statement: Statement<'_>) -> Result<u64, sqlx::Error> {
    Ok((&mut **transaction).execute(statement).await?.rows_affected())
}

impl Change {
    /// Carries it out within `transaction`. An answer comes back from what asks for one.
    pub(crate) async fn apply(&self, transaction: &mut Transaction) -> Result<Option<Accepted>, sqlx::Error> {
        match self {
            Self::Accept { new, input } => return accept(transaction, new, input.as_deref()).await.map(Some),
            Self::Begin { id, attempt, at_ms, deliveries } => {
                let begin = "UPDATE task SET state = 'working', attempt = $2, started_ms = $3 WHERE id = $1 AND \
                             finished_ms IS NULL";
                let begin = sqlx::query(begin).bind(id.to_string()).bind(i64::from(*attempt));
                run(transaction, begin.bind(signed(*at_ms))).await?;
                deliver(transaction, deliveries).await?;
            }
            Self::Hold { id, state } => {
                let hold = "UPDATE task SET state = $2 WHERE id = $1 AND state IN ('queued', 'paused')";
                run(transaction, sqlx::query(hold).bind(id.to_string()).bind(state.name())).await?;
            }
            Self::End { ended, result } => end(transaction, ended, result.as_deref()).await?,
            Self::Deliver(deliveries) => deliver(transaction, deliveries).await?,
            Self::Delivered { id } => {
                let delivered = sqlx::query("DELETE FROM task_delivery WHERE id = $1").bind(id.to_string());
                run(transaction, delivered).await?;
            }
            Self::Postpone { id, attempts, due_ms } => {
                let postpone = sqlx::query("UPDATE task_delivery SET attempts = $2, due_ms = $3 WHERE id = $1");
                let postpone = postpone.bind(id.to_string()).bind(i64::from(*attempts)).bind(signed(*due_ms));
                run(transaction, postpone).await?;
            }
            Self::Seal { id, callback, input, deliveries } => {
                let update = sqlx::query("UPDATE task SET callback = $2 WHERE id = $1").bind(id.to_string());
                run(transaction, update.bind(callback.clone())).await?;
                if let Some(input) = input {
                    body(transaction, &id.to_string(), INPUT, input.as_deref()).await?;
                }
                for (delivery, body) in deliveries {
                    let update = sqlx::query("UPDATE task_delivery SET body = $2 WHERE id = $1");
                    run(transaction, update.bind(delivery.to_string()).bind(body.as_str())).await?;
                }
                let sealed = sqlx::query("DELETE FROM task_unsealed WHERE task = $1").bind(id.to_string());
                run(transaction, sealed).await?;
            }
            Self::Forget(ids) => forget(transaction, ids).await?,
            Self::ForgetKeys { before_ms } => {
                let forget = sqlx::query("DELETE FROM task_key WHERE expires_ms < $1").bind(signed(*before_ms));
                run(transaction, forget).await?;
            }
        }
        Ok(None)
    }
}

async fn accept(transaction: &mut Transaction, new: &New, input: Option<&[u8]>) -> Result<Accepted, sqlx::Error> {
    let row = &new.row;
    let id = row.id.to_string();
    if let Some(key) = &new.key {
        // A key that has run out is as good as none.
        let stale = sqlx::query("DELETE FROM task_key WHERE key = $1 AND expires_ms <= $2").bind(key.key.as_str());
        run(transaction, stale.bind(signed(row.created_ms))).await?;
        let insert = "INSERT INTO task_key (key, tenant, fingerprint, task, expires_ms) VALUES ($1, $2, $3, $4, $5) \
                      ON CONFLICT (key) DO NOTHING";
        let insert = sqlx::query(insert).bind(key.key.as_str()).bind(row.tenant.as_str());
        let insert = insert.bind(key.fingerprint.as_str()).bind(id.as_str()).bind(signed(key.expires_ms));
        if run(transaction, insert).await? == 0
            && let Some(known) = known(transaction, &key.key).await?
            && known.task != row.id
        {
            return Ok(Accepted::Known(known));
        }
    }
    let insert = "INSERT INTO task (id, tenant, principal, intent, state, priority, attempt, created_ms, context, metadata, \
                  callback) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (id) DO NOTHING";
    let metadata = serde_json::to_string(&row.metadata).unwrap_or_else(|_| "{}".to_owned());
    let insert = sqlx::query(insert).bind(id.as_str()).bind(row.tenant.as_str()).bind(row.principal.as_str());
    let insert = insert.bind(row.intent.as_str()).bind(row.state.name()).bind(i64::from(row.priority));
    let insert = insert.bind(i64::from(row.attempt)).bind(signed(row.created_ms)).bind(row.context.as_str());
    if run(transaction, insert.bind(metadata).bind(row.callback.clone())).await? == 0 {
        // The database committed it, and the word of that was lost.
        return Ok(Accepted::New);
    }
    for (name, value) in &row.metadata {
        let insert = sqlx::query("INSERT INTO task_metadata (tenant, name, value, task) VALUES ($1, $2, $3, $4)");
        let insert = insert.bind(row.tenant.as_str()).bind(name.as_str()).bind(value.as_str()).bind(id.as_str());
        run(transaction, insert).await?;
    }
    body(transaction, &id, INPUT, input).await?;
    Ok(Accepted::New)
}

/// Whose a key is.
async fn known(transaction: &mut Transaction, key: &str) -> Result<Option<KnownKey>, sqlx::Error> {
    let select = sqlx::query("SELECT fingerprint, task FROM task_key WHERE key = $1").bind(key.to_owned());
    let row = select.fetch_optional(&mut **transaction).await?;
    row.map(|row| known_key(&row)).transpose()
}

pub(crate) fn known_key(row: &sqlx::any::AnyRow) -> Result<KnownKey, sqlx::Error> {
    let task: String = row.try_get(1)?;
    let task = task.parse().map_err(|error: uuid::Error| sqlx::Error::Decode(error.into()))?;
    Ok(KnownKey { fingerprint: row.try_get(0)?, task })
}

async fn body(transaction: &mut Transaction, id: &str, kind: i64, bytes: Option<&[u8]>) -> Result<(), sqlx::Error> {
    let insert = "INSERT INTO task_body (task, kind, bytes) VALUES ($1, $2, $3) ON CONFLICT (task, kind) DO UPDATE SET \
                  bytes = $3";
    let insert = sqlx::query(insert).bind(id).bind(kind).bind(bytes.map(<[u8]>::to_vec));
    run(transaction, insert).await.map(|_| ())
}

async fn end(transaction: &mut Transaction, ended: &Ended, result: Option<&[u8]>) -> Result<(), sqlx::Error> {
    let id = ended.id.to_string();
    let update = "UPDATE task SET state = $2, finished_ms = $3 WHERE id = $1 AND finished_ms IS NULL";
    let update = sqlx::query(update).bind(id.as_str()).bind(ended.state.name()).bind(signed(ended.at_ms));
    if run(transaction, update).await? == 0 {
        // It has ended before, and stays as it was.
        return Ok(());
    }
    body(transaction, &id, RESULT, result).await?;
    if ended.state == State::Completed {
        // Whoever wants it again asks again; one that failed may be tried again as it is.
        let input = sqlx::query("DELETE FROM task_body WHERE task = $1 AND kind = $2").bind(id.as_str()).bind(INPUT);
        run(transaction, input).await?;
    }
    deliver(transaction, &ended.deliveries).await
}

async fn deliver(transaction: &mut Transaction, deliveries: &[Delivery]) -> Result<(), sqlx::Error> {
    for delivery in deliveries {
        let insert = "INSERT INTO task_delivery (id, tenant, task, body, attempts, created_ms, due_ms) VALUES ($1, $2, $3, \
                      $4, $5, $6, $7)";
        let insert = sqlx::query(insert).bind(delivery.id.to_string()).bind(delivery.tenant.as_str());
        let insert = insert.bind(delivery.task.to_string()).bind(delivery.body.as_str());
        let insert = insert.bind(i64::from(delivery.attempts)).bind(signed(delivery.created_ms));
        run(transaction, insert.bind(signed(delivery.due_ms))).await?;
    }
    Ok(())
}

async fn forget(transaction: &mut Transaction, ids: &[Uuid]) -> Result<(), sqlx::Error> {
    for id in ids {
        let id = id.to_string();
        for delete in [
            "DELETE FROM task WHERE id = $1",
            "DELETE FROM task_body WHERE task = $1",
            "DELETE FROM task_metadata WHERE task = $1",
        ] {
            run(transaction, sqlx::query(delete).bind(id.as_str())).await?;
        }
    }
    Ok(())
}
