//! Axes: where a value lies, and which values are named. Pure.

/// A value's way onto an axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scale {
    /// Even steps.
    Linear {
        /// Value at the low end.
        low: f64,
        /// Value at the high end.
        high: f64,
    },
    /// Even ratios.
    Log {
        /// Value at the low end, above 0.
        low: f64,
        /// Value at the high end.
        high: f64,
    },
}

/// A named place on an axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Tick {
    /// Where.
    pub value: f64,
    /// Its name.
    pub label: String,
}

impl Scale {
    /// Even steps from 0 to a round value not below `most`.
    pub fn from_zero(most: f64) -> Self {
        let step = round_step(most);
        let high = (most / step).ceil().max(1.0) * step;
        Self::Linear { low: 0.0, high }
    }

    /// Even steps around the values, from and to round ones.
    pub fn around(least: f64, most: f64) -> Self {
        let step = round_step(most - least);
        let (low, high) = ((least / step).floor() * step, (most / step).ceil() * step);
        Self::Linear { low, high: high.max(low + step) }
    }

    /// Even ratios from and to 1, 2 or 5 times a power of ten. `least` is above 0.
    pub fn log(least: f64, most: f64) -> Self {
        let low = grid(least).rev().find(|value| *value <= least * (1.0 + 1e-9)).unwrap_or(least);
        let high = grid(most).find(|value| *value >= most * (1.0 - 1e-9)).unwrap_or(most);
        Self::Log { low, high: if high > low { high } else { low * 10.0 } }
    }

    /// 0 at the low end, 1 at the high one; values beyond lie at the ends.
    pub fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear { low, high } => (value - low) / (high - low),
            Self::Log { low, high } => (value.max(low) / low).ln() / (high / low).ln(),
        };
        place.clamp(0.0, 1.0)
    }

    /// What is named on the axis.
    pub fn ticks(self) -> Vec<Tick> {
        let named = |value: f64| Tick { value, label: label(value) };
        match self {
            Self::Linear { low, high } => {
                let step = round_step(high - low);
                let count = ((high - low) / step).round() as u32;
                (0..=count).map(|n| named(low + f64::from(n) * step)).collect()
            }
            Self::Log { low, high } => {
                let decades = (high / low).log10();
                let within = grid(low).chain(grid(high)).filter(|v| *v >= low * 0.999 && *v <= high * 1.001);
                let mut values: Vec<f64> = within.collect();
                for decade in (low.log10().floor() as i32)..=(high.log10().ceil() as i32) {
                    values.extend(
                        grid(10_f64.powi(decade)).filter(|v| *v >= low * 0.999 && *v <= high * 1.001),
                    );
                }
                values.sort_by(f64::total_cmp);
                values.dedup_by(|a, b| (*a / *b - 1.0).abs() < 1e-6);
                // More than three decades: powers of ten alone.
                let is_power = |value: &f64| (value.log10() - value.log10().round()).abs() < 1e-6;
                values.retain(|value| decades <= 2.5 || is_power(value));
                values.into_iter().map(named).collect()
            }
        }
    }
}

/// 1, 2 and 5 times the powers of ten around a value, rising.
fn grid(around: f64) -> impl DoubleEndedIterator<Item = f64> {
    let power = around.log10().floor() as i32;
    (power - 1..=power + 1).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)))
}

/// A step of 1, 2 or 5 times a power of ten that gives 4 to 8 of them.
fn round_step(span: f64) -> f64 {
    let rough = if span > 0.0 { span / 5.0 } else { 0.2 };
    let nearest = grid(rough).min_by(|a, b| (a / rough).ln().abs().total_cmp(&(b / rough).ln().abs()));
    nearest.unwrap_or(rough)
}

/// As short as it can be said.
fn label(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    let text = format!("{rounded}");
    if text == "-0" { "0".into() } else { text }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn axes_hold_their_values_and_name_a_few(least in 1e-3..1e4_f64, factor in 1.0..1e4_f64) {
            let most = least * factor;
            for scale in [Scale::from_zero(most), Scale::around(least, most), Scale::log(least, most)] {
                let (Scale::Linear { low, high } | Scale::Log { low, high }) = scale;
                prop_assert!(low <= least * (1.0 + 1e-6) && high >= most * (1.0 - 1e-6), "{scale:?}");
                let places: Vec<f64> = scale.ticks().iter().map(|tick| scale.place(tick.value)).collect();
                prop_assert!((2..=14).contains(&places.len()), "{:?}", scale.ticks());
                prop_assert!(places.is_sorted_by(|a, b| a < b), "{:?}", scale.ticks());
            }
        }
    }

    #[test]
    fn ticks_are_round_and_shortly_named() {
        let labels = |scale: Scale| scale.ticks().into_iter().map(|tick| tick.label).collect::<Vec<_>>();
        assert_eq!(labels(Scale::from_zero(0.97)), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(labels(Scale::log(0.3, 18.0)), ["0.2", "0.5", "1", "2", "5", "10", "20"]);
        assert_eq!(labels(Scale::log(0.3, 900.0)), ["1", "10", "100", "1000"]);
    }
}
