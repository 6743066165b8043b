//! Trains a classifier from files of vectors and classes, holds part of them out, and says how long it took
//! and how good it is: `learn_file VECTORS.f32 CLASSES.u32 COLUMNS [ROWS]`.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::ops::ControlFlow;
use std::time::Instant;

use models_learn::{Examples, Learnt, Options, Targets, train};

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let words = |path: &str| -> Vec<[u8; 4]> {
        std::fs::read(path).unwrap().chunks_exact(4).map(|word| word.try_into().unwrap()).collect()
    };
    let vectors: Vec<f32> = words(&arguments[1]).into_iter().map(f32::from_le_bytes).collect();
    let classes: Vec<u32> = words(&arguments[2]).into_iter().map(u32::from_le_bytes).collect();
    let columns: usize = arguments[3].parse().unwrap();
    let rows = arguments.get(4).map_or(classes.len(), |rows| rows.parse().unwrap());
    // Each step is odd and prime to the number of rows, so that all of them come, in no order.
    let order: Vec<usize> = (0..classes.len()).map(|at| at * 6173 % classes.len()).collect();
    let (learnt_from, dev) = order.split_at(rows.min(classes.len() * 9 / 10));
    let row = |at: usize| &vectors[at * columns..(at + 1) * columns];
    let taken: Vec<f32> = learnt_from.iter().flat_map(|at| row(*at)).copied().collect();
    // Classes that are there, numbered anew.
    let mut known: Vec<u32> = learnt_from.iter().map(|at| classes[*at]).collect();
    known.sort_unstable();
    known.dedup();
    let number = |class: u32| known.binary_search(&class).ok();
    let targets = learnt_from.iter().map(|at| number(classes[*at]).unwrap() as u32).collect();
    let examples = Examples::new(taken, columns, known.len(), Targets::One(targets)).unwrap();
    let started = Instant::now();
    let mut steps = 0;
    let learnt = train(examples, &Options::default(), |_| {
        steps += 1;
        ControlFlow::Continue(())
    });
    let Learnt { head, strength, temperature, report } = learnt.unwrap();
    println!(
        "{} examples, {} classes: {:?}, {steps} steps",
        learnt_from.len(),
        known.len(),
        started.elapsed()
    );
    let told = dev.iter().filter(|at| {
        let scores = head.scores(row(**at));
        (0..scores.len()).max_by(|a, b| scores[*a].total_cmp(&scores[*b])) == number(classes[**at])
    });
    println!("C {strength}, temperature {temperature}, unknown below {}", head.unknown_below);
    println!("accuracy on {} others: {:.4}", dev.len(), told.count() as f64 / dev.len() as f64);
    if let Some(report) = report {
        println!("held out: {:?}, macro F1 {:.4}", report.accuracy, report.macro_f1);
        println!("calibration error {:.4}, log loss {:.4}", report.calibration_error, report.log_loss);
        println!("confusions {:?}", &report.confusions[..report.confusions.len().min(3)]);
        println!(
            "mislabelled {:?}",
            &report.probably_mislabelled[..report.probably_mislabelled.len().min(3)]
        );
        println!("near duplicates {}", report.near_duplicates.len());
    }
}
