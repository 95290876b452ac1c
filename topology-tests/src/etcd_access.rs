//! What a client of a cluster's store needs to be its administrator: endpoints, CA and certificate. Clients of scenarios
//! talk to one replica at a time, since which one answers is what a scenario is about.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

use crate::components::ETCD_PORT;
use crate::lab::Lab;
use crate::mesh::apiservers::state_dir;

/// A replica that does not take a connection within this is given up.
const PATIENCE: Duration = Duration::from_millis(500);

pub struct Access {
    /// In the order of the replicas' ids.
    replicas: Vec<(u64, SocketAddr)>,
    tls: TlsOptions,
}

impl Access {
    pub fn of(lab: &Lab, cluster: &str) -> Result<Self> {
        let plan = lab.cluster_plan(cluster)?;
        let replicas = plan.replicas.iter().map(|replica| (replica.id, (replica.ip, ETCD_PORT).into())).collect();
        let state = state_dir(lab, cluster, plan.replicas.first().context("the cluster has no replica")?.id);
        let read = |file: &str| {
            let path = Path::new(&state).join(file);
            std::fs::read(&path).with_context(|| format!("read {}", path.display()))
        };
        let tls = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(read("ca.crt")?))
            .identity(Identity::from_pem(read("admin.crt")?, read("admin.key")?))
            .domain_name("localhost");
        Ok(Self { replicas, tls })
    }

    /// The ids of the replicas.
    pub fn replicas(&self) -> impl Iterator<Item = u64> {
        self.replicas.iter().map(|(id, _)| *id)
    }

    /// To one replica after the other.
    pub async fn client(&self, turn: usize) -> Option<Client> {
        let (_, address) = self.replicas[turn % self.replicas.len()];
        self.connect(address).await
    }

    /// To this replica, if it takes connections: then what is asked has a chance to arrive.
    pub async fn client_of(&self, replica: u64) -> Option<Client> {
        let (_, address) = self.replicas.iter().find(|(id, _)| *id == replica)?;
        let tried = tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(address)).await;
        drop(tried.ok()?.ok()?);
        self.connect(*address).await
    }

    async fn connect(&self, address: SocketAddr) -> Option<Client> {
        let options = ConnectOptions::new()
            .with_tls(self.tls.clone())
            .with_connect_timeout(PATIENCE)
            .with_keep_alive(Duration::from_millis(500), Duration::from_millis(500))
            .with_keep_alive_while_idle(true)
            .with_require_leader(true);
        Client::connect([format!("https://{address}")], Some(options)).await.ok()
    }
}
