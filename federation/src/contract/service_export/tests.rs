use super::*;

const EXPORT: &str = concat!(
    r#"{"cluster":"east","name":"cart","namespace":"shop","exportCreationTimestamp":"2026-03-04T05:06:07Z","#,
    r#""ports":[{"name":"grpc","protocol":"TCP","port":7070}],"type":"ClusterSetIP","sessionAffinity":"None"}"#,
);

fn refused(old: &str, new: &str) -> String {
    let text = EXPORT.replace(old, new);
    assert_ne!(text, EXPORT, "{old} is part of the value");
    ServiceExportValue::decode(text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn what_is_empty_is_left_out_but_for_what_cilium_always_writes() {
    let export = ServiceExportValue::decode(EXPORT.as_bytes()).unwrap();
    assert_eq!(String::from_utf8(export.encode()).unwrap(), EXPORT);
    assert_eq!(export.service_name(), ServiceName::new("shop", "cart"));
    assert_eq!(export.created().unwrap(), Timestamp::new(1_772_600_767, 0).unwrap());
    let empty = r#"{"cluster":"","name":"","namespace":"","exportCreationTimestamp":null,"ports":[],"type":"","sessionAffinity":""}"#;
    assert_eq!(String::from_utf8(ServiceExportValue::default().encode()).unwrap(), empty);
}

#[test]
fn capitalised_labels_count_where_the_others_are_missing() {
    let labels = |fields: &str| {
        let text = EXPORT.replace("\"ports\"", &format!("{fields},\"ports\""));
        let export = ServiceExportValue::decode(text.as_bytes()).unwrap();
        (export.labels.into_values().collect::<Vec<_>>(), export.annotations.into_values().collect::<Vec<_>>())
    };
    let one = |text: &str| vec![text.to_owned()];
    assert_eq!(labels(r#""Labels":{"a":"L"},"Annotations":{"a":"A"}"#), (one("L"), one("A")));
    assert_eq!(
        labels(r#""labels":{},"Labels":{"a":"L"},"annotations":null,"Annotations":{"a":"A"}"#),
        (one("L"), one("A"))
    );
    assert_eq!(labels(r#""labels":{"a":"l"},"Labels":{"b":"L"},"Annotations":null"#), (one("l"), vec![]));
}

#[test]
fn null_and_absent_and_unknown_fields_are_read_over() {
    let text =
        EXPORT.replace("\"ports\":[", r#""later":{"x":[1]},"ipFamilies":null,"sessionAffinityConfig":null,"ports":["#);
    let text = text.replace("\"None\"", "\"\"");
    let export = ServiceExportValue::decode(text.as_bytes()).unwrap();
    assert_eq!((export.session_affinity.as_str(), export.session_affinity_config), ("", None));
    let text = EXPORT.replace(r#"[{"name":"grpc","protocol":"TCP","port":7070}]"#, "null");
    assert!(ServiceExportValue::decode(text.as_bytes()).unwrap().ports.is_empty());
}

#[test]
fn a_word_or_number_without_meaning_is_refused_with_its_field() {
    let with = |field: &str| refused("\"ports\"", &format!("{field},\"ports\""));
    assert_eq!(refused("ClusterSetIP", "ExternalName"), "type: \"ExternalName\" is not ClusterSetIP or Headless");
    assert_eq!(refused(":\"None\"", ":\"Cookie\""), "sessionAffinity: \"Cookie\" is not None or ClientIP");
    assert_eq!(with(r#""internalTrafficPolicy":"Zone""#), "internalTrafficPolicy: \"Zone\" is not Cluster or Local");
    assert!(with(r#""trafficDistribution":"Far""#).starts_with("trafficDistribution: \"Far\""));
    assert_eq!(with(r#""ipFamilies":["IPv5"]"#), "ipFamilies: \"IPv5\" is not IPv4 or IPv6");
    assert_eq!(with(r#""ipFamilies":["IPv4","IPv4"]"#), "ipFamilies: \"IPv4\" is not said once");
    let timeout = with(r#""sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}}"#);
    assert_eq!(timeout, "timeoutSeconds: \"0\" is not 1 to 86400 seconds");
    assert_eq!(refused("7070", "0"), "port: \"0\" is not a port number, 1 to 65535");
    assert_eq!(refused("7070", "65536"), "port: \"65536\" is not a port number, 1 to 65535");
    assert_eq!(refused("\"TCP\"", "\"tcp\""), "protocol: \"tcp\" is not TCP, UDP or SCTP");
    for time in ["null", "\"\"", "\"yesterday\"", "\"2026-03-04\""] {
        let error = refused("\"2026-03-04T05:06:07Z\"", time);
        assert!(
            error.starts_with("exportCreationTimestamp: \"") && error.ends_with("is not a time of RFC 3339"),
            "{error}"
        );
    }
}

#[test]
fn a_value_of_another_form_is_refused() {
    for text in ["", "[]", "{", r#"{"ports":7}"#, r#"{"Labels":7}"#, r#"{"ports":[{"port":4294967296}]}"#] {
        let error = ServiceExportValue::decode(text.as_bytes()).unwrap_err();
        assert!(matches!(error, Error::Json { kind: "service-export", .. }), "{text}: {error}");
    }
}
