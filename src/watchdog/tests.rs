use rstest::rstest;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);

fn rules() -> Rules {
    Rules {
        check_interval: MINUTE,
        idle_limit: 3,
        min_runtime: 10 * MINUTE,
        gpu_idle: Some(0.05),
        start_cost: None,
        hook_tries: Some(3),
    }
}

fn quiet() -> Observation {
    Observation { held: 0, received: 0, lag: Some(0), gpu: Gpu::Absent }
}

/// A worker of these rules, and the minute that it is in.
struct Day {
    watchdog: Watchdog,
    minute: u32,
}

impl Day {
    fn begin(rules: Rules) -> Self {
        Self { watchdog: Watchdog::new(rules, Duration::from_secs(20)), minute: 0 }
    }

    /// One whose minimum run time is over.
    fn later() -> Self {
        Self { minute: 10, ..Self::begin(rules()) }
    }

    fn check(&mut self, seen: Observation) -> Option<Action> {
        self.minute += 1;
        self.watchdog.hear(Event::Check(seen), self.minute * MINUTE)
    }

    fn hear(&mut self, event: Event) -> Option<Action> {
        self.watchdog.hear(event, self.minute * MINUTE)
    }

    /// Idle checks until it drains.
    fn checks_until_drain(&mut self, seen: Observation) -> u32 {
        (1..10_000).find(|_| self.check(seen) == Some(Action::Drain)).expect("it drains")
    }
}

#[test]
fn an_idle_worker_drains_at_the_limit_and_not_before() {
    let mut day = Day::later();
    assert_eq!([day.check(quiet()), day.check(quiet())], [None, None]);
    assert_eq!(day.watchdog.idle_checks(), 2);
    assert_eq!(day.check(quiet()), Some(Action::Drain));
    assert_eq!(day.check(quiet()), None, "once");
}

#[test]
fn checks_within_the_minimum_run_time_do_not_count() {
    let mut day = Day::begin(rules());
    for _ in 1..10 {
        assert_eq!(day.check(quiet()), None);
        assert_eq!(day.watchdog.idle_checks(), 0);
    }
    assert_eq!(day.checks_until_drain(quiet()), 3, "the tenth minute is the first that counts");
}

#[rstest]
#[case::a_job_in_hand(Observation { held: 1, ..quiet() })]
#[case::a_job_that_waits_or_is_in_flight(Observation { lag: Some(1), ..quiet() })]
#[case::a_job_taken_since_the_last_check(Observation { received: 1, ..quiet() })]
#[case::a_gpu_at_work(Observation { gpu: Gpu::Load(0.05), ..quiet() })]
#[case::a_job_in_hand_while_nothing_can_be_read(Observation { held: 1, lag: None, gpu: Gpu::Unreadable, ..quiet() })]
fn work_begins_the_count_anew(#[case] work: Observation) {
    let mut day = Day::later();
    day.check(quiet());
    day.check(quiet());
    assert_eq!(day.check(work), None);
    assert_eq!((day.watchdog.idle_checks(), day.watchdog.unreadable_checks()), (0, 0));
    // What was taken stays taken.
    assert_eq!(day.checks_until_drain(Observation { received: work.received, ..quiet() }), 3);
}

#[rstest]
#[case::nats_is_away(Observation { lag: None, ..quiet() })]
#[case::the_gpu_does_not_answer(Observation { gpu: Gpu::Unreadable, ..quiet() })]
#[case::neither(Observation { lag: None, gpu: Gpu::Unreadable, ..quiet() })]
fn what_cannot_be_read_is_not_idle_and_is_counted(#[case] blind: Observation) {
    let mut day = Day::later();
    day.check(quiet());
    day.check(quiet());
    assert_eq!(day.check(blind), None);
    assert_eq!((day.watchdog.idle_checks(), day.watchdog.unreadable_checks()), (0, 1));
    assert_eq!(day.checks_until_drain(quiet()), 3);
}

#[test]
fn a_worker_that_nobody_can_judge_is_never_stopped_and_not_passed_over_in_silence() {
    let mut day = Day::later();
    let blind = Observation { lag: None, ..quiet() };
    let said: Vec<_> = (0..7).map(|_| day.check(blind)).collect();
    let complaint = |checks| Some(Action::Complain { checks });
    assert_eq!(said, [None, None, complaint(3), None, None, complaint(6), None]);
    assert_eq!(day.watchdog.unreadable_checks(), 7);
    day.check(quiet());
    assert_eq!(day.check(blind), None, "a check that could be read ends the row");
}

