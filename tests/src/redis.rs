//! A Redis of a test's own, which may be killed, paused and emptied.

use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::PATIENCE;
use crate::process::tail;

/// A running server. It is killed when this is dropped.
pub struct Redis {
    child: Child,
    port: u16,
    dir: TempDir,
    arguments: Vec<String>,
}

impl Redis {
    /// Starts a server on a port that is free, and waits until it answers.
    pub fn start() -> io::Result<Self> {
        Self::start_with(&[])
    }

    /// The same with more arguments.
    pub fn start_with(arguments: &[&str]) -> io::Result<Self> {
        let (port, dir) = (free_port()?, tempfile::tempdir()?);
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let child = spawn(port, &dir, &arguments)?;
        let redis = Self {
            child,
            port,
            dir,
            arguments,
        };
        redis.ready();
        Ok(redis)
    }

    /// Starts a Sentinel, which knows this server as `name`.
    pub fn sentinel(&self, name: &str) -> io::Result<Self> {
        let (port, dir) = (free_port()?, tempfile::tempdir()?);
        let config = dir.path().join("sentinel.conf");
        let text = format!("sentinel monitor {name} 127.0.0.1 {} 1\n", self.port);
        std::fs::write(&config, text)?;
        let child = Command::new("redis-server")
            .arg(&config)
            .args(["--sentinel", "--bind", "127.0.0.1"])
            .args(["--port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let arguments = Vec::new();
        let sentinel = Self {
            child,
            port,
            dir,
            arguments,
        };
        sentinel.ready();
        Ok(sentinel)
    }

    /// Three servers that share all keys, ready for use.
    pub fn cluster() -> io::Result<Vec<Self>> {
        let server = |_| Self::start_with(&["--cluster-enabled", "yes"]);
        let servers = (0..3).map(server).collect::<io::Result<Vec<_>>>()?;
        let addresses = servers.iter().map(Self::address);
        let made = Command::new("redis-cli")
            .stdin(Stdio::null())
            .args(["--cluster", "create"])
            .args(addresses)
            .args(["--cluster-replicas", "0", "--cluster-yes"])
            .output()?;
        assert!(made.status.success(), "{made:?}");
        let deadline = Instant::now() + PATIENCE;
        let joined = |redis: &Self| redis.run(&["CLUSTER", "INFO"])[0].ends_with("ok");
        while !servers.iter().all(joined) {
            assert!(Instant::now() < deadline, "there is no cluster");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(servers)
    }

    /// Host and port.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// For `redis.url`.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// What `redis-cli` says to a command, a line for each element.
    pub fn run(&self, arguments: &[&str]) -> Vec<String> {
        let output = Command::new("redis-cli")
            .stdin(Stdio::null())
            .args(["-p", &self.port.to_string()])
            .args(arguments)
            .output()
            .expect("redis-cli is installed: see tests/run");
        let text = String::from_utf8_lossy(&output.stdout);
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(str::to_owned).collect()
    }

    /// `kill -9`, until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Starts it again, empty.
    pub fn restart(&mut self) {
        self.child = spawn(self.port, &self.dir, &self.arguments).expect("it ran before");
        self.ready();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("our own child");
    }

    fn ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.run(&["PING"]) != ["PONG"] {
            let log = || tail(&self.dir.path().join("log"));
            assert!(
                Instant::now() < deadline,
                "Redis does not answer:\n{}",
                log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A port that is free, and with it the one on which a cluster's servers talk, higher by ten thousand.
pub fn free_port() -> io::Result<u16> {
    loop {
        let port = rand::random_range(20_000..32_000);
        let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return Ok(port);
        }
    }
}

fn spawn(port: u16, dir: &TempDir, arguments: &[String]) -> io::Result<Child> {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args([
            "--save",
            "",
            "--appendonly",
            "no",
            "--logfile",
            "log",
            "--dir",
        ])
        .arg(dir.path())
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
}

impl Drop for Redis {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
