//! Ports that can be bound again after their owner ended.

use std::net::{SocketAddr, TcpListener};

/// A free address below the range from which the kernel serves port 0 and outgoing connections, so that nobody
/// takes it while a test stops its owner and starts it again.
///
/// # Panics
/// Every port that was tried is taken.
#[must_use]
pub fn lasting() -> SocketAddr {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let first: u16 = range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(32_768);
    let below = first.clamp(12_000, 32_768);
    for _ in 0..1_000 {
        let address = SocketAddr::from(([127, 0, 0, 1], fastrand::u16(10_000..below)));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port between 10000 and {below}")
}
