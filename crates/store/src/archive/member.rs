//! One member of the archive: a name, what it is, how long, and the one header for it.

use tar::{EntryType, Header};

/// Bytes of a header, and what the content of a file is filled up to a multiple of.
pub(crate) const BLOCK_BYTES: usize = 512;

/// A block: a header, or one of those that the archive ends with.
pub(crate) type Block = [u8; BLOCK_BYTES];

/// What stands in front of a file's content, or for a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name; that of a directory ends with a slash.
    pub(crate) name: String,
    /// Bytes of a file; of a directory 0.
    pub(crate) bytes: u64,
    /// When it was made, seconds since the epoch.
    pub(crate) made_s: u64,
}

impl Member {
    /// A directory.
    pub(crate) fn directory(name: String, made_s: u64) -> Self {
        Self { name: name + "/", bytes: 0, made_s }
    }

    /// A file.
    pub(crate) fn file(name: String, bytes: u64, made_s: u64) -> Self {
        Self { name, bytes, made_s }
    }

    fn is_directory(&self) -> bool {
        self.name.ends_with('/')
    }

    /// Zeros behind its content.
    pub(crate) fn filling(&self) -> usize {
        let block = u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX);
        usize::try_from(self.bytes.next_multiple_of(block) - self.bytes).unwrap_or(0)
    }

    /// Its header.
    pub(crate) fn header(&self) -> Result<Block, String> {
        let mut header = Header::new_gnu();
        let refused = |error| format!("{:?} cannot be the name of a member: {error}", self.name);
        header.set_path(&self.name).map_err(refused)?;
        // Of two names for one place the archive has the shorter.
        if *header.path_bytes() != *self.name.as_bytes() {
            return Err(format!("{:?} is not the shortest name for it", self.name));
        }
        let directory = self.is_directory();
        header.set_entry_type(if directory { EntryType::Directory } else { EntryType::Regular });
        header.set_mode(if directory { 0o700 } else { 0o600 });
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(self.bytes);
        header.set_mtime(self.made_s);
        header.set_cksum();
        Ok(*header.as_bytes())
    }

    /// The member that `block` is the header of: only what [`Member::header`] makes is one, so that
    /// links, devices, long names and all else that tar knows are none.
    pub(crate) fn of_header(block: &Block) -> Result<Self, String> {
        let header = Header::from_byte_slice(block);
        let unreadable = |error: std::io::Error| format!("a header cannot be read: {error}");
        let name = header.path_bytes().into_owned();
        let name = String::from_utf8(name).map_err(|_| "a name is not text".to_owned())?;
        let member = Self {
            name,
            bytes: header.entry_size().map_err(unreadable)?,
            made_s: header.mtime().map_err(unreadable)?,
        };
        // A length that no file can have would overflow when it is rounded.
        if member.bytes > i64::MAX.unsigned_abs() {
            return Err(format!("{:?} has {} bytes", member.name, member.bytes));
        }
        match member.header() {
            Ok(own) if own == *block => Ok(member),
            _ => Err(format!("the header of {:?} is not one of ours", member.name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn headers_come_back(name in "[a-z]{1,8}(/[a-z0-9][a-z0-9.-]{1,40}){0,2}/?",
            bytes in 0..1u64 << 50, made_s in 0..1u64 << 40) {
            let bytes = if name.ends_with('/') { 0 } else { bytes };
            let member = Member { name, bytes, made_s };
            prop_assert_eq!(Member::of_header(&member.header().unwrap()).unwrap(), member);
        }

        #[test]
        fn one_altered_byte_is_no_header_of_it(at in 0..BLOCK_BYTES, by in 1..=255u8) {
            let member = Member::file("checkpoints/0000000000000001/index".to_owned(), 70_000, 9);
            let mut block = member.header().unwrap();
            block[at] ^= by;
            prop_assert!(Member::of_header(&block).is_err());
        }

        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), BLOCK_BYTES)) {
            let _ = Member::of_header(bytes.as_slice().try_into().unwrap());
        }
    }

    #[test]
    fn only_files_and_directories_with_our_rights_are_members() {
        let member = Member::file("layout".to_owned(), 1, 0);
        let altered = |alter: &dyn Fn(&mut Header)| {
            let mut header = Header::from_byte_slice(&member.header().unwrap()).clone();
            alter(&mut header);
            header.set_cksum();
            Member::of_header(header.as_bytes())
        };
        assert_eq!(altered(&|_| {}).unwrap(), member);
        for kind in [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Fifo,
            EntryType::XHeader,
            EntryType::GNULongName,
            EntryType::GNUSparse,
            EntryType::Char,
            EntryType::Continuous,
        ] {
            assert!(altered(&|header| header.set_entry_type(kind)).is_err(), "{kind:?}");
        }
        assert!(altered(&|header| header.set_mode(0o4755)).is_err());
        assert!(altered(&|header| header.set_uid(1000)).is_err());
        assert!(altered(&|header| header.set_link_name("/etc").unwrap()).is_err());
    }

    #[test]
    fn lengths_are_written_out_at_any_size() {
        let member = Member::file("pages".to_owned(), 9 << 33, 0);
        assert_eq!(Member::of_header(&member.header().unwrap()).unwrap().bytes, 9 << 33);
        assert_eq!(Member::file(String::new(), 513, 0).filling(), 511);
        assert_eq!(Member::file(String::new(), 512, 0).filling(), 0);
    }
}
