//! `explain`, held to a real istiod on generated sets of resources.
//!
//! Each set has a namespace and a public host of its own, so many are applied at once. Every request of a set is sent, and
//! what happens to it must be what `explain` says, unless it says that it is not certain. What `lint` says to be refused
//! must be refused by the API server or Istio's validation; what they refuse without an error of `lint` is counted.
//! Disagreements are made small and printed; their namespace has the number of the set: `--seed NUMBER --sets 1`.

mod compare;
mod filters;
mod generate;
mod http_routes;
mod mesh;
mod shrink;
mod virtual_services;

use std::{collections::BTreeMap, fmt::Write as _, path::PathBuf};

use anyhow::{Result, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use manifest_gen::yaml::write;
use routing_plan::{
    diagnostic::Document,
    explain,
    lint::{self, Severity},
    manifests::Manifest,
};

use serde_json::{Map, Value};

use self::{
    compare::Verdict,
    generate::{Request, Set},
    mesh::{Answer, Applied, Mesh},
};
use crate::{scene, world::World};

/// What was counted.
#[derive(Debug, Default)]
struct Tally {
    sets: u64,
    agree: u64,
    /// Requests that `explain` is not certain about, by reason.
    unknown: BTreeMap<String, u64>,
    /// Disagreements, by what was explained and what happened.
    disagree: BTreeMap<String, u64>,
    refused: u64,
    /// Refused objects without an error of `lint`, by reason.
    unlinted: BTreeMap<String, u64>,
    /// Objects that `lint` calls refused, and that are not.
    overlinted: u64,
}

/// Compares `explain` with the mesh on the sets from number `seed` on. Returns what was counted.
pub(crate) async fn run(world: &World, seed: u64, sets: u64, dir: PathBuf) -> Result<String> {
    let module = format!("file://{}", world.dist.join("routing-claims.wasm").display());
    let mut mesh = Mesh::start(world, dir).await?;
    let mut tally = Tally::default();
    let numbers: Vec<_> = (seed..seed + sets).collect();
    // The filters of a set are the same whatever it is generated with.
    for numbers in numbers.chunk_by(|one, next| one / SETS_AT_ONCE == next / SETS_AT_ONCE) {
        mesh.install(filters::generate(numbers[0] / SETS_AT_ONCE, &module)?).await?;
        let batch: Vec<_> = numbers.iter().map(|number| Set::generate(*number, REQUESTS)).collect();
        tally.run(&mesh, &batch).await?;
        println!("  {tally}");
    }
    mesh.stop().await?;
    // What `lint` does not yet find is counted only.
    ensure!(tally.disagree.is_empty() && tally.overlinted == 0, "{tally}");
    Ok(tally.to_string())
}

/// A request of a set, and what happened to it.
struct Sent<'s> {
    slot: usize,
    set: &'s Set,
    request: &'s Request,
    answer: Answer,
    verdict: Verdict,
}

/// Sends the requests of sets that are applied.
async fn send_all<'s>(mesh: &Mesh<'_>, sets: &'s [Set], applied: &[Applied]) -> Result<Vec<Sent<'s>>> {
    let requests = sets.iter().enumerate().flat_map(|(slot, set)| set.requests.iter().map(move |one| (slot, set, one)));
    let requests: Vec<_> = requests.collect();
    let known: Vec<_> = applied.iter().map(|applied| known(mesh, applied)).collect();
    stream::iter(requests)
        .map(async |(slot, set, request)| {
            let (answer, verdict) = send(mesh, slot, set, request, &known[slot]).await?;
            Ok(Sent { slot, set, request, answer, verdict })
        })
        .buffered(REQUESTS_AT_ONCE)
        .try_collect()
        .await
}

/// Sends a request, several times if `explain` names several destinations. Returns an answer that is not as explained if
/// there is one.
async fn send(
    mesh: &Mesh<'_>,
    slot: usize,
    set: &Set,
    request: &Request,
    known: &[Manifest],
) -> Result<(Answer, Verdict)> {
    let explanation = explanation(mesh, known, request);
    let mut answers = vec![mesh.send(slot, set, request).await?];
    let verdict = compare::compare(&explanation, &answers[0], known, request);
    if verdict != Verdict::Agree || explanation.destinations.len() < 2 {
        return Ok((answers.swap_remove(0), verdict));
    }
    for _ in 1..SENT_TO_SEVERAL {
        answers.push(mesh.send(slot, set, request).await?);
    }
    let mut odd = answers.iter().filter(|one| compare::compare(&explanation, one, known, request) != Verdict::Agree);
    let verdict = match odd.next() {
        Some(answer) => return Ok((answer.clone(), Verdict::Disagree)),
        None if compare::are_all_seen(&explanation, &answers, known, request) => Verdict::Agree,
        None => Verdict::Disagree,
    };
    Ok((answers.swap_remove(0), verdict))
}

