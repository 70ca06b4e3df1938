//! What work will take: tokens times seconds per token, fitted to the steps the device really made.
//!
//! A step that fed `n` tokens and read the logits behind `r` of them is taken to last `a·n + b·r + c`. Reading costs
//! because the model's output layer, in a small model the greater part of it, runs only for the positions that are read:
//! one of each probe, every one of a generation. Both kinds of work are told apart by it without being named. The three
//! times are found by exponentially weighted recursive least squares in information form: the weighted sums `XᵀWX` and `XᵀWy`
//! decay by `FORGET` at each step, so that the fit follows a device that slows down when others use it.
//!
//! Three additions make it safe to run unattended:
//!
//! - Errors are relative. A step is weighted by `1 / expected²`, so that short generating steps count as much as
//!   long prefill steps; beyond `STALL` times what was expected by `1 / seen²`, so that a stall has no leverage.
//! - Each solution is held near the one before (a proximal term). Where steps do not tell times apart, or tell
//!   nothing of one, as when only prefill happens, they stay what they were instead of drifting.
//! - Times stay within `LEAST` and `MOST`: never negative, never zero, never absurd.

use serde::{Deserialize, Serialize};

use super::Seconds;

/// Weight of a step after one more step; about the last 200 count.
const FORGET: f64 = 0.995;
/// Weight of the earlier solution, as a share of what the steps know of each time.
const HOLD: f64 = 1e-4;
/// The same where the steps know nothing, in units of the starting times: only keeps the solution unique.
const HOLD_UNKNOWN: f64 = 1e-8;
/// A step that takes this many times what was expected begins to lose weight.
const STALL: f64 = 4.0;
/// Smallest times: per token fed, per position read, per step, in seconds.
const LEAST: Times = Times([1e-8, 1e-8, 1e-7]);
/// Greatest times, in the same order.
const MOST: Times = Times([10.0, 10.0, 10.0]);
/// A longer step tells of a machine asleep, not of its speed, in seconds.
const LONGEST_STEP: f64 = 600.0;

/// Kinds of devices, by what to expect of them before the first step. The values are starting points for models
/// of a few hundred million parameters and are replaced by the fit within some dozens of steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceClass {
    /// A few CPU cores: some 350 tokens per second, as measured with Gemma-3-270M Q8_0 on two.
    #[default]
    Cpu,
    /// A GPU that shares the machine's memory: an order of magnitude above; expected, not measured.
    IntegratedGpu,
    /// A GPU of its own: two orders of magnitude above, with launch overhead per step; expected, not measured.
    DiscreteGpu,
}

impl DeviceClass {
    /// The name in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::IntegratedGpu => "integrated_gpu",
            Self::DiscreteGpu => "discrete_gpu",
        }
    }

    const fn start(self) -> Times {
        match self {
            Self::Cpu => Times([2.5e-3, 4e-3, 2e-3]),
            Self::IntegratedGpu => Times([3e-4, 5e-4, 3e-3]),
            Self::DiscreteGpu => Times([2e-5, 4e-5, 3e-3]),
        }
    }
}

/// Tokens that work will put through the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Tokens to feed: prompts without what a pinned prefix already holds, and what is sampled.
    pub fed: u64,
    /// Positions whose logits are read: one of a probe, one for each sampled token.
    pub read: u64,
}

/// One step the device made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Tokens fed in it.
    pub fed: u32,
    /// Positions of them whose logits were read.
    pub read: u32,
    /// How long it took, in seconds.
    pub seconds: f64,
}

/// Seconds per token fed, per position read and per step.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Times([f64; 3]);

impl Times {
    fn of(self, tokens: Tokens) -> f64 {
        self.0[0] * tokens.fed as f64 + self.0[1] * tokens.read as f64 + self.0[2]
    }
}

/// Turns token counts into seconds on this device.
#[derive(Debug, Clone)]
pub struct CostModel {
    times: Times,
    /// Starting times: the units in which the fit is solved, so that all unknowns are of like size.
    units: Times,
    /// `XᵀWX`.
    squares: [[f64; 3]; 3],
    /// `XᵀWy`.
    products: [f64; 3],
    steps: u64,
}

