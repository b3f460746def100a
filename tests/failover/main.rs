//! Failover with real processes: what is acknowledged is kept, whatever dies when.
//!
//! `O1_REPORT=1` writes what was seen into `docs/failover.md` (`./tests/run failover` does).

#[cfg(test)]
mod account;
#[cfg(test)]
mod control;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod load;
#[cfg(test)]
mod report;
#[cfg(test)]
mod seen;
