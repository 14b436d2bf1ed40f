//! Python packages with programs, installed from `PyPI` into virtual environments.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::process::Command;

use crate::Group;

/// Installs packages into a virtual environment of their own, with the Python on `path`. `finish` gets the directory before it
/// is moved to `home`, so that an interrupted installation is never mistaken for a complete one.
///
/// # Errors
///
/// If there is no Python, or pip cannot install the packages. The error says what to install, and ends with the last lines of the
/// output.
pub async fn install(
    path: &OsStr,
    home: &Path,
    packages: &[&str],
    finish: impl AsyncFnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let parent = home.parent().context("the target directory has no parent directory")?;
    fs::create_dir_all(parent)?;
    let parent = parent.canonicalize()?;
    let dir = tempfile::Builder::new().prefix("venv-").tempdir_in(&parent)?;

    run(Command::new("python3").env("PATH", path).args(["-m", "venv"]).arg(dir.path()))
        .await
        .context("install Python 3.10 or newer with its venv module (Debian, Ubuntu: `apt install python3-venv`)")?;
    let pip = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input"];
    run(Command::new(dir.path().join("bin/python3")).args(pip).args(packages)).await.with_context(|| {
        format!("pip could not install {}; it needs the network once and Python 3.10 or newer", packages.join(" and "))
    })?;
    finish(dir.path()).await?;

    // What exists there does not run.
    if let Err(error) = fs::remove_dir_all(home)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("cannot remove {}", home.display()));
    }
    let dir = dir.keep();
    if let Err(error) = fs::rename(&dir, home) {
        fs::remove_dir_all(&dir).ok();
        return Err(error).with_context(|| format!("cannot move {} to {}", dir.display(), home.display()));
    }
    Ok(())
}

/// Locks out other processes and threads as long as the file is open.
///
/// # Errors
///
/// If the file cannot be created or locked.
pub async fn lock(path: &Path) -> Result<File> {
    let context = || format!("cannot lock {}", path.display());
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).with_context(context)?;
    }
    let file = File::create(path).with_context(context)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(Errno::WOULDBLOCK) => tokio::time::sleep(LOCK_POLL).await,
            Err(error) => return Err(error).with_context(context),
        }
    }
}

/// Runs a command to its end. Returns its standard output, or the last lines of its output if it fails.
pub(crate) async fn run(command: &mut Command) -> Result<String> {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // `venv` and `pip` start children of their own.
    let output = Group::spawn(piped)?.output().await?;
    ensure!(output.status.success(), tail(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn tail(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if shown.is_empty() { output.status.to_string() } else { shown.join("\n") }
}

const LOCK_POLL: Duration = Duration::from_millis(100);

const TAIL_LINES: usize = 4;
