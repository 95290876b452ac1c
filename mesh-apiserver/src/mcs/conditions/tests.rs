use super::*;

fn shown(said: &[Said]) -> Vec<String> {
    said.iter().map(|said| format!("{}={} {}", said.kind, said.status, said.reason)).collect()
}

fn import(conflicts: Vec<Conflict>) -> Import {
    let export = federation::contract::ServiceExportValue::default();
    Import { conflicts, ..super::super::resolve::resolve([&export]).expect("one export") }
}

#[test]
fn what_cannot_be_exported_is_not_valid_or_not_ready() {
    let of = |error| shown(&of_export(Err(&error), None));
    assert_eq!(
        of(NotExported::NoService),
        ["Valid=false NoService", "Ready=false Pending", "Conflict=false NoConflicts"]
    );
    assert_eq!(of(NotExported::ExternalName)[0], "Valid=false InvalidServiceType");
    assert_eq!(of(NotExported::Family), ["Valid=true Valid", "Ready=false Failed", "Conflict=false NoConflicts"]);
}

#[test]
fn conflicts_are_joined_by_commas_and_explained() {
    let conflict = |reason, message: &str| Conflict { reason, message: message.to_owned() };
    let both = import(vec![conflict(Reason::Port, "ports"), conflict(Reason::Labels, "labels")]);
    let said = of_export(Ok(()), Some(&both));
    assert_eq!(shown(&said), ["Valid=true Valid", "Ready=true Exported", "Conflict=true PortConflict,LabelsConflict"]);
    assert_eq!(said[2].message, "ports; labels");
}

#[test]
fn an_import_is_ready_when_it_can_be_used() {
    let mut import = import(Vec::new());
    assert_eq!(shown(&of_import(&import, true, false)), ["Ready=false Pending"]);
    assert_eq!(shown(&of_import(&import, true, true)), ["Ready=true Ready"]);
    assert_eq!(shown(&of_import(&import, false, false)), ["Ready=false IPFamilyNotSupported"]);
    import.is_headless = true;
    assert_eq!(shown(&of_import(&import, true, false)), ["Ready=true Ready"]);
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays_and_what_is_said_is_not_said_again() {
    let first = renewed(&[], &of_export(Ok(()), None), 1, "t1").expect("news");
    assert!(first.iter().all(|condition| condition.last_transition_time == "t1"));
    assert_eq!(renewed(&first, &of_export(Ok(()), None), 1, "t2"), None);
    let others = Condition { kind: "NamespaceNotGlobal".to_owned(), ..Condition::default() };
    let mut with_others = first.clone();
    with_others.push(others);
    assert_eq!(renewed(&with_others, &of_export(Ok(()), None), 1, "t2"), None, "what others say is theirs");
    let conflict = import(vec![Conflict { reason: Reason::Type, message: String::new() }]);
    let second = renewed(&first, &of_export(Ok(()), Some(&conflict)), 2, "t2").expect("news");
    let times: Vec<&str> = second.iter().map(|condition| condition.last_transition_time.as_str()).collect();
    assert_eq!(times, ["t1", "t1", "t2"]);
    assert!(second.iter().all(|condition| condition.observed_generation == 2));
}

#[test]
fn reasons_are_words_that_the_api_takes() {
    for reason in [Reason::Port, Reason::IpFamily, Reason::SessionAffinityConfig] {
        let conflict =
            import(vec![Conflict { reason, message: String::new() }, Conflict { reason, message: String::new() }]);
        let said = of_export(Ok(()), Some(&conflict));
        assert!(said[2].reason.chars().all(|c| c.is_ascii_alphanumeric() || c == ','), "{}", said[2].reason);
    }
}
