//! A worker, its lanes and its neighbours on a simulated clock, under the machine: nothing that is in hand is ever
//! broken off, and a worker that is idle ends in time.
//!
//! What the machine is shown is as late and as full of holes as it is with real servers: the count of jobs in hand is up
//! to [`NOTE`] old, the lag [`ANSWER`] old or not to be read, a GPU does not answer, and a pull that waited brings a job
//! after the drain has begun. What is asserted is taken from the world itself.

use proptest::prelude::*;

use super::*;

/// How often a worker notes what it holds.
const NOTE: Duration = Duration::from_millis(250);
/// How old the lag is when the check is made.
const ANSWER: Duration = Duration::from_millis(100);
/// How long a pull may wait, and bring a job after the drain has begun.
const PULL: Duration = Duration::from_secs(2);
/// Jobs in work at once.
const SLOTS: usize = 2;
/// Running jobs may go on for so long in a drain.
const GRACE: Duration = Duration::from_mins(1);

/// A job, or time that it takes elsewhere.
#[derive(Debug, Clone, Copy)]
struct Arrival {
    at: Duration,
    takes: Duration,
    /// A neighbour takes it, and gives it back unworked at the end.
    elsewhere: bool,
}

/// One schedule.
#[derive(Debug, Clone)]
struct Schedule {
    rules: Rules,
    arrivals: Vec<Arrival>,
    /// When the lag cannot be read.
    no_lag: Vec<(Duration, Duration)>,
    /// When the GPU cannot be read.
    no_gpu: Vec<(Duration, Duration)>,
    /// When somebody else keeps the GPU busy.
    busy_gpu: Vec<(Duration, Duration)>,
    has_gpu: bool,
    /// SIGTERM comes to every worker some day.
    signal: Option<Duration>,
    /// How many tries of the hook fail.
    hook_failures: u32,
}

impl Schedule {
    /// When nothing happens any more, as long as the worker works.
    fn quiet_from(&self) -> Duration {
        let work = self.arrivals.iter().map(|arrival| arrival.at + 3 * arrival.takes);
        // All jobs one after the other, at worst.
        let work = work.max().unwrap_or_default()
            + self.arrivals.iter().map(|arrival| arrival.takes).sum::<Duration>();
        let dark = [&self.no_lag, &self.no_gpu, &self.busy_gpu].into_iter().flatten().map(|window| window.1);
        dark.max().unwrap_or_default().max(work)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Coming,
    Waiting,
    Here { until: Duration },
    Elsewhere { until: Duration },
    Done,
}

/// What happened in one run.
#[derive(Debug, Default)]
struct Course {
    drained_at: Option<Duration>,
    ended: Option<Action>,
    hook_runs: u32,
    handed_back: usize,
    finished_in_drain: usize,
}

/// Everything that is, at one moment.
struct World<'a> {
    schedule: &'a Schedule,
    places: Vec<Place>,
    received: u64,
    now: Duration,
    draining: Option<Duration>,
    /// What was in hand and taken when, as far back as the worker's notes can lie.
    notes: Vec<(Duration, usize, u64)>,
    /// When there was work at hand, in the lanes, or taken.
    work: Vec<Duration>,
    course: Course,
}

fn within(windows: &[(Duration, Duration)], at: Duration) -> bool {
    windows.iter().any(|(from, to)| (*from..*to).contains(&at))
}

impl<'a> World<'a> {
    fn new(schedule: &'a Schedule) -> Self {
        Self {
            schedule,
            places: vec![Place::Coming; schedule.arrivals.len()],
            received: 0,
            now: Duration::ZERO,
            draining: None,
            notes: vec![(Duration::ZERO, 0, 0)],
            work: Vec::new(),
            course: Course::default(),
        }
    }

    fn held(&self) -> usize {
        self.places.iter().filter(|place| matches!(place, Place::Here { .. })).count()
    }

    fn lag(&self) -> usize {
        self.places.iter().filter(|place| !matches!(place, Place::Coming | Place::Done)).count()
    }

    /// Moves the clock, and with it the jobs. Every change of place is a moment of its own.
    fn pass(&mut self, to: Duration) {
        while let Some(next) = self.next_change().filter(|next| *next <= to) {
            self.now = self.now.max(next);
            self.change();
        }
        self.now = to;
    }

    fn next_change(&self) -> Option<Duration> {
        let of = |(place, arrival): (&Place, &Arrival)| match place {
            Place::Coming => Some(arrival.at),
            Place::Here { until } => Some(self.draining.map_or(*until, |since| (*until).min(since + GRACE))),
            Place::Elsewhere { until } => Some(*until),
            Place::Waiting | Place::Done => None,
        };
        self.places.iter().zip(&self.schedule.arrivals).filter_map(of).min()
    }

