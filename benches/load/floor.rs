//! The role `floor`: bare Pingora, the least that a gateway on it can cost.
//!
//! Only `upstream_peer`, nothing parsed, nothing counted; one thread, no work stealing (equal to a stealing runtime on
//! a quiet machine, cheaper on a busy one), kept-alive connections to the provider.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

use crate::Result;

struct Floor {
    provider: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Floor {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(
        &self,
        _session: &mut Session,
        _ctx: &mut (),
    ) -> pingora::Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.provider, false, String::new())))
    }
}

pub fn run(listen: &str, provider: &str) -> Result<()> {
    let provider = provider.parse()?;
    let conf = ServerConf {
        threads: 1,
        work_stealing: false,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let conf: Arc<ServerConf> = server.configuration.clone();
    let mut service = pingora::proxy::http_proxy_service(&conf, Floor { provider });
    service.add_tcp(listen);
    server.add_service(service);
    server.run_forever()
}
