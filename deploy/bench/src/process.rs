//! Resources that processes use, as reported by Linux: processor time, memory and descriptors.

use std::fs;

/// Ticks per second in `/proc/<id>/stat`: the kernel's `USER_HZ`, which is 100 everywhere.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processes to measure.
#[derive(Clone, Debug)]
pub(crate) enum Processes {
    /// The process with this id.
    One(u32),
    /// The PostgreSQL backends of this database, one per connection.
    Backends(String),
    /// All of these.
    All(Vec<Processes>),
    /// No process, since the work is done inside another process.
    None,
}

impl Processes {
    /// Returns the process of this program.
    pub(crate) fn own() -> Self {
        Self::One(std::process::id())
    }

    /// Returns the processor time used so far, in microseconds.
    pub(crate) fn micros(&self) -> f64 {
        match self {
            Self::One(id) => micros(*id).unwrap_or(0.0),
            Self::Backends(database) => {
                let Ok(processes) = fs::read_dir("/proc") else {
                    return 0.0;
                };
                let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
                let is_meant = |id: &u32| {
                    let title = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
                    title.starts_with("postgres:") && title.split([' ', '\0']).any(|word| word == database)
                };
                ids.filter(is_meant).filter_map(micros).sum()
            }
            Self::All(processes) => processes.iter().map(Self::micros).sum(),
            Self::None => 0.0,
        }
    }

    /// Returns the current memory of a single process, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        self.status("VmRSS")
    }

    /// Returns the peak memory of a single process, in MiB, since its start or the last
    /// [reset](Self::reset_peak_memory).
    pub(crate) fn peak_memory(&self) -> f64 {
        self.status("VmHWM")
    }

    /// Makes the current memory of a single process its peak.
    pub(crate) fn reset_peak_memory(&self) {
        if let Self::One(id) = self {
            // "5" resets VmHWM, as proc(5) describes.
            fs::write(format!("/proc/{id}/clear_refs"), "5").expect("Linux allows it to the same user");
        }
    }

    /// Returns the number of open descriptors of a single process.
    pub(crate) fn descriptors(&self) -> f64 {
        let Self::One(id) = self else { return 0.0 };
        let open = fs::read_dir(format!("/proc/{id}/fd")).expect("Linux tells").count();
        crate::statistics::as_f64(open.try_into().unwrap_or(u64::MAX))
    }

    fn status(&self, field: &str) -> f64 {
        let Self::One(id) = self else { return 0.0 };
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("Linux tells");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
        kib.expect("a number of KiB") / 1024.0
    }
}

fn micros(id: u32) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may contain spaces. After it, utime and stime are the 12th and 13th
    // field.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / TICKS_PER_SECOND * 1e6)
}
