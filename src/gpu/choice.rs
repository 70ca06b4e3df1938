//! Which of NVML's GPUs are the worker's: pure.
//!
//! NVML counts all GPUs of the machine in the order of their PCI addresses and knows nothing of
//! `CUDA_VISIBLE_DEVICES`. The engine sees what CUDA shows it: those that the variable names, in its order, counted
//! from 0; without the variable all of them. `engine.devices` then picks from these.
//!
//! CUDA itself counts the fastest first, and equal ones by PCI address. So on a machine with GPUs of several kinds the
//! two agree only under `CUDA_DEVICE_ORDER=PCI_BUS_ID`; with equal ones they always do. UUIDs mean the same to both.

use std::collections::BTreeSet;

/// One that is to be sampled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Its number as the engine counts.
    pub device: u32,
    /// How NVML knows it.
    pub handle: Handle,
}

/// How NVML knows a GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handle {
    /// By its place, where nothing better is known.
    Index(u32),
    /// By its UUID: that stays the same when another GPU falls off the bus.
    Uuid(String),
}

/// Which are wanted, and which of `devices` are not there. `visible` is the value of `CUDA_VISIBLE_DEVICES`, `uuids`
/// are those of all GPUs in NVML's order, as far as they can be read.
pub(super) fn wanted(
    devices: Option<&[u32]>,
    visible: Option<&str>,
    uuids: &[Option<String>],
) -> (Vec<Wanted>, Vec<u32>) {
    let shown: Vec<Handle> = match visible {
        None => (0..uuids.len()).map(|index| handle(index, uuids)).collect(),
        Some(list) => shown(list, uuids),
    };
    let all: Vec<u32> = (0..shown.len() as u32).collect();
    let asked = devices.unwrap_or(&all);
    let there = asked.iter().filter_map(|&device| {
        let handle = shown.get(device as usize)?.clone();
        Some(Wanted { device, handle })
    });
    let mut there: Vec<Wanted> = there.collect();
    there.sort_by_key(|wanted| wanted.device);
    let missing = asked.iter().copied().filter(|device| *device as usize >= shown.len()).collect();
    (there, missing)
}

/// What the variable shows. As with CUDA the list ends at the first entry that names nothing, or something again.
fn shown(list: &str, uuids: &[Option<String>]) -> Vec<Handle> {
    let mut seen = BTreeSet::new();
    let entries = list.split(',').map(str::trim);
    let named = entries.map_while(|entry| {
        let name = name(entry, uuids)?;
        let key = match &name {
            Handle::Index(index) => index.to_string(),
            Handle::Uuid(uuid) => uuid.clone(),
        };
        seen.insert(key).then_some(name)
    });
    named.collect()
}

fn name(entry: &str, uuids: &[Option<String>]) -> Option<Handle> {
    // A slice of a GPU: no place in the list of GPUs has its UUID, but NVML finds it by that.
    if entry.starts_with("MIG-") {
        return Some(Handle::Uuid(entry.to_owned()));
    }
    if entry.starts_with("GPU-") {
        // The beginning will do if there is only one such.
        let mut found = uuids.iter().flatten().filter(|uuid| uuid.starts_with(entry));
        let uuid = found.next()?;
        return found.next().is_none().then(|| Handle::Uuid(uuid.clone()));
    }
    let index: usize = entry.parse().ok()?;
    (index < uuids.len()).then(|| handle(index, uuids))
}

fn handle(index: usize, uuids: &[Option<String>]) -> Handle {
    match &uuids[index] {
        Some(uuid) => Handle::Uuid(uuid.clone()),
        None => Handle::Index(index as u32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn uuids() -> Vec<Option<String>> {
        ["GPU-aa11", "GPU-ab22", "GPU-cc33"].map(|uuid| Some(uuid.to_owned())).into()
    }

    /// The UUIDs by the engine's numbers.
    fn chosen(devices: Option<&[u32]>, visible: Option<&str>) -> Vec<(u32, String)> {
        let (there, _) = wanted(devices, visible, &uuids());
        there
            .into_iter()
            .map(|wanted| match wanted.handle {
                Handle::Uuid(uuid) => (wanted.device, uuid),
                Handle::Index(index) => panic!("{index} has a UUID"),
            })
            .collect()
    }

    #[rstest]
    #[case::all(None, None, &[(0, "GPU-aa11"), (1, "GPU-ab22"), (2, "GPU-cc33")])]
    #[case::those_of_the_settings(Some(&[2, 0][..]), None, &[(0, "GPU-aa11"), (2, "GPU-cc33")])]
    #[case::in_the_order_that_cuda_shows(None, Some("2, 0"), &[(0, "GPU-cc33"), (1, "GPU-aa11")])]
    #[case::settings_count_what_is_shown(Some(&[1][..]), Some("2,0"), &[(1, "GPU-aa11")])]
    #[case::by_uuid(None, Some("GPU-cc33,1"), &[(0, "GPU-cc33"), (1, "GPU-ab22")])]
    #[case::by_the_beginning_of_a_uuid(None, Some("GPU-ab"), &[(0, "GPU-ab22")])]
    #[case::a_beginning_of_two_names_none(None, Some("0,GPU-a"), &[(0, "GPU-aa11")])]
    #[case::up_to_what_is_not_there(None, Some("1,7,0"), &[(0, "GPU-ab22")])]
    #[case::up_to_a_repetition(None, Some("1,GPU-ab22,0"), &[(0, "GPU-ab22")])]
    #[case::hidden(None, Some("-1"), &[])]
    #[case::all_hidden(None, Some(""), &[])]
    #[case::a_slice(None, Some("MIG-5c"), &[(0, "MIG-5c")])]
    fn the_worker_s_gpus_are(
        #[case] devices: Option<&[u32]>,
        #[case] visible: Option<&str>,
        #[case] expected: &[(u32, &str)],
    ) {
        let expected: Vec<(u32, String)> =
            expected.iter().map(|(n, uuid)| (*n, (*uuid).to_owned())).collect();
        assert_eq!(chosen(devices, visible), expected);
    }

    #[test]
    fn a_device_of_the_settings_that_is_not_there_is_named() {
        let (there, missing) = wanted(Some(&[0, 5]), Some("1"), &uuids());
        assert_eq!((there.len(), missing), (1, vec![5]));
    }

    #[test]
    fn a_gpu_without_a_readable_uuid_goes_by_its_place() {
        let (there, _) = wanted(None, Some("1,0"), &[None, Some("GPU-b".into())]);
        assert_eq!(there[1], Wanted { device: 1, handle: Handle::Index(0) });
    }

    proptest! {
        #[test]
        fn any_text_shows_different_gpus_that_are_there(list in "[-0-9GPU,aMI ]{0,24}", count in 0_usize..4) {
            let uuids: Vec<_> = uuids().into_iter().take(count).collect();
            let (there, missing) = wanted(None, Some(&list), &uuids);
            let handles: BTreeSet<String> = there.iter().map(|wanted| format!("{:?}", wanted.handle)).collect();
            prop_assert_eq!(handles.len(), there.len());
            prop_assert!(missing.is_empty());
        }
    }
}
