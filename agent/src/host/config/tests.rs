//! The layers together: what users write, and what they are told.

use std::fmt::Write;
use std::time::Duration;

use decide::settings::{LogLevel, Settings};

use super::*;

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (format!("{PREFIX}{name}").into(), (*value).into())).collect()
}

fn load_file(text: &str) -> Result<Loaded, ConfigurationErrors> {
    load_text("a.yaml", text, Vec::new(), &[])
}

fn complaints(text: &str) -> String {
    load_file(text).unwrap_err().to_string()
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "\n# nothing\n", "---\n", "stackit:\n  # nothing yet\n", "\u{feff}log:\n"] {
        let loaded = load_file(text).unwrap();
        assert!(loaded.explicit.is_empty());
        assert_eq!(loaded.settings, Settings::default(), "{text:?}");
    }
}

#[test]
fn later_layers_win() {
    let text = "stackit: {region: eu01, requestTimeout: 4s}\nlog: {level: warn}\nexposure:\n  port: 6443\n";
    let environment = variables(&[("STACKIT__REGION", "eu02"), ("log__Level", "debug"), ("EXPOSURE__NAME", "12")]);
    let flag = Override { flag: "--log-level".into(), path: "log.level".into(), value: "trace".into() };
    let loaded = load_text("a.yaml", text, environment, &[flag]).unwrap();
    let settings = loaded.settings;
    assert_eq!(settings.stackit.region(), Some("eu02"));
    assert_eq!(settings.stackit.request_timeout, Duration::from_secs(4));
    assert_eq!((settings.log.level, settings.exposure.port), (LogLevel::Trace, 6443));
    assert_eq!(settings.exposure.name(), Some("12"), "a text is taken as it is");
    let explicit: Vec<&str> = loaded.explicit.iter().map(String::as_str).collect();
    assert_eq!(explicit, ["exposure.name", "exposure.port", "log.level", "stackit.region", "stackit.requestTimeout"]);
}

#[test]
fn lists_and_sections_from_the_environment() {
    let ranges = |value: &str| {
        let environment = variables(&[("LOADBALANCER__ACCESSCONTROL__ALLOWEDSOURCERANGES", value)]);
        load_text("a.yaml", "", environment, &[]).unwrap().settings.load_balancer.access_control.allowed_source_ranges
    };
    for value in ["10.0.0.0/8, 192.0.2.0/24", "[10.0.0.0/8, \"192.0.2.0/24\"]", "10.0.0.0/8,192.0.2.0/24,"] {
        assert_eq!(ranges(value), ["10.0.0.0/8", "192.0.2.0/24"], "{value}");
    }
    assert_eq!(ranges(""), [""; 0]);
    let environment = variables(&[("LOG", "{level: error, format: json}"), ("EXPOSURE__CREATEIFMISSING", "true")]);
    let settings = load_text("a.yaml", "", environment, &[]).unwrap().settings;
    assert!(settings.log.level == LogLevel::Error && settings.exposure.create_if_missing);
}

