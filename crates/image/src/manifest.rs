//! The manifest: everything about a checkpoint but its index and its pages.

use plan::Plan;
use process::Instance;
use prost::Message;

use crate::convert::{Wire, check_references};
use crate::header::{HEADER_BYTES, Header};
use crate::limits::{CHAIN_LENGTH_MAX, MANIFEST_BYTES_MAX, SECTION_BYTES_MAX, SECTIONS_MAX};
use crate::section::{self, ENTRY_BYTES, Kind, Section};
use crate::{CheckpointId, Files, FormatError, LayoutError, LineKey, LossRecord, Summary};

/// Bytes of the keyed hash at the end of a manifest.
const TRAILER_BYTES: usize = 32;

const WHAT: &str = "the manifest";

/// Everything about a checkpoint but its index and its pages.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifest {
    /// The checkpoint's id.
    pub id: CheckpointId,
    /// Bytes of pages in the checkpoint.
    pub page_bytes: u64,
    /// How many checkpoints stood behind this one when it was made; 0 without a parent.
    pub depth: u16,
    /// Bytes of pages that are the parent's.
    pub referenced_bytes: u64,
    /// The instance's state.
    pub instance: Instance,
    /// The plan it was made by.
    pub plan: Plan,
    /// How it came about.
    pub summary: Summary,
    /// Its other files.
    pub files: Files,
    /// Where its memory is not exactly what the program had.
    pub loss: Vec<LossRecord>,
}

impl Manifest {
    /// The manifest's bytes, every hash keyed with `key`.
    ///
    /// # Errors
    /// When a value does not fit into the format or an index of the instance leads nowhere.
    pub fn encode(&self, key: &LineKey) -> Result<Vec<u8>, LayoutError> {
        self.encode_with(&PlanBytes::encode(&self.plan)?, key)
    }

