//! Limits of the kernel that a growing switch comes near to, and what to do then.
use crate::api::types::Info;

/// What is needed and what there is.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub containers: u64,
    /// Entries of the kernel's neighbour table (gc_thresh3), if that can be known here.
    pub neighbours: Option<u64>,
    pub open_files: u64,
    pub open_files_limit: u64,
}

impl Limits {
    pub fn of(info: &Info) -> Self {
        Self {
            containers: info.containers.into(),
            neighbours: neighbours(),
            open_files: info.open_files,
            open_files_limit: info.open_files_limit,
        }
    }

    /// One line each, "what: remedy".
    pub fn warnings(&self) -> Vec<String> {
        self.of_neighbours().into_iter().chain(self.of_open_files()).collect()
    }

    /// All namespaces share the table, and a container has an entry there for each other one that it talks to. (The gateway's are
    /// permanent and do not count.)
    pub fn of_neighbours(&self) -> Option<String> {
        let limit = self.neighbours.filter(|limit| is_near(self.containers, *limit))?;
        let more = self.containers.saturating_mul(8).max(8_192).next_power_of_two();
        Some(format!(
            "{} containers share a neighbour table of {limit} entries with the host: \"sudo sysctl net.ipv4.neigh.default.gc_thresh3={more}\"",
            self.containers
        ))
    }

    fn of_open_files(&self) -> Option<String> {
        is_near(self.open_files, self.open_files_limit).then(|| {
            format!(
                "the daemon needs about {} of {} open files: raise the hard limit (ulimit -Hn, or LimitNOFILE= of its unit) and start it again",
                self.open_files, self.open_files_limit
            )
        })
    }
}

/// From three quarters on.
const fn is_near(used: u64, limit: u64) -> bool {
    used.saturating_mul(4) >= limit.saturating_mul(3)
}

/// net.ipv4.neigh.default.gc_thresh3; only the host's namespace shows it.
pub fn neighbours() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/net/ipv4/neigh/default/gc_thresh3").ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(containers: u64, neighbours: Option<u64>, open_files: u64) -> Limits {
        Limits { containers, neighbours, open_files, open_files_limit: 1_024 }
    }

    #[test]
    fn warned_of_from_three_quarters_on() {
        assert!(limits(767, Some(1_024), 767).warnings().is_empty());
        assert!(limits(5_000, None, 16).warnings().is_empty());
        let neighbours = "768 containers share a neighbour table of 1024 entries with the host: \
                          \"sudo sysctl net.ipv4.neigh.default.gc_thresh3=8192\"";
        assert_eq!(limits(768, Some(1_024), 16).warnings(), [neighbours]);
        let both = limits(4_000, Some(1_024), 768).warnings();
        assert!(both[0].contains("gc_thresh3=32768"), "{both:?}");
        assert!(both[1].starts_with("the daemon needs about 768 of 1024 open files: raise the hard limit"), "{both:?}");
    }
}
