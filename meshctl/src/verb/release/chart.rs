//! The chart that this program was built with, laid out for Helm in a folder that goes with this value.

use std::io;
use std::path::{Path, PathBuf};

const FILES: &[(&str, &[u8])] = &include!(concat!(env!("OUT_DIR"), "/chart.rs"));

/// A chart's folder.
#[derive(Debug)]
pub(super) enum Chart {
    BuiltIn(tempfile::TempDir),
    Named(PathBuf),
}

impl Chart {
    pub(super) fn built_in() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("meshctl-chart-").tempdir()?;
        for (name, bytes) in FILES {
            let path = folder.path().join(name);
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(path, bytes)?;
        }
        Ok(Self::BuiltIn(folder))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::BuiltIn(folder) => folder.path(),
            Self::Named(path) => path,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_chart_is_built_in_without_its_tests() {
        let chart = Chart::built_in().unwrap();
        for file in [
            "Chart.yaml",
            "values.yaml",
            "values.schema.json",
            "templates/_names.tpl",
            "templates/agent/daemonset.yaml",
        ] {
            assert!(chart.path().join(file).is_file(), "{file}");
        }
        assert!(!chart.path().join("tests").exists());
        let path = chart.path().to_owned();
        drop(chart);
        assert!(!path.exists());
    }
}
