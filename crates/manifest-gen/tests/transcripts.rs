//! Transcripts of the command line: documentation that is run.

#[test]
fn transcripts() {
    trycmd::TestCases::new().case("tests/transcripts/*.md").env("NO_COLOR", "1");
}

#[test]
fn every_command_has_an_example() {
    let page = manifest_gen::docs::cli_markdown();
    for section in page.split("\n## ").skip(1) {
        assert!(section.contains("Example"), "{section}");
    }
}

/// What `deploy/` holds is what its plans give.
#[test]
fn the_examples_are_rendered() {
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    for (folder, files) in [
        ("lua", &["plan.yaml", "variants"][..]),
        ("wasm", &["plan.yaml"]),
        ("module", &["plan.yaml"]),
        ("httproute", &["plan.yaml"]),
    ] {
        let run = |arguments: &[&str]| {
            let files = files.iter().flat_map(|file| ["-f", file]);
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_manifest-gen"));
            command.current_dir(deploy.join(folder)).arg(arguments[0]).args(files).args(&arguments[1..]);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{folder}: {}", String::from_utf8_lossy(&output.stdout));
            String::from_utf8(output.stdout).unwrap()
        };
        run(&["render", "--check", "rendered"]);
        assert_eq!(run(&["lint", "--manifests", "apps"]), "", "{folder}");
    }
}

/// A plan and what was rendered from it are the same to `diff`.
#[test]
fn the_examples_differ_in_nothing_from_their_plans() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/lua");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_manifest-gen"));
    let output = command.current_dir(folder).args(["diff", "plan.yaml,variants", "rendered"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(output.status.code(), Some(0));
}

/// A plugin of kubectl has another name, which its help and its errors use.
#[test]
#[cfg(unix)]
fn as_a_plugin_of_kubectl_it_is_named_like_one() {
    let folder = tempfile::tempdir().unwrap();
    let plugin = folder.path().join("kubectl-routing_claims");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_manifest-gen"), &plugin).unwrap();
    for arguments in [&["--help"][..], &["render", "--help"], &["render", "--nonsense"]] {
        let output = std::process::Command::new(&plugin).args(arguments).output().unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        let usage =
            format!("Usage: kubectl routing-claims {}", if arguments.len() == 2 { "render" } else { "<COMMAND>" });
        assert!(text.contains(&usage), "{arguments:?}: {text}");
    }
}
