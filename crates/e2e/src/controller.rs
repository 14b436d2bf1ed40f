//! The controller, in a mesh of its own: what it writes, and that nothing is lost whatever happens around it.

mod base_ref;
mod claims;
mod equality;
mod faults;
mod hostile;
mod life;
mod ownership;
mod permissions;
mod plans;
mod readiness;
mod stage;

use std::path::Path;

use anyhow::Result;

use crate::{scenarios::Running, world::World};

pub(crate) use stage::Stage;

/// A row of results. Each starts with the plan in force and the controller running, and can change both.
pub(crate) struct Part {
    pub(crate) name: &'static str,
    /// Whether it is too long for each run.
    long: bool,
    /// Returns what was counted.
    run: Run,
}

type Run = for<'s> fn(&'s mut Stage) -> Running<'s>;

/// The parts of a run whose names contain a text.
pub(crate) fn parts(text: &str, long: bool) -> Vec<&'static Part> {
    PARTS.iter().filter(|part| part.name.contains(text) && (long || !part.long)).collect()
}

/// Runs parts, one after the other, and reports each. Returns the number of requests that were sent under load.
pub(crate) async fn run(
    world: World,
    parts: &[&Part],
    long: bool,
    dir: &Path,
    mut report: impl AsyncFnMut(&str, Running<'_>),
) -> Result<u64> {
    let all_parts = parts.len() == self::parts("", long).len();
    let mut stage = Stage::set(world, long, all_parts, dir).await?;
    for part in parts {
        report(part.name, (part.run)(&mut stage)).await;
        if let Err(error) = stage.reset().await {
            report("controller: as before it", Box::pin(std::future::ready(Err(error)))).await;
            break;
        }
    }
    Ok(stage.under_load)
}

const PARTS: &[Part] = &[
    part("controller: a life with drain", |stage| Box::pin(life::with_drain(stage))),
    part("controller: without drain", |stage| Box::pin(life::without_drain(stage))),
    part("controller: readiness", |stage| Box::pin(readiness::readiness(stage))),
    part("controller: expiry", |stage| Box::pin(readiness::expiry(stage))),
    part("controller: two claims", |stage| Box::pin(claims::two_claims(stage))),
    part("controller: an invalid plan", |stage| Box::pin(plans::invalid(stage))),
    part("controller: baseRef", |stage| Box::pin(base_ref::base_ref(stage))),
    part("controller: drift", |stage| Box::pin(ownership::drift(stage))),
    part("controller: a stranger's object", |stage| Box::pin(ownership::stranger(stage))),
    part("controller: a plan goes", |stage| Box::pin(plans::goes(stage))),
    part("controller: restart", |stage| Box::pin(plans::restart(stage))),
    part("controller: --dry-run", |stage| Box::pin(plans::dry_run(stage))),
    part("controller: hostile Services", |stage| Box::pin(hostile::one_of_each(stage))),
    part("controller: many Services", |stage| Box::pin(hostile::many(stage))),
    part("controller: two controllers", |stage| Box::pin(faults::two_controllers(stage))),
    part("controller: without the API", |stage| Box::pin(faults::without_the_api(stage))),
    part("controller: without istiod", |stage| Box::pin(faults::without_istiod(stage))),
    part("controller: watches expire", |stage| Box::pin(faults::watches_expire(stage))),
    part("controller: refused writes", |stage| Box::pin(faults::refused(stage))),
    part("controller: concurrent writes", |stage| Box::pin(faults::concurrent(stage))),
    part("controller: older definitions", |stage| Box::pin(faults::older_definitions(stage))),
    Part { long: true, ..part("controller: clock jumps", |stage| Box::pin(faults::clock(stage))) },
    part("controller: equals render", |stage| Box::pin(equality::equality(stage))),
    part("controller: permissions", |stage| Box::pin(std::future::ready(permissions::permissions(stage)))),
];

const fn part(name: &'static str, run: Run) -> Part {
    Part { name, long: false, run }
}
