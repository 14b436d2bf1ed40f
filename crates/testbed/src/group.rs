//! A command that is stopped together with everything that it started.

use std::process::{ExitStatus, Output};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, ChildStderr, Command};

/// A child and its descendants, in a process group of their own. Dropping it stops those that still run.
///
/// Ctrl-C in a terminal does not reach them: the owner waits for the signal and drops the group.
#[derive(Debug)]
pub struct Group {
    leader: Child,
    id: Pid,
}

impl Group {
    /// Starts the command.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn spawn(command: &mut Command) -> Result<Self> {
        let program = command.as_std().get_program().display().to_string();
        let leader = command.process_group(0).spawn().with_context(|| format!("cannot run {program}"))?;
        let id = leader.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Ok(Self { leader, id: id.context("a child without a process id")? })
    }

    /// The standard error of the command, if it is piped. Only the first call returns it.
    pub fn stderr(&mut self) -> Option<ChildStderr> {
        self.leader.stderr.take()
    }

    /// Waits for the command's end.
    ///
    /// # Errors
    ///
    /// If the operating system does not return its status.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        Ok(self.leader.wait().await?)
    }

    /// Waits for the command's end, and reads its output to the end if it is piped.
    ///
    /// # Errors
    ///
    /// If reading fails, or the operating system does not return its status.
    pub async fn output(&mut self) -> Result<Output> {
        let (stdout, stderr) = (self.leader.stdout.take(), self.leader.stderr.take());
        let (stdout, stderr, status) = tokio::try_join!(read(stdout), read(stderr), self.wait())?;
        Ok(Output { status, stdout, stderr })
    }

    /// Also reaps the leader, because until then the leader counts as a member of the group.
    fn is_alive(&mut self) -> bool {
        self.leader.try_wait().ok();
        test_kill_process_group(self.id).is_ok()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // An orphan that nobody reaps counts as alive, so the wait needs a deadline.
        let deadline = Instant::now() + PATIENCE;
        for signal in [Signal::TERM, Signal::KILL] {
            if !self.is_alive() {
                return;
            }
            // Fails only if all of them have ended in the meantime.
            kill_process_group(self.id, signal).ok();
            while self.is_alive() && Instant::now() < deadline {
                std::thread::sleep(POLL);
            }
        }
    }
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

const PATIENCE: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[tokio::test]
    async fn a_grandchild_ends_with_its_group() {
        // The leader has exited by the time the grandchild is stopped.
        assert_ends("sleep 600 & echo ready").await;
    }

    #[tokio::test]
    async fn a_process_that_ignores_sigterm_is_killed() {
        assert_ends("trap '' TERM; echo ready; while :; do sleep 1; done").await;
    }

    async fn assert_ends(script: &str) {
        let mut group = Group::spawn(Command::new("sh").args(["-c", script]).stdout(Stdio::piped())).unwrap();
        let mut stdout = group.leader.stdout.take().unwrap();
        let mut ready = [0; 6];
        stdout.read_exact(&mut ready).await.unwrap();
        drop(group);
        // The pipe closes when the last process that holds it ends.
        let end = tokio::time::timeout(Duration::from_secs(10), stdout.read(&mut ready)).await;
        assert_eq!(end.expect("all have ended").unwrap(), 0);
    }
}