impl CostModel {
    /// Before the first step.
    pub const fn new(class: DeviceClass) -> Self {
        Self {
            times: class.start(),
            units: class.start(),
            squares: [[0.0; 3]; 3],
            products: [0.0; 3],
            steps: 0,
        }
    }

    /// What one step with these tokens will take. Grows with either count.
    pub fn step(&self, tokens: Tokens) -> Seconds {
        Seconds::new(self.times.of(tokens))
    }

    /// What work will take that shares its steps with other work: its tokens, and of the overhead of steps the part
    /// that falls to it, by the positions that it has read. Grows with either count.
    pub fn estimate(&self, tokens: Tokens) -> Seconds {
        let [per_token, per_read, per_step] = self.times.0;
        let (fed, read) = (tokens.fed as f64, tokens.read as f64);
        Seconds::new(per_token * fed + per_read * read + per_step * (read / self.reads_per_step()).max(1.0))
    }

    /// Positions read in a step, at the mean of those the fit rests on; 1 before the first.
    fn reads_per_step(&self) -> f64 {
        let mean = self.squares[1][2] / self.squares[2][2];
        if mean > 1.0 { mean } else { 1.0 }
    }

    /// Seconds per token fed.
    pub const fn per_fed_token(&self) -> Seconds {
        Seconds(self.times.0[0])
    }

    /// Seconds per position read.
    pub const fn per_read_position(&self) -> Seconds {
        Seconds(self.times.0[1])
    }

    /// Seconds of overhead per step.
    pub const fn per_step(&self) -> Seconds {
        Seconds(self.times.0[2])
    }

    /// Steps the fit rests on.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// Learns from a step. A step without tokens, or with a time that no step takes, is ignored and answered
    /// with `false`.
    pub fn observe(&mut self, step: Step) -> bool {
        let tokens = Tokens { fed: step.fed.into(), read: step.read.into() };
        let plausible = step.seconds > 0.0 && step.seconds <= LONGEST_STEP;
        if !plausible || tokens == Tokens::default() {
            return false;
        }
        let row = [tokens.fed as f64, tokens.read as f64, 1.0];
        let weight = self.times.of(tokens).max(step.seconds / STALL).powi(-2);
        for i in 0..3 {
            self.products[i] = FORGET * self.products[i] + weight * row[i] * step.seconds;
            for j in 0..3 {
                self.squares[i][j] = FORGET * self.squares[i][j] + weight * row[i] * row[j];
            }
        }
        self.times = self.fitted();
        self.steps += 1;
        true
    }

    /// The times that fit the steps best, near the present ones and within bounds.
    ///
    /// In units of the starting times: least `φᵀSφ − 2pᵀφ + Σ hᵢ(φᵢ − nowᵢ)²`, which is strictly convex, so the
    /// lowest of the stationary points over all choices of coordinates fixed at a bound is the minimum.
    fn fitted(&self) -> Times {
        let unit = self.units.0;
        let mut hessian = [[0.0; 3]; 3];
        let mut gradient = [0.0; 3];
        for i in 0..3 {
            for j in 0..3 {
                hessian[i][j] = self.squares[i][j] * unit[i] * unit[j];
            }
            let hold = HOLD * hessian[i][i] + HOLD_UNKNOWN;
            hessian[i][i] += hold;
            gradient[i] = self.products[i] * unit[i] + hold * self.times.0[i] / unit[i];
        }
        let bounds = |i: usize| [None, Some(LEAST.0[i] / unit[i]), Some(MOST.0[i] / unit[i])];
        let allowed = |i: usize, x: f64| (LEAST.0[i]..=MOST.0[i]).contains(&(x * unit[i]));
        let mut best: Option<(f64, [f64; 3])> = None;
        for choice in 0..27 {
            let fixed = [bounds(0)[choice % 3], bounds(1)[choice / 3 % 3], bounds(2)[choice / 9]];
            let Some(point) = stationary(&hessian, &gradient, fixed) else { continue };
            if !(0..3).all(|i| fixed[i].is_some() || allowed(i, point[i])) {
                continue;
            }
            let value = objective(&hessian, &gradient, point);
            if best.is_none_or(|(least, _)| value < least) {
                best = Some((value, point));
            }
            if choice == 0 {
                break; // the free minimum is allowed, so no other point is lower
            }
        }
        // Some choice is always solvable (all three fixed is), unless sums overflowed: then nothing was learnt.
        let Some((_, point)) = best else { return self.times };
        let within = |i: usize| (point[i] * unit[i]).clamp(LEAST.0[i], MOST.0[i]);
        Times([within(0), within(1), within(2)])
    }
}

