//! The whole, as clients and operators meet it: real binaries, raw bytes, nothing installed but Rust and tmux.

#[cfg(test)]
mod access;
mod admin;
#[cfg(test)]
mod arrays;
#[cfg(test)]
mod balancing;
#[cfg(test)]
mod bytes;
#[cfg(test)]
mod cache;
#[cfg(test)]
mod cache_status;
#[cfg(test)]
mod catalogue;
#[cfg(test)]
mod continuation;
#[cfg(test)]
mod documents;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod facade;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod garbage;
#[cfg(test)]
mod handles;
#[cfg(test)]
mod headers;
#[cfg(test)]
mod health;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod invalidation;
#[cfg(test)]
mod leaks;
#[cfg(test)]
mod legacy_servers;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod load;
#[cfg(test)]
mod nodes;
#[cfg(test)]
mod observed;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod replay;
#[cfg(test)]
mod rollout;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod routes;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod shared;
#[cfg(test)]
mod sse;
#[cfg(test)]
mod sse_clients;
#[cfg(test)]
mod stability;
#[cfg(test)]
mod statuses;
#[cfg(test)]
mod stdio;
#[cfg(test)]
mod talk;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod top;
#[cfg(test)]
mod trust;
#[cfg(test)]
mod trust_rotation;
#[cfg(test)]
mod up;

/// A configuration of these upstreams, each as [`o1_tests::Backend::upstream`] writes one.
#[cfg(test)]
fn config<T: AsRef<str>>(upstreams: impl IntoIterator<Item = T>) -> String {
    let mut text = String::from("upstreams:\n");
    for upstream in upstreams {
        text.push_str(upstream.as_ref());
    }
    text
}
