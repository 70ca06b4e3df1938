//! How busy the GPUs were since somebody asked last: pure.
//!
//! A look in a minute would miss every burst between two; so all looks count, and the busiest is told.

use std::time::Duration;

use super::{Reading, Told};
use crate::watchdog::Gpu;

/// What the looks since the last question say.
#[derive(Debug, Clone, PartialEq)]
pub struct Peak {
    /// A look that is older than this says nothing of now: the library hangs.
    patience: Duration,
    last: Last,
    /// Of the looks since the last question; `None`: there was none.
    since: Option<Gpu>,
}

#[derive(Debug, Clone, PartialEq)]
enum Last {
    /// No look has ended yet.
    None,
    /// There is nothing to look at.
    Nothing,
    At(Duration, Gpu),
}

impl Peak {
    /// Before the first look.
    pub const fn new(patience: Duration) -> Self {
        Self { patience, last: Last::None, since: None }
    }

    /// Takes in what the sampler told.
    pub fn note(&mut self, told: &Told, now: Duration) {
        let Told::Reading(reading) = told else {
            *self = Self { last: Last::Nothing, since: None, ..*self };
            return;
        };
        let gpu = load(reading);
        self.since = Some(self.since.map_or(gpu, |before| busier(before, gpu)));
        self.last = Last::At(now, gpu);
    }

    /// How busy they were since the last question.
    pub fn take(&mut self, now: Duration) -> Gpu {
        if let Some(gpu) = self.since.take() {
            return gpu;
        }
        match self.last {
            Last::Nothing => Gpu::Absent,
            Last::At(at, gpu) if now.saturating_sub(at) <= self.patience => gpu,
            Last::None | Last::At(..) => Gpu::Unreadable,
        }
    }
}

/// The busiest of them. Those that cannot tell are left out: nobody could ever know of them.
fn load(reading: &Reading) -> Gpu {
    if reading.unreadable {
        return Gpu::Unreadable;
    }
    let loads = reading.gpus.iter().filter_map(|gpu| gpu.utilization);
    loads.reduce(f64::max).map_or(Gpu::Absent, Gpu::Load)
}

/// What cannot be read weighs most: it may have been anything.
fn busier(a: Gpu, b: Gpu) -> Gpu {
    match (a, b) {
        (Gpu::Unreadable, _) | (_, Gpu::Unreadable) => Gpu::Unreadable,
        (Gpu::Load(a), Gpu::Load(b)) => Gpu::Load(a.max(b)),
        (Gpu::Load(load), Gpu::Absent) | (Gpu::Absent, Gpu::Load(load)) => Gpu::Load(load),
        (Gpu::Absent, Gpu::Absent) => Gpu::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::GpuSample;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn told(utilizations: &[Option<f64>]) -> Told {
        let gpu = |utilization: &Option<f64>| GpuSample { utilization: *utilization, ..GpuSample::default() };
        Told::Reading(Reading { gpus: utilizations.iter().map(gpu).collect(), ..Reading::default() })
    }

    fn unreadable() -> Told {
        Told::Reading(Reading { unreadable: true, ..Reading::default() })
    }

    #[test]
    fn a_burst_between_two_questions_is_not_missed() {
        let mut peak = Peak::new(PATIENCE);
        for (n, load) in [0.0, 0.9, 0.0].into_iter().enumerate() {
            peak.note(&told(&[Some(0.01), Some(load)]), second(n as u64));
        }
        assert_eq!(peak.take(second(4)), Gpu::Load(0.9));
        peak.note(&told(&[Some(0.01), Some(0.0)]), second(5));
        assert_eq!(peak.take(second(6)), Gpu::Load(0.01), "each look is told once");
    }

    #[test]
    fn without_a_new_look_the_last_one_stands_until_it_is_old() {
        let mut peak = Peak::new(PATIENCE);
        assert_eq!(peak.take(second(0)), Gpu::Unreadable, "nobody has looked yet");
        peak.note(&told(&[Some(0.2)]), second(1));
        assert_eq!(peak.take(second(2)), Gpu::Load(0.2));
        assert_eq!(peak.take(second(31)), Gpu::Load(0.2));
        assert_eq!(peak.take(second(32)), Gpu::Unreadable, "the library hangs");
    }

    #[test]
    fn one_look_that_failed_makes_all_of_them_unreadable() {
        let mut peak = Peak::new(PATIENCE);
        peak.note(&unreadable(), second(0));
        peak.note(&told(&[Some(0.0)]), second(1));
        assert_eq!(peak.take(second(2)), Gpu::Unreadable);
        assert_eq!(peak.take(second(2)), Gpu::Load(0.0), "and then it is over");
    }

    #[test]
    fn where_no_gpu_can_tell_or_none_is_there_is_as_good_as_none() {
        let mut peak = Peak::new(PATIENCE);
        peak.note(&told(&[None, None]), second(0));
        assert_eq!(peak.take(second(0)), Gpu::Absent);
        peak.note(&told(&[None, Some(0.5)]), second(1));
        assert_eq!(peak.take(second(1)), Gpu::Load(0.5));
        peak.note(&Told::Nothing, second(2));
        assert_eq!(peak.take(second(9999)), Gpu::Absent);
    }
}
