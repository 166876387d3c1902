//! nginx with the recipe in `docs/recipes/nginx.conf`.

use std::fs;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Nginx(Child);

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master ends its workers when it is asked, not when it is killed.
        let _ = Command::new("kill").arg(self.0.id().to_string()).status();
        let _ = self.0.wait();
    }
}

/// Starts nginx with the recipe as it is, but for the two ports, and but for what `edit` does with it. `more` stands before
/// it in the `http` section.
pub(crate) fn nginx(folder: &Path, listen: &str, edge: &str, more: &str, edit: impl Fn(String) -> String) -> Nginx {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let recipe = fs::read_to_string(Path::new(&root).join("../../docs/recipes/nginx.conf")).unwrap();
    assert!(recipe.contains("127.0.0.1:8787") && recipe.contains("127.0.0.1:8080"));
    let recipe = edit(recipe.replace("127.0.0.1:8787", edge).replace("127.0.0.1:8080", listen));
    let at = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|what| format!("{what}_temp_path {at}/{what};\n"))
        .concat();
    // Root's nginx would give its workers to a user who may not write here.
    let user = if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
        "user root;\n"
    } else {
        ""
    };
    let config = format!(
        "daemon off;\n{user}worker_processes 1;\npid {at}/pid;\nerror_log {at}/error.log;\nevents {{}}\nhttp {{\n{temporary}{more}{recipe}}}\n"
    );
    fs::write(folder.join("nginx.conf"), config).unwrap();
    let program = if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" };
    let child = Command::new(program).arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null()).spawn().unwrap();
    let (nginx, began) = (Nginx(child), Instant::now());
    while TcpStream::connect(listen).is_err() {
        let log = || fs::read_to_string(folder.join("error.log")).unwrap_or_default();
        assert!(began.elapsed() < Duration::from_secs(20), "nginx did not start: {}", log());
        std::thread::sleep(Duration::from_millis(50));
    }
    nginx
}
