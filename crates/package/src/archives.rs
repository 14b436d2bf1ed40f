//! Archives of `manifest-gen`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use manifest_gen::cli::Cli;
use package::{
    archive::{self, Entry},
    images::Program,
    layout::digest,
    release::Release,
};

use super::read;

/// Writes an archive for each program, and adds its checksum to `SHA256SUMS`.
pub(crate) fn write(release: &Release, dist: &Path, programs: &[Program], licenses: &[Entry]) -> Result<Vec<PathBuf>> {
    let documents = documents()?;
    let sums = dist.join("SHA256SUMS");
    let mut lines: Vec<String> = String::from_utf8(read(&sums)?)?.lines().map(str::to_owned).collect();
    lines.retain(|line| !line.ends_with(".tar.gz"));
    let mut archives = Vec::new();
    for Program { target, bytes, .. } in programs {
        let name = format!("{NAME}-{}-{target}", release.version);
        let files = [Entry::program(NAME, bytes.as_slice())].into_iter();
        let files = files.chain(licenses.iter().chain(&documents).cloned());
        let entries: Vec<_> = files.map(|file| file.within(&name)).collect();
        let archive = archive::gzip(&archive::tar(&entries)?)?;
        let path = dist.join(format!("{name}.tar.gz"));
        fs::write(&path, &archive).with_context(|| format!("cannot write {}", path.display()))?;
        lines.push(format!("{}  {name}.tar.gz", digest(&archive).trim_start_matches("sha256:")));
        archives.push(path);
    }
    lines.sort_by(|a, b| a.split_whitespace().next_back().cmp(&b.split_whitespace().next_back()));
    let text = lines.iter().fold(String::new(), |text, line| text + line + "\n");
    fs::write(&sums, text).with_context(|| format!("cannot write {}", sums.display()))?;
    Ok(archives)
}

/// Everything in an archive but the program and the licenses: how to install it, its man pages and its completion scripts.
fn documents() -> Result<Vec<Entry>> {
    let mut documents = vec![Entry::file("README.md", include_str!("archive.md"))];
    for shell in [Shell::Bash, Shell::Fish, Shell::Zsh] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
        documents.push(Entry::file(format!("completions/{NAME}.{shell}"), script));
    }
    let mut command = Cli::command();
    command.build();
    add_man_pages(&command, &mut documents)?;
    Ok(documents)
}

fn add_man_pages(command: &Command, documents: &mut Vec<Entry>) -> Result<()> {
    let page = Man::new(command.clone());
    let mut text = Vec::new();
    page.render(&mut text)?;
    documents.push(Entry::file(format!("man/{}", page.get_filename()), text));
    command.get_subcommands().filter(|one| one.get_name() != "help").try_for_each(|one| add_man_pages(one, documents))
}

const NAME: &str = "manifest-gen";
