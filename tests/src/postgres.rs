//! A PostgreSQL server of a test's own, which may be stopped, paused and started again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A server with its data, which goes when this is dropped.
pub struct Postgres {
    dir: TempDir,
    port: u16,
}

/// Where Debian keeps the server's programs.
fn program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let versions = versions.expect("PostgreSQL is installed: run tests/run");
    let found = versions.flatten().map(|v| v.path().join("bin").join(name));
    let mut found: Vec<PathBuf> = found.filter(|program| program.exists()).collect();
    found.sort();
    found.pop().expect("PostgreSQL is installed: run tests/run")
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// PostgreSQL refuses to run as root.
fn command(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn succeed(command: &mut Command) {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    let status = quiet.stderr(Stdio::null()).status().expect("it runs");
    assert!(status.success(), "{command:?}: {status}");
}

impl Postgres {
    /// Makes a server and starts it.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new()
            .prefix("holdfast-postgres-")
            .tempdir()
            .expect("a directory");
        if is_root() {
            succeed(Command::new("chown").arg("postgres").arg(dir.path()));
        }
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let server = Self { dir, port };
        let mut init = command(&program("initdb"));
        succeed(init.arg("-D").arg(server.data()).args([
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--no-sync",
        ]));
        server.run();
        server
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn control(&self) -> Command {
        let mut control = command(&program("pg_ctl"));
        control.arg("-D").arg(self.data()).arg("-w");
        control
    }

    /// Starts it.
    pub fn run(&self) {
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={} -c fsync=off -c max_connections=100",
            self.port,
            self.dir.path().display()
        );
        let log = self.dir.path().join("log");
        succeed(
            self.control()
                .arg("-l")
                .arg(log)
                .arg("-o")
                .arg(options)
                .arg("start"),
        );
    }

    /// Stops it: connections are refused.
    pub fn stop(&self) {
        succeed(self.control().args(["-m", "immediate", "stop"]));
    }

    /// Has all its processes stand still, or go on: connections are silent.
    pub fn signal(&self, signal: Signal) {
        let file = std::fs::read_to_string(self.data().join("postmaster.pid"));
        let file = file.expect("it runs");
        let parent: i32 = file
            .lines()
            .next()
            .and_then(|pid| pid.parse().ok())
            .expect("a pid");
        for pid in children(parent).into_iter().chain([parent]) {
            // A backend may have gone meanwhile.
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }

    /// Runs statements.
    pub fn execute(&self, sql: &str) {
        let mut psql = command(&program("psql"));
        succeed(
            psql.arg(self.url())
                .args(["-v", "ON_ERROR_STOP=1", "-c", sql]),
        );
    }

    /// Where nodes connect.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.data().join("postmaster.pid").exists() {
            self.signal(Signal::SIGCONT);
            let mut stop = self.control();
            let quiet = stop.args(["-m", "immediate", "stop"]).stdout(Stdio::null());
            // It may be down already.
            drop(quiet.stderr(Stdio::null()).status());
        }
    }
}

fn children(parent: i32) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|p| p.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Behind the name, which stands in brackets: the state and the parent.
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        rest.split(' ').nth(1).and_then(|p| p.parse::<i32>().ok()) == Some(parent)
    };
    pids.filter(is_child).collect()
}
