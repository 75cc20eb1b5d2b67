//! Keys, places and texts as bytes.

use crate::bytes::{Reader, put, put_bytes};
use crate::{FileKey, HeatError, MappingKey, Operand, OperandClass, Place, RunId};

pub(super) fn put_file(out: &mut Vec<u8>, file: &FileKey) {
    match file {
        FileKey::BuildId(id) => {
            out.push(1);
            put_bytes(out, id);
        }
        FileKey::Inode { device, inode } => {
            out.push(2);
            put(out, u64::from(device.0));
            put(out, u64::from(device.1));
            put(out, *inode);
        }
    }
}

pub(super) fn file(from: &mut Reader<'_>) -> Result<FileKey, HeatError> {
    match from.byte()? {
        1 => Ok(FileKey::BuildId(from.bytes()?.to_vec())),
        2 => {
            let device = (from.number_u32()?, from.number_u32()?);
            Ok(FileKey::Inode { device, inode: from.number()? })
        }
        _ => Err(from.invalid("has a file of an unknown kind")),
    }
}

pub(super) fn put_key(out: &mut Vec<u8>, key: &MappingKey) {
    match key {
        MappingKey::File(file) => {
            out.push(1);
            put_file(out, file);
        }
        MappingKey::Bss(file) => {
            out.push(2);
            put_file(out, file);
        }
        MappingKey::Object { name, ordinal } => {
            out.push(3);
            put_bytes(out, name);
            put(out, u64::from(*ordinal));
        }
        MappingKey::Named { name, ordinal } => {
            out.push(4);
            put_bytes(out, name);
            put(out, u64::from(*ordinal));
        }
        MappingKey::Anonymous { run } => {
            out.push(5);
            put(out, run.0);
        }
    }
}

pub(super) fn key(from: &mut Reader<'_>) -> Result<MappingKey, HeatError> {
    Ok(match from.byte()? {
        1 => MappingKey::File(file(from)?),
        2 => MappingKey::Bss(file(from)?),
        3 => MappingKey::Object { name: from.bytes()?.to_vec(), ordinal: from.number_u32()? },
        4 => MappingKey::Named { name: from.bytes()?.to_vec(), ordinal: from.number_u32()? },
        5 => MappingKey::Anonymous { run: RunId(from.number()?) },
        _ => return Err(from.invalid("has a key of an unknown kind")),
    })
}

pub(super) fn put_operand(out: &mut Vec<u8>, operand: Operand) {
    out.push(operand.class.code());
    out.push(operand.width_bytes);
}

pub(super) fn operand(from: &mut Reader<'_>) -> Result<Operand, HeatError> {
    let Some(class) = OperandClass::from_code(from.byte()?) else {
        return Err(from.invalid("has an operand of an unknown class"));
    };
    Ok(Operand { class, width_bytes: from.byte()? })
}

pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, text.as_bytes());
}

pub(super) fn text(from: &mut Reader<'_>) -> Result<String, HeatError> {
    let bytes = from.bytes()?;
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|_| from.invalid("has a text that is not UTF-8"))
}

/// The keys that a file refers to by number, ascending.
#[derive(Debug)]
pub(super) struct Keys(pub(super) Vec<MappingKey>);

impl Keys {
    pub(super) fn put(&self, out: &mut Vec<u8>, key: &MappingKey) {
        // Every key of a heat was collected before anything is written.
        let number = self.0.binary_search(key).unwrap_or(usize::MAX);
        put(out, number as u64);
    }

    pub(super) fn get(&self, from: &mut Reader<'_>) -> Result<MappingKey, HeatError> {
        let number = usize::try_from(from.number()?).unwrap_or(usize::MAX);
        let key = self.0.get(number).cloned();
        key.ok_or_else(|| from.invalid("refers to a key that is not there"))
    }

    pub(super) fn put_place(&self, out: &mut Vec<u8>, place: &Place) {
        self.put(out, &place.key);
        put(out, place.offset_bytes);
    }

    pub(super) fn place(&self, from: &mut Reader<'_>) -> Result<Place, HeatError> {
        Ok(Place { key: self.get(from)?, offset_bytes: from.number()? })
    }
}