fn explanation(mesh: &Mesh<'_>, known: &[Manifest], request: &Request) -> explain::Explanation {
    let question = compare::question(request, mesh.proxy(&request.from));
    explain::explain(known, &question, Timestamp::now().as_second())
}

/// What the API server has of a set and of all sets.
fn known(mesh: &Mesh<'_>, applied: &Applied) -> Vec<Manifest> {
    let shared = mesh.world.cluster.manifests().into_iter().chain(mesh.filters.iter().cloned());
    // The sidecars' own resources hide nothing; they only give each a listener.
    let shared = shared.filter(|manifest| manifest.kind != "Sidecar");
    mesh::manifests(&applied.objects, 0).into_iter().chain(shared).collect()
}

/// The smallest set that still shows the disagreement, with both answers. Both stay what they are, except for names.
async fn shrink(mesh: &Mesh<'_>, set: &Set, applied: &Applied, request: &Request, answer: &Answer) -> Result<String> {
    let wanted = kind(mesh, &known(mesh, applied), request, answer);
    let accepted = set.objects.iter().enumerate().filter(|(index, _)| !applied.refused.contains_key(index));
    let objects = accepted.map(|(_, object)| object.clone()).collect();
    let mut smallest = Set { tag: set.tag.clone(), objects, requests: vec![request.clone()] };
    let mut last = (applied.clone(), request.clone(), answer.clone());
    let (mut next, mut round, mut shrunk) = (0, 0, false);
    loop {
        let candidates = shrink::smaller(&smallest, &smallest.requests[0]);
        let Some(rest) = candidates.get(next..).filter(|rest| !rest.is_empty()) else {
            if !std::mem::take(&mut shrunk) {
                break;
            }
            next = 0;
            continue;
        };
        round += 1;
        let names = (0..).map(|index| format!("{}-{round}-{index}", set.tag));
        let renamed: Vec<_> =
            rest.iter().zip(names).take(SHRUNK_AT_ONCE).map(|(one, name)| one.renamed(&name)).collect();
        let applied = mesh.apply(&renamed).await?;
        let all = send_all(mesh, &renamed, &applied).await?;
        let found = all.iter().find(|sent| {
            applied[sent.slot].refused.is_empty()
                && sent.verdict == Verdict::Disagree
                && kind(mesh, &known(mesh, &applied[sent.slot]), sent.request, &sent.answer) == wanted
        });
        match found {
            Some(Sent { slot, request, answer, .. }) => {
                last = (applied[*slot].clone(), (*request).clone(), answer.clone());
                smallest = rest[*slot].clone();
                next += slot;
                shrunk = true;
            }
            None => next += renamed.len(),
        }
        mesh.delete(&renamed).await?;
    }
    let (applied, request, answer) = last;
    Ok(show(mesh, &wanted, &applied, &request, &answer))
}

/// What `explain` and the mesh answer, without names.
fn kind(mesh: &Mesh<'_>, known: &[Manifest], request: &Request, answer: &Answer) -> String {
    let explanation = explanation(mesh, known, request);
    let short = |host: &str| host.split('.').next().unwrap_or_default().to_owned();
    let instead = explanation.instead.as_ref().map(|text| text.split(':').next().unwrap_or_default().to_owned());
    let explained = instead.unwrap_or_else(|| {
        let hosts = explanation.destinations.iter().map(|one| short(&one.host));
        format!("to {}", hosts.collect::<Vec<_>>().join(", "))
    });
    let resource = explanation.resource.as_deref().unwrap_or("no resource").split(' ').next().unwrap_or_default();
    let happened = match answer {
        Answer::Service { host, headers, .. } => {
            let filtered = headers.iter().any(|(name, _)| name == scene::REPORT);
            if filtered != explanation.filter.is_some() {
                let filter = explanation.filter.as_deref().and_then(|id| id.split(' ').next());
                return format!("{BY_FILTER}: {}, happened: {filtered}", filter.unwrap_or("none"));
            }
            format!("to {}", short(host))
        }
        Answer::Proxy { status, .. } => status.to_string(),
    };
    format!("{resource}, explained: {explained}; happened: {happened}")
}

fn show(mesh: &Mesh<'_>, kind: &str, applied: &Applied, request: &Request, answer: &Answer) -> String {
    let filters = mesh.filters.iter().map(|filter| &filter.value).filter(|_| kind.starts_with(BY_FILTER));
    let objects = applied.objects.iter().chain(filters);
    let objects: Vec<_> = objects.map(|object| write::write(&without_code(object))).collect();
    let explanation = explanation(mesh, &known(mesh, applied), request);
    let explained = explanation.to_text(&|location| location.path.to_string());
    format!("--- {kind} ---\n{}\nrequest: {request:?}\nmesh: {answer:?}\nexplain:\n{explained}", objects.join("---\n"))
}

