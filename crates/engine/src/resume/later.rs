//! Loading after the start: what is begun of it before anything is built.

use std::hash::{BuildHasher, RandomState};
use std::path::Path;

use ::resume::ResumeError;
use ::resume::serve::HeldBack;
use mem::PageSource;
use partition::HostCosts;
use process::InstanceId;
use store::Checkpoint;
use sys::userfault::{Features, Kind, Userfault};

use super::ResumeVerbError;
use crate::agent::{AgentLink, Brief};
use crate::registry::Registry;
use crate::settings::Settings;

/// When memory is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// `Eager` where that takes a moment only, where nobody else could load, and for copies; else `Lazy`.
    #[default]
    Auto,
    /// All of it before the first instruction.
    Eager,
    /// Critical and warm memory before the first instruction, cold memory when it is asked for.
    Warm,
    /// What is needed first before the first instruction, the rest on demand and in the
    /// background.
    Lazy,
    /// As `Lazy`, but nothing that was not asked for.
    OnDemand,
}

/// What a program may wait for all of its memory: as long as it takes until a lazily resumed one has
/// an agent, a fault server, and its first faults behind it.
const SHORT_US: u64 = 50_000;

impl Load {
    /// What is done with `checkpoint`. A copy is loaded before its start: the agent of its instance
    /// is the original's.
    pub(super) fn of(self, checkpoint: &Checkpoint, is_copy: bool) -> Self {
        if self != Self::Auto {
            return self;
        }
        let (pages, stored) = (checkpoint.page_bytes(), checkpoint.chain_bytes());
        let is_short = HostCosts::default().load_all_us(pages, stored) <= SHORT_US;
        // Faults within its system calls have to be served as well.
        let may_serve = || Userfault::try_ourselves(Kind::Full, Features::SERVE).is_ok();
        if is_copy || is_short || !may_serve() { Self::Eager } else { Self::Lazy }
    }

    /// Its name in reports.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Eager => "eager",
            Self::Warm => "eager-warm",
            Self::Lazy => "lazy",
            Self::OnDemand => "on-demand",
        }
    }
}

/// What is begun of a lazy resume before anything is built: it goes on meanwhile.
pub(crate) struct Later {
    pub(crate) agent: AgentLink,
    /// Pages that are loaded before the start all the same.
    pub(crate) first: mem::PageSet,
}

impl Later {
    /// Starts an agent before the checkpoint is there, which opens meanwhile what that will build
    /// on, and has the disk begin with what of that will be needed first. `None` when no agent will
    /// be needed, or when it did not work: [`Self::begin`] tries again.
    pub(crate) fn agent_ahead(
        settings: &Settings,
        (instance, parent): (&InstanceId, Option<&Checkpoint>),
        load: Load,
        registry: &Registry,
    ) -> Option<AgentLink> {
        if load == Load::Eager {
            return None;
        }
        let brief = brief(settings, &settings.store, instance, load, registry);
        let named = parent.map(|parent| parent.id().to_string());
        let agent = AgentLink::spawn(Brief { parent: named, ..brief }).ok()?;
        if let Some(parent) = parent {
            // What cannot be listed comes when all can be.
            let first = first(parent, load).unwrap_or_default();
            if matches!(load, Load::Warm | Load::Lazy) {
                parent.read_critical_ahead();
            }
            // What cannot be listed is not read ahead.
            let needed = ::resume::needed_first(parent.instance(), parent, &first);
            ::resume::read_ahead(parent.instance(), parent, &needed.unwrap_or_default());
        }
        Some(agent)
    }

    /// Has an agent open the checkpoint, `agent` if there is one already, and the disk begin with
    /// what is needed first.
    pub(crate) fn begin(
        settings: &Settings,
        checkpoint: &Checkpoint,
        (load, agent): (Load, Option<AgentLink>),
        registry: &Registry,
    ) -> Result<Self, ResumeVerbError> {
        // Which need not be the store that is named: a reference may be a path.
        let store = checkpoint.store_root();
        let instance = &checkpoint.instance().line.instance;
        let brief = brief(settings, store, instance, load, registry);
        let held = held(checkpoint, load);
        let brief = Brief {
            checkpoint: Some(checkpoint.id().to_string()),
            held: held.map(|held| (held.seed, held.one_in)),
            ..brief
        };
        let is_ahead = agent.is_some();
        let agent = match agent {
            // One that has ended meanwhile is as good as none.
            Some(agent) => agent.published(brief.clone()).or_else(|_| AgentLink::spawn(brief)),
            None => AgentLink::spawn(brief),
        };
        let agent = agent.map_err(ResumeVerbError::Agent)?;
        let mut first = first(checkpoint, load).map_err(ResumeError::Pages)?;
        if let Some(held) = held {
            first = first.difference(&held.within(&first));
        }
        if is_ahead {
            // What was read ahead is there by now, and what was just written is still.
            return Ok(Self { agent, first });
        }
        if matches!(load, Load::Warm | Load::Lazy) {
            checkpoint.read_critical_ahead();
        }
        let needed = ::resume::needed_first(checkpoint.instance(), checkpoint, &first);
        let needed = needed.map_err(ResumeError::Pages)?;
        ::resume::read_ahead(checkpoint.instance(), checkpoint, &needed);
        Ok(Self { agent, first })
    }
}

/// Pages that are loaded before the start although they could come later.
fn first(checkpoint: &Checkpoint, load: Load) -> Result<mem::PageSet, mem::PageSourceError> {
    Ok(match load {
        Load::Lazy => critical(checkpoint),
        Load::Warm => {
            let own = own_memory(checkpoint);
            let mut all = checkpoint.pages(own)?;
            let cold = checkpoint.plan().tier_pages(own, plan::Tier::Cold);
            cold.runs().iter().for_each(|run| all.remove(*run));
            all
        }
        Load::Auto | Load::Eager | Load::OnDemand => mem::PageSet::new(),
    })
}

/// Which pages are held back, others each time. All that was asked for is loaded where more than
/// what is needed first was.
fn held(checkpoint: &Checkpoint, load: Load) -> Option<HeldBack> {
    let seed = RandomState::new().hash_one(());
    let is_predicted = load == Load::Lazy;
    is_predicted.then(|| HeldBack::of(checkpoint.plan(), own_memory(checkpoint), seed)).flatten()
}

/// What an agent of `instance` has to know, but for the checkpoint.
fn brief(
    settings: &Settings,
    store: &Path,
    instance: &InstanceId,
    load: Load,
    registry: &Registry,
) -> Brief {
    Brief {
        store: store.to_owned(),
        passing: settings.passing.clone(),
        checkpoint: None,
        parent: None,
        instance: instance.to_string(),
        registry: registry.root().to_owned(),
        fill: load == Load::Lazy,
        held: None,
        session: None,
    }
}

/// The pages of the program's private memory that are critical.
pub(crate) fn critical(checkpoint: &Checkpoint) -> mem::PageSet {
    checkpoint.plan().tier_pages(own_memory(checkpoint), plan::Tier::Critical)
}

/// The program's private memory.
fn own_memory(checkpoint: &Checkpoint) -> mem::MemoryId {
    let space = checkpoint.instance().groups.first().map_or(0, |group| group.space.0);
    mem::MemoryId::Private(space)
}
