//! GPUs through the real wrapper of NVML, over a stand-in for NVIDIA's library that the test compiles.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use maitred::gpu::{Card, GpuSample, Inventory, Library, Reading, Sampler, SamplerSettings, Told};
use maitred_testkit::{LIMIT, poll};

use crate::common::nvml::{Nvml, gpus};

/// GPUs under observation.
struct Watched {
    told: Receiver<Told>,
    _sampler: Sampler,
}

impl Watched {
    fn start(library: Library, devices: Option<Vec<u32>>, visible: Option<&str>) -> Self {
        let (teller, told) = sync_channel(1024);
        let interval = Duration::from_millis(5);
        let settings = SamplerSettings { library, interval, devices, visible: visible.map(str::to_owned) };
        let tell = move |told| {
            // The test may have ended.
            let _ = teller.send(told);
        };
        Self { told, _sampler: Sampler::start(settings, tell).unwrap() }
    }

    fn all(nvml: &Nvml) -> Self {
        Self::start(Library::At(nvml.library()), None, None)
    }

    #[track_caller]
    fn next(&self) -> Told {
        self.told.recv_timeout(LIMIT).expect("a look")
    }

    /// The first look that is so.
    #[track_caller]
    fn wait(&self, so: impl Fn(&Reading) -> bool) -> Reading {
        let found = poll(LIMIT, || match self.next() {
            Told::Reading(reading) => so(&reading).then_some(reading),
            Told::Nothing => panic!("nothing to look at"),
        });
        found.expect("such a look")
    }
}

fn numbers(reading: &Reading) -> Vec<u32> {
    reading.gpus.iter().map(|gpu| gpu.device).collect()
}

#[test]
fn the_figures_of_a_gpu_are_told_in_their_units() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(1));
    nvml.change("0.utilization", "37");
    let reading = Watched::all(&nvml).wait(|_| true);
    let expected = GpuSample {
        device: 0,
        name: "Stand-in 0".into(),
        utilization: Some(0.37),
        memory_used_bytes: Some(1000),
        memory_total_bytes: Some(8000),
        power_watts: Some(251.5),
        temperature_celsius: Some(61.0),
    };
    assert_eq!(reading, Reading { gpus: vec![expected], unreadable: false, failures: 0 });
}

#[test]
fn what_a_gpu_does_not_have_is_absent_and_the_rest_is_told() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(1));
    for key in ["0.utilization", "0.power"] {
        nvml.change(key, "!3");
    }
    let reading = Watched::all(&nvml).wait(|_| true);
    let gpu = &reading.gpus[0];
    assert_eq!((gpu.utilization, gpu.power_watts), (None, None));
    assert_eq!((gpu.memory_used_bytes, gpu.temperature_celsius), (Some(1000), Some(61.0)));
    assert_eq!((reading.failures, reading.unreadable), (0, false), "that is no failure");
}

#[test]
fn a_call_that_fails_is_counted_and_takes_no_other_with_it() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(2));
    nvml.change("1.temperature", "!999");
    let watched = Watched::all(&nvml);
    let reading = watched.wait(|reading| reading.failures >= 2);
    assert_eq!(reading.gpus[0].temperature_celsius, Some(61.0));
    assert_eq!(reading.gpus[1].temperature_celsius, None);
    assert_eq!((reading.gpus[1].utilization, reading.unreadable), (Some(0.0), false));
    nvml.change("1.utilization", "!999");
    assert_eq!(watched.wait(|reading| reading.unreadable).gpus[1].utilization, None);
    nvml.answer(&gpus(2));
    let reading =
        watched.wait(|reading| !reading.unreadable && reading.gpus[1].temperature_celsius.is_some());
    assert!(reading.failures >= 4, "and what failed stays counted: {}", reading.failures);
}

#[test]
fn a_gpu_that_is_lost_in_mid_run_is_reported_and_comes_back() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(2));
    let watched = Watched::all(&nvml);
    watched.wait(|reading| reading.gpus.iter().all(|gpu| gpu.utilization.is_some()));
    nvml.change("0.utilization", "!15");
    let reading = watched.wait(|reading| reading.unreadable && reading.gpus[0].memory_used_bytes.is_none());
    assert_eq!(reading.gpus[0], GpuSample { name: "Stand-in 0".into(), ..GpuSample::default() });
    assert_eq!(reading.gpus[1].utilization, Some(0.0), "the other one is well");
    assert!(reading.failures > 0);
    // The driver keeps a lost GPU lost until the library is initialized anew, which must have been done by then.
    nvml.answer(&gpus(2));
    let reading = watched.wait(|reading| !reading.unreadable);
    assert_eq!(reading.gpus[0].memory_used_bytes, Some(1000));
}

#[test]
fn a_gpu_keeps_its_number_when_the_one_before_it_has_gone() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(2));
    nvml.change("1.utilization", "80");
    let watched = Watched::all(&nvml);
    watched.wait(|reading| reading.gpus.len() == 2);
    // Off the bus: the library counts one GPU, and the second one is now the first.
    nvml.answer("count=1\n0.uuid=GPU-11\n0.name=Stand-in 1\n0.utilization=80\n");
    let reading = watched.wait(|reading| reading.gpus[0].utilization.is_none());
    assert_eq!(numbers(&reading), [0, 1]);
    assert_eq!((reading.gpus[1].utilization, reading.unreadable), (Some(0.8), true));
}

