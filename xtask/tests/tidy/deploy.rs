//! Container file, chart and plain manifests: what they say of the product is so. Whether the chart renders, and
//! renders what Kubernetes understands, is checked by `deploy/checks`.

use crate::{complain, read, tree};

const CONTAINER: &str = "deploy/container/Containerfile";
const POD: &str = "deploy/helm/naru/templates/_helpers.tpl";
const VALUES: &str = "deploy/helm/naru/values.yaml";

/// The files that Kubernetes or a builder of images reads.
fn deployed() -> Vec<(String, String)> {
    let folders = ["deploy/container/", "deploy/helm/", "deploy/kubernetes/"];
    let files = tree().into_iter().filter(|path| folders.iter().any(|each| path.starts_with(each)));
    files.map(|path| (path.clone(), read(&path))).collect()
}

/// What stands behind `start` on the first line that begins with it.
fn after<'a>(text: &'a str, start: &str) -> &'a str {
    let mut lines = text.lines().map(str::trim_start);
    let found = lines.find_map(|line| line.strip_prefix(start));
    found.unwrap_or_else(|| panic!("there is no line that begins with {start:?}")).trim()
}

/// The words that begin with `NARU_` and are a variable's name.
fn variables(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let rests = text.split("NARU_").skip(1);
    let names = rests.map(|rest| rest.split(|c| !is_part(c)).next().unwrap_or_default());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[test]
fn every_variable_stands_for_a_setting() {
    let reference = read("crates/naru/src/config/model.rs");
    // `bus` comes with clusters; the chart says that this version does not have it.
    let mut known = vec!["BUS_URL".to_owned(), "CONFIG".to_owned()];
    let keys = reference.split('"').filter(|word| {
        word.chars().all(|c| c.is_ascii_lowercase() || c == '.' || c == '_') && !word.is_empty()
    });
    known.extend(keys.map(|key| key.replace('.', "_").to_uppercase()));
    let mut complaints = Vec::new();
    let mut count = 0;
    for (path, text) in deployed() {
        for name in variables(&text) {
            count += 1;
            // In the schema a pattern of names stands.
            if !known.contains(&name) && !path.ends_with("schema.json") {
                complaints.push(format!("{path}: NARU_{name}"));
            }
        }
    }
    assert!(count > 10, "the variables are not found");
    complain("variables that set nothing", &complaints);
}

#[test]
fn the_image_is_built_by_our_compiler_for_the_release_it_runs_on() {
    let container = read(CONTAINER);
    let wanted = read("Cargo.toml");
    let rust = after(&wanted, "rust-version = ").trim_matches('"');
    assert!(container.contains(&format!("/rust:{rust}-slim-bookworm AS build")), "rust {rust}");
    assert!(container.contains("distroless/cc-debian12:nonroot"), "bookworm is Debian 12");
    assert!(container.contains("--locked"), "other dependencies than those that were checked");
    assert_eq!(after(&container, "STOPSIGNAL "), "SIGTERM");
    assert_eq!(after(&container, "ENTRYPOINT "), "[\"/usr/local/bin/naru\"]");
    assert!(container.contains(r#"CMD ["/usr/local/bin/naru", "health", "live"]"#));
    assert_eq!(after(&container, "VOLUME "), "/var/lib/naru");
}

#[test]
fn pods_and_images_agree_on_account_ports_and_folders() {
    let (container, pod, values) = (read(CONTAINER), read(POD), read(VALUES));
    let account = after(&container, "USER ");
    let (user, group) = account.split_once(':').expect("user and group by number");
    assert_eq!((after(&pod, "runAsUser: "), after(&pod, "runAsGroup: ")), (user, group));
    assert_eq!(after(&pod, "fsGroup: "), group);
    let defaults =
        ["model", "bridge"].map(|part| read(&format!("crates/naru/src/config/{part}.rs"))).concat();
    for (name, port) in [("http", "8080"), ("stomp", "61613"), ("bridge", "1490")] {
        assert!(defaults.contains(&format!("([127, 0, 0, 1], {port})")), "the default of {name}");
        assert!(
            pod.contains(&format!("- name: {name}\n          containerPort: {port}")),
            "{name}"
        );
        assert!(values.contains(&format!("    {name}: {port}\n")), "{name}");
        assert!(after(&container, "EXPOSE ").contains(port), "{name}");
        let variable = format!("NARU_{}_LISTEN", name.to_uppercase());
        assert!(container.contains(&format!("{variable}=0.0.0.0:{port}")), "{name}");
        assert!(pod.contains(&format!("{variable}\n          value: 0.0.0.0:{port}")), "{name}");
    }
    assert!(container.contains("NARU_DATA_DIR=/var/lib/naru/data"));
    assert!(
        pod.contains("value: /var/lib/naru/data") && pod.contains("mountPath: /var/lib/naru\n")
    );
}

#[test]
fn probes_ask_where_the_server_answers_and_a_drain_has_its_time() {
    let served = read("crates/admin/src/api/node.rs");
    let pod = read(POD);
    for probe in ["/health/startup", "/health/live", "/health/ready", "/metrics"] {
        assert!(served.contains(&format!("get(\"{probe}\"")), "{probe} is not served");
    }
    for probe in ["/health/startup", "/health/live", "/health/ready"] {
        assert!(pod.contains(&format!("path: {probe}\n")), "{probe} is not asked");
    }
    assert!(read("deploy/helm/naru/templates/servicemonitor.yaml").contains("path: /metrics\n"));
    let serve = read("crates/naru/src/serve.rs");
    let drain = after(&serve, "const DRAIN_TIMEOUT: Duration = Duration::from_secs(");
    let number = |text: &str| text.trim_end_matches(");").parse::<u32>().expect("a number");
    let values = read(VALUES);
    let grace = number(after(&values, "terminationGracePeriodSeconds: "));
    let pause = number(after(&values, "preStopSeconds: "));
    assert!(grace >= number(drain) + pause + 5, "{grace} s for a drain of {drain}");
}

#[test]
fn the_chart_has_the_version_of_the_product() {
    let manifest = read("Cargo.toml");
    let version = after(&manifest, "version = ").trim_matches('"');
    let chart = read("deploy/helm/naru/Chart.yaml");
    assert_eq!(after(&chart, "appVersion: ").trim_matches('"'), version);
    let template = read("deploy/helm/naru/templates/horizontalpodautoscaler.yaml");
    assert!(template.contains("naru_hub_clients") && template.contains("naru_bridge_connections"));
}
