//! The corpus on the core crate, and what the corpus must hold.

use std::collections::BTreeSet;

use conformance::{Clock, Core, Corpus, run};
use routing_claims::{ClaimFault, Outcome, Policy};

#[tokio::test]
async fn core_passes_the_corpus() {
    let corpus = Corpus::load().unwrap();
    run(&corpus, "core", &mut Core::default(), Clock::Told).await.into_result().unwrap();
}

#[test]
fn bad_policies_name_the_place_and_the_reason() {
    let mut wrong = Vec::new();
    for reject in Corpus::load().unwrap().rejects {
        match Policy::from_json(reject.policy.as_bytes()) {
            Ok(_) => wrong.push(format!("{}: the policy was accepted", reject.name)),
            Err(error) => {
                let fits = error.problems().iter().any(|problem| {
                    (reject.at.is_empty() || problem.path == reject.at) && problem.to_string().contains(&reject.says)
                });
                if !fits {
                    wrong.push(format!(
                        "{}\n  expected at {:?}: {:?}\n  got {error}",
                        reject.name, reject.at, reject.says
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
    let wanted: BTreeSet<_> = (1..=18).map(|number| format!("R{number}")).collect();
    assert_eq!(rules, wanted);
    let expects = || {
        corpus.cases.iter().flat_map(|case| std::iter::once(&case.expect).chain(case.later.iter().map(|l| &l.expect)))
    };
    for outcome in Outcome::ALL {
        assert!(expects().any(|report| report.split(' ').next() == Some(outcome.code())), "no case expects {outcome}");
    }
    for fault in ClaimFault::ALL {
        let word = format!("!{fault}");
        assert!(
            expects().any(|report| report.split(' ').any(|found| found.ends_with(&word))),
            "no case expects {fault}"
        );
    }
    assert!(corpus.cases.len() >= 200, "only {} cases", corpus.cases.len());
    assert!(!corpus.rejects.is_empty());
}
