//! On which memory node pages of a process lie: move_pages(2), numa(7).

use std::io;

use mem::VirtAddr;

use crate::task::Pid;

/// Pages of one call.
const PAGES_AT_ONCE: usize = 4096;
/// Only pages that nobody else maps (linux/mempolicy.h).
const MPOL_MF_MOVE: libc::c_int = 2;

/// The nodes that have memory.
///
/// # Errors
/// When the kernel does not say: it was built without NUMA.
pub fn nodes_with_memory() -> io::Result<Vec<u32>> {
    let text = std::fs::read_to_string("/sys/devices/system/node/has_memory")?;
    crate::sched::parse_cpu_list(text.trim()).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, format!("`{text}` is no list of nodes"))
    })
}

/// Has the kernel move `pages` of process `pid` to `node`; says how many of them lie there then.
/// Those that are shared with others, or not there at all, stay where they are.
///
/// # Errors
/// `ENODEV` or `EACCES` when the process may not use that node; `EPERM` without `CAP_SYS_NICE`.
pub fn move_pages(pid: Pid, pages: &[VirtAddr], node: u32) -> io::Result<u64> {
    let node = i32::try_from(node).map_err(io::Error::other)?;
    let mut there = 0;
    for some in pages.chunks(PAGES_AT_ONCE) {
        let addresses: Vec<u64> = some.iter().map(|page| page.0).collect();
        let nodes = vec![node; addresses.len()];
        let mut status = vec![-1_i32; addresses.len()];
        // SAFETY: three arrays of the stated length that live through the call; only the last is
        // written. The addresses mean memory of the other process.
        let result = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                pid.raw(),
                addresses.len(),
                addresses.as_ptr(),
                nodes.as_ptr(),
                status.as_mut_ptr(),
                MPOL_MF_MOVE,
            )
        };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        there += status.iter().filter(|at| **at == node).count() as u64;
    }
    Ok(there)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_pages_are_moved_where_they_may_be() {
        let page = vec![7_u8; 3 * 4096];
        let at = VirtAddr((page.as_ptr().addr() as u64 + 4095) & !4095);
        // Without NUMA there is nothing to ask.
        let Ok(nodes) = nodes_with_memory() else { return };
        let last = *nodes.last().unwrap();
        assert_eq!(move_pages(Pid::current(), &[at], last).unwrap(), 1);
        assert!(move_pages(Pid::current(), &[at], 900).is_err(), "there is no such node");
        assert!(page.iter().all(|byte| *byte == 7));
    }
}