    fn change(&mut self) {
        let now = self.now;
        for index in 0..self.places.len() {
            let arrival = self.schedule.arrivals[index];
            self.places[index] = match self.places[index] {
                Place::Coming if arrival.at <= now && arrival.elsewhere => {
                    Place::Elsewhere { until: now + arrival.takes }
                }
                Place::Coming if arrival.at <= now => Place::Waiting,
                Place::Elsewhere { until } if until <= now => Place::Waiting,
                Place::Here { until } if until <= now => {
                    self.course.finished_in_drain += usize::from(self.draining.is_some());
                    Place::Done
                }
                Place::Here { .. } if self.draining.is_some_and(|since| since + GRACE <= now) => {
                    self.course.handed_back += 1;
                    Place::Waiting
                }
                other => other,
            };
        }
        self.take();
        self.notes.push((now, self.held(), self.received));
        if self.lag() > 0 {
            self.work.push(now);
        }
    }

    /// The worker takes what there is room for; in a drain a pull that waited brings a job, which goes back at once.
    fn take(&mut self) {
        for index in 0..self.places.len() {
            if self.places[index] != Place::Waiting {
                continue;
            }
            match self.draining {
                None if self.held() < SLOTS => {
                    let until = self.now + self.schedule.arrivals[index].takes;
                    self.places[index] = Place::Here { until };
                    self.received += 1;
                    self.work.push(self.now);
                }
                Some(since) if self.now <= since + PULL => self.course.handed_back += 1,
                _ => {}
            }
        }
    }

    /// What a check at that time sees.
    fn observe(&mut self, due: Duration) -> Observation {
        self.pass(due.saturating_sub(ANSWER));
        let lag = (!within(&self.schedule.no_lag, self.now)).then(|| self.lag() as u64);
        self.pass(due);
        let beat = NOTE.as_millis() as u64;
        let noted = Duration::from_millis(self.now.as_millis() as u64 / beat * beat);
        let note = self.notes.iter().rev().find(|note| note.0 <= noted).unwrap_or(&self.notes[0]);
        let gpu = match self.schedule {
            schedule if !schedule.has_gpu => Gpu::Absent,
            schedule if within(&schedule.no_gpu, self.now) => Gpu::Unreadable,
            schedule if within(&schedule.busy_gpu, self.now) => Gpu::Load(0.9),
            _ => Gpu::Load(0.0),
        };
        Observation { held: note.1, received: note.2, lag, gpu }
    }
}

/// Runs the worker to its end, or to the end of the schedule.
fn run(schedule: &Schedule, watchdog: &mut Watchdog) -> Course {
    let mut world = World::new(schedule);
    let interval = schedule.rules.check_interval;
    let longest =
        schedule.quiet_from().max(schedule.rules.min_runtime) + (schedule.rules.idle_limit + 3) * interval;
    let mut checks: Vec<(Duration, Observation)> = Vec::new();
    let mut due = interval;
    while due <= longest {
        let signal = schedule.signal.filter(|signal| *signal <= due);
        if let Some(signal) = signal {
            // The signal's drain is not the machine's: it hears nothing of its end, and there is no hook.
            drain(&mut world, signal);
            assert_eq!(world.held(), 0);
            return world.course;
        }
        let seen = world.observe(due);
        checks.push((due, seen));
        match watchdog.hear(Event::Check(seen), due) {
            Some(Action::Drain) => {
                assert_was_idle(&world, &checks);
                drain(&mut world, due);
                stop(&mut world, watchdog);
                return world.course;
            }
            None | Some(Action::Complain { .. }) => {}
            other => panic!("{other:?} while watching"),
        }
        due += interval;
    }
    world.course
}

fn drain(world: &mut World<'_>, at: Duration) {
    world.pass(at);
    world.course.drained_at = Some(at);
    world.draining = Some(at);
    // It is over when nothing is held and no pull is out.
    world.pass(at + PULL);
    while world.held() > 0 {
        let next = world.next_change().expect("what is held ends");
        world.pass(next);
    }
}

/// From the end of the drain on: nothing is in hand, whatever the machine does.
fn stop(world: &mut World<'_>, watchdog: &mut Watchdog) {
    let mut action = watchdog.hear(Event::Drained, world.now);
    loop {
        assert_eq!(world.held(), 0, "work in hand at {action:?}");
        // A job is done, or the queue has it.
        let lost = world.places.iter().filter(|place| matches!(place, Place::Here { .. })).count();
        assert_eq!(lost, 0);
        match action {
            Some(Action::RunHook { after }) => {
                world.pass(world.now + after);
                world.course.hook_runs += 1;
                let fails = world.course.hook_runs <= world.schedule.hook_failures;
                action = watchdog.hear(if fails { Event::HookFailed } else { Event::HookDone }, world.now);
            }
            Some(Action::End | Action::GiveUp) => {
                world.course.ended = action;
                return;
            }
            other => panic!("{other:?} after the drain"),
        }
    }
}

