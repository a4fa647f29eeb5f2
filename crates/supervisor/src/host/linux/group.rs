//! A control group of version 2 for a game with all its processes. Many machines have none, or give us no
//! controllers: each thing that is missing is named, and the rest is done.

use std::io;
use std::path::{Path, PathBuf};

use super::super::{GroupLimits, HostError, Refused};
use super::{read_text, value_after};

/// Below which folder groups may be made: the control group that Naru runs in, or the one above it when a service
/// manager put Naru into a group of its own there (systemd: `Delegate=yes`, `DelegateSubgroup=naru`).
pub fn group_parent() -> Result<PathBuf, HostError> {
    let mounts = read_text("/proc/self/mountinfo").map_err(HostError::io("read the mounts"))?;
    let mount = mounts
        .lines()
        .find_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            right.starts_with("cgroup2 ").then(|| left.split(' ').nth(4)).flatten()
        })
        .ok_or(HostError::Unsupported("control groups of version 2 are not mounted"))?;
    let own = read_text("/proc/self/cgroup").map_err(HostError::io("read the own group"))?;
    let own = own
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .ok_or(HostError::Unsupported("this process is in no control group of version 2"))?;
    let mut parent = Path::new(mount).join(own);
    if own.ends_with("/naru") {
        parent.pop();
    }
    Ok(parent)
}

/// One control group. It stays when this value goes away, so that a game outlives Naru.
#[derive(Debug)]
pub struct Group {
    folder: PathBuf,
}

impl Group {
    /// Makes the group, or takes the one of that name, and sets its limits. What was refused is told and skipped.
    pub fn create(
        parent: &Path,
        name: &str,
        limits: &GroupLimits,
    ) -> Result<(Group, Vec<Refused>), HostError> {
        let folder = parent.join(name);
        match std::fs::create_dir(&folder) {
            Ok(()) => (),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => (),
            Err(source) => return Err(HostError::Io { what: "make a control group", source }),
        }
        let group = Group { folder };
        let mut refused = Vec::new();
        let memory = limits.memory_bytes_max.map(|bytes| bytes.to_string());
        let weight = limits.cpu_weight.map(|weight| weight.clamp(1, 10_000).to_string());
        for (what, controller, file, value) in [
            ("memory_bytes_max", "+memory", "memory.max", memory),
            ("cpu_weight", "+cpu", "cpu.weight", weight),
        ] {
            let Some(value) = value else { continue };
            if let Err(why) = group.set(parent, controller, file, &value) {
                refused.push(Refused { what, why });
            }
        }
        Ok((group, refused))
    }

    /// The group of that name, if it is there.
    #[must_use]
    pub fn existing(parent: &Path, name: &str) -> Option<Group> {
        let folder = parent.join(name);
        folder.join("cgroup.procs").is_file().then_some(Group { folder })
    }

    fn set(
        &self,
        parent: &Path,
        controller: &str,
        file: &str,
        value: &str,
    ) -> Result<(), HostError> {
        let offered = read_text(parent.join("cgroup.controllers")).unwrap_or_default();
        if !offered.split_ascii_whitespace().any(|name| controller[1..] == *name) {
            return Err(HostError::Unsupported(match controller {
                "+memory" => "the memory controller of control groups",
                _ => "the cpu controller of control groups",
            }));
        }
        match std::fs::write(parent.join("cgroup.subtree_control"), controller) {
            Ok(()) => (),
            // The kernel lets no group have both processes and groups with controllers.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                return Err(HostError::Unsupported(
                    "a control group without processes of its own (DelegateSubgroup=naru in the unit)",
                ));
            }
            Err(source) => return Err(HostError::Io { what: "enable a controller", source }),
        }
        std::fs::write(self.folder.join(file), value).map_err(HostError::io("limit the group"))
    }

    /// Puts a process into the group; its children to come are born there. 0 is the caller.
    pub fn add(&self, pid: u32) -> Result<(), HostError> {
        std::fs::write(self.folder.join("cgroup.procs"), pid.to_string())
            .map_err(HostError::io("join the control group"))
    }

    /// Kills all in it at once; nothing can be born meanwhile. Needs Linux 5.14.
    pub fn kill(&self) -> Result<(), HostError> {
        let file = self.folder.join("cgroup.kill");
        if !file.exists() {
            return Err(HostError::Unsupported("cgroup.kill"));
        }
        std::fs::write(file, "1").map_err(HostError::io("kill the control group"))
    }

    /// How many processes of the group were ended because it had reached its memory limit. Strong evidence.
    pub fn oom_kills(&self) -> Result<u64, HostError> {
        read_text(self.folder.join("memory.events"))
            .ok()
            .and_then(|text| value_after(&text, "oom_kill"))
            .ok_or(HostError::Unsupported("the memory controller of control groups"))
    }

    /// Removes the group; refused while a process is in it.
    pub fn remove(self) -> Result<(), HostError> {
        std::fs::remove_dir(&self.folder).map_err(HostError::io("remove the control group"))
    }
}