    /// The same with a plan that was encoded already, which is this one's.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with(&self, plan: &PlanBytes, key: &LineKey) -> Result<Vec<u8>, LayoutError> {
        check_references(&self.instance).map_err(|e| LayoutError::invalid("the instance", &e))?;
        let instance = message_bytes(&self.instance, section::INSTANCE)?;
        let files = message_bytes(&self.files, section::FILES)?;
        let summary = message_bytes(&self.summary, section::SUMMARY)?;
        let loss = message_bytes(&self.loss, section::LOSS)?;
        let mut sections = vec![
            Section::new(section::INSTANCE, &instance),
            Section::new(section::PLAN, &plan.0),
            Section::new(section::FILES, &files),
            Section::new(section::SUMMARY, &summary),
        ];
        if !self.loss.is_empty() {
            sections.push(Section::new(section::LOSS, &loss));
        }
        self.assemble(key, &sections)
    }

    /// Header, table, sections and the hash over all of them.
    fn assemble(&self, key: &LineKey, sections: &[Section<'_>]) -> Result<Vec<u8>, LayoutError> {
        let section_count = u32::try_from(sections.len()).unwrap_or(u32::MAX);
        let body = HEADER_BYTES + sections.len() * ENTRY_BYTES;
        let length = body + sections.iter().map(|s| s.bytes.len()).sum::<usize>() + TRAILER_BYTES;
        let manifest_bytes = u64::try_from(length).unwrap_or(u64::MAX);
        let is_child = self.files.parent.is_some();
        if (self.depth > 0) != is_child
            || self.depth >= CHAIN_LENGTH_MAX
            || (!is_child && self.referenced_bytes > 0)
        {
            let Self { depth, referenced_bytes, .. } = self;
            let detail = format!("has {depth} parents that hold {referenced_bytes} bytes");
            return Err(LayoutError::Invalid { what: WHAT, detail });
        }
        if manifest_bytes > MANIFEST_BYTES_MAX || section_count > SECTIONS_MAX {
            let detail = format!("has {manifest_bytes} bytes, at most {MANIFEST_BYTES_MAX}");
            return Err(LayoutError::Invalid { what: WHAT, detail });
        }
        let table = section::write_table(sections, u64::try_from(body).unwrap_or(u64::MAX));
        let header = Header {
            id: self.id,
            created_ns: self.summary.created_ns,
            instance: self.instance.line.instance.clone(),
            key_fingerprint: key.fingerprint(),
            page_bytes: self.page_bytes,
            stored_bytes: manifest_bytes.saturating_add(self.files.stored_bytes()),
            parent: self.files.parent.map(|parent| parent.id),
            depth: self.depth,
            referenced_bytes: self.referenced_bytes,
            manifest_bytes,
            section_count,
            table_crc32c: crc32c::crc32c(&table),
        };
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&header.write());
        bytes.extend_from_slice(&table);
        sections.iter().for_each(|section| bytes.extend_from_slice(section.bytes));
        let hash = key.hash(&bytes);
        bytes.extend_from_slice(&hash);
        Ok(bytes)
    }

    /// The manifest in `bytes`, which is the whole file.
    ///
    /// # Errors
    /// When it is cut short, altered in any byte, made with another key or by a newer program.
    pub fn decode(bytes: &[u8], key: &LineKey) -> Result<Self, FormatError> {
        let (header, sections) = checked(bytes, key)?;
        Self::from_sections(&header, &sections, required(&sections, section::PLAN)?)
    }

    /// The same with an empty plan, whose bytes are checked and not decoded: that takes longer than
    /// everything else, and whoever only reads pages has no use for it.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_without_plan(bytes: &[u8], key: &LineKey) -> Result<Self, FormatError> {
        let (header, sections) = checked(bytes, key)?;
        Self::from_sections(&header, &sections, Plan::default())
    }

    /// The same with an empty plan, and the plan still as its bytes, for those who need other things
    /// sooner.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_plan_later(
        bytes: &[u8],
        key: &LineKey,
    ) -> Result<(Self, PlanBytes), FormatError> {
        let (header, sections) = checked(bytes, key)?;
        let plan = readable(&sections, section::PLAN);
        let plan = plan.ok_or(FormatError::MissingSection { name: section::PLAN.name })?;
        let manifest = Self::from_sections(&header, &sections, Plan::default())?;
        Ok((manifest, PlanBytes(plan.bytes.to_vec())))
    }

    fn from_sections(
        header: &Header,
        sections: &[Section<'_>],
        plan: Plan,
    ) -> Result<Self, FormatError> {
        let known =
            [section::INSTANCE, section::PLAN, section::FILES, section::SUMMARY, section::LOSS];
        for (i, section) in sections.iter().enumerate() {
            let reads = |kind: &Kind| kind.code == section.code && section.version <= kind.version;
            if section.required && !known.iter().any(reads) {
                return Err(FormatError::UnknownSection {
                    name: section.name.to_owned(),
                    kind: section.code,
                    version: section.version,
                });
            }
            if sections[..i].iter().any(|earlier| earlier.code == section.code) {
                let detail = format!("section {:?} occurs twice", section.name);
                return Err(FormatError::Invalid { what: WHAT, detail });
            }
        }
        let manifest = Self {
            id: header.id,
            page_bytes: header.page_bytes,
            depth: header.depth,
            referenced_bytes: header.referenced_bytes,
            instance: required(sections, section::INSTANCE)?,
            plan,
            files: required(sections, section::FILES)?,
            summary: optional(sections, section::SUMMARY)?.unwrap_or_default(),
            loss: optional(sections, section::LOSS)?.unwrap_or_default(),
        };
        check_references(&manifest.instance)
            .map_err(|e| FormatError::invalid("section \"instance\"", &e))?;
        manifest.check_against(header)?;
        Ok(manifest)
    }

    /// The header repeats what the sections say; both were hashed, so a difference is a mistake
    /// of the writer.
    fn check_against(&self, header: &Header) -> Result<(), FormatError> {
        let stored_bytes = self.files.stored_bytes().checked_add(header.manifest_bytes);
        if self.instance.line.instance != header.instance
            || stored_bytes != Some(header.stored_bytes)
            || self.files.parent.map(|parent| parent.id) != header.parent
        {
            let detail = "the header and the sections tell of different checkpoints".to_owned();
            return Err(FormatError::Invalid { what: WHAT, detail });
        }
        Ok(())
    }
}

/// A plan as it is in a manifest, no bit of which was altered.
#[derive(Clone, Debug)]
pub struct PlanBytes(Vec<u8>);

impl PlanBytes {
    /// The bytes of `plan`.
    ///
    /// # Errors
    /// When it does not fit into the format.
    pub fn encode(plan: &Plan) -> Result<Self, LayoutError> {
        message_bytes(plan, section::PLAN).map(Self)
    }

