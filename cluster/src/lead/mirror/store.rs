//! A connection to Redis on which every call has a deadline.
//!
//! A failed call is not repeated. The connection is given up, the shard goes on deciding by itself, and the next
//! connection begins by comparing everything anyway.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use redis::{
    Arg, AsyncConnectionConfig, Client, Cmd, Pipeline, RedisError, RedisResult, TlsMode, Value,
};
use tokio::time::timeout;

use super::address::{Address, Kind};
use super::script::{Answer, Odd, Scripts};

/// The longest that one round trip may take.
pub const CALL: Duration = Duration::from_millis(250);
/// The longest that connecting may take, with name resolution, TLS and Sentinels. Nobody waits for it.
const CONNECT: Duration = Duration::from_secs(2);
/// How many calls may be under way to a Redis Cluster, where they cannot share a round trip.
const CALLS: usize = 128;

/// Redis is of no use at the moment.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It took too long.
    #[error("no answer in time")]
    Late,
    /// It cannot be reached or refuses the call: it is read-only, out of memory, or has lost the scripts. Only the kind
    /// of the error is shown, as details may contain addresses.
    #[error("{}{}", .0.category(), .0.code().map(|code| format!(" ({code})")).unwrap_or_default())]
    Redis(#[from] RedisError),
}

/// A connection to Redis, with the scripts loaded.
pub struct Store {
    link: Link,
    scripts: Scripts,
}

enum Link {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Store {
    /// Connects, and loads the scripts.
    pub async fn connect(address: &Address) -> Result<Self, StoreError> {
        let link = timeout(CONNECT, connect(address))
            .await
            .map_err(|_| StoreError::Late)??;
        let mut store = Self {
            link,
            scripts: Scripts::default(),
        };
        for load in store.scripts.load() {
            // A cluster loads them on all of its servers.
            let loaded = match &mut store.link {
                Link::Server(link) => timeout(CALL, load.query_async::<Value>(link)).await,
                Link::Cluster(link) => timeout(CONNECT, load.query_async::<Value>(link)).await,
            };
            loaded.map_err(|_| StoreError::Late)??;
        }
        Ok(store)
    }

    /// The calls that may be made.
    pub fn scripts(&self) -> &Scripts {
        &self.scripts
    }

    /// Makes these calls, in one round trip if possible, and returns an answer for each.
    pub async fn ask(&mut self, calls: Vec<Cmd>) -> Result<Vec<Result<Answer, Odd>>, StoreError> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let answers = match &mut self.link {
            Link::Server(link) => {
                let mut pipeline = Pipeline::with_capacity(calls.len());
                for call in calls {
                    pipeline.add_command(call);
                }
                pipeline.ignore_errors();
                let answers = pipeline.query_async::<Vec<RedisResult<Value>>>(link);
                timeout(CALL, answers)
                    .await
                    .map_err(|_| StoreError::Late)??
            }
            Link::Cluster(link) => {
                // A cluster connection may reorder calls that it is given at the same time.
                let one = |calls: Vec<(usize, Cmd)>| one_by_one(link.clone(), calls);
                let parts = stream::iter(by_account(calls)).map(one);
                let answers: Vec<_> = parts.buffer_unordered(CALLS).try_concat().await?;
                let answers: BTreeMap<usize, _> = answers.into_iter().collect();
                answers.into_values().collect()
            }
        };
        answers.into_iter().map(read).collect()
    }
}

/// Groups calls by account, in their order within each group; each keeps its number.
fn by_account(calls: Vec<Cmd>) -> Vec<Vec<(usize, Cmd)>> {
    let mut parts: BTreeMap<Vec<u8>, Vec<_>> = BTreeMap::new();
    for (number, call) in calls.into_iter().enumerate() {
        // The arguments are EVALSHA, the script, the number of keys, and then the keys.
        let key = match call.args_iter().nth(3) {
            Some(Arg::Simple(key)) => key.to_vec(),
            _ => Vec::new(),
        };
        parts.entry(key).or_default().push((number, call));
    }
    parts.into_values().collect()
}

async fn one_by_one(
    mut link: ClusterConnection,
    calls: Vec<(usize, Cmd)>,
) -> Result<Vec<(usize, RedisResult<Value>)>, StoreError> {
    let mut answers = Vec::with_capacity(calls.len());
    for (number, call) in calls {
        let answer = timeout(CALL, call.query_async::<Value>(&mut link)).await;
        answers.push((number, answer.map_err(|_| StoreError::Late)?));
    }
    Ok(answers)
}

/// Reads one answer. A key of another type concerns only its account; any other error concerns the connection.
fn read(answer: RedisResult<Value>) -> Result<Result<Answer, Odd>, StoreError> {
    match answer {
        Ok(value) => Ok(Answer::read(&value)),
        Err(error) if is_wrong_type(&error) => Ok(Err(Odd)),
        Err(error) => Err(error.into()),
    }
}

/// Redis before version 7 says so within an error about the script.
fn is_wrong_type(error: &RedisError) -> bool {
    const WRONG: &str = "WRONGTYPE";
    error.code() == Some(WRONG) || error.detail().is_some_and(|text| text.contains(WRONG))
}

async fn connect(address: &Address) -> Result<Link, StoreError> {
    let patience = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(CONNECT));
    Ok(match &address.0 {
        Kind::Server(server) => {
            let client = Client::open(server.clone())?;
            let link = client.get_multiplexed_async_connection_with_config(&patience);
            Link::Server(link.await?)
        }
        Kind::Sentinels {
            sentinels,
            name,
            server,
        } => {
            let settings = server.redis_settings();
            let master = SentinelServerType::Master;
            let mut builder = SentinelClientBuilder::new(sentinels.clone(), name, master)?
                .set_client_to_redis_db(settings.db());
            if let Some(user) = settings.username() {
                builder = builder.set_client_to_redis_username(user);
            }
            if let Some(password) = settings.password() {
                builder = builder.set_client_to_redis_password(password);
            }
            if matches!(server.addr(), redis::ConnectionAddr::TcpTls { .. }) {
                builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            }
            let mut client = builder.build()?;
            let link = client.get_async_connection_with_config(&patience).await?;
            Link::Server(link)
        }
        Kind::Cluster(nodes) => {
            let builder: ClusterClientBuilder = ClusterClient::builder(nodes.clone());
            let client = builder
                .connection_timeout(CONNECT)
                .response_timeout(CONNECT)
                .retries(1)
                .build()?;
            Link::Cluster(client.get_async_connection().await?)
        }
    })
}