/// `φᵀHφ − 2gᵀφ`.
fn objective(hessian: &[[f64; 3]; 3], gradient: &[f64; 3], point: [f64; 3]) -> f64 {
    (0..3)
        .map(|i| {
            let row: f64 = (0..3).map(|j| hessian[i][j] * point[j]).sum();
            point[i] * (row - 2.0 * gradient[i])
        })
        .sum()
}

/// The stationary point with some coordinates fixed: `Hφ = g` in the others, by elimination with pivots.
fn stationary(hessian: &[[f64; 3]; 3], gradient: &[f64; 3], fixed: [Option<f64>; 3]) -> Option<[f64; 3]> {
    let mut rows = [[0.0; 4]; 3];
    for i in 0..3 {
        if let Some(value) = fixed[i] {
            rows[i][i] = 1.0;
            rows[i][3] = value;
        } else {
            rows[i][..3].copy_from_slice(&hessian[i]);
            rows[i][3] = gradient[i];
        }
    }
    for column in 0..3 {
        let pivot = (column..3).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        let head = rows[column];
        for row in rows.iter_mut().enumerate().filter(|(i, _)| *i != column).map(|(_, row)| row) {
            let factor = row[column] / head[column];
            for (cell, top) in row.iter_mut().zip(head) {
                *cell -= factor * top;
            }
        }
    }
    let point = [rows[0][3] / rows[0][0], rows[1][3] / rows[1][1], rows[2][3] / rows[2][2]];
    point.iter().all(|x| x.is_finite()).then_some(point)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const CLASSES: [DeviceClass; 3] =
        [DeviceClass::Cpu, DeviceClass::IntegratedGpu, DeviceClass::DiscreteGpu];

    fn step(fed: u32, read: u32, seconds: f64) -> Step {
        Step { fed, read, seconds }
    }

    /// Steps as they may come: with nothing read, with hardly more than what is read, with both.
    fn shapes() -> impl Strategy<Value = Vec<(u32, u32)>> {
        let shape = prop_oneof![(1_u32..512, Just(0)), (Just(0), 1_u32..16), (1_u32..512, 1_u32..16)];
        prop::collection::vec(shape, 300)
    }

    fn close(estimate: Seconds, truth: f64, tolerance: f64) -> bool {
        (estimate.get() - truth).abs() <= tolerance * truth
    }

    #[rstest]
    #[case::no_time(step(10, 0, 0.0))]
    #[case::backwards(step(10, 0, -1.0))]
    #[case::no_number(step(10, 0, f64::NAN))]
    #[case::for_ever(step(10, 0, f64::INFINITY))]
    #[case::asleep(step(10, 0, 3600.0))]
    #[case::no_tokens(step(0, 0, 0.1))]
    fn an_absurd_step_teaches_nothing(#[case] absurd: Step) {
        let mut model = CostModel::new(DeviceClass::Cpu);
        let before = model.step(Tokens { fed: 100, read: 10 });
        assert!(!model.observe(absurd));
        assert_eq!((model.step(Tokens { fed: 100, read: 10 }), model.steps()), (before, 0));
    }

    #[test]
    fn what_steps_do_not_tell_stays_as_it_was() {
        let mut model = CostModel::new(DeviceClass::Cpu);
        let before = model.per_read_position();
        for n in 0..500 {
            assert!(model.observe(step(50 + n % 200, 0, f64::from(50 + n % 200) * 1e-3)));
        }
        assert!((model.per_read_position().get() / before.get() - 1.0).abs() < 1e-6);
        assert!(close(model.step(Tokens { fed: 120, read: 0 }), 0.12, 0.02));
    }

    #[test]
    fn the_fit_follows_a_device_that_slows_down() {
        let mut model = CostModel::new(DeviceClass::Cpu);
        let work = Tokens { fed: 256, read: 0 };
        for (speed, _) in [(1e-3, 0), (4e-3, 0)].iter().flat_map(|phase| std::iter::repeat_n(phase, 1500)) {
            model.observe(step(256, 0, 256.0 * speed));
        }
        assert!(close(model.step(work), 256.0 * 4e-3, 0.02), "{:?}", model.step(work));
    }

    #[test]
    fn work_pays_for_as_many_steps_as_it_fills() {
        // All steps are alike, so that the fit cannot tell what of their time is overhead: it must not matter.
        let mut model = CostModel::new(DeviceClass::Cpu);
        for _ in 0..1000 {
            model.observe(step(240, 16, 0.5));
        }
        let work = model.estimate(Tokens { fed: 2400, read: 160 });
        assert!(close(work, 5.0, 0.02), "{work:?}");
    }

    #[test]
    fn a_single_stall_hardly_moves_the_estimate() {
        let mut model = CostModel::new(DeviceClass::Cpu);
        for n in 0..300_u32 {
            model.observe(step(
                10 + n % 100,
                n % 7,
                f64::from(10 + n % 100) * 3e-3 + f64::from(n % 7) * 8e-3 + 1e-3,
            ));
        }
        let work = Tokens { fed: 60, read: 3 };
        let before = model.step(work).get();
        model.observe(step(60, 3, 120.0));
        assert!(close(model.step(work), before, 0.05), "{before} {:?}", model.step(work));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_fit_converges_from_any_start(
            shapes in shapes(),
            prefill in -5.0..-1.5_f64, generate in -4.0..-1.0_f64, overhead in -4.0..-2.0_f64,
            class in prop::sample::select(CLASSES.to_vec()),
        ) {
            let truth = Times([prefill, generate, overhead].map(|exponent| 10_f64.powf(exponent)));
            let mut model = CostModel::new(class);
            let of = |p: u32, g: u32| truth.of(Tokens { fed: p.into(), read: g.into() });
            for &(p, g) in &shapes {
                prop_assert!(model.observe(step(p, g, of(p, g))));
            }
            for (p, g) in [(300, 0), (0, 8), (200, 8)] {
                let estimate = model.step(Tokens { fed: p.into(), read: g.into() });
                prop_assert!(close(estimate, of(p, g), 0.03), "{p} {g}: {estimate:?} for {}", of(p, g));
            }
        }

        #[test]
        fn noise_averages_out(shapes in shapes(), noise in prop::collection::vec(0.8..1.2_f64, 300)) {
            let truth = Times([2e-3, 1e-2, 3e-3]);
            let mut model = CostModel::new(DeviceClass::DiscreteGpu);
            for (&(p, g), factor) in shapes.iter().zip(noise) {
                let seconds = truth.of(Tokens { fed: p.into(), read: g.into() }) * factor;
                model.observe(step(p, g, seconds));
            }
            for tokens in [Tokens { fed: 250, read: 0 }, Tokens { fed: 100, read: 8 }] {
                prop_assert!(close(model.step(tokens), truth.of(tokens), 0.1));
            }
        }

        #[test]
        fn no_history_makes_a_time_negative_absurd_or_an_estimate_shrink_with_tokens(
            steps in prop::collection::vec((any::<u32>(), any::<u32>(), prop_oneof![any::<f64>(), 0.0..700.0_f64]), 0..60),
            class in prop::sample::select(CLASSES.to_vec()),
        ) {
            let mut model = CostModel::new(class);
            for (p, g, seconds) in steps {
                model.observe(step(p, g, seconds));
            }
            for i in 0..3 {
                prop_assert!((LEAST.0[i]..=MOST.0[i]).contains(&model.times.0[i]), "{:?}", model.times);
            }
            let (step, work) = (|fed, read| model.step(Tokens { fed, read }), |fed, read| model.estimate(Tokens { fed, read }));
            prop_assert!(step(10, 10) < step(11, 10) && step(10, 10) < step(10, 11));
            prop_assert!(work(10, 10) < work(11, 10) && work(10, 10) < work(10, 11));
            prop_assert!(step(u64::MAX, u64::MAX) == Seconds::MAX && work(u64::MAX, u64::MAX) == Seconds::MAX);
        }
    }
}
