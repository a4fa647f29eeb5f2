//! Monitors that others made, brought as game servers are, for the comparison in docs/operations/ward-benchmark.md.
//! No test needs them.

use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::json;

use super::{FORM, lock, write};
use crate::apt::{self, Bundle};
use crate::place::Place;

const NODE_EXPORTER: &str = "prometheus-node-exporter";
const NETDATA: &str = "netdata";

/// What only the scripts of an installation call, and the pages of a dashboard that nobody opens.
const NOT_BROUGHT: &[&str] = &[
    "adduser",
    "daemon",
    "debconf",
    "init-system-helpers",
    "lsb-base",
    "netdata-web",
    "sysvinit-utils",
];

/// As Debian installs it, but for the folders, and that it tells nobody: neither whom its alarms are for, nor a registry.
const NETDATA_CONF: &str = "\
[global]
run as user = root
[directories]
config = {dir}/etc
stock config = {root}/usr/lib/netdata/conf.d
log = {dir}/log
cache = {dir}/cache
lib = {dir}/lib
lock = {dir}/lock
home = {dir}
web = {dir}/web
plugins = {root}/usr/lib/netdata/plugins.d
[health]
script to execute on alarm = /bin/true
[registry]
enabled = no
[web]
bind to = 127.0.0.1
";

/// Brings what is not there yet and returns a manifest of the form of [`super::prepare`]'s, whose list is `monitors`.
pub(crate) fn prepare(place: &Place) -> Result<PathBuf> {
    let folder = place.target.join("monitors");
    let _lock = lock(&folder)?;
    let bundle = Bundle {
        about: "monitors: 20 MB",
        packages: vec![NODE_EXPORTER, NETDATA],
        not_brought: NOT_BROUGHT,
        links: &[],
        files: &[],
    };
    let root = apt::bring(&bundle, &folder)?;
    let at = root.to_str().context("the path of the target folder is not UTF-8")?;
    let monitors = json!({
        "node_exporter": {
            "program": root.join("usr/bin/prometheus-node-exporter"),
            "args": ["--web.listen-address=127.0.0.1:{port}"],
            "env": {},
            "files": {},
            "ports": { "port": "tcp" },
            "version": apt::version(&root, NODE_EXPORTER)?,
        },
        "netdata": {
            "program": root.join("usr/sbin/netdata"),
            // In the foreground.
            "args": ["-D", "-c", "{dir}/etc/netdata.conf", "-p", "{port}"],
            "env": { "LD_LIBRARY_PATH": apt::library_path(&root)?, "DO_NOT_TRACK": "1" },
            "files": {
                "etc/netdata.conf": NETDATA_CONF.replace("{root}", at),
                "etc/.opt-out-from-anonymous-statistics": "",
                "cache/.keep": "",
                "home/.keep": "",
                "lib/lock/.keep": "",
                "lock/.keep": "",
                "log/.keep": "",
                "web/.keep": "",
            },
            "ports": { "port": "tcp" },
            "version": apt::version(&root, NETDATA)?,
        },
    });
    write(&folder, "monitors.json", &json!({ "form": FORM, "monitors": monitors }))
}
