//! How large a job is, as metrics and reports class it. The view `sla_by_lane_and_size` has the same bounds.

/// A class of jobs, by their reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SizeClass {
    /// Up to five.
    Small,
    /// Up to thirty.
    Medium,
    /// More.
    Large,
}

impl SizeClass {
    /// All of them, smallest first.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// That of a job of so many reviews.
    pub const fn of(reviews: u64) -> Self {
        match reviews {
            0..=5 => Self::Small,
            6..=30 => Self::Medium,
            _ => Self::Large,
        }
    }

    /// As in labels and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_holds_its_upper_bound() {
        for (reviews, name) in [(0, "small"), (5, "small"), (6, "medium"), (30, "medium"), (31, "large")] {
            assert_eq!(SizeClass::of(reviews).name(), name);
        }
    }
}
