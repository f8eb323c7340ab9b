//! The endpoints of one provider: addresses found by DNS, load-balanced and health-checked by
//! `pingora-load-balancing`.
//!
//! A `Backend` is its address and weight alone, so one pool holds one provider's endpoints and a table from
//! address to endpoint; credentials, models and cooldowns live above it, in `routing`.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use pingora::http::RequestHeader;
use pingora::listeners::ALPN;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::socket::SocketAddr as PingoraAddr;
use pingora::server::ShutdownWatch;
use pingora::upstreams::peer::HttpPeer;
use pingora::{ErrorType, OkOrErr, OrErr};
use pingora_load_balancing::discovery::ServiceDiscovery;
use pingora_load_balancing::health_check::HealthCheck;
use pingora_load_balancing::selection::RoundRobin;
use pingora_load_balancing::{Backend, Backends, Extensions, LoadBalancer};

use super::Wire;
use crate::provider::{Endpoint, Health, Provider};

/// Names are looked up again this often, so that a provider that moves is followed without a restart.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// Concurrent requests on one HTTP/2 connection; Pingora's default of 1 would make HTTP/2 useless.
const H2_STREAMS: usize = 100;
/// HTTP/2 flow-control windows; the protocol's default of 64 KiB throttles large requests and answers.
const H2_WINDOW: u32 = 1 << 20;

/// One provider's endpoints.
pub struct Pool {
    pub provider: String,
    endpoints: Vec<Endpoint>,
    balancer: LoadBalancer<RoundRobin>,
    shared: Arc<Shared>,
    wire: Arc<Wire>,
    resolving: tokio::sync::Mutex<()>,
}

/// What discovery and health checks share with the pool.
struct Shared {
    provider: String,
    endpoints: Vec<Endpoint>,
    places: ArcSwap<Vec<Place>>,
    health: Option<Health>,
    wire: Arc<Wire>,
}

/// One address of an endpoint, ready to be connected to.
#[derive(Clone)]
pub struct Place {
    pub address: SocketAddr,
    /// Index into the provider's endpoints.
    pub endpoint: usize,
    pub peer: Arc<HttpPeer>,
}

impl Pool {
    pub fn new(provider: &Provider, wire: Arc<Wire>) -> Self {
        let shared = Arc::new(Shared {
            provider: provider.name.clone(),
            endpoints: provider.endpoints.clone(),
            places: ArcSwap::from_pointee(Vec::new()),
            health: provider.health.clone(),
            wire: wire.clone(),
        });
        let mut balancer =
            LoadBalancer::from_backends(Backends::new(Box::new(Dns(shared.clone()))));
        let named = provider
            .endpoints
            .iter()
            .any(|endpoint| endpoint.host.parse::<IpAddr>().is_err());
        balancer.update_frequency = named.then_some(RESOLVE_EVERY);
        if let Some(health) = &provider.health {
            balancer.set_health_check(Box::new(Probe(shared.clone())));
            balancer.health_check_frequency = Some(health.every);
            balancer.parallel_health_check = true;
        }
        Self {
            provider: provider.name.clone(),
            endpoints: provider.endpoints.clone(),
            balancer,
            shared,
            wire,
            resolving: tokio::sync::Mutex::new(()),
        }
    }

    pub fn wire(&self) -> &Arc<Wire> {
        &self.wire
    }

    pub fn endpoint(&self, index: usize) -> &Endpoint {
        &self.endpoints[index]
    }

    /// Looks names up and checks health until `shutdown`; the pool's background half.
    pub async fn run(&self, shutdown: ShutdownWatch) {
        self.balancer.run(shutdown, None).await;
    }

    /// Returns whether there is an address to ask; false also before the first look-up.
    pub fn is_resolved(&self) -> bool {
        !self.shared.places.load().is_empty()
    }

