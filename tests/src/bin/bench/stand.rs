//! The edge and nginx as processes of their own.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use gloaming_e2e::process::{Process, children, cpu_seconds, descriptors, free_port, memory, peak_memory};
use gloaming_http::Client;
use gloaming_policy::Policy;
use gloaming_policy::author::{Key, Signed, compile, template};
use gloaming_privacy::Rho;
use tempfile::TempDir;

/// An edge may hold a quarter of its ids for one site.
const SITES: u32 = 4;
/// Windows of seconds are for pages of this machine.
pub(crate) const ORIGIN: &str = "https://127.0.0.1";
/// Length of the windows: short, so that ids are forgotten as fast as they come.
const WINDOW: &str = "5s";

/// Length of the windows of sites that are flooded: none ends meanwhile, so that nothing makes room. A day's would need its
/// last hour to be far, so a week's.
const FLOODED: &str = "week";

pub(crate) struct EdgeStand {
    process: Process,
    /// The centre it delivers to, its folder and its address, if there is one.
    centre: Option<(Process, TempDir, String)>,
    policies: Vec<Arc<Policy>>,
    address: String,
    admin: String,
    folder: TempDir,
}

impl EdgeStand {
    /// `more`: further lines of its section.
    pub(crate) async fn start(command: &Path, more: &str) -> Result<Self> {
        Self::of(command, more, false, honest(today()?)?).await
    }

    /// One that delivers what it releases to a centre of its own.
    pub(crate) async fn with_centre(command: &Path) -> Result<Self> {
        Self::of(command, "", true, honest(today()?)?).await
    }

    /// One with a centre, for which nobody is a proxy and nobody asks too often. Its sites have no noise; beside them there
    /// are three to be flooded.
    pub(crate) async fn beside_floods(command: &Path) -> Result<(Self, Vec<Arc<Policy>>)> {
        let today = today()?;
        let mut policies: Vec<Policy> = honest(today)?.into_iter().map(exact).collect();
        for number in 0..3 {
            policies.push(policy(&format!("f{number}.example"), FLOODED, today)?);
        }
        let more = "trusted_proxies = []\nrequests_per_second = 0";
        let mut stand = Self::of(command, more, true, policies).await?;
        let flooded = stand.policies.split_off(SITES as usize);
        Ok((stand, flooded))
    }

    async fn of(command: &Path, more: &str, centre: bool, policies: Vec<Policy>) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes);
        let (owner, edge) = (Key::from_seed(&[1; 32]), Key::from_seed(&[2; 32]));
        write("edge.key", edge.to_text().as_bytes())?;
        let (mut files, mut sites) = (Vec::new(), String::new());
        for policy in &policies {
            let site = &policy.site;
            write(&format!("{site}.signed"), &Signed::sign(policy, &[&owner]).to_bytes())?;
            files.push(format!("\"{site}.signed\""));
            sites.push_str(&format!("\"{site}\" = \"{}\"\n", owner.public().to_text()));
        }
        let mut central = String::new();
        let mut process = None;
        if centre {
            let own = tempfile::tempdir()?;
            for file in files.iter().map(|file| file.trim_matches('"')) {
                fs::copy(folder.path().join(file), own.path().join(file))?;
            }
            let port = free_port()?;
            let config = format!(
                "[central]\nlisten = \"127.0.0.1:{port}\"\nstore = \"sqlite:central.sqlite\"\npolicies = [{}]\n[central.sites]\n{sites}\
                 [central.edges]\n\"edge-1\" = \"{}\"\n",
                files.join(", "),
                edge.public().to_text()
            );
            fs::write(own.path().join("gloaming.toml"), config)?;
            let address = format!("http://127.0.0.1:{port}");
            central = format!("{address:?}");
            process = Some((Process::service(command, "central", own.path(), &address).await?, own, address));
        }
        let (listen, admin) = (format!("127.0.0.1:{}", free_port()?), format!("127.0.0.1:{}", free_port()?));
        let config = format!(
            "[edge]\nname = \"edge-1\"\nlisten = \"{listen}\"\nadmin = \"{admin}\"\nstore = \"edge.redb\"\nkey_file = \"edge.key\"\n\
             wrapping_key_file = \"wrapping.key\"\npolicies = [{}]\ncentral = [{central}]\n{more}\n[edge.sites]\n{sites}",
            files.join(", ")
        );
        write("gloaming.toml", config.as_bytes())?;
        let admin = format!("http://{admin}");
        let edge = Process::service(command, "edge", folder.path(), &admin).await?;
        let policies = policies.into_iter().map(Arc::new).collect();
        Ok(Self { process: edge, centre: process, policies, address: listen, admin, folder })
    }

    /// What its centre has counted of its sites, all metrics together, when nothing more comes. Waits until what is open
    /// now has been released.
    pub(crate) async fn counted_at_centre(&self) -> Result<u64> {
        let (_, _, centre) = self.centre.as_ref().context("there is no centre")?;
        let client = Client::new(Duration::from_secs(60)).answers(256 << 20);
        let (mut last, mut since) = (0, Instant::now());
        // Two windows without anything new.
        while since.elapsed() < Duration::from_secs(12) {
            let mut counted = 0;
            for policy in &self.policies {
                let address = format!("{centre}/api/v1/sites/{}/overview?last=1000", policy.site);
                let (_, _, answer) = client.get(&address).await?;
                let overview: serde_json::Value = serde_json::from_slice(&answer)?;
                let metrics = overview["metrics"].as_array().context("no metrics")?;
                let values = metrics.iter().filter_map(|metric| metric["total"]["values"].as_array()).flatten();
                counted += values.filter_map(serde_json::Value::as_u64).sum::<u64>();
            }
            if counted != last {
                (last, since) = (counted, Instant::now());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Ok(last)
    }

    pub(crate) fn policies(&self) -> Vec<Arc<Policy>> {
        self.policies.clone()
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.process.id())
    }

    pub(crate) fn peak_memory(&self) -> Result<u64> {
        peak_memory(self.process.id())
    }

    pub(crate) fn memory(&self) -> Result<u64> {
        memory(self.process.id())
    }

    pub(crate) fn descriptors(&self) -> Result<usize> {
        descriptors(self.process.id())
    }

    /// Bytes of its store, all files together.
    pub(crate) fn disk(&self) -> Result<u64> {
        let mut bytes = 0;
        for entry in fs::read_dir(self.folder.path())? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("edge.redb") {
                bytes += entry.metadata()?.len();
            }
        }
        Ok(bytes)
    }

    /// How contributions were judged, by reason.
    pub(crate) async fn judged(&self) -> Result<String> {
        self.counts("gloaming_contributions_total{reason=\"").await
    }

    /// Who was turned away, by reason.
    pub(crate) async fn turned_away(&self) -> Result<String> {
        self.counts("gloaming_turned_away_total{reason=\"").await
    }

    async fn counts(&self, prefix: &str) -> Result<String> {
        let (_, _, text) = Client::new(Duration::from_secs(5)).get(&format!("{}/metrics", self.admin)).await?;
        let text = String::from_utf8_lossy(&text).into_owned();
        let counts: Vec<_> = text
            .lines()
            .filter_map(|line| line.strip_prefix(prefix))
            .filter(|line| !line.ends_with(" 0"))
            .map(|line| line.replace("\"}", ""))
            .collect();
        Ok(counts.join(", "))
    }
}

