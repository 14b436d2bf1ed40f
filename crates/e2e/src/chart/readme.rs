//! What the README says to type to install the controller, and the controller as the Deployment runs it.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use e2e::{
    Cluster, Program, Readiness, RunningController,
    tools::{self, Tools},
    until,
};
use serde_json::{Value, json};

use super::{
    NAMESPACE, chart,
    installed::{DIGEST, command},
};
use crate::{
    scenarios::readme::{Shell, section, typed, version, write_files},
    world::{A, World},
};

/// After the commands of the README, a labelled Service is a version that a token chooses, until the plan is deleted. Returns the
/// number of commands.
pub(super) async fn readme(world: &World, tools: &Tools, dir: &Path) -> Result<usize> {
    let workspace = testbed::workspace_dir();
    let readme = fs::read_to_string(workspace.join("README.md"))?;
    let section = section(&readme, "## Use it with the controller")?;
    let shell = Shell::of(world, &[("kubectl", &tools.kubectl), ("helm", &tools.helm_4)], dir)?;
    write_files(section, dir)?;
    std::os::unix::fs::symlink(workspace.join("deploy"), dir.join("deploy"))?;
    let cluster = &world.cluster;
    let workload = workload();
    cluster.apply(&workload).await?;

    let commands = typed(section);
    let mut commands = commands.iter();
    let push = &commands.next().context("no command")?.command;
    // The images come from `cargo xtask package`, which compiles for minutes.
    ensure!(push == "cargo xtask package --push REGISTRY", "expected the command that pushes, found {push}");
    let mut controller = None;
    let mut count = 1;
    for one in commands {
        let typed = one.command.replace("sha256:…", DIGEST).replace("REGISTRY/", "127.0.0.1:5000/");
        if typed.contains("kubectl get") {
            printed(&shell, &typed, &one.output).await?;
        } else {
            shell.run(&typed).await?;
        }
        count += 1;
        if typed.starts_with("helm install") {
            controller = Some(start(world, dir).await?);
        }
    }
    let controller = controller.context("no command installs the controller")?;
    world.settle().await?;
    let answers = [version(world, &[]).await?, version(world, &[("microservice-A", "PR-1")]).await?];
    ensure!(answers == ["main", "PR-1"], "without and with a claim, {answers:?} answer\n{}", controller.log_tail());
    let metrics = shown_metrics(&controller.get("/metrics").await?.1);

    // What docs/controller.md says to type before the controller goes.
    shell.run("kubectl delete routingplans --all --all-namespaces").await?;
    until("the deletion of the routes", PATIENCE, async || {
        let left = written(&shell).await?;
        Ok(Readiness::of(left.is_empty(), || format!("{left} is left\n{}", controller.log_tail())))
    })
    .await?;
    controller.stop().await?;
    shell.run("helm uninstall routing-claims --namespace routing-claims").await?;
    shell.run(&format!("kubectl label service --namespace {A} pr-1 {SERVICE}- {VARIANT}-")).await?;
    cluster.delete(&Cluster::id(&workload)).await?;
    let missing: Vec<_> = named_in_rules()?.difference(&metrics).cloned().collect();
    ensure!(missing.is_empty(), "the alerts ask for {missing:?}, which the controller does not show: {metrics:?}");
    Ok(count)
}

/// Runs a command until it prints what the README shows, whatever the spaces and the ages.
async fn printed(shell: &Shell, command: &str, expected: &str) -> Result<()> {
    let words = |text: &str| text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
    let without_age = |lines: Vec<Vec<String>>| -> Vec<Vec<String>> {
        lines
            .into_iter()
            .map(|mut words| {
                words.pop();
                words
            })
            .collect()
    };
    let expected: Vec<Vec<String>> = without_age(words(expected));
    until(command, PATIENCE, async || {
        let found = without_age(words(&shell.run(command).await?));
        Ok(Readiness::of(found == expected, || format!("expected {expected:?}, found {found:?}")))
    })
    .await
}

/// The objects that a plan's controller owns.
async fn written(shell: &Shell) -> Result<String> {
    let kinds = "virtualservices,envoyfilters,wasmplugins,requestauthentications,telemetries,httproutes";
    shell
        .run(&format!(
            "kubectl get {kinds} --all-namespaces --selector routing-claims.dev/plan-namespace --output name"
        ))
        .await
}

/// The controller with the command of the Deployment and the permissions of its service account.
async fn start(world: &World, dir: &Path) -> Result<RunningController> {
    let named = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "routing-claims-controller", "namespace": NAMESPACE},
    });
    let deployment = world.cluster.get(&named).await?.context("no Deployment")?;
    let command = command(&deployment)?;
    let (name, arguments) = command.split_first().context("no command")?;
    let path = tools::controller().await?;
    // The image has it at the root.
    ensure!(Path::new(name).file_name() == path.file_name(), "the Deployment runs {name}");
    // The address is that of this run, and the Envoys have each change in less than a second.
    let own = |argument: &&String| !["--listen=", "--settle-seconds="].iter().any(|own| argument.starts_with(own));
    let arguments = arguments.iter().filter(own).cloned().chain(["--settle-seconds=1".to_owned()]);
    let program = Program { path, api: world.plane.api(), arguments: arguments.collect(), environment: Vec::new() };
    let addr = world.net.addr(CONTROLLER, 8080);
    let mut controller = RunningController::spawn(&program, &world.cluster, addr, dir).await?;
    controller.ready().await?;
    Ok(controller)
}

/// The names of the metrics in Prometheus' text format.
fn shown_metrics(text: &str) -> BTreeSet<String> {
    let names = text.lines().filter_map(|line| line.split(['{', ' ']).next());
    names.filter(|name| name.starts_with(METRICS)).map(str::to_owned).collect()
}

/// The metrics of the controller that its alerts ask for.
fn named_in_rules() -> Result<BTreeSet<String>> {
    let rules = fs::read_to_string(Path::new(&chart()).join("files/controller-rules.yaml"))?;
    let words = rules.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    Ok(words.filter(|word| word.starts_with(METRICS)).map(str::to_owned).collect())
}

/// The workload of A, whose pods get the filter's label. Nothing makes pods of it: its sidecar runs already.
fn workload() -> Value {
    let labels = json!({"app": A});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": A, "namespace": A},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": A, "image": "a"}]}},
        },
    })
}

const SERVICE: &str = "routing-claims.dev/service";
const VARIANT: &str = "routing-claims.dev/variant";
const METRICS: &str = "routing_claims_controller_";
const CONTROLLER: u8 = 7;
const PATIENCE: Duration = Duration::from_secs(60);
