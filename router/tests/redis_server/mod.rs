//! Real Redis servers for tests, on free ports, in folders of their own, ended with the test.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub(crate) struct RedisServer {
    process: Child,
    port: u16,
    folder: tempfile::TempDir,
    options: Vec<String>,
}

fn free_port() -> u16 {
    // A cluster's bus listens 10,000 ports higher.
    loop {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if port < 50_000 {
            return port;
        }
    }
}

impl RedisServer {
    /// Starts a server and waits until it answers.
    pub(crate) fn start(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options: Vec<String> = options.iter().map(ToString::to_string).collect();
        let port = free_port();
        let process = spawn(port, &folder, &options);
        let server = Self { process, port, folder, options };
        server.wait();
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// What `redis-cli` prints for a command.
    pub(crate) fn command(&self, arguments: &[&str]) -> String {
        let port = self.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output();
        let output = output.expect("redis-cli is installed by `make setup`");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Holds it, as a machine that hangs, or lets it go on.
    pub(crate) fn hang(&self, is_held: bool) {
        let signal = if is_held { "-STOP" } else { "-CONT" };
        let process = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }

    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it anew after [`kill`](Self::kill), on the same port.
    pub(crate) fn restart(&mut self) {
        self.process = spawn(self.port, &self.folder, &self.options);
        self.wait();
    }

    fn wait(&self) {
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("redis-server did not start");
    }
}

fn spawn(port: u16, folder: &tempfile::TempDir, options: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder.path())
        .args(options)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server is installed by `make setup`")
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Three servers that share the slots.
pub(crate) struct Cluster(Vec<RedisServer>);

impl Cluster {
    pub(crate) fn start() -> Self {
        let options = ["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"];
        let servers: Vec<_> = (0..3).map(|_| RedisServer::start(&options)).collect();
        let addresses = servers.iter().map(|server| format!("127.0.0.1:{}", server.port));
        let made = Command::new("redis-cli")
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-yes"])
            .stdout(Stdio::null())
            .status()
            .expect("redis-cli is installed by `make setup`");
        assert!(made.success());
        let is_ok = |server: &RedisServer| {
            let port = server.port.to_string();
            let info = Command::new("redis-cli").args(["-p", &port, "cluster", "info"]).output().unwrap();
            String::from_utf8_lossy(&info.stdout).contains("cluster_state:ok")
        };
        for _ in 0..400 {
            if servers.iter().all(is_ok) {
                return Self(servers);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("the cluster was not formed");
    }

    pub(crate) fn urls(&self) -> Vec<String> {
        self.0.iter().map(RedisServer::url).collect()
    }
}

/// An address that leads to one server, and later to another; connections that were made before stay where
/// they are.
pub(crate) struct Address {
    port: u16,
    target: std::sync::Arc<std::sync::atomic::AtomicU16>,
    connections: std::sync::Arc<std::sync::atomic::AtomicUsize>,
}

impl Address {
    pub(crate) fn new(target: u16) -> Self {
        use std::sync::atomic::Ordering;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let target = std::sync::Arc::new(std::sync::atomic::AtomicU16::new(target));
        let connections = std::sync::Arc::default();
        let address = Self {
            port,
            target: std::sync::Arc::clone(&target),
            connections: std::sync::Arc::clone(&connections),
        };
        // They end with the test's process.
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                connections.fetch_add(1, Ordering::SeqCst);
                let Ok(server) = TcpStream::connect(("127.0.0.1", target.load(Ordering::SeqCst))) else {
                    continue;
                };
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || {
                        let _ = std::io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Both);
                    });
                }
            }
        });
        address
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(crate) fn lead_to(&self, target: u16) {
        self.target.store(target, std::sync::atomic::Ordering::SeqCst);
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(std::sync::atomic::Ordering::SeqCst)
    }
}