    /// The plan.
    ///
    /// # Errors
    /// When whoever wrote it made a mistake.
    pub fn decode(&self) -> Result<Plan, FormatError> {
        value(&self.0, section::PLAN)
    }
}

/// The header and the sections of the manifest `bytes`, no bit of which was altered.
fn checked<'a>(bytes: &'a [u8], key: &LineKey) -> Result<(Header, Vec<Section<'a>>), FormatError> {
    let header = Header::read(bytes)?;
    let (start, end) = check_length(&header, bytes)?;
    if header.key_fingerprint != key.fingerprint() {
        return Err(FormatError::Key);
    }
    let table = &bytes[HEADER_BYTES..start];
    if crc32c::crc32c(table) != header.table_crc32c {
        return Err(FormatError::Checksum { what: "the manifest's section table".to_owned() });
    }
    let sections = section::read_table(bytes, table, start, end)?;
    // The checksums above say which part is damaged; this one says that none is, also where
    // somebody made them fit.
    if key.hash(&bytes[..end]) != bytes[end..] {
        return Err(FormatError::Checksum { what: WHAT.to_owned() });
    }
    Ok((header, sections))
}

/// Where the sections begin and end.
fn check_length(header: &Header, bytes: &[u8]) -> Result<(usize, usize), FormatError> {
    let found = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    let expected = header.manifest_bytes;
    let count = usize::try_from(header.section_count).unwrap_or(usize::MAX);
    let start = count.saturating_mul(ENTRY_BYTES).saturating_add(HEADER_BYTES);
    match bytes.len().checked_sub(TRAILER_BYTES) {
        Some(end) if found == expected && start <= end => Ok((start, end)),
        _ => Err(FormatError::Length { what: WHAT, expected, found }),
    }
}

fn message_bytes<T: Wire>(value: &T, kind: Kind) -> Result<Vec<u8>, LayoutError>
where
    T::Message: Message,
{
    let message = value.to_wire().map_err(|e| LayoutError::invalid(kind.name, &e))?;
    let bytes = message.encode_to_vec();
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= SECTION_BYTES_MAX) {
        return Ok(bytes);
    }
    let detail = format!("has {} bytes, at most {SECTION_BYTES_MAX}", bytes.len());
    Err(LayoutError::Invalid { what: kind.name, detail })
}