#[rstest]
#[case::idle_below_the_share(Gpu::Load(0.049), Some(0.05), true)]
#[case::at_the_share(Gpu::Load(0.05), Some(0.05), false)]
#[case::not_asked(Gpu::Load(1.0), None, true)]
#[case::unreadable_but_not_asked(Gpu::Unreadable, None, true)]
#[case::none(Gpu::Absent, Some(0.05), true)]
fn a_gpu_counts_where_there_is_one_and_it_is_asked(
    #[case] gpu: Gpu,
    #[case] gpu_idle: Option<f64>,
    #[case] idle: bool,
) {
    let mut day = Day { minute: 10, ..Day::begin(Rules { gpu_idle, ..rules() }) };
    day.check(Observation { gpu, ..quiet() });
    assert_eq!(day.watchdog.idle_checks() == 1, idle);
}

#[test]
fn what_comes_while_it_drains_is_the_drain_s_matter() {
    let mut day = Day::later();
    day.checks_until_drain(quiet());
    let work = Observation { held: 2, received: 2, lag: Some(5), ..quiet() };
    assert_eq!(day.check(work), None, "no second drain, no stop in mid-job");
    assert_eq!([day.hear(Event::HookDone), day.hear(Event::HookFailed)], [None, None], "no hook was run");
    assert_eq!(day.hear(Event::Drained), Some(Action::RunHook { after: Duration::ZERO }));
    assert_eq!(day.hear(Event::Drained), None, "one hook");
    assert_eq!(day.hear(Event::HookDone), Some(Action::End));
}

#[test]
fn nothing_but_a_drain_leads_to_the_hook() {
    let mut day = Day::later();
    for event in [Event::Drained, Event::HookDone, Event::HookFailed] {
        assert_eq!(day.hear(event), None);
    }
    assert_eq!(day.checks_until_drain(quiet()), 3, "and nothing was disturbed");
}

#[test]
fn without_a_hook_the_end_of_the_drain_is_the_end() {
    let mut day = Day { minute: 10, ..Day::begin(Rules { hook_tries: None, ..rules() }) };
    day.checks_until_drain(quiet());
    assert_eq!(day.hear(Event::Drained), Some(Action::End));
    assert_eq!(day.check(quiet()), None);
}

#[test]
fn a_hook_that_fails_is_tried_again_ever_later_and_then_given_up() {
    let tries = 8;
    let mut day = Day { minute: 10, ..Day::begin(Rules { hook_tries: Some(tries), ..rules() }) };
    day.checks_until_drain(quiet());
    day.hear(Event::Drained);
    let mut pauses = Vec::new();
    let last = loop {
        match day.hear(Event::HookFailed) {
            Some(Action::RunHook { after }) => pauses.push(after.as_secs()),
            other => break other,
        }
    };
    assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(last, Some(Action::GiveUp));
    assert_eq!(day.hear(Event::HookFailed), None);
}

#[test]
fn a_hook_that_works_at_the_second_try_is_done() {
    let mut day = Day::later();
    day.checks_until_drain(quiet());
    day.hear(Event::Drained);
    day.hear(Event::HookFailed);
    assert_eq!(day.hear(Event::HookDone), Some(Action::End));
}

/// With a start of 20 s and 280 s on top: five minutes.
fn adaptive() -> Day {
    let start_cost = Some(Duration::from_secs(280));
    Day { minute: 10, ..Day::begin(Rules { start_cost, ..rules() }) }
}

#[test]
fn an_adaptive_limit_is_as_long_as_a_start_is_worth() {
    assert_eq!(adaptive().checks_until_drain(quiet()), 5);
    let cheap = Rules { start_cost: Some(Duration::from_secs(1)), ..rules() };
    let mut day = Day { minute: 10, ..Day::begin(cheap) };
    assert_eq!(day.checks_until_drain(quiet()), 2, "one check alone may fall between two jobs");
}

#[rstest]
#[case::longer_ones_that_are_worth_waiting_for(7, 7)]
#[case::ones_that_are_not(60, 3)]
#[case::short_ones(1, 5)]
fn an_adaptive_limit_goes_by_the_pauses_that_are_known(#[case] minutes: u32, #[case] limit: u32) {
    let day = adaptive();
    assert_eq!(day.watchdog.with_gaps([minutes * MINUTE; 8]).limit(), limit);
}

#[test]
fn a_pause_is_remembered_if_both_its_ends_were_seen() {
    let mut day = Day { minute: 10, ..adaptive() };
    for received in 1..=9 {
        let job = Observation { received, ..quiet() };
        day.check(job);
        for _ in 0..3 {
            assert_eq!(day.check(job), None);
        }
    }
    assert_eq!(day.watchdog.gaps, [4 * MINUTE; 8]);
    for received in 10..=12 {
        let before = Observation { received: received - 1, ..quiet() };
        day.check(Observation { lag: None, ..before });
        day.check(before);
        day.check(Observation { received, ..quiet() });
    }
    // In the dark a job may have come and gone: how long those were nobody knows.
    assert_eq!(day.watchdog.gaps, [4 * MINUTE; 8]);
}
