//! The connections of one session: to a server, to a cluster, or to the server that sentinels name.

use std::path::Path;
use std::time::Duration;

use ::redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use ::redis::cluster::{ClusterClient, ClusterClientBuilder};
use ::redis::cluster_async::ClusterConnection;
use ::redis::sentinel::{SentinelClientBuilder, SentinelServerType};
use ::redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, Cmd, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo as _, RedisError, RedisResult, TlsCertificates, TlsMode,
};

use super::settings::{Mode, Settings, is_tls};

/// A server that takes no connection within this is away.
const CONNECT: Duration = Duration::from_secs(1);
/// Calls that may wait to be written to a connection.
const BUFFER: usize = 1024;
/// A cluster that has changed is asked again so often.
const RETRIES: u32 = 2;

/// A connection that many use at once.
#[derive(Clone)]
pub enum Line {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// What is open at a time.
pub struct Session {
    pub quick: Line,
    pub bulk: Line,
    /// What nodes tell.
    pub heard: PubSubStream,
    /// Held to the end: the stream belongs to it.
    pub _subscribed: PubSubSink,
}

impl Line {
    pub async fn ask<T: FromRedisValue>(&self, cmd: &Cmd) -> RedisResult<T> {
        match self {
            Line::Server(connection) => cmd.query_async(&mut connection.clone()).await,
            Line::Cluster(connection) => cmd.query_async(&mut connection.clone()).await,
        }
    }

    pub async fn ping(&self) -> RedisResult<()> {
        let mut cmd = Cmd::new();
        cmd.arg("PING");
        self.ask::<::redis::Value>(&cmd).await.map(drop)
    }
}

impl Session {
    /// Connects, and listens to `channel`.
    pub async fn open(settings: &Settings, channel: &str) -> RedisResult<Self> {
        let certificates = certificates(settings)?;
        let nodes = settings.urls.iter().map(|url| {
            let info = url.expose().into_connection_info()?;
            Ok((info, is_tls(url)))
        });
        let mut nodes: Vec<(ConnectionInfo, bool)> = nodes.collect::<RedisResult<_>>()?;
        // The first that is well is used, and it should not be the same for all.
        fastrand::shuffle(&mut nodes);
        match &settings.mode {
            Mode::Single => {
                let mut last = None;
                for (info, tls) in nodes {
                    let client = client(info, tls, certificates.as_ref())?;
                    match Self::of_server(&client, channel).await {
                        Ok(session) => return Ok(session),
                        Err(error) => last = Some(error),
                    }
                }
                Err(last.unwrap_or_else(none))
            }
            Mode::Sentinel { .. } => {
                let client = master(settings, &nodes, certificates).await?;
                Self::of_server(&client, channel).await
            }
            Mode::Cluster => Self::of_cluster(nodes, certificates, channel).await,
        }
    }

    async fn of_server(client: &Client, channel: &str) -> RedisResult<Self> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            // Every call has its own.
            .set_response_timeout(None)
            .set_pipeline_buffer_size(BUFFER);
        let connect = || client.get_multiplexed_async_connection_with_config(&config);
        let quick = Line::Server(connect().await?);
        let bulk = Line::Server(connect().await?);
        let (subscribed, heard) = listen(client, channel).await?;
        Ok(Self {
            quick,
            bulk,
            heard,
            _subscribed: subscribed,
        })
    }

    async fn of_cluster(
        nodes: Vec<(ConnectionInfo, bool)>,
        certificates: Option<TlsCertificates>,
        channel: &str,
    ) -> RedisResult<Self> {
        let infos: Vec<ConnectionInfo> = nodes.iter().map(|(info, _)| info.clone()).collect();
        let mut builder = ClusterClientBuilder::new(infos)
            .connection_timeout(CONNECT)
            .response_timeout(CONNECT)
            .retries(RETRIES);
        if let Some(certificates) = &certificates {
            builder = builder.certs(certificates.clone());
        }
        let cluster: ClusterClient = builder.build()?;
        let quick = Line::Cluster(cluster.get_async_connection().await?);
        let bulk = Line::Cluster(cluster.get_async_connection().await?);
        // What is told to one node of a cluster, all of them tell on.
        let mut last = None;
        for (info, tls) in nodes {
            let client = client(info, tls, certificates.as_ref())?;
            match listen(&client, channel).await {
                Ok((subscribed, heard)) => {
                    return Ok(Self {
                        quick,
                        bulk,
                        heard,
                        _subscribed: subscribed,
                    });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(none))
    }
}

async fn listen(client: &Client, channel: &str) -> RedisResult<(PubSubSink, PubSubStream)> {
    let listening = async {
        let (mut subscribed, heard) = client.get_async_pubsub().await?.split();
        subscribed.subscribe(channel).await?;
        Ok((subscribed, heard))
    };
    match tokio::time::timeout(CONNECT, listening).await {
        Ok(outcome) => outcome,
        Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
    }
}

fn client(
    info: ConnectionInfo,
    tls: bool,
    certificates: Option<&TlsCertificates>,
) -> RedisResult<Client> {
    match certificates.filter(|_| tls) {
        Some(certificates) => Client::build_with_tls(info, certificates.clone()),
        None => Client::open(info),
    }
}

/// Asks the sentinels for the server that takes writes.
async fn master(
    settings: &Settings,
    nodes: &[(ConnectionInfo, bool)],
    certificates: Option<TlsCertificates>,
) -> RedisResult<Client> {
    let Mode::Sentinel {
        master,
        user,
        password,
    } = &settings.mode
    else {
        return Err(none());
    };
    let (first, tls) = nodes.first().ok_or_else(none)?;
    let addresses = nodes.iter().map(|(info, _)| info.addr().clone());
    let mut builder = SentinelClientBuilder::new(addresses, master, SentinelServerType::Master)?;
    // What the sentinels' own URLs say of a user is for them; the database is the server's.
    let theirs = first.redis_settings();
    if let Some(user) = theirs.username() {
        builder = builder.set_client_to_sentinel_username(user);
    }
    if let Some(password) = theirs.password() {
        builder = builder.set_client_to_sentinel_password(password);
    }
    builder = builder.set_client_to_redis_db(theirs.db());
    if let Some(user) = user {
        builder = builder.set_client_to_redis_username(user);
    }
    if let Some(password) = password {
        builder = builder.set_client_to_redis_password(password.expose());
    }
    if *tls {
        builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
        if let Some(certificates) = certificates {
            builder = builder
                .set_client_to_sentinel_certificates(certificates.clone())
                .set_client_to_redis_certificates(certificates);
        }
    }
    builder.build()?.async_get_client().await
}

fn certificates(settings: &Settings) -> RedisResult<Option<TlsCertificates>> {
    let read = |path: &Path| std::fs::read(path).map_err(RedisError::from);
    if settings.ca.is_none() && settings.identity.is_none() {
        return Ok(None);
    }
    let client_tls = match &settings.identity {
        Some(identity) => Some(ClientTlsConfig {
            client_cert: read(&identity.cert)?,
            client_key: read(&identity.key)?,
        }),
        None => None,
    };
    Ok(Some(TlsCertificates {
        client_tls,
        root_cert: settings.ca.as_deref().map(read).transpose()?,
    }))
}

fn none() -> RedisError {
    std::io::Error::other("no address was given").into()
}
