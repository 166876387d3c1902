//! The demo from a checkout, and what one deploys.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sha2::{Digest as _, Sha256};

use crate::assets;
use crate::run::{Context, answers, output, run, step};
use crate::setup;

/// Builds all and starts the demo, or drives it.
pub(crate) fn demo(context: &Context, drive: Option<u32>, story: Option<&str>, port: u16) -> Result<()> {
    println!("Building centre, edge, browser modules and a demo shop: about 15 minutes the first time on two cores,");
    println!("seconds after that. Each step says how long it took.");
    let folder = assets::build(context)?;
    if let Some(visits) = drive {
        setup::chromium(context)?;
        step("compile the command and the driver (first time 10 min)", || {
            run(context.cargo().args(["build", "--package", "gloaming-e2e", "--bin", "gloaming-drive", "--locked"]))
        })?;
        return run(Command::new(context.target.join("debug/gloaming-drive"))
            .arg(visits.to_string())
            .env("GLOAMING_ASSETS", &folder));
    }
    if let Some(story) = story {
        step("compile the command and the story's devices (first time 10 min)", || {
            run(context.cargo().args(["build", "--package", "gloaming-e2e", "--bin", "gloaming-story", "--locked"]))
        })?;
        return run(Command::new(context.target.join("debug/gloaming-story"))
            .arg(story)
            .env("GLOAMING_ASSETS", &folder));
    }
    step("compile the command (first time 8 min)", || {
        run(context.cargo().args(["build", "--package", "gloaming", "--locked"]))
    })?;
    run(Command::new(context.target.join("debug/gloaming"))
        .args(["demo", "--open", "--port", &port.to_string()])
        .env("GLOAMING_ASSETS", &folder))
}

/// Services as systemd runs them: no root, nothing writable but its own folder, no other address families.
const UNIT: &str = r#"# Both services of one machine; on separate machines enable only one of them:
#   systemctl enable --now gloaming@edge gloaming@central
# The configuration and the files it names lie in /var/lib/gloaming.
[Unit]
Description=Gloaming %i
After=network-online.target
Wants=network-online.target

[Service]
ExecStart=/usr/local/bin/gloaming %i --config /var/lib/gloaming/gloaming.toml
# Sites and policies without a restart: systemctl reload gloaming@edge gloaming@central
# By the shell, which is everywhere: /bin/kill is a package that small systems lack.
ExecReload=/bin/sh -c 'kill -HUP $MAINPID'
WorkingDirectory=/var/lib/gloaming
StateDirectory=gloaming
StateDirectoryMode=0700
DynamicUser=yes
User=gloaming
Restart=on-failure
RestartSec=2
# Open requests are finished and the log is closed within ten seconds.
TimeoutStopSec=30
LimitNOFILE=65536
UMask=0077
CapabilityBoundingSet=
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
# AF_UNIX for a PostgreSQL on this machine.
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
# No MemoryDenyWriteExecute: wasmtime compiles the edge component to machine code.

[Install]
WantedBy=multi-user.target
"#;

const CONTAINERFILE: &str = r#"# From the folder that `cargo xtask dist` made:
#   podman build -t gloaming . && podman run -v gloaming:/var/lib/gloaming gloaming edge
FROM docker.io/library/debian:12-slim
COPY gloaming /usr/local/bin/gloaming
RUN useradd --system --home-dir /var/lib/gloaming --create-home gloaming
USER gloaming
WORKDIR /var/lib/gloaming
VOLUME /var/lib/gloaming
ENTRYPOINT ["gloaming"]
CMD ["--help"]
"#;

/// Shared libraries that every Linux with this C library has; anything else would not be found elsewhere.
const SYSTEM: [&str; 5] = ["linux-vdso", "libgcc_s", "libm.so", "libc.so", "ld-linux"];

/// Builds the binary with all assets inside and what goes with it, proves that it starts by itself, and
/// says where it is.
pub(crate) fn build(context: &Context) -> Result<()> {
    let assets = assets::build(context)?;
    let folder = context.root.join("dist");
    step("compile the command for release, all assets inside (first time 8 min)", || {
        run(context
            .cargo()
            .args(["build", "--release", "--package", "gloaming", "--features", "embed", "--locked"])
            .env("GLOAMING_ASSETS", &assets))
    })?;
    fs::create_dir_all(&folder)?;
    let binary = folder.join("gloaming");
    fs::copy(context.target.join("release/gloaming"), &binary)?;
    for (name, text) in [("gloaming@.service", UNIT), ("Containerfile", CONTAINERFILE)] {
        fs::write(folder.join(name), text)?;
    }
    let mut sums = String::new();
    for name in ["gloaming", "gloaming@.service", "Containerfile"] {
        let digest = Sha256::digest(fs::read(folder.join(name))?);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        sums.push_str(&format!("{hex}  {name}\n"));
    }
    fs::write(folder.join("SHA256SUMS"), sums)?;
    step("look at what it needs, and start it alone", || {
        if answers("ldd") {
            let needed = output(Command::new("ldd").arg(&binary))?;
            let foreign: Vec<&str> =
                needed.lines().filter(|line| !SYSTEM.iter().any(|known| line.contains(known))).collect();
            if !foreign.is_empty() {
                bail!("the binary needs libraries that others lack: {}", foreign.join("; "));
            }
        }
        starts(&binary)
    })?;
    println!(
        "{} has {} bytes; beside it SHA256SUMS, a systemd unit and a Containerfile.",
        binary.display(),
        fs::metadata(&binary)?.len()
    );
    println!("On any machine: ./gloaming demo");
    Ok(())
}

/// Starts the demo from the binary alone, in an empty folder and without our environment, until it has
/// served the loader.
fn starts(binary: &Path) -> Result<()> {
    let (start, port) = (Instant::now(), 21_787_u16);
    let mut child = Command::new(binary)
        .args(["demo", "--port", &port.to_string()])
        .current_dir(std::env::temp_dir())
        .env_clear()
        .stdout(Stdio::null())
        .spawn()?;
    let served = loop {
        if fetched(port).is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            break true;
        }
        if start.elapsed() > Duration::from_secs(60) || child.try_wait()?.is_some() {
            break false;
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let took = start.elapsed();
    child.kill()?;
    child.wait()?;
    if !served {
        bail!("`gloaming demo` did not serve its loader within a minute");
    }
    println!("    `gloaming demo` serves its loader after {:.1} s", took.as_secs_f64());
    Ok(())
}

fn fetched(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    stream.write_all(b"GET /g/gloaming.js HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer).into_owned())
}
