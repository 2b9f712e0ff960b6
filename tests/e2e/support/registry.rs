//! An image registry on the loopback: Debian's docker-registry, with its images in a temporary folder.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::wait::{eventually, seconds};

pub(crate) struct Registry {
    /// Host and port, as in the name of an image.
    pub(crate) name: String,
    child: Child,
    _folder: TempDir,
}

impl Registry {
    pub(crate) async fn start() -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let name = free.local_addr().unwrap().to_string();
        drop(free);
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let images = folder.path().join("images");
        let log = folder.path().join("log");
        let mut text = "version: 0.1\nlog: {level: error}\n".to_owned();
        writeln!(text, "storage: {{filesystem: {{rootdirectory: {}}}}}", images.display()).unwrap();
        writeln!(text, "http: {{addr: {name}}}").unwrap();
        std::fs::write(&config, text).unwrap();
        let child = Command::new("docker-registry")
            .args([Path::new("serve"), &config])
            .stdout(Stdio::null())
            // It calls each blob an error that a client asks for before it pushes it.
            .stderr(File::create(&log).unwrap())
            .spawn()
            .expect("docker-registry is on the PATH (scripts/setup.sh registry)");
        let registry = Self {
            name,
            child,
            _folder: folder,
        };
        eventually("the registry listens", seconds(10), async || {
            let said = || std::fs::read_to_string(&log).unwrap();
            TcpStream::connect(&registry.name).map_err(|error| format!("{error}: {}", said()))
        })
        .await;
        registry
    }

    /// What skopeo reads from the home folder, so that it speaks plain HTTP with this registry alone.
    pub(crate) fn write_client_settings(&self, home: &Path) {
        let folder = home.join(".config/containers");
        std::fs::create_dir_all(&folder).unwrap();
        let registries = format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", self.name);
        std::fs::write(folder.join("registries.conf"), registries).unwrap();
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        std::fs::write(folder.join("policy.json"), policy).unwrap();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
