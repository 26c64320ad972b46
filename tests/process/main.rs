//! The broker as processes: started from its binary, looked at from outside, killed.

#[cfg(test)]
mod client;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod supervision;
#[cfg(test)]
mod system_topics;
