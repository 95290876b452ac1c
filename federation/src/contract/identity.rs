//! An identity's value: its labels as plain text, not JSON (Cilium `pkg/identity`).

use mesh_types::LabelSet;

use super::Error;

pub fn encode(labels: &LabelSet) -> Vec<u8> {
    labels.to_sorted_list().into_bytes()
}

pub fn decode(value: &[u8]) -> Result<LabelSet, Error> {
    let text = std::str::from_utf8(value).map_err(Error::Text)?;
    LabelSet::parse_sorted_list(text).map_err(Error::Labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_back_in_ciliums_form() {
        let text = b"k8s:app=cart;k8s:io.cilium.k8s.policy.cluster=east;k8s:io.kubernetes.pod.namespace=shop;";
        assert_eq!(encode(&decode(text).unwrap()), text);
        assert!(decode(b"k8s:app").is_err());
        assert!(decode(&[0xff]).is_err());
    }
}
