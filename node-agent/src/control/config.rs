//! The programs' configuration.

use agent_ebpf_common::Config;
use mesh_runtime::ErrorChain;
use mesh_types::IdentityLayout;
use mesh_types::view::Encryption;

use super::Control;

impl Control {
    /// Written once everything in it is known; before that an earlier agent's stays, or none: then the programs are closed.
    pub(super) fn write_config(&mut self) {
        let Some(own) = self.view.local() else { return };
        let (vxlan, sizes) = {
            let state = self.wiring.underlay.borrow();
            (state.vxlan, state.sizes)
        };
        let (Some(vxlan_ifindex), Some(sizes)) = (vxlan, sizes) else { return };
        let flags = match own.encryption {
            Encryption::Wireguard => Config::FLAG_ENCRYPTION_REQUIRED,
            Encryption::None => 0,
        };
        let config = Config {
            magic: Config::MAGIC,
            cluster: own.id.get(),
            vxlan_ifindex,
            flags,
            mtu: sizes.inner,
            mss: sizes.mss,
            vxlan_port: self.options.vxlan_port.into(),
            identity_shift: IdentityLayout::default().shift(),
        };
        if config == self.config {
            return;
        }
        match self.datapath.maps.config.set(&config) {
            Ok(()) => {
                tracing::info!(?config, "datapath configured");
                self.config = config;
            }
            // The next change of the underlay, at the latest its periodic compare, tries again.
            Err(error) => tracing::warn!(error = %ErrorChain(&error), "cannot configure the datapath"),
        }
    }
}
