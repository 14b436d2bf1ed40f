//! What the README says to type, as a new user would: with the program that is built, and a real kubectl on this API.

use std::{
    env, fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, ensure};
use e2e::tools::Tools;
use serde_json::{Value, json};
use testbed::client::Http1;
use tokio::process::Command;

use crate::{
    scene::bearer,
    world::{A, PORT, World, host},
};

/// A user's shell.
pub(crate) struct Shell {
    home: PathBuf,
    path: std::ffi::OsString,
    kubeconfig: PathBuf,
}

/// A command, and the output that the README shows.
pub(crate) struct Typed {
    pub(crate) command: String,
    pub(crate) output: String,
}

/// Installs `manifest-gen` as a plugin of kubectl, writes the plan, and applies what it gives: then a token decides.
pub(crate) async fn readme(world: &World, tools: &Tools, dir: &Path) -> Result<String> {
    let workspace = testbed::workspace_dir();
    let readme = fs::read_to_string(workspace.join("README.md"))?;
    let shell = Shell::of(world, &[("kubectl", &tools.kubectl)], dir)?;

    let install = section(&readme, "### `manifest-gen`")?;
    let plugin: Vec<_> = typed(install).into_iter().filter(|one| one.command.contains("kubectl")).collect();
    ensure!(plugin.len() == 2, "expected the two commands of the plugin, found {}", plugin.len());
    let istio = section(&readme, "## Use it with Istio")?;
    write_files(istio, dir)?;
    // The user's own manifests.
    fs::create_dir_all(dir.join("apps"))?;
    for name in ["microservice-a.yaml", "microservice-b.yaml"] {
        fs::copy(workspace.join("deploy/lua/apps").join(name), dir.join("apps").join(name))?;
    }
    let commands: Vec<_> = plugin.into_iter().chain(typed(istio)).collect();
    for Typed { command, output } in &commands {
        let printed = shell.run(command).await?;
        ensure!(output.is_empty() || printed == *output, "`{command}` should print\n{output}but prints\n{printed}");
    }
    let rendered = &commands.last().context("no command")?.command;
    ensure!(
        rendered.ends_with("| kubectl apply -f -"),
        "expected the command that applies at the end, found {rendered}"
    );

    world.settle().await?;
    let answers = [version(world, &[]).await?, version(world, &[("microservice-A", "PR-1")]).await?];
    shell.run(&rendered.replace("kubectl apply", "kubectl delete")).await?;
    world.settle().await?;
    ensure!(answers == ["main", "PR-1"], "without and with a token, {answers:?} answer");
    Ok(format!("{} commands, and a token decides", commands.len()))
}

impl Shell {
    /// A shell whose home is a folder, with `manifest-gen` and these programs on its path.
    pub(crate) fn of(world: &World, programs: &[(&str, &Path)], home: &Path) -> Result<Self> {
        let bin = home.join(".local/bin");
        fs::create_dir_all(&bin)?;
        fs::copy(world.dist.join("manifest-gen"), bin.join("manifest-gen"))?;
        for (name, program) in programs {
            symlink(program, bin.join(name))?;
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let path = env::join_paths([bin].into_iter().chain(env::split_paths(&path)))?;
        Ok(Self { home: home.to_owned(), path, kubeconfig: world.plane.kubeconfig.clone() })
    }

    /// Runs a command, and returns what it prints. It must succeed.
    pub(crate) async fn run(&self, command: &str) -> Result<String> {
        let mut bash = Command::new("bash");
        bash.args(["-o", "pipefail", "-c", command]).current_dir(&self.home).stdin(Stdio::null());
        bash.env("HOME", &self.home).env("PATH", &self.path).env("KUBECONFIG", &self.kubeconfig);
        let output = bash.output().await.context("cannot run bash")?;
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{command}` fails: {errors}{}", String::from_utf8_lossy(&output.stdout));
        Ok(String::from_utf8(output.stdout)?)
    }
}

/// The version of A that answers a request with these claims, sent through the client's sidecar.
pub(crate) async fn version(world: &World, claims: &[(&str, &str)]) -> Result<String> {
    let claims: serde_json::Map<_, _> = claims.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let token = ("authorization".into(), bearer(&json!(claims)).into());
    let answer = Http1::connect(world.client.addr(PORT)).await?.get(&host(A, A), "/", &[token]).await?;
    let said: Value = serde_json::from_slice(&answer.body).with_context(|| answer.text())?;
    Ok(said["version"].as_str().unwrap_or_default().to_owned())
}

/// A section, without the next one of its level.
pub(crate) fn section<'r>(readme: &'r str, heading: &str) -> Result<&'r str> {
    let (_, section) = readme.split_once(&format!("\n{heading}\n")).with_context(|| format!("no section {heading}"))?;
    let level = heading.split(' ').next().unwrap_or_default();
    Ok(section.split(&format!("\n{level} ")).next().unwrap_or_default())
}

/// The code blocks of a language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

/// Writes the YAML files, which begin with their path as a comment, below a folder.
pub(crate) fn write_files(text: &str, dir: &Path) -> Result<()> {
    for block in blocks(text, "yaml") {
        let name =
            block.strip_prefix("# ").and_then(|block| block.split('\n').next()).context("a file without a name")?;
        let file = dir.join(name);
        fs::create_dir_all(file.parent().context("a file in a folder")?)?;
        fs::write(file, block)?;
    }
    Ok(())
}

/// The commands of the consoles.
pub(crate) fn typed(text: &str) -> Vec<Typed> {
    let mut commands: Vec<Typed> = Vec::new();
    for block in blocks(text, "console") {
        for line in block.lines() {
            match (line.strip_prefix("$ "), commands.last_mut()) {
                (Some(command), _) => commands.push(Typed { command: command.to_owned(), output: String::new() }),
                (None, Some(last)) if last.output.is_empty() && last.command.ends_with('\\') => {
                    last.command.extend(["\n", line]);
                }
                (None, Some(last)) => last.output.extend([line, "\n"]),
                (None, None) => {}
            }
        }
    }
    commands
}
