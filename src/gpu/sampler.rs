//! The thread that looks at the GPUs, again and again.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use super::choice::{Wanted, wanted};
use super::nvml::{Closed, Look, Management};
use super::{GpuSample, Library, Reading, Told};

/// What is looked at, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SamplerSettings {
    /// Which library is asked.
    pub library: Library,
    /// How often.
    pub interval: Duration,
    /// Which GPUs, counted as the engine does; `None`: all that it sees.
    pub devices: Option<Vec<u32>>,
    /// The value of `CUDA_VISIBLE_DEVICES`; `None`: not set.
    pub visible: Option<String>,
}

/// A sampler at work; it ends when this is dropped, after the call that it is in.
#[derive(Debug)]
pub struct Sampler {
    /// Nothing is sent: the thread hears that this end is gone.
    _running: SyncSender<()>,
}

impl Sampler {
    /// Starts the thread. `tell` is called on it: it must not wait.
    pub fn start(
        settings: SamplerSettings,
        tell: impl FnMut(Told) + Send + 'static,
    ) -> std::io::Result<Self> {
        let (running, ended) = sync_channel(0);
        // Not joined: a call into a driver in trouble may never return.
        std::thread::Builder::new().name("gpu".into()).spawn(move || run(settings, &ended, tell))?;
        Ok(Self { _running: running })
    }
}

fn run(settings: SamplerSettings, ended: &Receiver<()>, mut tell: impl FnMut(Told)) {
    let interval = settings.interval;
    let mut watch = Watch::new(settings);
    loop {
        let Some(reading) = watch.look() else { return tell(Told::Nothing) };
        tell(Told::Reading(reading));
        if !matches!(ended.recv_timeout(interval), Err(RecvTimeoutError::Timeout)) {
            return;
        }
    }
}

/// What is known between two looks.
struct Watch {
    settings: SamplerSettings,
    management: Option<Management>,
    /// Those that are sampled, with the names that they had last; `None`: not known yet.
    devices: Option<Vec<(Wanted, String)>>,
    failures: u64,
    /// What was complained of last, for each GPU and, without a number, for the library.
    troubles: BTreeMap<Option<u32>, String>,
}

impl Watch {
    fn new(settings: SamplerSettings) -> Self {
        Self { settings, management: None, devices: None, failures: 0, troubles: BTreeMap::new() }
    }

    /// One look; `None` if there is nothing to look at, and will not be.
    fn look(&mut self) -> Option<Reading> {
        if self.management.is_none() {
            match self.settings.library.open() {
                Ok(management) => self.management = Some(management),
                // What was there once is waited for.
                Err(Closed::Absent(why)) if self.devices.is_none() => {
                    self.nothing(&why);
                    return None;
                }
                Err(Closed::Absent(why) | Closed::Failing(why)) => return Some(self.blind(&why)),
            }
        }
        let management = self.management.take()?;
        if self.devices.is_none() {
            match management.uuids() {
                Ok(uuids) => self.devices = Some(self.choose(&uuids)),
                Err(why) => return Some(self.blind(&why)),
            }
        }
        self.note(None, None);
        let mut devices = self.devices.take().unwrap_or_default();
        if devices.is_empty() {
            self.nothing("no GPU is visible");
            return None;
        }
        let mut reading = Reading::default();
        let mut lost = false;
        for (wanted, name) in &mut devices {
            let mut look = management.look(wanted);
            self.judge(&look);
            if look.sample.name.is_empty() {
                look.sample.name.clone_from(name);
            } else {
                name.clone_from(&look.sample.name);
            }
            lost |= look.lost;
            reading.unreadable |= look.unreadable;
            reading.gpus.push(look.sample);
        }
        self.devices = Some(devices);
        // A library that has lost a GPU sees it again only after it was released and initialized.
        self.management = (!lost).then_some(management);
        reading.failures = self.failures;
        Some(reading)
    }

    fn choose(&self, uuids: &[Option<String>]) -> Vec<(Wanted, String)> {
        let settings = &self.settings;
        let (there, missing) = wanted(settings.devices.as_deref(), settings.visible.as_deref(), uuids);
        if !missing.is_empty() {
            tracing::warn!(devices = ?missing, found = uuids.len(), "devices of engine.devices are not sampled: nvml does not show them");
        }
        there.into_iter().map(|wanted| (wanted, String::new())).collect()
    }

    /// The library does not work: the GPUs that are known have no figures.
    fn blind(&mut self, why: &str) -> Reading {
        self.failures += 1;
        self.note(None, Some(why));
        let known = self.devices.iter().flatten();
        let bare = |(wanted, name): &(Wanted, String)| GpuSample {
            device: wanted.device,
            name: name.clone(),
            ..GpuSample::default()
        };
        Reading { gpus: known.map(bare).collect(), unreadable: true, failures: self.failures }
    }

    fn judge(&mut self, look: &Look) {
        self.failures += look.faults.len() as u64;
        let trouble = look.faults.first().map(|(what, error)| format!("{what}: {error}"));
        self.note(Some(look.sample.device), trouble.as_deref());
    }

    /// Each change is told once, not each look.
    fn note(&mut self, device: Option<u32>, trouble: Option<&str>) {
        if self.troubles.get(&device).map(String::as_str) == trouble {
            return;
        }
        if let Some(why) = trouble {
            tracing::warn!(device, why, "a gpu cannot be read; trying again");
            self.troubles.insert(device, why.to_owned());
        } else {
            tracing::info!(device, "the gpu can be read again");
            self.troubles.remove(&device);
        }
    }

    fn nothing(&self, why: &str) {
        match &self.settings.library {
            // Somebody meant it to be there.
            Library::At(path) => {
                tracing::warn!(path = %path.display(), why, "no gpu is sampled; correct gpu.library");
            }
            Library::Auto | Library::None => tracing::debug!(why, "no gpu is sampled"),
        }
    }
}
