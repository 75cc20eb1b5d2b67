//! The other files of a checkpoint, as the manifest lists them.

use crate::convert::{Invalid, Wire};
use crate::generated as proto;
use crate::limits::{DATA_FILES_MAX, FILE_NAME_BYTES_MAX, PARENTS_MAX};
use crate::{CheckpointId, LineKey};

/// The other files of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The extent index.
    pub index: IndexFile,
    /// The files with the stored frames; the position is the number in the index.
    pub data: Vec<DataFile>,
    /// The checkpoints that hold frames of this one; the position is the number in the index.
    pub parents: Vec<CheckpointId>,
}

/// The file with the extent index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexFile {
    /// A plain name inside the checkpoint's directory.
    pub name: String,
    /// Its length in bytes.
    pub length_bytes: u64,
    /// Keyed blake3 of all of it.
    pub hash: [u8; 32],
}

/// A file with stored frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataFile {
    /// A plain name inside the checkpoint's directory.
    pub name: String,
    /// Its length in bytes.
    pub length_bytes: u64,
}

impl IndexFile {
    /// The entry for a file with these bytes.
    pub fn new(name: &str, bytes: &[u8], key: &LineKey) -> Self {
        Self {
            name: name.to_owned(),
            length_bytes: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            hash: key.hash(bytes),
        }
    }
}

impl Files {
    /// Bytes of all these files.
    pub fn stored_bytes(&self) -> u64 {
        let lengths = self.data.iter().map(|file| file.length_bytes);
        lengths.fold(self.index.length_bytes, u64::saturating_add)
    }
}

impl Wire for Files {
    type Message = proto::Files;

    fn to_wire(&self) -> Result<proto::Files, Invalid> {
        check_counts(self.data.len(), self.parents.len())?;
        check_name(&self.index.name)?;
        self.data.iter().try_for_each(|file| check_name(&file.name))?;
        let entry = |file: &DataFile| proto::FileEntry {
            name: file.name.clone(),
            length_bytes: file.length_bytes,
            hash: Vec::new(),
        };
        Ok(proto::Files {
            index: Some(proto::FileEntry {
                name: self.index.name.clone(),
                length_bytes: self.index.length_bytes,
                hash: self.index.hash.to_vec(),
            }),
            data: self.data.iter().map(entry).collect(),
            parents: self.parents.iter().map(ToString::to_string).collect(),
        })
    }

    fn from_wire(message: proto::Files) -> Result<Self, Invalid> {
        check_counts(message.data.len(), message.parents.len())?;
        let index = message.index.ok_or_else(|| Invalid::new("index: is missing"))?;
        check_name(&index.name)?;
        let hash = index.hash.try_into();
        let hash = hash.map_err(|_| Invalid::new("index: its hash has not 32 bytes"))?;
        let file = |entry: proto::FileEntry| {
            check_name(&entry.name)?;
            Ok(DataFile { name: entry.name, length_bytes: entry.length_bytes })
        };
        let parent = |digits: String| {
            digits.parse().map_err(|e| Invalid::new(format!("parents: {digits:?}: {e}")))
        };
        Ok(Self {
            index: IndexFile { name: index.name, length_bytes: index.length_bytes, hash },
            data: message.data.into_iter().map(file).collect::<Result<_, Invalid>>()?,
            parents: message.parents.into_iter().map(parent).collect::<Result<_, Invalid>>()?,
        })
    }
}

fn check_counts(data: usize, parents: usize) -> Result<(), Invalid> {
    if data > DATA_FILES_MAX || parents > PARENTS_MAX {
        return Err(Invalid::new(format!(
            "has {data} data files and {parents} parents, at most {DATA_FILES_MAX} and {PARENTS_MAX}"
        )));
    }
    Ok(())
}

/// A name that cannot lead out of the directory or hide in it.
fn check_name(name: &str) -> Result<(), Invalid> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'.' || b == b'-' || b == b'_';
    let fits = !name.is_empty() && name.len() <= FILE_NAME_BYTES_MAX && !name.starts_with('.');
    if fits && name.bytes().all(plain) {
        return Ok(());
    }
    Err(Invalid::new(format!("{name:?} is not a plain file name")))
}
