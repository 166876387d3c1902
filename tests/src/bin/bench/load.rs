//! The load: connections that ask as fast as they are answered, or at times that do not wait for answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::beacon::Beacons;

#[derive(Clone, Copy)]
pub(crate) struct Load {
    pub(crate) connections: u32,
    pub(crate) time: Duration,
    /// Beacons a second, whether or not the ones before were answered.
    pub(crate) rate: Option<f64>,
    /// Whether each connection comes from a network of its own, 127.1.0.1, 127.1.1.1 and on.
    pub(crate) addresses: bool,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: f64,
    /// From when each was due until its answer, ascending.
    pub(crate) times: Vec<Duration>,
}

/// One connection that is opened again when it ends.
struct Line {
    address: SocketAddr,
    source: Option<SocketAddr>,
    stream: Option<TcpStream>,
    buffer: Vec<u8>,
}

impl Line {
    /// Sends a request and reads its answer's head and body; whether it was a success.
    async fn ask(&mut self, request: &[u8], accepted: bool) -> Result<bool> {
        if self.stream.is_none() {
            let socket = TcpSocket::new_v4()?;
            if let Some(source) = self.source {
                socket.bind(source)?;
            }
            let stream = socket.connect(self.address).await?;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        let Some(stream) = &mut self.stream else { bail!("no connection") };
        stream.write_all(request).await?;
        self.buffer.clear();
        let (head, length) = loop {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("hung up");
            }
            if let Some(head) = self.buffer.windows(4).position(|end| end == b"\r\n\r\n") {
                let text = String::from_utf8_lossy(&self.buffer[..head]).to_lowercase();
                let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
                if text.contains("connection: close") {
                    // Its two minutes are over; what follows is still read.
                    break (head + 4, length.unwrap_or(0usize) | 1 << 63);
                }
                break (head + 4, length.unwrap_or(0));
            }
        };
        let (close, length) = (length >> 63 == 1, length & !(1 << 63));
        while self.buffer.len() < head + length {
            if stream.read_buf(&mut self.buffer).await? == 0 {
                bail!("hung up within the answer");
            }
        }
        let good = self.buffer.get(9) == Some(&b'2');
        // A 200 that counts nothing is not what is measured.
        let counted = !accepted || !self.buffer[head..].windows(13).any(|some| some == b"\"accepted\":0,");
        if close {
            self.stream = None;
        }
        Ok(good && counted)
    }
}

impl Load {
    /// `accepted`: whether an answer must say that something was accepted.
    pub(crate) async fn run(&self, address: &str, beacons: &Arc<Beacons>, accepted: bool) -> Result<Outcome> {
        let (began, due) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let mut lines = JoinSet::new();
        // With an open loop, enough connections that a slow answer delays no other.
        let connections = if self.rate.is_some() { self.connections * 4 } else { self.connections };
        for number in 0..connections {
            let (address, beacons, due, load) = (address.parse()?, Arc::clone(beacons), Arc::clone(&due), *self);
            let source = load.addresses.then(|| SocketAddr::from(([127, 1 + (number >> 8) as u8, number as u8, 1], 0)));
            lines.spawn(async move {
                let mut line = Line { address, source, stream: None, buffer: Vec::with_capacity(4_096) };
                let mut outcome = Outcome::default();
                loop {
                    let mut start = Instant::now();
                    if let Some(rate) = load.rate {
                        let number = due.fetch_add(1, Ordering::Relaxed);
                        start = began + Duration::from_secs_f64(number as f64 / rate);
                        if start >= began + load.time {
                            return outcome;
                        }
                        tokio::time::sleep_until(start.into()).await;
                    } else if began.elapsed() >= load.time {
                        return outcome;
                    }
                    match line.ask(&beacons.next(), accepted).await {
                        Ok(true) => outcome.answered += 1,
                        Ok(false) => outcome.failed += 1,
                        Err(_) => {
                            line.stream = None;
                            outcome.failed += 1;
                        }
                    }
                    outcome.times.push(start.elapsed());
                }
            });
        }
        let mut all = Outcome::default();
        while let Some(outcome) = lines.join_next().await {
            let outcome = outcome?;
            all.answered += outcome.answered;
            all.failed += outcome.failed;
            all.times.extend(outcome.times);
        }
        all.seconds = began.elapsed().as_secs_f64();
        all.times.sort_unstable();
        if all.answered == 0 {
            bail!("nothing was answered with success at {address}");
        }
        Ok(all)
    }
}
