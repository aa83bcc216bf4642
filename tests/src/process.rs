//! The `holdfast` binary, run as people run it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::PATIENCE;

/// Lines of a log that are shown when its test fails.
const TAIL: usize = 40;

/// The binary that is tested: `HOLDFAST_BIN`, else the one that was built beside this test or bench.
pub fn binary() -> PathBuf {
    if let Some(named) = std::env::var_os("HOLDFAST_BIN") {
        return named.into();
    }
    let own = std::env::current_exe().expect("a test has a file");
    let mut beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("holdfast"));
    beside
        .find(|built| built.exists())
        .expect("the binary is missing: `cargo build --bin holdfast`, or run tests/run")
}

/// The resident set of a process, in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() * 1024
}

/// A command line that our own environment does not reach.
pub fn command<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HOLDFAST_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end. It must not panic, whatever it is given.
pub fn run<I: AsRef<OsStr>>(arguments: impl IntoIterator<Item = I>, input: &str) -> Output {
    let mut command = command(arguments);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("is piped");
    // A command that does not read its input may be over already.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("panicked"), "{errors}");
    output
}

/// A node's process. It is killed when this is dropped.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Runs `holdfast serve` with a configuration and these variables. What it says is appended to `log`.
    pub fn serve(
        config: &Path,
        log: &Path,
        environment: &[(&'static str, PathBuf)],
    ) -> io::Result<Self> {
        let out = File::options().create(true).append(true).open(log)?;
        let mut command = command([
            OsStr::new("serve"),
            OsStr::new("--config"),
            config.as_os_str(),
        ]);
        command.env("HF_FAIL_POINT", log.with_file_name("fail-point"));
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        let child = command.stdout(out.try_clone()?).stderr(out).spawn()?;
        Ok(Self {
            child,
            log: log.to_owned(),
        })
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("our own child");
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        open.expect("our own child").count()
    }

    /// Lets it have so many from now on.
    pub fn limit_descriptors(&self, limit: usize) {
        let pid = self.child.id().to_string();
        let nofile = format!("--nofile={limit}:{limit}");
        let status = Command::new("prlimit")
            .args(["--pid", &pid, &nofile])
            .status();
        assert!(status.expect("util-linux").success());
    }

    /// Stops it with `SIGSTOP`, and returns when none of its threads runs any more.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
        let threads = format!("/proc/{}/task", self.child.id());
        let deadline = Instant::now() + PATIENCE;
        while !all_stopped(Path::new(&threads)).expect("our own child") {
            assert!(Instant::now() < deadline, "it does not stop");
            std::thread::yield_now();
        }
    }

    /// `kill -9`, until it is gone.
    pub fn kill(mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("our own child")
    }

    /// Waits until it has ended.
    pub async fn end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                tail(&self.log)
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
        if std::thread::panicking() {
            eprintln!("--- {} ends with:\n{}", self.log.display(), tail(&self.log));
        }
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        if text.contains("panicked at") && !std::thread::panicking() {
            panic!("I-21: a node panicked:\n{text}");
        }
    }
}

/// Whether every thread in this directory of the system stands still. A thread that is gone does.
fn all_stopped(threads: &Path) -> io::Result<bool> {
    for thread in std::fs::read_dir(threads)? {
        let stat = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        // The state follows the name, which stands in brackets and may contain anything.
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        if state.is_some_and(|state| state != 'T') {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The last lines of a log.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}
