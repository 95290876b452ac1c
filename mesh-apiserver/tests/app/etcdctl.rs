//! A released etcdctl over its whole command list, against a whole server, as its administrator. What each command comes
//! to is a table here, and `docs/etcdctl.md` is that table: a command that etcdctl has and the table has not fails the
//! test, as does a line of the document that is no longer true.

mod commands;
mod concurrency;
mod document;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use etcd_peer::{Cluster, EtcdPeer, Options};

use self::commands::{COMMANDS, Row, Wants};
use crate::harness::Server;

const DEADLINE: Duration = Duration::from_secs(20);

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this package lies in the workspace")
}

/// etcdctl with the administrator's certificate, and what earlier commands have told.
struct Etcdctl {
    program: PathBuf,
    flags: Vec<String>,
    /// `{name}` in a command's arguments, and what stands for it.
    known: Vec<(&'static str, String)>,
    scratch: tempfile::TempDir,
}

struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Etcdctl {
    /// Its output goes to files, so that nobody has to read along.
    fn start(&self, args: &[&str], stdin: &str) -> Child {
        let mut command = Command::new(&self.program);
        command.args(&self.flags).args(args.iter().map(|arg| self.filled(arg)));
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| File::create(self.output(name)).unwrap());
        let mut child = command.stdin(Stdio::piped()).stdout(stdout).stderr(stderr).spawn().expect("etcdctl starts");
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child
    }

    /// With what earlier commands have told in the places that are left for it.
    fn filled(&self, arg: &str) -> String {
        self.known.iter().fold(arg.to_owned(), |arg, (name, value)| arg.replace(&format!("{{{name}}}"), value))
    }

    fn output(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.output(name)).unwrap()).into_owned()
    }

    /// To its end.
    fn run(&self, args: &[&str], stdin: &str) -> Ran {
        let mut child = self.start(args, stdin);
        let started = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if started.elapsed() > DEADLINE {
                child.kill().unwrap();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let code = child.wait().unwrap().code();
        Ran { code, stdout: self.read("stdout"), stderr: self.read("stderr") }
    }

    /// Until `is_done` says so; then it is ended, since it would not end by itself.
    fn run_until(&self, args: &[&str], mut is_done: impl FnMut() -> bool) -> Result<(), String> {
        let mut child = self.start(args, "");
        let started = Instant::now();
        let mut done = is_done();
        while !done && started.elapsed() < DEADLINE && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(10));
            done = is_done();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        if done { Ok(()) } else { Err(format!("it came to {:?} {:?}", self.read("stdout"), self.read("stderr"))) }
    }

    fn check(&mut self, row: &Row) -> Result<(), String> {
        match row.wants {
            Wants::Shows(text) => {
                let (ran, text) = (self.run(row.args, row.stdin), self.filled(text));
                if ran.code != Some(0) || !ran.stdout.contains(&text) && !ran.stderr.contains(&text) {
                    return Err(format!("{text:?} was wanted, code {:?}: {} {}", ran.code, ran.stdout, ran.stderr));
                }
                self.learn(row.command, &ran.stdout);
            }
            Wants::GoesOn(text) => self.run_until(row.args, || self.read("stdout").contains(text))?,
            Wants::Mirrors(key) => self.run_until(row.args, || self.is_mirrored(key))?,
            Wants::Refused(text) => {
                let ran = self.run(row.args, row.stdin);
                if ran.code == Some(0) || !ran.stderr.contains(text) && !ran.stdout.contains(text) {
                    return Err(format!("a refusal with {text:?} was wanted: {} {}", ran.stdout, ran.stderr));
                }
            }
        }
        Ok(())
    }

    fn is_mirrored(&self, key: &str) -> bool {
        let mirror = self.filled("--endpoints={mirror}");
        let found = Command::new(&self.program).args([&mirror, "get", "--keys-only", key]).output().unwrap();
        String::from_utf8_lossy(&found.stdout).contains(key)
    }

    fn learn(&mut self, command: &str, stdout: &str) {
        let word = |at: usize| stdout.split([' ', ',']).nth(at).unwrap_or_default().to_owned();
        match command {
            "lease grant" => self.known.push(("lease", word(1))),
            "member list" => self.known.push(("member", word(0))),
            _ => {}
        }
    }

    /// Every command that this etcdctl has, by its own help.
    fn all_commands(&self) -> Vec<String> {
        let help = Command::new(&self.program).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let list = help.split("COMMANDS:").nth(1).unwrap().split("OPTIONS:").next().unwrap();
        list.lines()
            .filter_map(|line| line.trim().split('\t').next())
            .filter(|c| !c.is_empty())
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_of_etcdctl_does_what_the_document_says() {
    let peer = EtcdPeer::obtain(workspace()).expect("etcd's programs");
    let server = Server::start("east", 7).await;
    server.ready().await;
    let mirror = Cluster::start(&peer, &Options::default()).expect("an etcd to mirror into");
    let scratch = tempfile::tempdir().unwrap();
    let mut etcdctl = Etcdctl {
        program: peer.etcdctl,
        flags: admin_flags(&server),
        known: vec![
            ("dir", scratch.path().display().to_string()),
            ("mirror", mirror.endpoints()[0].trim_start_matches("http://").to_owned()),
        ],
        scratch,
    };
    let all = etcdctl.all_commands();
    let checked = tokio::task::spawn_blocking(move || {
        let failures: Vec<String> = COMMANDS
            .iter()
            .filter_map(|row| etcdctl.check(row).err().map(|failure| format!("{}: {failure}", row.command)))
            .collect();
        assert!(failures.is_empty(), "{}", failures.join("\n"));
        etcdctl
    });
    checked.await.unwrap();
    let missing: Vec<&String> = all.iter().filter(|c| COMMANDS.iter().all(|row| row.command != c.as_str())).collect();
    assert!(missing.is_empty(), "the table says nothing of {missing:?}");
    let passed = COMMANDS.iter().filter(|row| !matches!(row.wants, Wants::Refused(_))).count();
    println!(
        "etcdctl {}: {} commands, {passed} pass, {} refused",
        peer.version,
        COMMANDS.len(),
        COMMANDS.len() - passed
    );
    server.app.stop().await;
}

/// What the administrator adds to each command.
fn admin_flags(server: &Server) -> Vec<String> {
    vec![
        format!("--endpoints=https://{}", server.app.etcd),
        format!("--cacert={}", server.state("ca.crt").display()),
        format!("--cert={}", server.state("admin.crt").display()),
        format!("--key={}", server.state("admin.key").display()),
    ]
}
