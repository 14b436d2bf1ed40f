//! The command line: what is typed, read from and written to the outside, and nothing else.

mod diff;
mod explain;
mod files;
mod lint;
mod migrate;
mod prune;
mod render;
mod token;

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use jiff::Timestamp;
use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::json;

use crate::{show, token::without_tokens};
use routing_plan::{
    model,
    plan::{self, RoutingPlan, RoutingVariant},
    problem::Problem,
};

/// One plan to every manifest of a mesh that routes by JWT claims, and answers before the cluster sees it.
///
/// Data goes to stdout, messages to stderr. Exit codes: 0 done, 1 findings or a difference, 2 wrong usage or input.
#[derive(Parser)]
#[command(
    name = "manifest-gen",
    version,
    max_term_width = 100,
    after_help = "\
Example:
  manifest-gen render -f plan.yaml -f variants/ | kubectl apply -f -"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Render(render::Args),
    Lint(lint::Args),
    Explain(Box<explain::Args>),
    Diff(diff::Args),
    Prune(prune::Args),
    Migrate(migrate::Args),
    Token(token::Args),
    Schema(SchemaArgs),
    Completions(CompletionsArgs),
    Man(ManArgs),
}

/// Without arguments: one may be a token.
impl fmt::Debug for Cli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cli").finish_non_exhaustive()
    }
}

/// Print the JSON Schema of a plan or a fragment.
///
/// Editors check and complete a file with it: `# yaml-language-server: $schema=plan.schema.json` in its first line.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  manifest-gen schema plan > plan.schema.json")]
struct SchemaArgs {
    /// Of what; default: of both, as alternatives.
    of: Option<SchemaOf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SchemaOf {
    Plan,
    Variant,
}

/// Print a script that completes commands and options in a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  manifest-gen completions bash > /etc/bash_completion.d/manifest-gen")]
struct CompletionsArgs {
    shell: Shell,
}

/// Print the man page of the program or of one command.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  manifest-gen man render | man -l -")]
struct ManArgs {
    /// Name of a command, `token mint` in two words; default: the program.
    command: Vec<String>,
}

/// Runs the command of the process' arguments.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let text = error.render();
            note(&if colours() { text.ansi().to_string() } else { text.to_string() });
            return ExitCode::from(Exit::Unusable as u8);
        }
        // `--help` or `--version`.
        Err(error) => error.exit(),
    };
    match cli.command.run() {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(problems) => {
            show(&problems);
            ExitCode::from(Exit::Unusable as u8)
        }
    }
}

/// Form of what a command tells.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// How a command ended when its input was usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Findings = 1,
    Unusable = 2,
}

type Result<T> = std::result::Result<T, Vec<Problem>>;

impl Command {
    fn run(&self) -> Result<Exit> {
        match self {
            Self::Render(args) => args.run(),
            Self::Lint(args) => args.run(),
            Self::Explain(args) => args.run(),
            Self::Diff(args) => args.run(),
            Self::Prune(args) => args.run(),
            Self::Migrate(args) => args.run(),
            Self::Token(args) => args.run(),
            Self::Schema(args) => print(&args.text()),
            Self::Completions(args) => {
                let mut script = Vec::new();
                clap_complete::generate(args.shell, &mut Cli::command(), "manifest-gen", &mut script);
                print(&String::from_utf8_lossy(&script))
            }
            Self::Man(args) => print(&args.text()?),
        }
    }
}

impl SchemaArgs {
    fn text(&self) -> String {
        let schema = match self.of {
            Some(SchemaOf::Plan) => plan::schema::<RoutingPlan>(),
            Some(SchemaOf::Variant) => plan::schema::<RoutingVariant>(),
            None => {
                let (mut plan, mut variant) = (plan::schema::<RoutingPlan>(), plan::schema::<RoutingVariant>());
                let mut definitions = plan["$defs"].take();
                if let (Some(all), Some(more)) = (definitions.as_object_mut(), variant["$defs"].take().as_object()) {
                    all.extend(more.clone());
                }
                for schema in [&mut plan, &mut variant] {
                    schema.as_object_mut().map(|fields| (fields.remove("$defs"), fields.remove("$schema")));
                }
                json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$defs": definitions, "oneOf": [plan, variant] })
            }
        };
        format!("{schema:#}\n")
    }
}

impl ManArgs {
    fn text(&self) -> Result<String> {
        let mut command = Cli::command();
        command.build();
        let mut found = &command;
        for name in &self.command {
            found = found
                .find_subcommand(name)
                .ok_or_else(|| vec![Problem::new(format!("there is no command `{name}`"))])?;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(found.clone())
            .render(&mut page)
            .map_err(|error| vec![Problem::new(error.to_string())])?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}

/// Writes data. Whoever reads it may stop early.
fn print(text: &str) -> Result<Exit> {
    match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(vec![Problem::new(format!("can't write to stdout: {error}"))])
        }
        _ => Ok(Exit::Done),
    }
}

/// Writes a message, in which no token is shown (R17): an argument in the wrong place may be one. There is nowhere to
/// complain if that fails.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", without_tokens(text.trim_end()));
}

fn colours() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

fn show(problems: &[Problem]) {
    let theme = if colours() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(120).with_links(false);
    for problem in problems {
        let mut text = String::new();
        if handler.render_report(&mut text, show::report(problem).as_ref()).is_err() {
            text = problem.to_string();
        }
        note(&text);
    }
    let count = problems.len();
    note(&format!("{count} {}", if count == 1 { "error" } else { "errors" }));
}

/// Reads the time of an option.
fn parse_time(text: &str) -> std::result::Result<Timestamp, String> {
    model::parse_time(text)
}
