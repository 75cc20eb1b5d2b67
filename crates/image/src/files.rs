//! The other files of a checkpoint, as the manifest lists them.

use std::collections::BTreeSet;

use mem::FileIdentity;

use crate::convert::{Invalid, Wire};
use crate::generated as proto;
use crate::limits::{DATA_FILES_MAX, FILE_NAME_BYTES_MAX, TWIN_FILES_MAX};
use crate::{CheckpointId, ContentHash, LineKey};

/// The other files of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The extent index.
    pub index: IndexFile,
    /// The files with the stored frames; the position is the number in the index.
    pub data: Vec<DataFile>,
    /// The file with the hashes of the pages stored here, which the index's hashes check.
    pub hashes: DataFile,
    /// The checkpoint that holds the pages which are not stored here.
    pub parent: Option<ParentEntry>,
    /// What all pages of this checkpoint hold, the parent's included.
    pub content: ContentHash,
    /// Files outside of the store that frames of the treatment `Twin` are read from.
    pub twins: Vec<TwinFile>,
}

/// A file outside of the store that has bytes which the program's memory has, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinFile {
    /// The number by which frames call it; each occurs once.
    pub number: u32,
    /// Which file, and as it was when the checkpoint was made. Its path is an absolute one of the
    /// host's. What is read of it is checked like anything else that is read.
    pub identity: FileIdentity,
}

/// The parent of a checkpoint, by name and by what its pages hold: it may be stored in another
/// way later, never hold anything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParentEntry {
    /// Which checkpoint.
    pub id: CheckpointId,
    /// What its pages hold.
    pub content: ContentHash,
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
    /// The names and lengths of all these files.
    pub fn each(&self) -> impl Iterator<Item = (&str, u64)> {
        let others = self.data.iter().chain([&self.hashes]);
        let others = others.map(|file| (&file.name[..], file.length_bytes));
        [(&self.index.name[..], self.index.length_bytes)].into_iter().chain(others)
    }

    /// Bytes of all these files.
    pub fn stored_bytes(&self) -> u64 {
        self.each().map(|(_, bytes)| bytes).fold(0, u64::saturating_add)
    }
}

impl Wire for Files {
    type Message = proto::Files;

    fn to_wire(&self) -> Result<proto::Files, Invalid> {
        check_count(self.data.len())?;
        check_twins(&self.twins)?;
        check_name(&self.index.name)?;
        self.data.iter().chain([&self.hashes]).try_for_each(|file| check_name(&file.name))?;
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
            hashes: Some(entry(&self.hashes)),
            parent: self.parent.map(|parent| proto::ParentEntry {
                id: parent.id.to_string(),
                content: parent.content.0.to_vec(),
            }),
            content: self.content.0.to_vec(),
            twins: self.twins.iter().map(twin_to_wire).collect::<Result<_, Invalid>>()?,
        })
    }

    fn from_wire(message: proto::Files) -> Result<Self, Invalid> {
        check_count(message.data.len())?;
        let index = message.index.ok_or_else(|| Invalid::new("index: is missing"))?;
        check_name(&index.name)?;
        let hash = index.hash.try_into();
        let hash = hash.map_err(|_| Invalid::new("index: its hash has not 32 bytes"))?;
        let file = |entry: proto::FileEntry| {
            check_name(&entry.name)?;
            Ok(DataFile { name: entry.name, length_bytes: entry.length_bytes })
        };
        let parent = |entry: proto::ParentEntry| {
            let id = entry.id.parse();
            let id = id.map_err(|e| Invalid::new(format!("parent: {:?}: {e}", entry.id)))?;
            Ok(ParentEntry { id, content: content(entry.content)? })
        };
        let hashes = message.hashes.ok_or_else(|| Invalid::new("hashes: is missing"))?;
        let twins = message.twins.into_iter().map(twin_from_wire);
        let twins = twins.collect::<Result<Vec<_>, Invalid>>()?;
        check_twins(&twins)?;
        Ok(Self {
            index: IndexFile { name: index.name, length_bytes: index.length_bytes, hash },
            data: message.data.into_iter().map(file).collect::<Result<_, Invalid>>()?,
            hashes: file(hashes)?,
            parent: message.parent.map(parent).transpose()?,
            content: content(message.content)?,
            twins,
        })
    }
}

fn twin_to_wire(twin: &TwinFile) -> Result<proto::TwinFile, Invalid> {
    let identity = Some(twin.identity.to_wire()?);
    Ok(proto::TwinFile { number: twin.number, identity })
}

fn twin_from_wire(message: proto::TwinFile) -> Result<TwinFile, Invalid> {
    let identity = message.identity.ok_or_else(|| Invalid::new("twins: one has no identity"))?;
    Ok(TwinFile { number: message.number, identity: FileIdentity::from_wire(identity)? })
}

fn check_twins(twins: &[TwinFile]) -> Result<(), Invalid> {
    if twins.len() > TWIN_FILES_MAX {
        return Err(Invalid::new(format!("has {} twins, at most {TWIN_FILES_MAX}", twins.len())));
    }
    let mut numbers = BTreeSet::new();
    for twin in twins {
        if !numbers.insert(twin.number) {
            return Err(Invalid::new(format!("twins: two have the number {}", twin.number)));
        }
        if !twin.identity.path.starts_with(b"/") {
            return Err(Invalid::new(format!("twins: {} has no absolute path", twin.number)));
        }
    }
    Ok(())
}

fn check_count(data: usize) -> Result<(), Invalid> {
    if data > DATA_FILES_MAX {
        return Err(Invalid::new(format!("has {data} data files, at most {DATA_FILES_MAX}")));
    }
    Ok(())
}

fn content(bytes: Vec<u8>) -> Result<ContentHash, Invalid> {
    let hash = bytes.try_into();
    hash.map(ContentHash).map_err(|_| Invalid::new("content: its hash has not 32 bytes"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn files(twins: Vec<TwinFile>) -> Files {
        let index = IndexFile { name: "index".to_owned(), ..IndexFile::default() };
        let hashes = DataFile { name: "hashes".to_owned(), length_bytes: 0 };
        Files { index, hashes, twins, ..Files::default() }
    }

    fn twin(number: u32, path: &[u8]) -> TwinFile {
        let identity = FileIdentity {
            path: path.to_vec(),
            device: 1,
            inode: 2,
            size_bytes: 3,
            mtime_ns: -4,
            ctime_ns: 5_000_000_000,
            build_id: Vec::new(),
            deleted: false,
        };
        TwinFile { number, identity }
    }

    #[test]
    fn twins_come_back_and_each_number_is_one_file() {
        let two = files(vec![twin(7, b"/a"), twin(3, b"/b\xff")]);
        assert_eq!(Files::from_wire(two.to_wire().unwrap()).unwrap(), two);
        let twice = files(vec![twin(7, b"/a"), twin(7, b"/b")]);
        assert!(twice.to_wire().is_err());
        assert!(files(vec![twin(7, b"a")]).to_wire().is_err(), "a path that is not absolute");
        let mut message = two.to_wire().unwrap();
        message.twins[1].number = 7;
        assert!(Files::from_wire(message).is_err());
    }
}