/// A resource without its long texts, which are scripts.
fn without_code(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() > 500 => "…".into(),
        Value::Array(items) => items.iter().map(without_code).collect(),
        Value::Object(members) => {
            members.iter().map(|(key, value)| (key.clone(), without_code(value))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// Why an object is refused, without the names that differ between sets.
fn reason(why: &str) -> String {
    let digits = |letter: char| letter.is_ascii_digit();
    let without_id = why.split_once("is invalid: ").map_or(why, |(_, rest)| rest);
    without_id.replace("set-", "").replace(digits, "")
}

impl Tally {
    /// Applies sets and sends their requests.
    async fn run(&mut self, mesh: &Mesh<'_>, batch: &[Set]) -> Result<()> {
        let applied = mesh.apply(batch).await?;
        for (set, applied) in batch.iter().zip(&applied) {
            self.lint(set, &applied.refused);
        }
        let mut disagreements = Vec::new();
        for sent in send_all(mesh, batch, &applied).await? {
            match &sent.verdict {
                Verdict::Agree => self.agree += 1,
                Verdict::Unknown(why) => *self.unknown.entry(why.clone()).or_default() += 1,
                Verdict::Disagree => disagreements.push(sent),
            }
        }
        self.sets += batch.len() as u64;
        mesh.delete(batch).await?;
        for Sent { slot, set, request, answer, .. } in disagreements {
            let kind = kind(mesh, &known(mesh, &applied[slot]), request, &answer);
            let count = self.disagree.entry(kind).or_default();
            *count += 1;
            if *count == 1 && self.disagree.len() <= SHRUNK {
                println!("{}", shrink(mesh, set, &applied[slot], request, &answer).await?);
            }
        }
        Ok(())
    }

    /// Compares what `lint` says of each object with whether it was refused.
    fn lint(&mut self, set: &Set, refused: &BTreeMap<usize, String>) {
        let findings = lint::run(None, mesh::manifests(&set.objects, 0), None, Timestamp::now());
        for (index, object) in set.objects.iter().enumerate() {
            let of_object = findings.iter().filter(|finding| finding.location.document == Document::Manifest(index));
            let errors: Vec<_> = of_object.filter(|finding| finding.lint.severity == Severity::Error).collect();
            let called_refused = errors.iter().find(|finding| REFUSED.contains(&finding.lint.code));
            match (refused.get(&index), called_refused) {
                (Some(why), _) => {
                    self.refused += 1;
                    if errors.is_empty() {
                        *self.unlinted.entry(reason(why)).or_default() += 1;
                    }
                }
                (None, Some(finding)) => {
                    self.overlinted += 1;
                    let text = format!(
                        "{}\naccepted, but lint: {} {}",
                        write::write(object),
                        finding.lint.code,
                        finding.message
                    );
                    println!("{text}");
                }
                (None, None) => {}
            }
        }
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [unknown, disagree] = [&self.unknown, &self.disagree].map(|counts| counts.values().sum::<u64>());
        let all = self.agree + disagree + unknown;
        write!(
            f,
            "{} sets, {all} requests: {} as explained, {} not, {unknown} unknown; {} objects refused, {} without an error of lint, {} accepted against lint",
            self.sets,
            self.agree,
            disagree,
            self.refused,
            self.unlinted.values().sum::<u64>(),
            self.overlinted
        )?;
        let mut lines = String::new();
        for (head, counts) in [("disagree", &self.disagree), ("unknown", &self.unknown), ("not linted", &self.unlinted)]
        {
            for (why, count) in counts {
                // Writing to a string can't fail.
                let _ = write!(lines, "\n    {count:>6} {head}: {why}");
            }
        }
        f.write_str(&lines)
    }
}

/// How the kind of a disagreement about the filter itself begins.
const BY_FILTER: &str = "filtered, explained";
/// The lints that say that the API server refuses the resource.
const REFUSED: [&str; 4] = ["http-route-limits", "null-field", "refused-route", "wrong-type"];
/// At most `mesh::SLOTS`.
const SETS_AT_ONCE: u64 = 25;
const REQUESTS: usize = 20;
const REQUESTS_AT_ONCE: usize = 16;
/// How often a request is sent that may go to several destinations. One that gets a third of them is then missed once in
/// 100,000 times.
const SENT_TO_SEVERAL: usize = 30;
/// How many kinds of disagreements are made small.
const SHRUNK: usize = 8;
/// How many smaller sets are tried at once.
const SHRUNK_AT_ONCE: usize = 25;