fn required<T: Wire>(sections: &[Section<'_>], kind: Kind) -> Result<T, FormatError>
where
    T::Message: Message + Default,
{
    optional(sections, kind)?.ok_or(FormatError::MissingSection { name: kind.name })
}

/// The value of a section, or `None` when it is not there or of a version that may be skipped.
fn optional<T: Wire>(sections: &[Section<'_>], kind: Kind) -> Result<Option<T>, FormatError>
where
    T::Message: Message + Default,
{
    readable(sections, kind).map(|section| value(section.bytes, kind)).transpose()
}

/// The section of this kind, unless it is of a version that is not known.
fn readable<'a, 's>(sections: &'a [Section<'s>], kind: Kind) -> Option<&'a Section<'s>> {
    sections.iter().find(|s| s.code == kind.code && s.version <= kind.version)
}

fn value<T: Wire>(bytes: &[u8], kind: Kind) -> Result<T, FormatError>
where
    T::Message: Message + Default,
{
    let invalid = |detail: String| FormatError::Invalid {
        what: "a section",
        detail: format!("{:?}: {detail}", kind.name),
    };
    let message = T::Message::decode(bytes).map_err(|e| invalid(e.to_string()))?;
    T::from_wire(message).map_err(|e| invalid(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataFile, IndexFile};

    fn key() -> LineKey {
        LineKey::new([3; 32])
    }

    fn manifest() -> Manifest {
        let index = IndexFile { name: "index".to_owned(), ..IndexFile::default() };
        let summary = Summary { tool_version: "0.1.0".to_owned(), ..Summary::default() };
        let hashes = DataFile { name: "hashes".to_owned(), length_bytes: 64 };
        let files = Files { index, hashes, ..Files::default() };
        Manifest { files, summary, ..Manifest::default() }
    }

    const KINDS: [Kind; 4] = [section::INSTANCE, section::PLAN, section::FILES, section::SUMMARY];

    fn messages() -> [Vec<u8>; 4] {
        let manifest = manifest();
        [
            message_bytes(&manifest.instance, section::INSTANCE).unwrap(),
            message_bytes(&manifest.plan, section::PLAN).unwrap(),
            message_bytes(&manifest.files, section::FILES).unwrap(),
            message_bytes(&manifest.summary, section::SUMMARY).unwrap(),
        ]
    }

    /// A manifest whose sections went through `change`, correct in every checksum.
    fn changed(change: impl FnOnce(&mut Vec<Section<'_>>)) -> Result<Manifest, FormatError> {
        let messages = messages();
        let sections = KINDS.into_iter().zip(&messages);
        let mut sections = sections.map(|(kind, bytes)| Section::new(kind, bytes)).collect();
        change(&mut sections);
        Manifest::decode(&manifest().assemble(&key(), &sections).unwrap(), &key())
    }

    const LATER: Section<'_> =
        Section { code: 99, name: "later", version: 7, required: false, bytes: b"whatever" };

    #[test]
    fn unknown_optional_sections_are_skipped() {
        assert_eq!(changed(|_| {}), Ok(manifest()));
        assert_eq!(changed(|sections| sections.insert(0, LATER)), Ok(manifest()));
        // A later version of an optional section is as good as none.
        let without = Manifest { summary: Summary::default(), ..manifest() };
        assert_eq!(changed(|sections| sections[3].version = 2), Ok(without.clone()));
        assert_eq!(changed(|sections| sections.truncate(3)), Ok(without));
    }

    #[test]
    fn unknown_required_sections_are_refused_by_name() {
        let refused = changed(|sections| sections.push(Section { required: true, ..LATER }));
        assert_eq!(
            refused.unwrap_err().to_string(),
            "section \"later\" (kind 99, version 7) is required and not known to this program: \
             use a newer one"
        );
        let refused = changed(|sections| sections[0].version = 2).unwrap_err().to_string();
        assert!(refused.starts_with("section \"instance\" (kind 1, version 2)"), "{refused}");
    }

    #[test]
    fn sections_are_there_once() {
        let refused = changed(|sections| {
            sections.remove(1);
        });
        assert_eq!(refused, Err(FormatError::MissingSection { name: "plan" }));
        let refused = changed(|sections| sections.push(LATER)).map(|_| ());
        assert_eq!(refused, Ok(()));
        let refused = changed(|sections| sections.push(sections[0]));
        assert!(matches!(refused, Err(FormatError::Invalid { .. })), "{refused:?}");
    }

    #[test]
    fn sections_that_are_no_messages_are_refused() {
        let refused = changed(|sections| sections[0].bytes = b"\xff\xff\xff");
        assert!(matches!(refused, Err(FormatError::Invalid { .. })), "{refused:?}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { cases: 2000, ..Default::default() })]

        /// Section bytes that pass every checksum and are no messages we wrote: refused, or a
        /// value that can be written again, but never a panic.
        #[test]
        fn altered_messages_never_panic(
            section in 0usize..4,
            edits in proptest::collection::vec(
                (proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()),
                0..4,
            ),
            noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
        ) {
            let golden = std::include_bytes!("../tests/golden/v1/0123456789abcdef/manifest");
            let read = |at: usize| u64::from_le_bytes(golden[at..at + 8].try_into().unwrap());
            let at = |entry: usize, field| usize::try_from(read(128 + 48 * entry + field)).unwrap();
            let mut bytes = golden[at(section, 8)..at(section, 8) + at(section, 16)].to_vec();
            for (index, byte) in edits {
                let place = index.index(bytes.len());
                bytes[place] = byte;
            }
            bytes.extend(noise);
            let mut messages = messages();
            messages[section] = bytes;
            let sections = KINDS.into_iter().zip(&messages);
            let sections: Vec<_> = sections.map(|(kind, b)| Section::new(kind, b)).collect();
            let altered = manifest().assemble(&key(), &sections).unwrap();
            if let Ok(manifest) = Manifest::decode(&altered, &key()) {
                let again = manifest.encode(&key()).unwrap();
                let again = Manifest::decode(&again, &key()).unwrap();
                proptest::prop_assert_eq!(again, manifest);
            }
        }
    }
}
