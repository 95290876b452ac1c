//! `meshctl bpf dump`: becomes `node-agent bpf dump`, run where the node's bpffs is seen.
//!
//! Maps are read on their node and nowhere else, so that no port ever shows kernel state. The configuration file may
//! name the command that gets there (`[nodes.NAME] exec = ["nsenter", ...]`).

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::app::Run;
use crate::args::BpfDump;
use crate::exit::Exit;
use crate::failure::Failure;

#[derive(Debug, thiserror::Error)]
#[error("cannot run {program}")]
struct Error {
    program: String,
    source: std::io::Error,
}

pub(crate) fn dump(run: &Run, args: &BpfDump) -> Result<Exit, Failure> {
    let prefix = match &args.node {
        None => &[][..],
        Some(node) => run.nodes.get(node).map(Vec::as_slice).ok_or_else(|| {
            Failure::said(Exit::Usage, format!("node {node}"), "the configuration file does not say how to get there")
                .hint(format!("run it on {node} without --node, or add [nodes.{node}] exec = [\"ssh\", \"{node}\"]"))
        })?,
    };
    let words = command_line(prefix, &node_agent(), &args.map, run.format.name());
    let source = Command::new(&words[0]).args(&words[1..]).exec();
    let error = Error { program: words[0].clone(), source };
    let object = args.node.as_ref().map_or_else(|| "this machine".to_owned(), |n| format!("node {n}"));
    Err(Failure::new(Exit::Unavailable, object, &error)
        .hint("node-agent is looked for beside meshctl, then in PATH; exec of the configuration file goes before it"))
}

/// The program beside this one, so that a build folder works as it is; else by PATH.
fn node_agent() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|me| Some(me.parent()?.join("node-agent")));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| PathBuf::from("node-agent"))
}

fn command_line(prefix: &[String], node_agent: &std::path::Path, map: &str, format: &str) -> Vec<String> {
    let program = node_agent.display().to_string();
    prefix.iter().cloned().chain([program]).chain(["bpf", "dump", map, "-o", format].map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_command_goes_in_front() {
        let prefix = ["nsenter".to_owned(), "--net=/run/a1".to_owned()];
        let words = command_line(&prefix, std::path::Path::new("/opt/node-agent"), "ipcache", "json");
        assert_eq!(words.join(" "), "nsenter --net=/run/a1 /opt/node-agent bpf dump ipcache -o json");
        assert_eq!(command_line(&[], std::path::Path::new("node-agent"), "ct", "table")[0], "node-agent");
    }
}
