//! Who may have what: three clusters, of which east keeps a namespace for west, and south is who may not see it.

mod export;
mod hostile;
mod import;
mod reader;

use crate::harness::{GLOBAL, Server, global_service, node, pod};

/// What south must never receive a byte of: names, labels and addresses of the namespace `shop`.
const HIDDEN: [&str; 4] = ["shop", "cart", "10.1.0.9", "10.101.0.77"];
const ADDRESS: &str = "cilium/state/ip/v1/default/10.1.0.9";
const SERVICE: &str = "cilium/state/services/v1/east/shop/cart";
const SLICE: &str = "cilium/state/endpointslices/v1/east/shop/cart-x";

pub(super) struct Mesh {
    pub(super) east: Server,
    pub(super) west: Server,
    pub(super) south: Server,
}

impl Mesh {
    /// East keeps `shop` for `export_to` from its first start on, and has joined both others.
    pub(super) async fn start(export_to: &str) -> Self {
        Self::with(export_to, |_west| ()).await
    }

    /// The same, with manifests of west's that it has from its start on.
    pub(super) async fn with(export_to: &str, prepare: impl FnOnce(&Server)) -> Self {
        let east = Server::start("east", 1).await;
        east.write("a-node.yaml", &node("e1", "192.0.1.1", "10.1.0.0/24"));
        // Read before the Namespace that keeps it.
        east.write("b-pod.yaml", &pod("cart", "10.1.0.9", "e1"));
        east.write("c-service.yaml", &global_service("10.101.0.77", "10.1.0.9", GLOBAL));
        east.write("d-open.yaml", &open_pod("10.1.0.2"));
        east.write("e-namespace.yaml", &namespace(Some(export_to)));
        let (west, south) = (Server::start("west", 2).await, Server::start("south", 3).await);
        prepare(&west);
        for server in [&east, &west, &south] {
            server.ready().await;
        }
        for other in [&west, &south] {
            east.connect(other).await.expect("the clusters fit");
        }
        Self { east, west, south }
    }

    pub(super) fn export_to(&self, clusters: Option<&str>) {
        self.east.write("e-namespace.yaml", &namespace(clusters));
    }

    /// Something that everybody may see, to wait for: what came before it has been seen.
    pub(super) fn mark(&self, ip: &str) {
        self.east.write("d-open.yaml", &open_pod(ip));
    }

    pub(super) async fn stop(self) {
        for server in [self.east, self.west, self.south] {
            server.app.stop().await;
        }
    }
}

pub(super) fn namespace(export_to: Option<&str>) -> String {
    let annotations = export_to.map(|text| format!(", annotations: {{mesh.isthmus.io/export-to: \"{text}\"}}"));
    format!("kind: Namespace\nmetadata: {{name: shop{}}}\n", annotations.unwrap_or_default())
}

fn open_pod(ip: &str) -> String {
    format!(
        "kind: Pod\nmetadata: {{name: front, namespace: open, labels: {{app: front}}}}\nspec: {{nodeName: e1}}\n\
         status: {{phase: Running, podIP: {ip}}}\n"
    )
}