    /// Makes sure that names were looked up once; returns whether there is an address to ask.
    pub async fn resolve(&self) -> bool {
        // One look-up for all who wait: its answer serves them too.
        let _turn = self.resolving.lock().await;
        if !self.is_resolved() {
            let _ = self.balancer.update().await;
        }
        self.is_resolved()
    }

    /// Picks an address by weight among the healthy ones for which `avoid` is false.
    ///
    /// Asked again as `desperate`, when nothing is left, for those that its checks found unwell: a bad address is
    /// better than none.
    pub fn pick(
        &self,
        avoid: impl Fn(usize, &SocketAddr) -> bool,
        desperate: bool,
    ) -> Option<Place> {
        let places = self.shared.places.load();
        if let [only] = places.as_slice() {
            let healthy = self.shared.health.is_none() || self.is_healthy(only);
            let fine = (desperate || healthy) && !avoid(only.endpoint, &only.address);
            return fine.then(|| only.clone());
        }
        let find = |backend: &Backend| {
            let address = backend.addr.as_inet()?;
            places.iter().find(|place| place.address == *address)
        };
        let accept = |backend: &Backend, healthy: bool| {
            find(backend).is_some_and(|place| {
                (desperate || healthy) && !avoid(place.endpoint, &place.address)
            })
        };
        // Weighted round robin names one address several times: look far enough to see each of them once.
        let tries = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint.weight as usize)
            .sum::<usize>()
            .max(places.len());
        let backend = self
            .balancer
            .select_with(b"", tries.saturating_mul(4).min(4096), accept)?;
        find(&backend).cloned()
    }

    /// Returns the place at `address`, where it is known, healthy, and `avoid` is false for it.
    pub fn find(
        &self,
        address: SocketAddr,
        avoid: impl Fn(usize, &SocketAddr) -> bool,
    ) -> Option<Place> {
        let places = self.shared.places.load();
        let place = places.iter().find(|place| place.address == address)?;
        let healthy = self.shared.health.is_none() || self.is_healthy(place);
        (healthy && !avoid(place.endpoint, &place.address)).then(|| place.clone())
    }

    /// Returns every known address with its endpoint and health.
    pub fn places(&self) -> Vec<(Place, bool)> {
        self.shared
            .places
            .load()
            .iter()
            .map(|place| (place.clone(), self.is_healthy(place)))
            .collect()
    }

    fn is_healthy(&self, place: &Place) -> bool {
        self.balancer.backends().ready(&backend(
            place.address,
            self.endpoints[place.endpoint].weight,
        ))
    }
}

fn backend(address: SocketAddr, weight: u32) -> Backend {
    Backend {
        addr: PingoraAddr::Inet(address),
        weight: weight.max(1) as usize,
        ext: Extensions::new(),
    }
}

impl Shared {
    fn place(&self, address: SocketAddr, index: usize) -> Place {
        let endpoint = &self.endpoints[index];
        let mut peer = HttpPeer::new(address, endpoint.tls, endpoint.host.clone());
        peer.options.alpn = if endpoint.tls { ALPN::H2H1 } else { ALPN::H1 };
        peer.options.max_h2_streams = H2_STREAMS;
        peer.options.h2_stream_window_size = Some(H2_WINDOW);
        peer.options.h2_connection_window_size = Some(H2_WINDOW * 4);
        peer.options.h2_ping_interval = Some(Duration::from_secs(30));
        peer.options.tcp_keepalive = Some(TcpKeepalive {
            idle: Duration::from_secs(30),
            interval: Duration::from_secs(10),
            count: 3,
            #[cfg(target_os = "linux")]
            user_timeout: Duration::from_secs(0),
        });
        Place {
            address,
            endpoint: index,
            peer: Arc::new(peer),
        }
    }
}

/// Finds the addresses of every endpoint. A name that can't be looked up keeps the addresses it had.
struct Dns(Arc<Shared>);

