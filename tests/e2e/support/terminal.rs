//! A person's terminal: blocks of shell, one after the other, in one folder, with what earlier blocks exported and started.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::Command;

use crate::support::cluster::{REPO, run};
use crate::support::wait::{eventually, seconds};

/// Variables that earlier blocks exported.
const EXPORTS: &str = ".exports";

pub(crate) struct Terminal {
    folder: TempDir,
    blocks: usize,
    /// Process groups of blocks that left something running.
    groups: Vec<u32>,
}

impl Terminal {
    /// In a new folder that has the parts of the checkout that the documents name.
    pub(crate) fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let repo = Path::new(REPO).canonicalize().unwrap();
        std::fs::create_dir(folder.path().join("target")).unwrap();
        for part in ["helm", "examples", "target/images"] {
            std::os::unix::fs::symlink(repo.join(part), folder.path().join(part)).unwrap();
        }
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(awrit(&repo), folder.path().join("bin/awrit")).unwrap();
        Self {
            folder,
            blocks: 0,
            groups: Vec::new(),
        }
    }

    /// Where blocks run, and the home of who types them.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs a block to its end, or until it has printed `until`. What it printed; `Err` when it failed.
    pub(crate) async fn run(&mut self, block: &str, until: Option<&str>) -> Result<String, String> {
        self.blocks += 1;
        let folder = self.folder.path();
        let printed = folder.join(format!("{}.printed", self.blocks));
        let output = File::create(&printed).unwrap();
        let script = format!("[ ! -e {EXPORTS} ] || . ./{EXPORTS}\n{block}\nexport -p > {EXPORTS}");
        let path = std::env::var("PATH").unwrap();
        let mut bash = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &script])
            .current_dir(folder)
            .env("HOME", folder)
            .env("PATH", format!("{}:{path}", folder.join("bin").display()))
            .stdin(Stdio::null())
            // Files, because what a block leaves running would keep a pipe open.
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap();
        let group = bash.id().unwrap();
        self.groups.push(group);
        let ended = eventually(block, seconds(150), async || {
            let printed = String::from_utf8_lossy(&std::fs::read(&printed).unwrap()).into_owned();
            let status = bash.try_wait().unwrap();
            match (until, status) {
                (Some(words), _) if printed.contains(words) => Ok(Ok(printed)),
                (None, Some(status)) if status.success() => Ok(Ok(printed)),
                (_, Some(status)) => Ok(Err(format!("{status}:\n{printed}"))),
                (_, None) => Err(printed),
            }
        })
        .await
        .0;
        if until.is_some() {
            signal("TERM", group);
            bash.wait().await.unwrap();
        }
        self.groups.retain(|group| signal("0", *group));
        ended
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        for group in &self.groups {
            signal("TERM", *group);
        }
    }
}

/// Whether the process group exists, and took the signal.
fn signal(name: &str, group: u32) -> bool {
    let kill = format!("kill -s {name} -- -{group}");
    run("bash", &["-c", &kill]).unwrap().status.success()
}

/// The program of this checkout.
fn awrit(repo: &Path) -> PathBuf {
    let built = ["lean", "release", "debug"].map(|folder| repo.join("target").join(folder).join("awrit"));
    let found = built.into_iter().find(|path| path.is_file());
    found.expect("target/lean/awrit is not there; run: scripts/images.sh build")
}

#[tokio::test]
async fn a_block_sees_what_earlier_blocks_exported_and_made() {
    let mut terminal = Terminal::open();
    let made = "export WHO='a b' \\\n  HOW=c\necho told > file";
    terminal.run(made, None).await.unwrap();
    let printed = terminal.run("echo \"$WHO $HOW $(cat file)\"", None).await;
    assert_eq!(printed.unwrap(), "a b c told\n");
}

#[tokio::test]
async fn a_block_with_a_command_that_fails_is_an_error() {
    let mut terminal = Terminal::open();
    for block in ["false\ntrue", "false | cat", "echo \"$NOT_SET\""] {
        assert!(terminal.run(block, None).await.is_err(), "{block}");
    }
    let error = terminal.run("echo one", Some("two")).await.unwrap_err();
    assert!(error.contains("one"), "{error}");
}

/// Waits until nobody holds the lock any more; a process that has ended but is still listed holds none.
async fn free(lock: &str) {
    eventually("the lock is free", seconds(10), async || {
        let output = run("flock", &["--nonblock", lock, "true"])?;
        if output.status.success() {
            Ok(())
        } else {
            Err("it is held".to_owned())
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_block_leaves_running_ends_with_the_terminal() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lock = file.path().to_str().unwrap();
    let mut terminal = Terminal::open();
    let held = format!("exec 9>{lock}\nflock 9\necho begun\ntail -f /dev/null");
    terminal.run(&held, Some("begun")).await.unwrap();
    free(lock).await;
    terminal.run(&format!("{held} &"), None).await.unwrap();
    assert!(
        !run("flock", &["--nonblock", lock, "true"]).unwrap().status.success(),
        "it runs on"
    );
    drop(terminal);
    free(lock).await;
}
