//! The simulator's own soundness, and the comparison that matters, small enough for every run of the tests.
//! All of it is by seed: what holds once holds always.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use super::bounds::{clairvoyant, fluid_limit};
use super::families::{Family, Variant, baselines, by_deadline, ours, refusing_nobody};
use super::hardware::Hardware;
use super::measures::{Setup, jain, mean_and_interval};
use super::replay::End;
use super::workload::{Arrivals, Workload};

fn setup(workload: Workload, devices: u16) -> Setup {
    let hardware = Hardware::accelerator(devices, Duration::from_millis(2));
    Setup { workload, hardware, duration: Duration::from_secs(6), warm_up: Duration::from_secs(1) }
}

fn best(setup: &Setup, family: &Family) -> f64 {
    let goodput = |variant: &Variant| setup.goodput(variant.make.as_ref(), 0).unwrap();
    family.variants.iter().map(goodput).fold(0.0, f64::max)
}

#[test]
fn rates_and_lengths_are_as_asked_for() {
    for arrivals in [Arrivals::Poisson, Arrivals::Gamma(4.0), Arrivals::Diurnal] {
        let workload = Workload::mixed().with("", arrivals);
        let requests = workload.generate(1, 1000.0, Duration::from_secs(100));
        let rate = requests.len() as f64 / 100.0;
        assert!((rate / 1000.0 - 1.0).abs() < 0.1, "{arrivals:?}: {rate}");
        let mut tokens: Vec<_> = requests.iter().filter(|r| r.model == 0).map(|r| r.tokens).collect();
        tokens.sort_unstable();
        let (median, p99) = (tokens[tokens.len() / 2], tokens[tokens.len() * 99 / 100]);
        assert!((30..=34).contains(&median) && (200..=310).contains(&p99), "{median} {p99}");
    }
}

#[test]
fn every_policy_is_deterministic_and_loses_nothing_at_low_load() {
    let setup = setup(Workload::mixed(), 2);
    for family in baselines().into_iter().chain([ours()]) {
        let make = family.variants[0].make.as_ref();
        let runs = [0, 0].map(|seed| setup.run(make, 0.05, seed).unwrap());
        assert_eq!(runs[0].outcome.ends, runs[1].outcome.ends, "{}", family.name);
        let dropped = runs[0].outcome.ends.iter().filter(|end| **end == End::Dropped).count();
        assert!(dropped * 20 < runs[0].outcome.ends.len(), "{}: {dropped} dropped", family.name);
    }
}

/// A single model under a work-conserving policy: batches grow until their overhead is what the load leaves
/// of the time, `l = a / (1 - rho)`.
#[test]
fn a_single_models_batches_are_as_long_as_theory_has_it() {
    let mut setup = setup(Workload::single(2), 1);
    setup.hardware.noise = 0.0;
    for load in [0.3, 0.5, 0.7] {
        let run = setup.run(ours().variants[0].make.as_ref(), load, 3).unwrap();
        let mean = run.outcome.busy.as_secs_f64() / run.outcome.batches as f64;
        let expected = 0.002 / (1.0 - load);
        assert!((mean / expected - 1.0).abs() < 0.25, "load {load}: {mean} s for {expected} s");
    }
}

#[test]
fn ours_beats_what_servers_do_today_on_the_five_models() {
    let setup = setup(Workload::mixed(), 1);
    let ours = best(&setup, &ours());
    assert!(ours >= 0.75 * fluid_limit(&setup.workload, &setup.hardware), "{ours}");
    for family in baselines() {
        let theirs = best(&setup, &family);
        let needed = if matches!(family.name, "Triton-style" | "TEI-style") { 1.3 } else { 1.0 };
        assert!(ours >= needed * theirs, "{ours} for {theirs} of {}", family.name);
    }
}

#[test]
fn overload_is_fair_and_costs_little() {
    let setup = setup(Workload::mixed(), 1);
    let peak = best(&setup, &ours());
    let policy = batching::DeadlinePolicy::default;
    for variant in [by_deadline("", policy()), refusing_nobody(batching::Policy::Deadline(policy()))] {
        let run = setup.run(variant.make.as_ref(), 2.0 * peak, 0).unwrap();
        let work = setup.work_by_tenant(&run);
        let given: f64 = work.iter().map(|(_, given)| given).sum();
        assert!(given >= 0.9 * peak, "{given} of {peak}, {}", variant.setting);
        assert!(jain(&work) >= 0.98, "{}, {}", jain(&work), variant.setting);
    }
}

#[test]
fn a_hog_harms_itself() {
    let setup = setup(Workload::mixed(), 1);
    let ours = ours();
    let run = setup.run_beside_hog(ours.variants[0].make.as_ref(), 0.5, 10.0, 0).unwrap();
    let (mut asked, mut given) = (0.0, 0.0);
    for (tenant, work) in setup.work_by_tenant(&run).into_iter().enumerate() {
        if tenant > 0 {
            asked += work.0;
            given += work.1;
        }
    }
    assert!(given >= 0.99 * asked, "{given} of {asked}");
}

/// Against all orders of all batches, with the arrivals known beforehand.
#[test]
fn close_to_clairvoyant_on_few_requests() {
    let mut setup = setup(Workload::mixed(), 1);
    setup.hardware.noise = 0.0;
    setup.duration = Duration::from_millis(40);
    setup.warm_up = Duration::ZERO;
    let ours = ours();
    let (mut possible, mut reached) = (0, 0);
    for seed in 0..200 {
        let mut arrivals = setup.workload.generate(seed, 400.0, setup.duration);
        arrivals.truncate(8);
        let best = clairvoyant(&setup.workload, &setup.hardware, &arrivals);
        let mut policy = (ours.variants[0].make)(&setup.workload, &setup.hardware).unwrap();
        let outcome =
            super::replay::replay(&setup.workload, &setup.hardware, &arrivals, policy.as_mut(), seed);
        let run = super::measures::Run { arrivals, outcome };
        let counts = setup.attainment(&run);
        let timely: f64 = (0..counts.len())
            .map(|model| {
                let all = run.arrivals.iter().filter(|arrival| usize::from(arrival.model) == model).count();
                counts[model] * all as f64
            })
            .sum();
        assert!(timely.round() as u32 <= best, "seed {seed}: {timely} of at most {best}");
        possible += best;
        reached += timely.round() as u32;
    }
    assert!(f64::from(reached) >= 0.98 * f64::from(possible), "{reached} of {possible}");
}

#[test]
fn jain_and_intervals() {
    let close =
        |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} for {expected}");
    close(jain(&[(1.0, 0.5), (2.0, 0.5)]), 1.0);
    close(jain(&[(0.1, 0.1), (2.0, 0.9)]), 1.0);
    close(jain(&[(2.0, 1.0), (2.0, 0.0)]), 0.5);
    assert_eq!(mean_and_interval(&[3.0]), (3.0, 0.0));
    close(mean_and_interval(&[1.0, 2.0, 3.0]).1, 4.30 / 3.0f64.sqrt());
}
