use std::path::PathBuf;

use proptest::prelude::*;

use super::canvas::colour;
use super::*;

const HEADING: Heading = Heading { title: "A title", note: "simulated, seed 7" };

/// Draws into a folder of its own and returns the text of the picture.
fn drawn(draw: impl FnOnce(&Path) -> anyhow::Result<()>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deeper/plot.svg");
    draw(&path).unwrap();
    std::fs::read_to_string(path).unwrap()
}

fn refused(draw: impl FnOnce(&Path) -> anyhow::Result<()>) -> String {
    let path = PathBuf::from("never-written.svg");
    let error = draw(&path).unwrap_err().to_string();
    assert!(!path.exists());
    error
}

/// How many lines, or parts of broken ones, of the n-th colour there are.
fn lines(svg: &str, n: usize) -> usize {
    let colour = colour(n);
    let name = format!("#{:02X}{:02X}{:02X}", colour.0, colour.1, colour.2);
    svg.lines()
        .filter(|line| {
            line.contains("<polyline") && line.contains(&name) && line.contains("stroke-width=\"2\"")
        })
        .count()
}

fn series(label: &str, points: &[(f64, f64)]) -> Series {
    Series { label: label.into(), points: points.to_vec() }
}

fn distribution(label: &str) -> Distribution {
    let ttfts = vec![(Size::Small, vec![0.5, 1.0, 40.0]), (Size::Large, vec![3.0, 80.0])];
    Distribution { label: label.into(), ttfts }
}

fn timeline(label: &str) -> Timeline {
    let moment = |at| Occupancy { at, waiting: at / 2.0, busy: 9.0 };
    Timeline { label: label.into(), moments: [1.0, 2.0, 30.0].map(moment).into() }
}

#[test]
fn distributions_have_a_panel_for_each_size_and_a_line_for_each_run() {
    let svg =
        drawn(|path| ttft_distribution(HEADING, &[distribution("fifo"), distribution("λ = 5")], 2.0, path));
    for label in [
        "A title",
        "simulated, seed 7",
        "fifo",
        "λ = 5",
        "small jobs",
        "large jobs",
        "jobs answered by then, %",
    ] {
        assert!(svg.contains(label), "{label}");
    }
    assert!(!svg.contains("medium jobs"), "there are none");
    assert_eq!((lines(&svg, 0), lines(&svg, 1), lines(&svg, 2)), (2, 2, 0));
    assert!(svg.contains("2 s, the service level"));
}

#[test]
fn a_queue_is_drawn_above_the_slots() {
    let svg = drawn(|path| queue_over_time(HEADING, &[timeline("fifo"), timeline("ours")], 14.0, path));
    for label in ["fifo", "ours", "Queue depth", "Slots in use", "jobs waiting", "sequences", ", s"] {
        assert!(svg.contains(label), "{label}");
    }
    assert_eq!((lines(&svg, 0), lines(&svg, 1)), (2, 2));
}

#[test]
fn goodput_and_weights_have_as_many_lines_as_series() {
    let three = [
        series("one", &[(0.5, 0.1), (1.2, 0.2)]),
        series("two", &[(0.5, 0.2)]),
        series("three", &[(0.7, 0.2), (0.9, 0.4)]),
    ];
    let goodput = drawn(|path| goodput_against_load(HEADING, &three, path));
    let weights = drawn(|path| ttft_against_lambda(HEADING, &three, &[("fifo's median".into(), 50.0)], path));
    for svg in [&goodput, &weights] {
        for (n, one) in three.iter().enumerate() {
            assert!(svg.contains(&one.label));
            // The third is broken.
            assert!(if n < 2 { lines(svg, n) == 1 } else { lines(svg, n) > 1 }, "{n}");
        }
    }
    assert!(goodput.contains("offered load") && goodput.contains("jobs/s"));
    assert!(weights.contains("fifo&apos;s median") || weights.contains("fifo's median"));
}

