//! What the machine must offer before real clusters can run on it. Looks only.

use std::path::Path;

use k8s_tools::Tools;

const PROGRAMS: [(&str, &str); 4] =
    [("containerd", "containerd"), ("ctr", "containerd"), ("runc", "runc"), ("busybox", "busybox-static")];
const PLUGINS: [&str; 1] = ["portmap"];

/// Why no real cluster can run here, in one line; `None` when it can.
pub fn missing() -> Option<String> {
    if let Some(why) = crate::requirements::missing() {
        return Some(why);
    }
    for (program, package) in PROGRAMS {
        let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
        if !places.iter().any(|place| Path::new(place).join(program).exists()) {
            return Some(format!("no program {program}: install {package}"));
        }
    }
    for plugin in PLUGINS {
        if !Path::new(crate::cni::PLUGIN_DIR).join(plugin).exists() {
            return Some(format!("no CNI plugin {plugin}: install containernetworking-plugins"));
        }
    }
    Tools::find().err().map(|error| format!("{error:#}"))
}
