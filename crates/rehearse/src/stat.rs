//! What stat(2) and statx(2) write down.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// What is known of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    device: u64,
    inode: u64,
    links: u64,
    mode: u32,
    user: u32,
    group: u32,
    raw_device: u64,
    bytes: u64,
    block_bytes: u64,
    blocks: u64,
    /// Seconds and nanoseconds of the last access, change of content, change of status.
    times: [(i64, i64); 3],
}

impl From<&Metadata> for Known {
    fn from(file: &Metadata) -> Self {
        Self {
            device: file.dev(),
            inode: file.ino(),
            links: file.nlink(),
            mode: file.mode(),
            user: file.uid(),
            group: file.gid(),
            raw_device: file.rdev(),
            bytes: file.size(),
            block_bytes: file.blksize(),
            blocks: file.blocks(),
            times: [
                (file.atime(), file.atime_nsec()),
                (file.mtime(), file.mtime_nsec()),
                (file.ctime(), file.ctime_nsec()),
            ],
        }
    }
}

impl Known {
    /// Nothing but its kind and rights.
    pub(crate) fn of_kind(mode: u32) -> Self {
        Self { mode, links: 1, block_bytes: 4096, ..Self::default() }
    }

    /// `struct stat`
    pub(crate) fn stat(&self) -> [u8; 144] {
        let mut to = [0; 144];
        put(&mut to, 0, &self.device.to_ne_bytes());
        put(&mut to, 8, &self.inode.to_ne_bytes());
        put(&mut to, 16, &self.links.to_ne_bytes());
        put(&mut to, 24, &self.mode.to_ne_bytes());
        put(&mut to, 28, &self.user.to_ne_bytes());
        put(&mut to, 32, &self.group.to_ne_bytes());
        put(&mut to, 40, &self.raw_device.to_ne_bytes());
        put(&mut to, 48, &self.bytes.to_ne_bytes());
        put(&mut to, 56, &self.block_bytes.to_ne_bytes());
        put(&mut to, 64, &self.blocks.to_ne_bytes());
        for (at, (seconds, rest)) in [72, 88, 104].into_iter().zip(self.times) {
            put(&mut to, at, &seconds.to_ne_bytes());
            put(&mut to, at + 8, &rest.to_ne_bytes());
        }
        to
    }

    /// `struct statx` with the basic fields (`STATX_BASIC_STATS`).
    pub(crate) fn statx(&self) -> [u8; 256] {
        let mut to = [0; 256];
        let short = |value: u64| u32::try_from(value).unwrap_or(u32::MAX).to_ne_bytes();
        put(&mut to, 0, &0x7ff_u32.to_ne_bytes());
        put(&mut to, 4, &short(self.block_bytes));
        put(&mut to, 16, &short(self.links));
        put(&mut to, 20, &self.user.to_ne_bytes());
        put(&mut to, 24, &self.group.to_ne_bytes());
        put(&mut to, 28, &u16::try_from(self.mode & 0xffff).unwrap_or(0).to_ne_bytes());
        put(&mut to, 32, &self.inode.to_ne_bytes());
        put(&mut to, 40, &self.bytes.to_ne_bytes());
        put(&mut to, 48, &self.blocks.to_ne_bytes());
        let [accessed, changed, status] = self.times;
        // Access, birth (not told), status, content.
        for (at, (seconds, rest)) in [(64, accessed), (96, status), (112, changed)] {
            put(&mut to, at, &seconds.to_ne_bytes());
            put(&mut to, at + 8, &u32::try_from(rest).unwrap_or(0).to_ne_bytes());
        }
        for (at, device) in [(128, self.raw_device), (136, self.device)] {
            let [major, minor] = [libc::major(device), libc::minor(device)];
            put(&mut to, at, &major.to_ne_bytes());
            put(&mut to, at + 4, &minor.to_ne_bytes());
        }
        to
    }
}

fn put(to: &mut [u8], at: usize, bytes: &[u8]) {
    to[at..at + bytes.len()].copy_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        let known = Known::from(&std::fs::metadata("/proc/self/exe").unwrap());
        let stat = known.stat();
        let word =
            |bytes: &[u8], at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        assert_eq!(stat.len(), size_of::<libc::stat>());
        assert_eq!(word(&stat, offset_of!(libc::stat, st_size)), known.bytes);
        assert_eq!(word(&stat, offset_of!(libc::stat, st_ino)), known.inode);
        assert_eq!(word(&stat, offset_of!(libc::stat, st_rdev)), known.raw_device);
        assert_eq!(word(&stat, offset_of!(libc::stat, st_blocks)), known.blocks);
        assert_eq!(word(&stat, offset_of!(libc::stat, st_mtime)).cast_signed(), known.times[1].0);
        let statx = known.statx();
        assert_eq!(statx.len(), size_of::<libc::statx>());
        assert_eq!(word(&statx, offset_of!(libc::statx, stx_size)), known.bytes);
        assert_eq!(word(&statx, offset_of!(libc::statx, stx_ino)), known.inode);
        let mtime = word(&statx, offset_of!(libc::statx, stx_mtime)).cast_signed();
        assert_eq!(mtime, known.times[1].0);
        let major = word(&statx, offset_of!(libc::statx, stx_dev_major)) & 0xffff_ffff;
        assert_eq!(major, u64::from(libc::major(known.device)));
        let mode = word(&statx, offset_of!(libc::statx, stx_mode)) & 0xffff;
        assert_eq!(mode, u64::from(known.mode));
    }
}
