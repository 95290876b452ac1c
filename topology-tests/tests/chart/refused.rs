//! Values that the chart refuses: each with its path, and where values do not go together with what to do.

use anyhow::{Result, ensure};

use crate::helm::Helm;

const GIVEN: [&str; 4] = ["--set", "cluster.name=cluster-a", "--set", "cluster.id=1"];

#[test]
fn a_value_outside_the_schema_is_refused_by_its_path() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    for (values, path) in [
        ("apiserver.ca.existingSecret=x", "'/apiserver/ca': additional properties 'existingSecret' not allowed"),
        ("apiserver.ca.secret=Not_A_Name", "'/apiserver/ca/secret'"),
        ("agent.bogus=1", "'/agent': additional properties 'bogus' not allowed"),
        ("apiserver.service.nodePort=1", "'/apiserver/service': additional properties 'nodePort' not allowed"),
        ("apiServer.replicas=3", "additional properties 'apiServer' not allowed"),
        ("cluster.encryption=ipsec", "'/cluster/encryption'"),
        ("apiserver.replicas=2", "'/apiserver/replicas'"),
        ("cluster.id=512", "'/cluster/id'"),
        ("cluster.name=Cluster_A", "'/cluster/name'"),
        ("cluster.podCIDRs={10.1.0.0}", "'/cluster/podCIDRs/0'"),
        ("agent.wireguard=ipsec", "'/agent/wireguard'"),
        ("agent.ports.vxlan=70000", "'/agent/ports/vxlan'"),
        ("agent.image.digest=latest", "'/agent/image/digest'"),
        ("apiserver.service.type=ExternalName", "'/apiserver/service/type'"),
        ("tunnel.workers=0", "'/tunnel/workers'"),
        ("agent.hostPaths.state=var/lib", "'/agent/hostPaths/state'"),
    ] {
        let said = helm.template(&[&GIVEN[..], &["--set", values]].concat())?;
        ensure!(!said.succeeded, "{values} was taken");
        ensure!(said.stderr.contains(path), "{values}: {path}\nis not in\n{}", said.stderr);
    }
    Ok(())
}

#[test]
fn a_cluster_without_name_or_number_is_refused() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    let said = helm.template(&[])?;
    ensure!(!said.succeeded, "a cluster without a name was taken");
    for path in ["'/cluster/name'", "'/cluster/id'"] {
        ensure!(said.stderr.contains(path), "{path}\nis not in\n{}", said.stderr);
    }
    Ok(())
}

#[test]
fn values_that_do_not_go_together_are_refused_at_once_with_what_to_do() -> Result<()> {
    let Some(helm) = Helm::find() else { return Ok(()) };
    let set = "apiserver.replicas=3,apiserver.persistence.enabled=false,cluster.id=300,agent.ports.probe=8473,\
               agent.wireguard=userspace";
    let said = helm.template(&[&GIVEN[..], &["--set", set]].concat())?;
    ensure!(!said.succeeded, "{set} was taken");
    for part in [
        "apiserver.advertise.addresses: several replicas tell one thing",
        "apiserver.persistence.enabled: a replica that loses its state",
        "cluster.id: 300 needs cluster.maxConnectedClusters 511",
        "agent.ports: vxlan, wireguard and probe must differ",
        "agent.wireguard: userspace needs tunnel.enabled true",
    ] {
        ensure!(said.stderr.contains(part), "{part}\nis not in\n{}", said.stderr);
    }
    let said = helm.template(&[&GIVEN[..], &["--set", "apiserver.service.type=LoadBalancer"]].concat())?;
    ensure!(
        said.stderr.contains("apiserver.advertise.addresses: with apiserver.service.type LoadBalancer"),
        "{}",
        said.stderr
    );
    Ok(())
}