#[test]
fn a_library_that_stops_working_is_waited_for() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(1));
    let watched = Watched::all(&nvml);
    watched.wait(|reading| !reading.unreadable);
    // The driver is taken away, and the GPU with it.
    nvml.answer("init=!9\ncount=0\n");
    let reading = watched.wait(|reading| reading.unreadable && reading.failures >= 5);
    assert_eq!(reading.gpus, [GpuSample { name: "Stand-in 0".into(), ..GpuSample::default() }]);
    nvml.answer(&gpus(1));
    watched.wait(|reading| !reading.unreadable && reading.gpus[0].utilization.is_some());
}

#[test]
fn a_library_that_does_not_work_at_the_start_is_tried_again() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer("init=!18\n");
    let watched = Watched::all(&nvml);
    let reading = watched.wait(|reading| reading.failures >= 2);
    assert_eq!((reading.gpus, reading.unreadable), (vec![], true));
    nvml.answer(&gpus(1));
    watched.wait(|reading| reading.gpus.len() == 1 && !reading.unreadable);
}

#[test]
fn several_gpus_are_those_that_the_engine_sees_by_its_own_numbers() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(4));
    for n in 0..4 {
        nvml.change(&format!("{n}.utilization"), &(n * 10).to_string());
    }
    let seen = |devices: Option<Vec<u32>>, visible| {
        let reading = Watched::start(Library::At(nvml.library()), devices, visible).wait(|_| true);
        reading.gpus.iter().map(|gpu| (gpu.device, gpu.name.clone())).collect::<Vec<_>>()
    };
    let names = |of: &[(u32, u32)]| {
        of.iter().map(|(device, nvml)| (*device, format!("Stand-in {nvml}"))).collect::<Vec<_>>()
    };
    assert_eq!(seen(None, None), names(&[(0, 0), (1, 1), (2, 2), (3, 3)]));
    assert_eq!(seen(Some(vec![3, 1]), None), names(&[(1, 1), (3, 3)]));
    assert_eq!(seen(None, Some("2,0")), names(&[(0, 2), (1, 0)]));
    assert_eq!(seen(Some(vec![1]), Some("GPU-33,GPU-22")), names(&[(1, 2)]));
}

#[test]
fn where_there_is_no_library_no_driver_or_no_gpu_there_is_nothing_and_no_error() {
    let nowhere = Library::At("/nowhere/libnvidia-ml.so.1".into());
    assert_eq!(Watched::start(nowhere, None, None).next(), Told::Nothing);
    assert_eq!(Watched::start(Library::None, None, None).next(), Told::Nothing);
    let Some(nvml) = Nvml::build() else { return };
    for answer in ["init=!9\n", "count=0\n"] {
        nvml.answer(answer);
        assert_eq!(Watched::all(&nvml).next(), Told::Nothing, "{answer}");
    }
    nvml.answer(&gpus(1));
    let hidden = Watched::start(Library::At(nvml.library()), None, Some("-1"));
    assert_eq!(hidden.next(), Told::Nothing, "hidden from CUDA");
}

#[test]
fn a_library_that_hangs_holds_up_nobody_and_is_heard_when_it_is_back() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(1));
    let watched = Watched::all(&nvml);
    watched.wait(|_| true);
    nvml.change("0.power", "HANG");
    nvml.wait_hanging();
    // Its end is asked for in mid-call, and is not waited for.
    let Watched { told, _sampler: sampler } = watched;
    drop(sampler);
    let before = told.try_iter().count();
    assert!(told.try_recv().is_err(), "nothing after {before} looks");
    nvml.change("0.power", "250000");
    let last: Vec<Told> = told.iter().collect();
    assert_eq!(last.len(), 1, "the call came back, its look was told, and then it was over");
}

#[test]
fn an_inventory_names_the_driver_and_what_is_free_on_each_gpu_that_the_engine_sees() {
    let Some(nvml) = Nvml::build() else { return };
    nvml.answer(&gpus(3));
    nvml.change("2.memory", "1000 8000 500");
    let library = Library::At(nvml.library());
    let card = |device, nvml: u32, memory_free_bytes| Card {
        device,
        name: format!("Stand-in {nvml}"),
        memory_total_bytes: 8000,
        memory_free_bytes,
    };
    let expected = Inventory { driver: "550.54".to_owned(), gpus: vec![card(0, 2, 6500), card(1, 0, 7000)] };
    assert_eq!(library.inventory(Some("2,0")), Ok(expected));
    assert_eq!(library.inventory(None).unwrap().gpus.len(), 3);
    assert_eq!(library.inventory(Some("-1")).unwrap().gpus, []);
}

#[test]
fn an_inventory_that_cannot_be_made_says_why() {
    let Some(nvml) = Nvml::build() else { return };
    let library = Library::At(nvml.library());
    let why = |change: &dyn Fn()| {
        nvml.answer(&gpus(2));
        change();
        library.inventory(None).unwrap_err()
    };
    assert!(why(&|| nvml.answer("init=!9\n")).contains("driver"));
    assert!(why(&|| nvml.change("driver", "!999")).starts_with("the driver's version: "));
    assert!(why(&|| nvml.change("1.memory", "!15")).starts_with("GPU 1: "));
    let nowhere = Library::At("/nowhere/libnvidia-ml.so.1".into());
    assert!(nowhere.inventory(None).unwrap_err().contains("/nowhere/libnvidia-ml.so.1"));
}
