//! Memory that can be swapped out.

/// A swap file for as long as the test lasts, unless there is swap already.
pub(crate) struct Swap(Option<std::path::PathBuf>);

impl Swap {
    /// `None`, and said so, where no swap can be had.
    pub(crate) fn on(folder: &std::path::Path) -> Option<Self> {
        if std::fs::read_to_string("/proc/swaps").unwrap().lines().count() > 1 {
            return Some(Self(None));
        }
        let path = folder.join("swap");
        std::fs::write(&path, vec![0u8; 32 << 20]).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&path, mode).unwrap();
        let run = |program: &str| {
            let mut command = std::process::Command::new(program);
            let command = command.arg(&path).stdout(std::process::Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        let swap = Self(Some(path.clone()));
        if run("/sbin/mkswap") && run("/sbin/swapon") {
            return Some(swap);
        }
        super::skip("swapped-out memory: no swap file can be switched on here");
        None
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = std::process::Command::new("/sbin/swapoff").arg(path).status();
        }
    }
}
