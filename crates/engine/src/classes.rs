//! What the store's errors mean for the exit code.

use std::io;

use image::FormatError;
use store::{
    ExportError, ImportError, IoFailure, ReadError, RemoveError, ResolveError, StoreError,
    WriteError,
};

use crate::failure::ExitClass;
use crate::target_name::TargetError;

fn io_class(cause: &io::Error, otherwise: ExitClass) -> ExitClass {
    match cause.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ExitClass::NotPermitted
        }
        // The path that was named is something else.
        io::ErrorKind::NotADirectory => ExitClass::Usage,
        _ => otherwise,
    }
}

fn failure_class(failure: &IoFailure, otherwise: ExitClass) -> ExitClass {
    io_class(&failure.cause, otherwise)
}

/// A store that cannot be opened or made.
pub(crate) fn store_class(error: &StoreError) -> ExitClass {
    match error {
        StoreError::Io { cause, .. } => io_class(cause, ExitClass::Unexpected),
        StoreError::Missing(_) | StoreError::NotAStore(_) => ExitClass::Usage,
        StoreError::Newer { .. } => ExitClass::Incompatible,
        StoreError::Owner { .. } | StoreError::Open { .. } => ExitClass::NotPermitted,
        _ => ExitClass::Unexpected,
    }
}

/// A reference that leads nowhere.
pub(crate) fn resolve_class(error: &ResolveError) -> ExitClass {
    match error {
        ResolveError::Store(error) => store_class(error),
        ResolveError::NewestDamaged { is_newer: true, .. } => ExitClass::Incompatible,
        ResolveError::NewestDamaged { .. } => ExitClass::Damaged,
        _ => ExitClass::Usage,
    }
}

/// A checkpoint that cannot be opened or read.
pub(crate) fn read_class(error: &ReadError) -> ExitClass {
    match error {
        ReadError::Io(failure) => failure_class(failure, ExitClass::Damaged),
        ReadError::Missing { .. } => ExitClass::Usage,
        // Nobody named the parent: a checkpoint without it does not fit where it lies.
        ReadError::Parent { cause, .. } if matches!(**cause, ReadError::Missing { .. }) => {
            ExitClass::Incompatible
        }
        ReadError::Parent { cause, .. } => read_class(cause),
        ReadError::Format {
            cause:
                FormatError::NewerVersion { .. }
                | FormatError::UnknownFlags { .. }
                | FormatError::UnknownSection { .. },
            ..
        } => ExitClass::Incompatible,
        _ => ExitClass::Damaged,
    }
}

/// A checkpoint that cannot be written. Nothing of it is left.
pub(crate) fn write_class(error: &WriteError) -> ExitClass {
    match error {
        WriteError::Io(failure) => failure_class(failure, ExitClass::RolledBack),
        WriteError::Store(error) => store_class(error),
        WriteError::TwinChanged { .. } => ExitClass::RolledBack,
        WriteError::Locked { .. } | WriteError::InUse { .. } => ExitClass::Blocked,
        WriteError::ForeignParent { .. } | WriteError::Losses { .. } => ExitClass::Usage,
        WriteError::Read(error) => read_class(error),
        _ => ExitClass::RolledBack,
    }
}

/// A checkpoint that cannot be sent.
pub(crate) fn export_class(error: &ExportError) -> ExitClass {
    match error {
        ExportError::Read(error) => read_class(error),
        _ => ExitClass::RolledBack,
    }
}

/// A checkpoint that cannot be taken in.
pub(crate) fn import_class(error: &ImportError) -> ExitClass {
    match error {
        ImportError::Write(error) => write_class(error),
        ImportError::Read(error) => read_class(error),
        ImportError::NotAnExport | ImportError::Cut { .. } | ImportError::Altered { .. } => {
            ExitClass::Damaged
        }
        ImportError::Newer { .. } | ImportError::Key { .. } | ImportError::Differs { .. } => {
            ExitClass::Incompatible
        }
        _ => ExitClass::RolledBack,
    }
}

/// A checkpoint that cannot be removed.
pub(crate) fn remove_class(error: &RemoveError) -> ExitClass {
    match error {
        RemoveError::Io(failure) => failure_class(failure, ExitClass::Unexpected),
        RemoveError::Store(error) => store_class(error),
        RemoveError::Missing { .. } => ExitClass::Usage,
        RemoveError::Consolidate(error) => write_class(error),
        _ => ExitClass::Blocked,
    }
}

/// What a target that cannot be had means for the exit code.
pub(crate) fn target_class(error: &TargetError) -> ExitClass {
    use target::OpenError;
    match error {
        TargetError::NotATarget(_)
        | TargetError::NotRunning(_)
        | TargetError::Open(OpenError::NoSuchProcess { .. } | OpenError::NotAProcess { .. }) => {
            ExitClass::Usage
        }
        TargetError::Open(OpenError::Proc(_)) => ExitClass::NotPermitted,
        TargetError::Open(_) => ExitClass::Blocked,
        TargetError::NoIdentity(_) => ExitClass::Unexpected,
    }
}