#[test]
fn all_mistakes_at_once_each_with_its_place_and_a_hint() {
    let text = "\
apiVersion: v1
stackit:
  regoin: eu01
  projectID: 12345
  requestTimeout: 20
  requestTimeout: 4s
region: eu01
leaderElection:
  renewDeadline: 20s
  enabled: yes
exposure:
  port: 70000
nodes: File
log:
  level: verbose
loadBalancer:
  accessControl:
    allowedSourceRanges:
    - 10.0.0.0/8
    - 10.1.2.3/8
    - 5
  activeHealthCheck:
    interval: [5s]
    healthyThreshold: 1.5
health:
  probe: {enabled: true, timeout: 9s}
";
    let environment = variables(&[
        ("STACKIT__REGON", "eu01"),
        ("LEADER_ELECTION__ENABLED", "true"),
        ("SERVER__BINDADDRESS", "9440"),
        ("LOG__FORMAT", "xml"),
        ("EXPOSURE__PORT", ""),
        ("X", "1"),
    ]);
    let flag = |path: &str| Override { flag: "--set".into(), path: path.into(), value: "x".into() };
    let found = load_text("/etc/a.yaml", text, environment, &[flag("log.levle"), flag("log.format")]).unwrap_err();
    let expected = "\
/etc/a.yaml:1: apiVersion: \"v1\" is not known
  hint: write agent.exposure.gardener.cloud/v1alpha1
/etc/a.yaml:3: stackit.regoin: unknown key
  hint: did you mean stackit.region?
/etc/a.yaml:4: stackit.projectID: 12345 is not a text
  hint: put it in quotes: \"12345\"
/etc/a.yaml:5: stackit.requestTimeout: 20 is not a duration such as 500ms, 15s, 60m or 2h
  hint: such as 5s, the default
/etc/a.yaml:6: stackit.requestTimeout: the same key as on line 5
  hint: remove one of the two
/etc/a.yaml:7: region: unknown key
  hint: did you mean stackit.region?
/etc/a.yaml:9: leaderElection.renewDeadline: 20s is not shorter than leaseDuration (15s)
  hint: the leader must have stopped before others may begin; 15s, 10s and 2s are usual
/etc/a.yaml:10: leaderElection.enabled: \"yes\" is neither true nor false
  hint: write true or false, without quotes
/etc/a.yaml:12: exposure.port: 70000 is not a whole number from 0 to 65535
  hint: such as 443, the default
/etc/a.yaml:13: nodes: \"File\" where a section with keys is expected
  hint: write its keys below it: source, file, selector
/etc/a.yaml:15: log.level: \"verbose\" is not known
  hint: one of error, warn, info, debug, trace
/etc/a.yaml:20: loadBalancer.accessControl.allowedSourceRanges[1]: \"10.1.2.3/8\" is not a canonical CIDR
  hint: write 10.0.0.0/8
/etc/a.yaml:21: loadBalancer.accessControl.allowedSourceRanges[2]: 5 is not a text
  hint: put it in quotes: \"5\"
/etc/a.yaml:23: loadBalancer.activeHealthCheck.interval: a list where a single value is expected
  hint: such as 5s, the default
/etc/a.yaml:24: loadBalancer.activeHealthCheck.healthyThreshold: 1.5 is not a whole number from 0 to 4294967295
  hint: such as 2, the default
environment variable SHOOT_EXPOSURE_AGENT__EXPOSURE__PORT: exposure.port: \"\" is not a whole number from 0 to 65535
  hint: such as 443, the default
environment variable SHOOT_EXPOSURE_AGENT__LEADER_ELECTION__ENABLED: no setting has this name
  hint: did you mean SHOOT_EXPOSURE_AGENT__LEADERELECTION__ENABLED?
environment variable SHOOT_EXPOSURE_AGENT__LOG__FORMAT: log.format: \"xml\" is not known
  hint: text or json
environment variable SHOOT_EXPOSURE_AGENT__SERVER__BINDADDRESS: server.bindAddress: \"9440\" is not an address and port
  hint: such as 127.0.0.1:9440, [::1]:9440 or 0.0.0.0:9440
environment variable SHOOT_EXPOSURE_AGENT__STACKIT__REGON: no setting has this name
  hint: did you mean SHOOT_EXPOSURE_AGENT__STACKIT__REGION?
environment variable SHOOT_EXPOSURE_AGENT__X: no setting has this name
  hint: such as SHOOT_EXPOSURE_AGENT__STACKIT__REGION
flag --set: log.levle: unknown key
  hint: did you mean log.level?
flag --set: log.format: \"x\" is not known
  hint: text or json";
    assert_eq!(found.to_string(), expected, "found:\n{found}");
}

#[test]
fn items_of_a_list_keep_their_number_behind_one_that_is_no_text() {
    let text =
        "loadBalancer:\n  accessControl:\n    allowedSourceRanges:\n    - 5\n    - 10.0.0.0/8\n    - 10.1.2.3/8\n";
    let found = complaints(text);
    assert!(
        found.contains("a.yaml:4: loadBalancer.accessControl.allowedSourceRanges[0]: 5 is not a text\n"),
        "{found}"
    );
    assert!(
        found.contains("a.yaml:6: loadBalancer.accessControl.allowedSourceRanges[2]: \"10.1.2.3/8\" is"),
        "{found}"
    );
}

#[test]
fn what_depends_on_an_unusable_value_is_not_judged() {
    // Against the default of 10s, 5s would be too short a lease.
    let found = complaints("leaderElection: {leaseDuration: 5s, renewDeadline: soon}\n");
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(found.contains("renewDeadline: \"soon\" is not a duration"), "{found}");
}

#[test]
fn a_default_that_no_longer_fits_is_blamed_on_the_key_that_was_set() {
    let found = complaints("leaderElection:\n  leaseDuration: 8s\n");
    assert!(found.starts_with("a.yaml:2: leaderElection.renewDeadline: 10s is not shorter than"), "{found}");
}

