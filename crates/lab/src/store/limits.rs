//! What the system allows this process: `/proc/self/limits`, see proc(5).

/// The limits that a store can meet; `None` where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Address space in bytes.
    pub address_space: Option<u64>,
    /// Open files.
    pub open_files: Option<u64>,
    /// Threads of its user.
    pub processes: Option<u64>,
}

impl Limits {
    /// Those of this process; none where they cannot be read.
    pub fn of_this_process() -> Self {
        Self::parse(&std::fs::read_to_string("/proc/self/limits").unwrap_or_default())
    }

    fn parse(text: &str) -> Self {
        // The name holds spaces and the soft limit is the first column after it.
        let soft = |name: &str| {
            let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
            rest.split_ascii_whitespace().next()?.parse().ok()
        };
        Self {
            address_space: soft("Max address space"),
            open_files: soft("Max open files"),
            processes: soft("Max processes"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soft_limits_are_read_and_unlimited_is_none() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             80                   90                   processes \n\
                    Max open files            128                  20000                files     \n\
                    Max address space         unlimited            unlimited            bytes     \n";
        let expected = Limits {
            address_space: None,
            open_files: Some(128),
            processes: Some(80),
        };
        assert_eq!(Limits::parse(text), expected);
        assert_eq!(Limits::parse("nonsense"), Limits::default());
    }
}
