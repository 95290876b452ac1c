//! The ports of an import: those of all exports, each name and each number of a protocol once. Pure.

use federation::contract::ServiceExportValue;
use federation::contract::service_export::ExportedPort;
use mesh_types::Protocol;

use super::words;

/// A port of an import and of the Service that is derived from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImportPort {
    /// Empty only where it is the only one.
    pub(super) name: String,
    pub(super) protocol: Protocol,
    pub(super) port: i32,
    pub(super) app_protocol: Option<String>,
}

/// All ports, those of the oldest export first, and what is wrong where exports do not have the same ones. Of two ports with
/// one name, or one number of a protocol, the older counts.
pub(super) fn union(oldest_first: &[&ServiceExportValue]) -> (Vec<ImportPort>, Option<String>) {
    let mut ports: Vec<(ImportPort, &str)> = Vec::new();
    let mut conflict: Option<String> = None;
    for export in oldest_first {
        for exported in &export.ports {
            let port = port_of(exported);
            if !words::is_port_name(&port.name) {
                let said = format!(
                    "ports: {} has {}, whose name is none of a port: it is left out",
                    export.cluster,
                    told(&port)
                );
                conflict.get_or_insert(said);
                continue;
            }
            let said = match clash(&ports, &port) {
                Clash::None => {
                    ports.push((port, &export.cluster));
                    continue;
                }
                Clash::Same => continue,
                Clash::Name(older, cluster) => format!(
                    "ports: {} has {}, and {} an older {} of this name, which alone counts",
                    export.cluster,
                    told(&port),
                    cluster,
                    told(older)
                ),
                Clash::Number(older, cluster) => format!(
                    "ports: {} has {}, and {} an older {} of this number, whose name and appProtocol count",
                    export.cluster,
                    told(&port),
                    cluster,
                    told(older)
                ),
            };
            conflict.get_or_insert(said);
        }
    }
    let ports: Vec<ImportPort> = ports.into_iter().map(|(port, _)| port).collect();
    let lacking = oldest_first.iter().find_map(|export| {
        let lacks = ports.iter().find(|port| name_in(export, port).is_none())?;
        Some(format!("ports: {} has no {}: that port leads to the clusters that have it", export.cluster, told(lacks)))
    });
    (named(ports), conflict.or(lacking))
}

/// What an export calls the import's port; `None` where it has no port of that number, and its backends none of its traffic.
pub(super) fn name_in<'a>(export: &'a ServiceExportValue, port: &ImportPort) -> Option<&'a str> {
    let same = |exported: &&ExportedPort| exported.port == port.port && protocol_of(exported) == port.protocol;
    export.ports.iter().find(same).map(|exported| exported.name.as_str())
}

enum Clash<'a> {
    None,
    Same,
    /// Another number has the name.
    Name(&'a ImportPort, &'a str),
    /// The number has another name, or another protocol of applications.
    Number(&'a ImportPort, &'a str),
}

fn clash<'a>(known: &'a [(ImportPort, &'a str)], port: &ImportPort) -> Clash<'a> {
    let is_number = |older: &ImportPort| older.port == port.port && older.protocol == port.protocol;
    if let Some((older, cluster)) = known.iter().find(|(older, _)| older.name == port.name && !is_number(older)) {
        return Clash::Name(older, cluster);
    }
    match known.iter().find(|(older, _)| is_number(older)) {
        None => Clash::None,
        Some((older, _)) if older == port => Clash::Same,
        Some((older, cluster)) => Clash::Number(older, cluster),
    }
}

/// A Service of several ports has a name for each: one that came without is named by what it is.
fn named(mut ports: Vec<ImportPort>) -> Vec<ImportPort> {
    if ports.len() < 2 {
        return ports;
    }
    let Some(place) = ports.iter().position(|port| port.name.is_empty()) else { return ports };
    let mut name = format!("{}-{}", ports[place].protocol.to_string().to_lowercase(), ports[place].port);
    while ports.iter().any(|port| port.name == name) {
        name.push_str("-0");
    }
    ports[place].name = name;
    ports
}

fn port_of(exported: &ExportedPort) -> ImportPort {
    ImportPort {
        name: exported.name.clone(),
        protocol: protocol_of(exported),
        port: exported.port,
        app_protocol: exported.app_protocol.clone().filter(|app| words::is_qualified(app)),
    }
}

/// An empty word is TCP; one that is none was refused when the value was read.
fn protocol_of(exported: &ExportedPort) -> Protocol {
    exported.protocol.parse().unwrap_or(Protocol::Tcp)
}

fn told(port: &ImportPort) -> String {
    let ImportPort { name, protocol, port, app_protocol } = port;
    let name = if name.is_empty() { String::new() } else { format!("{name} ") };
    let app = app_protocol.as_ref().map(|app| format!(" ({app})")).unwrap_or_default();
    format!("{name}{port}/{protocol}{app}")
}
