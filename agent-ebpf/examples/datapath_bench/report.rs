//! The result as a table for people and as JSON.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Map, Value, json};

/// Absolute times of one packet.
pub(crate) struct Figures {
    pub(crate) floor: Duration,
    pub(crate) established: Duration,
    pub(crate) new_flow: Duration,
    pub(crate) new_flow_known_port: Duration,
    pub(crate) new_flow_uniform: Duration,
    pub(crate) miss: Duration,
    pub(crate) from_pod: Duration,
    pub(crate) from_mesh: Duration,
}

type Row = (&'static str, fn(&Figures) -> Duration, Option<u128>);

/// Key, value, and the aim over the floor.
const ROWS: [Row; 8] = [
    ("floor_ns", |f| f.floor, None),
    ("established_ns", |f| f.established, Some(60)),
    ("new_flow_ns", |f| f.new_flow, Some(300)),
    ("new_flow_known_port_ns", |f| f.new_flow_known_port, None),
    ("new_flow_uniform_ns", |f| f.new_flow_uniform, None),
    ("miss_ns", |f| f.miss, None),
    ("from_pod_ns", |f| f.from_pod, None),
    ("from_mesh_ns", |f| f.from_mesh, None),
];

#[expect(clippy::print_stdout, reason = "the table is what the command is for")]
pub(crate) fn write(path: &Path, all: &[(u32, Figures)]) -> anyhow::Result<()> {
    let mut out = Map::new();
    print!("{:<24}", "ns per packet");
    for (services, _) in all {
        print!("{:>18}", format!("{services} services"));
    }
    println!("   aim");
    for (name, value, aim) in ROWS {
        let mut by_size = Map::new();
        print!("{name:<24}");
        for (services, figures) in all {
            let (value, floor) = (value(figures).as_nanos(), figures.floor.as_nanos());
            print!("{:>18}", format!("{value} (+{})", value.saturating_sub(floor)));
            by_size.insert(services.to_string(), json!(value));
        }
        println!("   {}", aim.map_or(String::new(), |aim| format!("+{aim} at most")));
        out.insert(name.to_owned(), Value::Object(by_size));
    }
    out.insert("commit".to_owned(), json!(commit()));
    out.insert("kernel".to_owned(), json!(kernel()));
    out.insert("cpu".to_owned(), json!(cpu()));
    out.insert("date".to_owned(), json!(jiff::Timestamp::now().to_string()));
    let text = serde_json::to_string_pretty(&out)? + "\n";
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

fn commit() -> String {
    let git = Command::new("git").args(["rev-parse", "HEAD"]).output();
    let text = git.ok().filter(|o| o.status.success()).map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
    text.unwrap_or_else(|| "unknown".to_owned())
}

fn kernel() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    text.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let name = model.trim_start_matches([' ', '\t', ':']);
    if name.is_empty() { "unknown".to_owned() } else { name.to_owned() }
}
