//! Exit codes (D16).

use std::process::ExitCode;

use build::StageError;
use oci::OciError;
use packages::DistroError;
use sandbox::SandboxError;
use store::StoreError;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is done; for `plan --detailed-exitcode`, nothing is to be done.
    Done,
    /// The recipe or another input is wrong.
    Input,
    /// `plan --detailed-exitcode`: there is work to do. `audit`: there are findings. Never an error.
    Work,
    Machine,
    Stage,
    Store,
    Usage,
    Interrupted,
    /// imgbuild itself has a mistake: it panicked.
    Mistake,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Input => 1,
            Self::Work => 2,
            Self::Machine => 3,
            Self::Stage if fault::planted("wrong-exit-code") => 1,
            Self::Stage => 4,
            Self::Store => 5,
            Self::Usage => 64,
            Self::Interrupted => 130,
            Self::Mistake => 101,
        }
    }
}

impl Exit {
    /// The one with a number, as another imgbuild ended; a failed stage where no exit has it.
    pub fn of_code(code: u8) -> Self {
        let all = [Self::Done, Self::Input, Self::Work, Self::Machine, Self::Stage, Self::Store, Self::Usage];
        let more = [Self::Interrupted, Self::Mistake];
        all.into_iter().chain(more).find(|exit| exit.code() == code).unwrap_or(Self::Stage)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// How a command ended, early or not.
impl From<Result<Self, Self>> for Exit {
    fn from(ended: Result<Self, Self>) -> Self {
        ended.unwrap_or_else(|early| early)
    }
}

impl From<&StoreError> for Exit {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::Damaged { .. } => Self::Store,
            StoreError::NotSaved { .. } => Self::Input,
            _ => Self::Machine,
        }
    }
}

impl From<&SandboxError> for Exit {
    fn from(error: &SandboxError) -> Self {
        match error {
            SandboxError::Damaged { .. } => Self::Store,
            SandboxError::Operation { .. }
            | SandboxError::HelperDied { .. }
            | SandboxError::TooLong { .. }
            | SandboxError::OverLimit { .. } => Self::Stage,
            _ => Self::Machine,
        }
    }
}

impl From<&DistroError> for Exit {
    fn from(error: &DistroError) -> Self {
        match error {
            DistroError::UnknownPackages { .. }
            | DistroError::Unsatisfiable { .. }
            | DistroError::ContainerDatabase { .. }
            | DistroError::Keyring { .. }
            | DistroError::PackageFiles { .. }
            | DistroError::NoSuite { .. }
            | DistroError::LockedSize { .. }
            | DistroError::NoSource { .. } => Self::Input,
            DistroError::Sandbox(inner) => inner.into(),
            DistroError::Store(inner) => inner.into(),
            _ => Self::Stage,
        }
    }
}

impl From<&OciError> for Exit {
    fn from(error: &OciError) -> Self {
        match error {
            OciError::Unreached { .. } | OciError::Keep { .. } => Self::Machine,
            OciError::Usage { .. } => Self::Usage,
            OciError::Denied { .. }
            | OciError::Refused { .. }
            | OciError::NotThere { .. }
            | OciError::NotAnImage { .. }
            | OciError::NotABase { .. }
            | OciError::NotAnIndex { .. }
            | OciError::Digest { .. }
            | OciError::Address { .. }
            | OciError::Credentials { .. }
            | OciError::Modified { .. }
            | OciError::Layout { .. } => Self::Input,
        }
    }
}

impl From<&publish::Error> for Exit {
    fn from(error: &publish::Error) -> Self {
        match error {
            publish::Error::Io { .. } | publish::Error::Server { .. } => Self::Machine,
            _ => Self::Input,
        }
    }
}

impl From<&StageError> for Exit {
    fn from(error: &StageError) -> Self {
        match error {
            StageError::Locked { .. }
            | StageError::Unrecorded { .. }
            | StageError::AsksRelease { .. }
            | StageError::NotInLock { .. }
            | StageError::PlanMoved { .. }
            | StageError::NotToReproduce { .. }
            | StageError::NoAction { .. }
            | StageError::Lock(_)
            | StageError::Input { .. }
            | StageError::Changed { .. }
            | StageError::Refused { .. }
            // As with a package that no archive has: the line of the recipe is what must change.
            | StageError::Units { .. } => Self::Input,
            StageError::FailedElsewhere { code, .. } => Self::of_code(*code),
            StageError::Distro(inner) => inner.into(),
            StageError::Sandbox(inner) => inner.into(),
            StageError::Store(inner) => inner.into(),
            StageError::Oci(inner) => inner.into(),
            StageError::Publish { .. } | StageError::PublishFull { .. } | StageError::NoRoom { .. } | StageError::Layout { .. } | StageError::Clock { .. } | StageError::NoEmulator { .. } | StageError::NoInit { .. } | StageError::Undelivered { .. } => Self::Machine,
            StageError::Script { .. }
            | StageError::Task { .. }
            | StageError::Elsewhere { .. }
            | StageError::NotBuilt { .. }
            | StageError::NotBrought { .. }
            | StageError::Stopped
            | StageError::Differs { .. }
            | StageError::NotReproducible { .. }
            | StageError::Moved { .. }
            | StageError::Gate { .. }
            | StageError::Graph(_) => Self::Stage,
        }
    }
}