/// The checks that led to a drain were as many as they must be, all readable, all after the minimum run time; and from
/// the first of them to what the last could see there was no work anywhere.
fn assert_was_idle(world: &World<'_>, checks: &[(Duration, Observation)]) {
    let rules = &world.schedule.rules;
    let limit = rules.idle_limit as usize;
    let last = &checks[checks.len().checked_sub(limit).expect("enough checks")..];
    for (at, seen) in last {
        assert!(*at >= rules.min_runtime, "counted at {at:?}");
        assert_eq!(seen.lag, Some(0), "at {at:?}");
        assert!(matches!(seen.gpu, Gpu::Absent | Gpu::Load(0.0)), "{:?} at {at:?}", seen.gpu);
    }
    let (from, to) = (last[0].0, world.now.saturating_sub(NOTE + ANSWER));
    let worked = world.work.iter().find(|at| (from..to).contains(*at));
    assert_eq!(worked, None, "work between {from:?} and {to:?}");
}

fn times(most: usize, longest: u64) -> impl Strategy<Value = Vec<(Duration, Duration)>> {
    let window = (0..2_000_000_u64, 1..longest);
    let window = window.prop_map(|(at, long)| (Duration::from_millis(at), Duration::from_millis(at + long)));
    prop::collection::vec(window, 0..=most)
}

fn rules() -> impl Strategy<Value = Rules> {
    let tries = prop_oneof![Just(None), (1_u32..4).prop_map(Some)];
    (1_000_u64..120_000, 1_u32..6, 0_u64..900, tries).prop_map(|(interval, idle_limit, least, hook_tries)| {
        Rules {
            check_interval: Duration::from_millis(interval),
            idle_limit,
            min_runtime: Duration::from_secs(least),
            gpu_idle: Some(0.05),
            start_cost: None,
            hook_tries,
        }
    })
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let arrival = (0..1_500_000_u64, 1..200_000_u64, prop::bool::weighted(0.2));
    let arrival = arrival.prop_map(|(at, takes, elsewhere)| Arrival {
        at: Duration::from_millis(at),
        takes: Duration::from_millis(takes),
        elsewhere,
    });
    let signal = prop::option::weighted(0.1, (0..3_000_000_u64).prop_map(Duration::from_millis));
    let arrivals = prop::collection::vec(arrival, 0..24);
    let gpu = (any::<bool>(), times(2, 300_000), times(3, 100_000));
    (rules(), arrivals, times(3, 300_000), gpu, signal, 0_u32..5).prop_map(
        |(rules, arrivals, no_lag, (has_gpu, no_gpu, busy_gpu), signal, hook_failures)| Schedule {
            rules,
            arrivals,
            no_lag,
            no_gpu,
            busy_gpu,
            has_gpu,
            signal,
            hook_failures,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn no_worker_is_stopped_with_work_in_hand_and_every_idle_one_ends_within_the_limit(schedule in schedule()) {
        let rules = &schedule.rules;
        let mut watchdog = Watchdog::new(rules.clone(), Duration::ZERO);
        let course = run(&schedule, &mut watchdog);
        if schedule.signal.is_some() {
            return Ok(());
        }
        let limit = (rules.idle_limit + 1) * rules.check_interval;
        let latest = schedule.quiet_from().max(rules.min_runtime) + limit;
        let drained = course.drained_at.expect("an idle worker ends");
        prop_assert!(drained <= latest, "drained at {drained:?}, not by {latest:?}");
        let tries = rules.hook_tries.unwrap_or(0);
        let works = tries == 0 || schedule.hook_failures < tries;
        prop_assert_eq!(course.ended, Some(if works { Action::End } else { Action::GiveUp }));
        prop_assert_eq!(course.hook_runs, tries.min(schedule.hook_failures + 1));
    }
}

/// What the property would miss if its schedules were too tame: work that comes too late for the last check.
#[test]
fn jobs_that_come_after_the_last_look_are_finished_or_handed_back() {
    let rules = Rules {
        check_interval: Duration::from_millis(10_100),
        idle_limit: 2,
        min_runtime: Duration::ZERO,
        gpu_idle: None,
        start_cost: None,
        hook_tries: None,
    };
    let arrival = |at, takes| Arrival {
        at: Duration::from_millis(at),
        takes: Duration::from_millis(takes),
        elsewhere: false,
    };
    // The last check is at 20.2 s, asks for the lag at 20.1 s, and knows what was held at 20.0 s.
    let schedule = Schedule {
        rules: rules.clone(),
        arrivals: vec![arrival(20_150, 5_000), arrival(20_160, 500_000), arrival(21_000, 1_000)],
        no_lag: vec![],
        no_gpu: vec![],
        busy_gpu: vec![],
        has_gpu: false,
        signal: None,
        hook_failures: 0,
    };
    let course = run(&schedule, &mut Watchdog::new(rules, Duration::ZERO));
    assert_eq!(course.drained_at, Some(Duration::from_millis(20_200)));
    assert_eq!(course.finished_in_drain, 1);
    assert!(
        course.handed_back >= 2,
        "the one that outlasts the grace, and the one that a pull still brought"
    );
    assert_eq!(course.ended, Some(Action::End));
}
