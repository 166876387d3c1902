//! Services as processes of their own, and what a process has used, from `/proc`.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use gloaming_http::Client;

/// Time for a service to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// A port that was free a moment ago, and that nobody is given by chance: a service that is started again finds it free.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(2_654_435_761);
    let all = (0..20_000).map(|_| first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000);
    let mut ports = all.filter_map(|at| u16::try_from(11_000 + at).ok());
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).context("no port is free")
}

/// A process that is ended with this.
pub struct Process(Child);

impl Process {
    /// From a command that was started.
    #[must_use]
    pub fn new(child: Child) -> Self {
        Self(child)
    }

    /// Runs `COMMAND SERVICE` with `gloaming.toml` of a folder, and waits until it says at `address` that it is ready.
    ///
    /// # Errors
    /// When it does not within two minutes, or ends; what it said is in the error.
    pub async fn service(command: &Path, service: &str, folder: &Path, address: &str) -> Result<Self> {
        let log = fs::File::create(folder.join("log"))?;
        let child = Command::new(command)
            .args([service, "--config"])
            .arg(folder.join("gloaming.toml"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", command.display()))?;
        let (mut process, client, began) = (Self(child), Client::new(Duration::from_secs(1)), Instant::now());
        while began.elapsed() < PATIENCE && process.0.try_wait()?.is_none() {
            if client.get(&format!("{address}/readyz")).await.is_ok_and(|(status, ..)| status.is_success()) {
                return Ok(process);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("the {service} did not start: {}", fs::read_to_string(folder.join("log"))?)
    }

    /// Asks it to end, which lets it end what it started, and waits.
    pub fn terminate(&mut self) {
        let _ = Command::new("kill").arg(self.id().to_string()).status();
        let _ = self.0.wait();
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ticks of a second in `/proc/PID/stat`: Linux shows 100 to programs on every architecture.
const TICKS: f64 = 100.0;

fn numbers(process: u32) -> Result<Vec<u64>> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The second word is a name in parentheses that may hold spaces.
    let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat is not what it was")?;
    Ok(rest.split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0)).collect())
}

/// Who started it.
///
/// # Errors
/// When it is gone.
pub fn parent(process: u32) -> Result<u32> {
    let parent = numbers(process)?.first().copied().unwrap_or(0);
    Ok(u32::try_from(parent)?)
}

/// All that `parent` started and that are there.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn children(parent_process: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if parent(process).is_ok_and(|parent| parent == parent_process) {
            children.push(process);
        }
    }
    Ok(children)
}

/// Seconds of processor time in user and kernel mode, all threads together.
///
/// # Errors
/// When it is gone.
pub fn cpu_seconds(process: u32) -> Result<f64> {
    let numbers = numbers(process)?;
    // After the state: ppid is word 0, utime 10, stime 11.
    Ok(numbers.get(10..12).context("a short /proc/PID/stat")?.iter().sum::<u64>() as f64 / TICKS)
}

/// Bytes of memory it had at most.
///
/// # Errors
/// When it is gone.
pub fn peak_memory(process: u32) -> Result<u64> {
    status(process, "VmHWM:")
}

/// Bytes of memory it has.
///
/// # Errors
/// When it is gone.
pub fn memory(process: u32) -> Result<u64> {
    status(process, "VmRSS:")
}

fn status(process: u32, word: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(word)).with_context(|| format!("no {word}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// Files, sockets and the like that it has open.
///
/// # Errors
/// When it is gone.
pub fn descriptors(process: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{process}/fd"))?.count())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let me = std::process::id();
        assert!(children(parent(me).unwrap()).unwrap().contains(&me));
        assert!(peak_memory(me).unwrap() > 1 << 20);
        let before = cpu_seconds(me).unwrap();
        let mut number = 1u64;
        while cpu_seconds(me).unwrap() < before + 0.03 {
            number = std::hint::black_box(number.wrapping_mul(3));
        }
    }
}