#[async_trait]
impl ServiceDiscovery for Dns {
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let known = self.0.places.load_full();
        let mut places: Vec<Place> = Vec::new();
        for (index, endpoint) in self.0.endpoints.iter().enumerate() {
            let before = known.iter().filter(|place| place.endpoint == index);
            let addresses = match tokio::net::lookup_host((endpoint.host.as_str(), endpoint.port))
                .await
            {
                Ok(found) => found.collect::<Vec<_>>(),
                Err(error) => {
                    tracing::warn!(provider = self.0.provider, host = endpoint.host, %error, "name not resolved");
                    before.clone().map(|place| place.address).collect()
                }
            };
            for address in addresses {
                if places.iter().all(|place| place.address != address) {
                    // The same peer object keeps its pooled connections; a new one with equal fields would too.
                    let old = before
                        .clone()
                        .find(|place| place.address == address)
                        .cloned();
                    places.push(old.unwrap_or_else(|| self.0.place(address, index)));
                }
            }
        }
        let backends = places
            .iter()
            .map(|place| backend(place.address, self.0.endpoints[place.endpoint].weight))
            .collect();
        self.0.places.store(Arc::new(places));
        Ok((backends, HashMap::new()))
    }
}

/// Checks one address: a GET that must answer as expected, or a connection that must open.
struct Probe(Arc<Shared>);

#[async_trait]
impl HealthCheck for Probe {
    async fn check(&self, target: &Backend) -> pingora::Result<()> {
        let health = self
            .0
            .health
            .as_ref()
            .or_err(ErrorType::InternalError, "no health check")?;
        let address = target
            .addr
            .as_inet()
            .or_err(ErrorType::InternalError, "not an inet address")?;
        let places = self.0.places.load_full();
        let place = places.iter().find(|place| place.address == *address);
        let place = place.or_err(ErrorType::InternalError, "address is gone")?;
        let check = async {
            let endpoint = &self.0.endpoints[place.endpoint];
            let Some(path) = endpoint.health_path.as_ref().or(health.path.as_ref()) else {
                tokio::net::TcpStream::connect(address)
                    .await
                    .or_err(ErrorType::ConnectError, "health check")?;
                return Ok(());
            };
            let (mut session, _) = self.0.wire.http.get_http_session(&*place.peer).await?;
            let mut head = RequestHeader::build_no_case("GET", path.as_bytes(), None)?;
            head.insert_header("host", endpoint.authority())?;
            head.insert_header("user-agent", "strait-health")?;
            session.write_request_header(Box::new(head)).await?;
            session.finish_request_body().await?;
            session.read_response_header().await?;
            let status = session
                .response_header()
                .map_or(0, |head| head.status.as_u16());
            // A small body is read so that the connection can be reused; a large one is not worth it.
            for _ in 0..16 {
                if session.read_response_body().await?.is_none() {
                    self.0
                        .wire
                        .http
                        .release_http_session(session, &*place.peer, Some(health.every * 2))
                        .await;
                    break;
                }
            }
            if health.expects(status) {
                return Ok(());
            }
            pingora::Error::e_explain(ErrorType::HTTPStatus(status), "health check")
        };
        match tokio::time::timeout(health.timeout, check).await {
            Ok(outcome) => outcome,
            Err(_) => pingora::Error::e_explain(ErrorType::ReadTimedout, "health check"),
        }
    }

    async fn health_status_change(&self, target: &Backend, healthy: bool) {
        let places = self.0.places.load_full();
        let place = target
            .addr
            .as_inet()
            .and_then(|a| places.iter().find(|place| place.address == *a));
        let Some(place) = place else { return };
        let authority = self.0.endpoints[place.endpoint].authority();
        tracing::info!(
            provider = self.0.provider,
            endpoint = authority,
            healthy,
            "endpoint health changed"
        );
    }

    fn health_threshold(&self, success: bool) -> usize {
        let Some(health) = &self.0.health else {
            return 1;
        };
        if success {
            health.healthy_after
        } else {
            health.unhealthy_after
        }
    }
}
