//! Pages of the documentation that are generated from the code.

use std::fmt::Write;

use clap::{Command, CommandFactory};

use routing_plan::{
    lint,
    plan::{self, RoutingPlan, RoutingVariant},
};

use crate::cli::Cli;

/// `docs/lints.md`.
#[must_use]
pub fn lints_markdown() -> String {
    lint::markdown()
}

/// `docs/cli.md`: the help of every command.
#[must_use]
pub fn cli_markdown() -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut page = String::from("# `manifest-gen`\n\nThe `--help` of every command.\n");
    section(&mut page, &mut command, "manifest-gen");
    page
}

/// `docs/plan.schema.json`.
#[must_use]
pub fn plan_schema() -> String {
    format!("{:#}\n", plan::schema::<RoutingPlan>())
}

/// `docs/variant.schema.json`.
#[must_use]
pub fn variant_schema() -> String {
    format!("{:#}\n", plan::schema::<RoutingVariant>())
}

fn section(page: &mut String, command: &mut Command, name: &str) {
    let help = command.render_long_help().to_string();
    let help = help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    // Writing to a string can't fail.
    let _ = write!(page, "\n## {name}\n\n```text\n{}\n```\n", help.trim_end());
    for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
        let name = format!("{name} {}", sub.get_name());
        section(page, sub, &name);
    }
}