#[test]
fn nothing_to_plot_is_an_error_that_says_what_is_missing() {
    let empty = Distribution { label: "fifo".into(), ttfts: vec![(Size::Small, vec![])] };
    let no_moments = Timeline { label: "fifo".into(), moments: vec![] };
    let two = [series("one", &[(1.0, 1.0)]), series("hollow", &[])];
    let cases = [
        (refused(|path| ttft_distribution(HEADING, &[], 2.0, path)), "no run has a time"),
        (
            refused(|path| ttft_distribution(HEADING, &[distribution("a"), empty.clone()], 2.0, path)),
            "`fifo` has no",
        ),
        (refused(|path| queue_over_time(HEADING, &[], 14.0, path)), "no runs"),
        (
            refused(|path| queue_over_time(HEADING, std::slice::from_ref(&no_moments), 14.0, path)),
            "`fifo` has fewer",
        ),
        (refused(|path| goodput_against_load(HEADING, &[], path)), "no series"),
        (refused(|path| goodput_against_load(HEADING, &two, path)), "`hollow` has no points"),
        (refused(|path| ttft_against_lambda(HEADING, &two, &[], path)), "`hollow` has no points"),
        (refused(|path| ttft_against_lambda(HEADING, &[series("x", &[(0.0, 1.0)])], &[], path)), "above 0"),
        (refused(|path| goodput_against_load(HEADING, &[series("x", &[(f64::NAN, 1.0)])], path)), "NaN"),
    ];
    for (error, says) in cases {
        assert!(error.contains("A title") && error.contains(says), "{error}");
    }
}

proptest! {
    #[test]
    fn any_numbers_can_be_drawn(points in prop::collection::vec((1e-9..1e9_f64, 1e-9..1e9_f64), 1..20)) {
        let one = [series("one", &points)];
        drawn(|path| goodput_against_load(HEADING, &one, path));
        drawn(|path| ttft_against_lambda(HEADING, &one, &[], path));
    }

    #[test]
    fn time_is_conserved_when_moments_are_put_into_buckets(
        gaps in prop::collection::vec((0.0..5.0_f64, 0.0..20.0_f64), 2..80),
    ) {
        let mut at = 0.0;
        let moments: Vec<Occupancy> = gaps.iter().map(|&(gap, busy)| {
            at += gap;
            Occupancy { at, waiting: 0.0, busy }
        }).collect();
        prop_assume!(at > 0.1);
        let area: f64 = gaps.iter().map(|(gap, busy)| gap * busy).sum();
        let drawn: f64 = over_time(&moments, at, |moment| moment.busy).iter().map(|(_, mean)| mean * at / BUCKETS as f64).sum();
        prop_assert!((area - drawn).abs() <= 1e-6 * (1.0 + area), "{area} {drawn}");
    }
}

fn fleet(label: &str, workers: &[f64]) -> FleetOverDay {
    let moment = |(n, &workers): (usize, &f64)| Moment { hour: n as f64, workers, lag: 3.0 * workers };
    FleetOverDay { label: label.into(), moments: workers.iter().enumerate().map(moment).collect() }
}

#[test]
fn fleets_have_a_line_for_workers_and_one_for_lag() {
    let fleets = [fleet("fixed 2", &[2.0, 2.0, 2.0]), fleet("KEDA", &[0.0, 3.0, 1.0])];
    let svg = drawn(|path| fleets_over_day(HEADING, &fleets, path));
    for label in ["fixed 2", "KEDA", "hour of the day", "workers", "simulated, seed 7"] {
        assert!(svg.contains(label), "{label}");
    }
    assert_eq!(lines(&svg, 0), 2);
    assert_eq!(lines(&svg, 1), 2);
    let none = refused(|path| fleets_over_day(HEADING, &[], path));
    assert!(none.contains("no fleets"), "{none}");
    let short = refused(|path| fleets_over_day(HEADING, &[fleet("short", &[1.0])], path));
    assert!(short.contains("fewer than two moments"), "{short}");
}

#[test]
fn what_a_day_costs_has_a_dot_for_each_fleet() {
    let all = [series("fixed", &[(24.0, 40.0), (48.0, 90.0)]), series("KEDA", &[(30.0, 85.0)])];
    let svg = drawn(|path| compliance_against_cost(HEADING, &all, path));
    assert_eq!(svg.matches("<circle").count(), 3);
    assert!(svg.contains("worker hours a day") && svg.contains("jobs in time, %"));
    let none = refused(|path| compliance_against_cost(HEADING, &[series("empty", &[])], path));
    assert!(none.contains("`empty` has no points"), "{none}");
}
