//! A workload through a core, in one variant, with everything counted.
//!
//! The work of a place (a restaurant) is what a reader asks: all its labels, then, once they are known, its claims.
//! Places are worked at the same time; earlier ones go first. The core is stepped from here, without a thread and
//! without a channel, so over the simulator every count is exact.

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;

use super::variant::{Ends, Head, Idea, Variant, label_of, text_of};
use crate::engine::core::{Core, CoreCounters};
use crate::engine::{Answer, Backend, Branch, Clock, PrefixId, Request, RequestError, Token};

/// What one restaurant asks.
#[derive(Debug, Clone, Default)]
pub struct Place {
    /// A label per clause.
    pub labels: Vec<Request>,
    /// A text per finding; asked when all labels are known.
    pub claims: Vec<Request>,
}

/// What is asked, as the reader asks it.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The heads that the requests name.
    pub heads: Vec<Head>,
    /// Where sampled text ends.
    pub ends: Ends,
    /// The restaurants.
    pub places: Vec<Place>,
}

impl Workload {
    /// Greatest number of cells that a request reaches to, head included.
    pub fn reach(&self) -> u32 {
        let head = |id: Option<PrefixId>| {
            self.heads.iter().find(|head| Some(head.id) == id).map_or(0, |head| head.tokens.len())
        };
        let reach = |request: &Request| {
            head(request.prefix)
                + request.body.len()
                + request.branches.iter().map(Branch::cells).max().unwrap_or(0)
        };
        // A sampled label is longer than one that is read.
        let margin = 8;
        let all = self.places.iter().flat_map(|place| place.labels.iter().chain(&place.claims));
        u32::try_from(all.map(reach).max().unwrap_or(0) + margin).unwrap_or(u32::MAX)
    }
}

/// A written text and whether it is whole.
pub type Text = (Vec<Token>, bool);

/// How a workload went.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// Each label in order; `None` where the answer names none.
    pub labels: Vec<Option<usize>>,
    /// Each text in order; `None` where the answer holds none.
    pub claims: Vec<Option<Text>>,
    /// Prompt tokens taken from heads.
    pub reused_tokens: u64,
    /// Tokens sampled.
    pub generated_tokens: u64,
    /// The core's counts.
    pub counters: CoreCounters,
    /// From the first request to the last answer, pinning of heads included.
    pub wall: Duration,
}

/// Works the workload; the first request that fails ends it, since figures over part of it mislead.
pub fn run<B: Backend>(
    core: &mut Core<B>,
    clock: &impl Clock,
    workload: &Workload,
    variant: &Variant,
) -> Result<Run, RequestError> {
    let begun = clock.now();
    let mut pinned = Vec::new();
    if variant.has(Idea::Sharing) {
        for head in &workload.heads {
            pinned.push(core.register_prefix(head.tokens.clone())?);
        }
    }
    let submit = |core: &mut Core<B>, requests: &[Request]| {
        let asked = requests.iter().map(|asked| {
            let (reply, answer) = oneshot::channel();
            core.submit(variant.request(asked, &workload.heads, &pinned, &workload.ends), reply);
            answer
        });
        Asked { open: asked.collect(), answers: Vec::with_capacity(requests.len()) }
    };
    let mut labels: Vec<Asked> = workload.places.iter().map(|place| submit(core, &place.labels)).collect();
    let mut claims: Vec<Option<Asked>> = workload.places.iter().map(|_| None).collect();
    loop {
        for (index, place) in workload.places.iter().enumerate() {
            if labels[index].collect()? && claims[index].is_none() {
                claims[index] = Some(submit(core, &place.claims));
            }
        }
        if core.is_idle() {
            break;
        }
        core.step();
    }
    let wall = clock.now().saturating_sub(begun);
    let mut run = Run { counters: core.counters(), wall, ..Run::default() };
    for ((place, labels), claims) in workload.places.iter().zip(labels).zip(claims) {
        run.take_labels(place, &labels.answers);
        // The core is idle, so all labels were answered, and the claims asked for and answered.
        let mut claims = claims.unwrap_or_default();
        claims.collect()?;
        run.take_claims(place, &claims.answers, variant);
    }
    Ok(run)
}

/// Requests on their way, answered in any order, taken in theirs.
#[derive(Default)]
struct Asked {
    open: VecDeque<oneshot::Receiver<Result<Answer, RequestError>>>,
    answers: Vec<Answer>,
}

impl Asked {
    /// Takes what is there; whether that is all.
    fn collect(&mut self) -> Result<bool, RequestError> {
        while let Some(next) = self.open.front_mut() {
            match next.try_recv() {
                Ok(answer) => self.answers.push(answer?),
                Err(oneshot::error::TryRecvError::Empty) => return Ok(false),
                Err(oneshot::error::TryRecvError::Closed) => return Err(RequestError::Stopped),
            }
            self.open.pop_front();
        }
        Ok(true)
    }
}

impl Run {
    fn take_labels(&mut self, place: &Place, answers: &[Answer]) {
        self.count(answers);
        let first = |answer: &Answer, asked| label_of(asked, answer.branches.first()?);
        self.labels.extend(place.labels.iter().zip(answers).map(|(asked, answer)| first(answer, asked)));
    }

    fn take_claims(&mut self, place: &Place, answers: &[Answer], variant: &Variant) {
        self.count(answers);
        let text = |(asked, answer): (&Request, &Answer)| {
            let (tokens, complete) = text_of(asked, answer.branches.first()?, variant)?;
            Some((tokens.to_vec(), complete))
        };
        self.claims.extend(place.claims.iter().zip(answers).map(text));
    }

    fn count(&mut self, answers: &[Answer]) {
        for answer in answers {
            self.reused_tokens += u64::from(answer.usage.reused);
            self.generated_tokens += u64::from(answer.usage.generated);
        }
    }
}
