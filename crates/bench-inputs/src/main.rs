//! Makes each decision once, inside of [`counted`], for `cargo xtask bench instructions`.
//!
//! Prints a line for each call: group, name and bytes of the input, separated by tabs.

use std::hint::black_box;

use anyhow::Result;
use bench_inputs::{Input, Line};
use routing_claims::Decider;

fn main() -> Result<()> {
    let groups = [
        ("typical", bench_inputs::typical()),
        ("fault", bench_inputs::faults()),
        ("worst token", bench_inputs::worst_tokens(1)),
        ("worst header line", bench_inputs::worst_header_lines(1)),
        ("twice the worst token", bench_inputs::worst_tokens(2)),
        ("twice the worst header line", bench_inputs::worst_header_lines(2)),
    ];
    for (group, inputs) in groups {
        for input in inputs {
            let mut decider = input.decider()?;
            run(group, &input, "", &mut decider);
            if group == "typical" {
                run("cached", &input, ", cached", &mut decider);
            }
        }
    }
    Ok(())
}

fn run(group: &str, input: &Input, suffix: &str, decider: &mut Decider) {
    println!("{group}\t{}{suffix}\t{}", input.name, input.bytes());
    counted(decider, &input.lines);
}

/// The function whose instructions are counted. Valgrind finds it by its name.
#[inline(never)]
fn counted(decider: &mut Decider, lines: &[Line]) {
    black_box(bench_inputs::decide(black_box(decider), black_box(lines)));
}
