//! Vectors of length one, so that a dot product is a cosine.

use std::borrow::Borrow;

use half::f16;

/// An embedding of length one. Never empty, every component finite.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitVector(Vec<f32>);

impl UnitVector {
    /// Normalises; nothing if there is no direction: no components, all zero, or one that is not finite.
    pub fn new(mut components: Vec<f32>) -> Option<Self> {
        // In f64, because squares of large f32 overflow and squares of small ones vanish.
        let length = components.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() || length <= f64::MIN_POSITIVE {
            return None;
        }
        for x in &mut components {
            *x = (f64::from(*x) / length) as f32;
        }
        Some(Self(components))
    }

    /// The cosine of the angle between the two, -1 to 1. Vectors of different dimension have nothing in common: 0.
    pub fn dot(&self, other: &Self) -> f32 {
        if self.0.len() != other.0.len() {
            return 0.0;
        }
        let dot: f32 = self.0.iter().zip(&other.0).map(|(a, b)| a * b).sum();
        dot.clamp(-1.0, 1.0)
    }

    /// The components.
    pub fn as_slice(&self) -> &[f32] {
        &self.0
    }

    /// How many components.
    pub fn dimension(&self) -> usize {
        self.0.len()
    }

    /// The direction of the mean; nothing for no vectors, or if they cancel out. Vectors whose dimension differs
    /// from the first one's are left out.
    pub fn mean(vectors: impl IntoIterator<Item = impl Borrow<Self>>) -> Option<Self> {
        let mut sum: Vec<f64> = Vec::new();
        for vector in vectors {
            let vector = vector.borrow();
            if sum.is_empty() {
                sum = vec![0.0; vector.0.len()];
            }
            if sum.len() == vector.0.len() {
                sum.iter_mut().zip(&vector.0).for_each(|(sum, &x)| *sum += f64::from(x));
            }
        }
        Self::new(sum.into_iter().map(|x| x as f32).collect())
    }

    /// As little-endian 16-bit floats: two bytes a component, an error below 0.001 in a dot product.
    pub fn to_f16_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()
    }

    /// From [`Self::to_f16_bytes`], normalised again; nothing for bytes that are no vector.
    pub fn from_f16_bytes(bytes: &[u8]) -> Option<Self> {
        let (pairs, rest) = bytes.as_chunks::<2>();
        if !rest.is_empty() {
            return None;
        }
        Self::new(pairs.iter().map(|&pair| f16::from_le_bytes(pair).to_f32()).collect())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any direction in `dimension` dimensions.
    pub(crate) fn unit(dimension: usize) -> impl Strategy<Value = UnitVector> {
        prop::collection::vec(-1.0..1.0_f32, dimension).prop_filter_map("no direction", UnitVector::new)
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        for bad in [vec![], vec![0.0, 0.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
            assert_eq!(UnitVector::new(bad.clone()), None, "{bad:?}");
        }
    }

    #[test]
    fn components_of_any_size_are_normalised() {
        for size in [f32::MIN_POSITIVE, 1e-20, 1.0, 1e20, f32::MAX] {
            let vector = UnitVector::new(vec![size, 0.0]).unwrap();
            assert_eq!(vector.as_slice(), [1.0, 0.0]);
        }
    }

    #[test]
    fn bytes_that_are_no_vector_are_refused() {
        for bad in [&[][..], &[1], &[0, 0, 0, 0], &[0, 0x7e, 0, 0x3c]] {
            assert_eq!(UnitVector::from_f16_bytes(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn opposite_vectors_have_no_mean() {
        let (a, b) = (UnitVector::new(vec![1.0, 0.0]).unwrap(), UnitVector::new(vec![-1.0, 0.0]).unwrap());
        assert_eq!(UnitVector::mean([&a, &b]), None);
        assert_eq!(UnitVector::mean(Vec::<UnitVector>::new()), None);
        assert_eq!(UnitVector::mean([&a]), Some(a.clone()));
    }

    #[test]
    fn vectors_of_different_dimension_have_nothing_in_common() {
        let (a, b) = (UnitVector::new(vec![1.0]).unwrap(), UnitVector::new(vec![1.0, 0.0]).unwrap());
        assert_eq!(a.dot(&b).to_bits(), 0.0_f32.to_bits());
    }

    proptest! {
        #[test]
        fn a_vector_has_length_one_and_a_dot_product_is_a_cosine(a in unit(24), b in unit(24)) {
            prop_assert!((a.dot(&a) - 1.0).abs() < 1e-5);
            prop_assert!((-1.0..=1.0).contains(&a.dot(&b)));
            prop_assert!((a.dot(&b) - b.dot(&a)).abs() < 1e-6);
        }

        #[test]
        fn sixteen_bits_keep_the_direction(a in unit(48), b in unit(48)) {
            let short = UnitVector::from_f16_bytes(&a.to_f16_bytes()).unwrap();
            prop_assert_eq!(a.to_f16_bytes().len(), 96);
            prop_assert!((short.dot(&b) - a.dot(&b)).abs() < 1e-3);
        }
    }
}
