//! Who says how many workers there are.

use anyhow::bail;
use serde::{Deserialize, Serialize};

use super::scaler::Rules;

/// How a fleet is sized.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// So many, always.
    Fixed(u32),
    /// KEDA and the HPA.
    Keda(Rules),
    /// Workers are started as KEDA would start them, and each leaves by itself when it has been idle: rented machines
    /// with the watchdog.
    Watchdog {
        /// When they are started.
        up: Rules,
        /// When they leave.
        idle: Idle,
    },
}

/// The watchdog's rules: `[watchdog]` of the settings. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Idle {
    /// Between checks (`check_interval`).
    pub interval: f64,
    /// Idle checks in a row after which a worker leaves (`idle_limit`).
    pub checks: u32,
    /// Checks before this age do not count (`min_runtime`).
    pub min_runtime: f64,
}

impl Default for Idle {
    fn default() -> Self {
        Self { interval: 60.0, checks: 5, min_runtime: 600.0 }
    }
}

impl Idle {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if !(self.interval > 0.0 && self.interval.is_finite() && self.min_runtime >= 0.0) || self.checks == 0
        {
            bail!("the watchdog checks every so many seconds, and one idle check is the least limit");
        }
        Ok(())
    }
}

impl Policy {
    /// As in tables and plots. `usual`: what is not said.
    pub fn name(self, usual: Rules) -> String {
        match self {
            Self::Fixed(workers) => format!("fixed {workers}"),
            Self::Keda(rules) => {
                let mut name = format!("KEDA, {} jobs a worker", rules.lag_per_worker);
                if rules.cooldown.total_cmp(&usual.cooldown).is_ne() {
                    name += &format!(", cooldown {} s", rules.cooldown);
                }
                if rules.min != usual.min {
                    name += &format!(", at least {}", rules.min);
                }
                name
            }
            Self::Watchdog { idle, .. } => {
                format!("watchdog, {} idle checks of {} s", idle.checks, idle.interval)
            }
        }
    }

    /// Workers at the beginning of the day.
    pub(super) const fn at_first(self) -> u32 {
        match self {
            Self::Fixed(workers) => workers,
            Self::Keda(rules) | Self::Watchdog { up: rules, .. } => rules.min,
        }
    }
}