#[test]
fn what_is_no_settings_file() {
    for (text, expected) in [
        ("- a\n", "a.yaml:1: a list where a section with keys is expected"),
        ("text", "a.yaml:1: \"text\" where a section with keys is expected"),
        ("a: {", "a.yaml:1: not YAML: unclosed bracket"),
        ("log:\n\tlevel: info\n", "a.yaml:2: not YAML: tabs"),
        ("log: {}\n---\nlog: {}\n", "a.yaml:3: not YAML: the settings are one document"),
        ("log: *x\n", "a.yaml:1: not YAML: alias"),
        ("? [a]\n: 1\n", "a.yaml:1: not YAML: "),
    ] {
        let found = complaints(text);
        assert!(found.starts_with(expected) && found.contains("\n  hint: "), "{text:?}: {found}");
    }
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert!(complaints(&deep).contains("not YAML"));
    let mut bomb = String::from("a0: &a0 [x]\n");
    for i in 1..40 {
        writeln!(bomb, "a{i}: &a{i} [*a{0}, *a{0}, *a{0}, *a{0}]", i - 1).unwrap();
    }
    assert!(complaints(&bomb).contains("not YAML"));
}

#[test]
fn keys_that_only_look_like_paths_are_unknown() {
    assert!(complaints("log.level: info\n").contains("log.level: unknown key"));
    assert!(complaints("null: 1\n7: 2\n").contains("7: unknown key"));
}

#[test]
fn anchors_and_merges_work() {
    let text = "loadBalancer:\n  activeHealthCheck: &x {interval: 9s}\n  resync: 30s\n";
    assert_eq!(load_file(text).unwrap().settings.load_balancer.active_health_check.interval, Duration::from_secs(9));
}

#[test]
fn a_missing_file_hides_nothing_else() {
    let environment = variables(&[("STACKIT__REGION", "EU01")]);
    let found = load(Path::new("/nonexistent/x.yaml"), environment, &[]).unwrap_err().to_string();
    assert!(found.starts_with("/nonexistent/x.yaml: there is no such file\n  hint: "), "{found}");
    assert!(found.contains("stackit.region: \"EU01\" is not a region"), "{found}");
}

#[test]
fn variables_of_a_service_of_our_name_are_nobodys_business() {
    let environment = [("SHOOT_EXPOSURE_AGENT_SERVICE_HOST", "10.0.0.1"), ("PATH", "/bin")];
    let environment = environment.map(|(name, value)| (name.into(), value.into()));
    assert!(load_text("a.yaml", "", environment, &[]).unwrap().explicit.is_empty());
}

#[test]
fn variables_that_differ_only_in_case_are_refused() {
    let environment = variables(&[("STACKIT__REGION", "eu01"), ("stackit__region", "eu02")]);
    let found = load_text("a.yaml", "", environment, &[]).unwrap_err().to_string();
    assert!(found.contains("set by SHOOT_EXPOSURE_AGENT__STACKIT__REGION as well"), "{found}");
}

#[test]
fn show_reads_back_and_tells_no_secret() {
    let text = "stackit: {tokenEndpoint: 'https://user:hunter2@host.example/token', region: eu01}\n\
                loadBalancer: {accessControl: {allowedSourceRanges: [10.0.0.0/8]}}\nserver: {bindAddress: '[::1]:9440'}\n";
    let loaded = load_file(text).unwrap();
    let shown = show(&loaded.settings);
    assert!(
        !shown.contains("hunter2") && shown.contains("  tokenEndpoint: \"https://****@host.example/token\"\n"),
        "{shown}"
    );
    let again = load_file(&shown).unwrap();
    assert_eq!(again.settings.load_balancer, loaded.settings.load_balancer);
    assert_eq!(show(&again.settings), shown);
}

#[test]
fn the_printed_defaults_are_valid_complete_and_in_effect() {
    let loaded = load_file(&defaults()).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(loaded.settings, load_file("").unwrap().settings);
    let explicit: BTreeSet<String> = Known::new().leaves().into_iter().collect();
    assert_eq!(loaded.explicit, explicit);
    for (path, _) in comments::COMMENTS {
        assert!(Known::new().get(path).is_some(), "a comment about {path}, which is no key");
    }
}

/// `UPDATE=1 cargo test` writes the file.
#[test]
fn the_file_in_the_repository_holds_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/agent.yaml");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, defaults()).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, defaults(), "run UPDATE=1 cargo test to write {}", path.display());
}
