//! A plain TCP balancer: one connection to one target, in turn, passing over targets that refuse. It knows nothing
//! of what it carries.

use std::{net::SocketAddr, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// A running balancer; it ends when dropped, with every connection.
pub struct Balancer {
    /// Where clients go.
    pub address: SocketAddr,
    _server: JoinSet<()>,
}

impl Balancer {
    /// Balances over these.
    ///
    /// # Panics
    /// There is no free port.
    pub async fn start(targets: &[SocketAddr]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let mut server = JoinSet::new();
        let targets = targets.to_vec();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            for turn in 0.. {
                let Ok((client, _)) = listener.accept().await else { continue };
                let mut targets = targets.clone();
                let count = targets.len().max(1);
                targets.rotate_left(turn % count);
                connections.spawn(carry(client, targets));
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, _server: server }
    }
}

/// Both directions until either side closes; then both are closed.
async fn carry(mut client: TcpStream, targets: Vec<SocketAddr>) {
    let _ = client.set_nodelay(true);
    for target in targets {
        if let Ok(Ok(mut server)) = timeout(Duration::from_secs(1), TcpStream::connect(target)).await {
            let _ = server.set_nodelay(true);
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            return;
        }
    }
}
