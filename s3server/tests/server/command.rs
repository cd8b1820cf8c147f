//! The binary.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::client::*;

/// Ends the child whatever happens.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str]) -> (Running, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pailfs-s3"))
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let endpoint = line.trim().strip_prefix("listening on ").unwrap().to_owned();
    (Running(child), endpoint)
}

fn signal(running: &Running, name: &str) {
    let pid = running.0.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

#[tokio::test]
async fn it_serves_until_a_signal_and_keeps_objects_even_when_killed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects");
    let arguments =
        [path.to_str().unwrap(), "--access-key", "me", "--secret-key", "mine", "--bucket", BUCKET];
    for (round, name) in ["-TERM", "-KILL", "-INT"].into_iter().enumerate() {
        let (mut running, endpoint) = start(&arguments);
        let client = client_with(&endpoint, "me", "mine", "us-east-1");
        put(&client, &format!("k{round}"), name).await;
        let listed = client.list_objects_v2().bucket(BUCKET).send().await.unwrap();
        assert_eq!(listed.key_count(), Some(round as i32 + 1));
        assert_eq!(get(&client, "k0").await, b"-TERM");
        signal(&running, name);
        assert_eq!(running.0.wait().unwrap().success(), name != "-KILL");
    }
}