fn today() -> Result<u64> {
    Ok(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs() / 86_400)
}

fn policy(site: &str, window: &str, today: u64) -> Result<Policy> {
    let expires = gloaming_policy::author::date_of(today + 60);
    let text = template("blog", site, ORIGIN, &expires).context("no template")?;
    let text = text.replace("\"day\"", &format!("{window:?}"));
    compile(&text, today, &|_| Err("no models here".to_owned())).map_err(|problems| anyhow!("{problems:?}"))
}

fn honest(today: u64) -> Result<Vec<Policy>> {
    (0..SITES).map(|number| policy(&format!("s{number}.example"), WINDOW, today)).collect()
}

/// With a budget so large that the noise is zero, and no crowd too small: what the centre shows is what was counted. No
/// policy that a person writes is like this: the compiler refuses it.
fn exact(mut policy: Policy) -> Policy {
    policy.budget = Rho::from_micro(1_000_000_000_000_000);
    // A clipped sum would be two numbers for one contribution.
    policy.metrics.retain(|metric| metric.sum_max().is_none());
    for metric in &mut policy.metrics {
        (metric.per_day, metric.k, metric.rho) = (1, 0, Rho::from_micro(1_000_000_000_000));
    }
    policy
}

/// nginx with one worker that writes a line for each request, as an access log does.
pub(crate) struct Nginx {
    process: Process,
    address: String,
    _folder: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, the master would leave its workers behind.
        self.process.terminate();
    }
}

impl Nginx {
    pub(crate) fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let at = folder.path().display();
        let config = format!(
            "daemon off;\nworker_processes 1;\nuser root;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{ worker_connections 4096; }}\n\
             http {{\n access_log {at}/access.log combined;\n client_body_temp_path {at}/body;\n proxy_temp_path {at}/proxy;\n \
             fastcgi_temp_path {at}/fastcgi;\n uwsgi_temp_path {at}/uwsgi;\n scgi_temp_path {at}/scgi;\n keepalive_requests 100000000;\n \
             server {{ listen {address}; location /g/ {{ return 204; }} }}\n}}\n"
        );
        fs::write(folder.path().join("nginx.conf"), config)?;
        let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
        let child = Command::new(program)
            .arg("-c")
            .arg(folder.path().join("nginx.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run nginx; install Debian's package")?;
        let nginx = Self { process: Process::new(child), address, _folder: folder };
        let began = Instant::now();
        while std::net::TcpStream::connect(&nginx.address).is_err() {
            if began.elapsed() > Duration::from_secs(10) {
                let log = fs::read_to_string(nginx._folder.path().join("error.log")).unwrap_or_default();
                bail!("nginx did not start: {log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(nginx)
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let master = self.process.id();
        let workers: f64 = children(master)?.into_iter().filter_map(|worker| cpu_seconds(worker).ok()).sum();
        Ok(cpu_seconds(master)? + workers)
    }
}
