//! The command line: what is typed, read from and written to the outside, and nothing else.

mod diff;
mod explain;
mod files;
mod lint;
mod manifests;
mod migrate;
mod prune;
mod render;
mod token;

use std::{
    env, fmt,
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;
use miette::{GraphicalReportHandler, GraphicalTheme};
use serde_json::json;

use routing_plan::plan::{self, RoutingPlan, RoutingVariant};

use crate::{diagnostic::FileDiagnostic, token::without_tokens};

/// Render every Kubernetes resource of a mesh that routes by JWT claims, and check it before the cluster does.
///
/// Data goes to stdout, messages to stderr. Exit codes: 0 success, 1 findings or a difference, 2 invalid arguments or input.
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

/// Without the arguments: one may be a token.
impl fmt::Debug for Cli {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cli").finish_non_exhaustive()
    }
}

/// Print the JSON Schema of a plan or a variant file.
///
/// Editors use it to check and complete a file whose first line is
/// `# yaml-language-server: $schema=plan.schema.json`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  manifest-gen schema plan > plan.schema.json")]
struct SchemaArgs {
    /// The kind of file; default: either.
    of: Option<SchemaOf>,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum SchemaOf {
    Plan,
    Variant,
}

/// Print the completion script of a shell.
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
    /// Name of a command, such as `render` or `token mint`; default: the program.
    command: Vec<String>,
}

/// Runs the command of the process' arguments.
#[must_use]
pub fn main() -> ExitCode {
    let name = env::args_os().next().unwrap_or_default();
    let matches = command_named(Path::new(&name)).try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            let text = error.render();
            note(&if colours() { text.ansi().to_string() } else { text.to_string() });
            return ExitCode::from(Exit::Invalid as u8);
        }
        // `--help` or `--version`.
        Err(error) => error.exit(),
    };
    match cli.command.run() {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(diagnostics) => {
            show(&diagnostics);
            ExitCode::from(Exit::Invalid as u8)
        }
    }
}

/// The command line under the name by which a program was started. kubectl starts a plugin `kubectl-routing_claims` for
/// `kubectl routing-claims`.
fn command_named(program: &Path) -> clap::Command {
    let is_plugin = program.file_stem().is_some_and(|name| name == "kubectl-routing_claims");
    if is_plugin { Cli::command().bin_name("kubectl routing-claims") } else { Cli::command() }
}

/// Format of a command's output.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// The exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done = 0,
    Findings = 1,
    Invalid = 2,
}

type Result<T> = std::result::Result<T, Vec<FileDiagnostic>>;

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
                .ok_or_else(|| vec![FileDiagnostic::new(format!("unknown command `{name}`"))])?;
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(found.clone())
            .render(&mut page)
            .map_err(|error| vec![FileDiagnostic::new(error.to_string())])?;
        Ok(String::from_utf8_lossy(&page).into_owned())
    }
}

/// Writes data to stdout, whose reader may stop early.
fn print(text: &str) -> Result<Exit> {
    match io::stdout().lock().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(vec![FileDiagnostic::new(format!("can't write to stdout: {error}"))])
        }
        _ => Ok(Exit::Done),
    }
}

/// Writes a message to stderr, without tokens (R17): a misplaced argument may be one. If that fails, there is nowhere left
/// to report it.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", without_tokens(text.trim_end()));
}

fn colours() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none()
}

fn show(diagnostics: &[FileDiagnostic]) {
    let theme = if colours() { GraphicalTheme::unicode() } else { GraphicalTheme::unicode_nocolor() };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(120).with_links(false);
    for diagnostic in diagnostics {
        let mut text = String::new();
        if handler.render_report(&mut text, diagnostic.report().as_ref()).is_err() {
            text = diagnostic.to_string();
        }
        note(&text);
    }
    let count = diagnostics.len();
    note(&format!("{count} {}", if count == 1 { "error" } else { "errors" }));
}

/// An option's value in another format than expected. It is not repeated: it may be a token.
#[derive(Debug, thiserror::Error)]
#[error("expected `{0}`")]
struct UnexpectedFormat(&'static str);

/// Reads an option's value of two parts.
fn parse_pair(
    text: &str,
    separator: char,
    format: &'static str,
) -> std::result::Result<(String, String), UnexpectedFormat> {
    let (first, second) = text.split_once(separator).ok_or(UnexpectedFormat(format))?;
    Ok((first.to_owned(), second.to_owned()))
}
