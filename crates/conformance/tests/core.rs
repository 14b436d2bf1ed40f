//! Runs the corpus on the core crate, and checks what the corpus contains.

use std::{collections::BTreeSet, fs, path::Path};

use conformance::{Clock, Core, Corpus, policies, run};
use routing_claims::{CarryFault, ClaimFault, Decider, Outcome, Policy};
use serde_json::Value;

#[tokio::test]
async fn core_passes_the_corpus() {
    let corpus = Corpus::load().unwrap();
    run(&corpus, "core", &mut Core::default(), Clock::Told).await.into_result().unwrap();
}

/// Front ends count (R14) what the report says.
#[test]
fn outcome_and_faults_are_those_of_the_report() {
    const NOW: i64 = 1_800_000_000;
    for case in Corpus::load().unwrap().cases {
        for policy in policies(&case) {
            let mut decider = Decider::new(Policy::from_json(Value::from(policy).to_string().as_bytes()).unwrap());
            let request = case.request(NOW).unwrap();
            for attempt in ["first", "second"] {
                let headers = request.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
                let decision = decider.decide(headers, NOW);
                let (outcome, claims) = case.expect.split_once(' ').unwrap_or((&case.expect, ""));
                assert_eq!(decision.outcome().code(), outcome, "{}, {attempt} time", case.name);
                if claims.ends_with("...") {
                    continue;
                }
                let words = |fault: ClaimFault| {
                    let words = claims.split(' ').filter(|word| word.ends_with(&format!("!{fault}")));
                    u32::try_from(words.count()).unwrap()
                };
                for fault in ClaimFault::ALL {
                    let count = decision.faults().find(|(found, _)| found == fault).map_or(0, |(_, count)| count);
                    // The report has one word for all invalid names.
                    let count = if *fault == ClaimFault::InvalidName { count.min(1) } else { count };
                    assert_eq!(count, words(*fault), "{fault} of {}, {attempt} time", case.name);
                }
                let fault =
                    CarryFault::ALL.iter().find(|fault| claims.split(' ').any(|word| word == format!("!{fault}")));
                assert_eq!(decision.carry_fault(), fault.copied(), "{}, {attempt} time", case.name);
            }
        }
    }
}

#[test]
fn every_code_is_documented() {
    let page = include_str!("../../../docs/outcomes.md");
    let codes =
        Outcome::ALL.iter().map(|outcome| outcome.code()).chain(ClaimFault::ALL.iter().map(|fault| fault.code()));
    let codes = codes.chain(CarryFault::ALL.iter().map(|fault| fault.code()));
    for code in codes {
        let heading = format!("\n### `{code}`\n");
        assert_eq!(page.matches(&heading).count(), 1, "{code} in docs/outcomes.md");
    }
}

/// Every case, test, file and command that docs/security.md names exists.
#[test]
fn what_shows_a_threat_exists() {
    let page = include_str!("../../../docs/security.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let commands = read("xtask/src/main.rs") + &read("crates/e2e/src/main.rs") + &read("deny.toml");
    let cells = page.lines().filter_map(|line| line.strip_suffix('|')?.rsplit('|').next());
    let names: Vec<_> = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    for name in &names {
        let exists = if name.starts_with("cargo ") {
            commands.contains(name)
        } else if let Some((file, function)) = name.split_once("::") {
            read(file).contains(&format!("fn {function}("))
        } else if Path::new(name).extension().is_some_and(|extension| extension == "rs") {
            !read(name).is_empty()
        } else {
            let (file, case) = name.split_once('/').unwrap_or_default();
            read(&format!("crates/conformance/cases/{file}.toml")).contains(&format!("\nname = \"{case}\"\n"))
        };
        assert!(exists, "docs/security.md names {name}, which does not exist");
    }
    assert!(names.len() >= 50, "only {}", names.len());
}

#[test]
fn bad_policies_are_rejected_with_the_path_and_the_reason() {
    let mut wrong = Vec::new();
    for reject in Corpus::load().unwrap().rejects {
        match Policy::from_json(reject.policy.as_bytes()) {
            Ok(_) => wrong.push(format!("{}: the policy was accepted", reject.name)),
            Err(error) => {
                let fits = error.diagnostics().iter().any(|diagnostic| {
                    reject.path.as_ref().is_none_or(|path| diagnostic.path.to_string() == *path)
                        && diagnostic.to_string().contains(&reject.error)
                });
                if !fits {
                    wrong.push(format!(
                        "{}\n  expected {:?} at {:?}\n  found {error}",
                        reject.name, reject.error, reject.path
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_rule_outcome_and_fault_has_cases() {
    let corpus = Corpus::load().unwrap();
    let rules: BTreeSet<_> = corpus.cases.iter().flat_map(|case| &case.rules).cloned().collect();
    let wanted: BTreeSet<_> = (1..=19).map(|number| format!("R{number}")).collect();
    assert_eq!(rules, wanted);
    let expects = || {
        corpus.cases.iter().flat_map(|case| std::iter::once(&case.expect).chain(case.later.iter().map(|l| &l.expect)))
    };
    for outcome in Outcome::ALL {
        assert!(
            expects().any(|report| report.split(' ').next() == Some(outcome.code())),
            "expected a case with outcome {outcome}"
        );
    }
    let faults =
        ClaimFault::ALL.iter().map(|fault| fault.code()).chain(CarryFault::ALL.iter().map(|fault| fault.code()));
    for fault in faults {
        let word = format!("!{fault}");
        assert!(
            expects().any(|report| report.split(' ').any(|found| found.ends_with(&word))),
            "expected a case with fault {fault}"
        );
    }
    assert!(corpus.cases.len() >= 200, "only {} cases", corpus.cases.len());
    assert!(!corpus.rejects.is_empty());
}
