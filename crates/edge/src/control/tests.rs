//! The socket as its clients meet it: what is bounded, who is dropped, what an answer looks like. Real sockets; what is behind them is
//! a desk that does what each test needs.

use std::future::{Future, pending};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::protocol::REQUEST_MOST;
use super::serve::{Outcome, Steps, accept};
use super::{Command, Control, Gone, Place, Scale, connect, open};

/// A folder of a test's own, gone with it.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("bandstand-control-{}-{count}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server whose desk is `answer`.
fn serve<A, F>(folder: &Folder, answer: A) -> Control
where
    A: Fn(Command, Steps) -> F + Clone + Send + 'static,
    F: Future<Output = Outcome> + Send + 'static,
{
    let control = open(&Place::at(folder.path().join("shop.sock"))).unwrap();
    tokio::spawn(accept(control.listener().unwrap(), answer, pending()));
    control
}

fn fields(value: Value) -> Outcome {
    let Value::Object(fields) = value else { panic!("an object") };
    Ok(fields)
}

/// All lines of the answer to `request`.
async fn ask(control: &Control, request: &[u8]) -> Vec<Value> {
    let mut stream = UnixStream::connect(control.path()).await.unwrap();
    // The server may have closed before all is sent.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    // What it did not read makes its end a reset, after the answer.
    let _ = stream.read_to_end(&mut answer).await;
    answer.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[tokio::test]
async fn an_answer_is_progress_and_one_last_line() {
    let folder = Folder::new();
    let control = serve(&folder, |command, steps| async move {
        assert_eq!(command, Command::Reload);
        for step in ["importing", "2 of 2 workers ready"] {
            steps.send(step.to_owned()).unwrap();
            tokio::task::yield_now().await;
        }
        fields(json!({ "generation": 2 }))
    });
    let lines = ask(&control, b"{\"bandstand\":1,\"command\":\"reload\"}\n").await;
    assert_eq!(
        lines,
        [
            json!({"progress": "importing"}),
            json!({"progress": "2 of 2 workers ready"}),
            json!({"done": true, "ok": true, "generation": 2}),
        ]
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_told_why() {
    let folder = Folder::new();
    let control = serve(&folder, |_, _| async { panic!("nothing to do") });
    let long = vec![b' '; REQUEST_MOST + 10];
    for (request, why) in [
        (&b"nonsense\n"[..], "no JSON object"),
        (b"{\"bandstand\":9,\"command\":\"status\"}\n", "version 9"),
        (b"{\"bandstand\":1,\"command\":\"explode\"}\n", "no command `explode`"),
        (b"\xff\xfe\n", "no JSON object"),
        (b"\n", "no JSON object"),
        (&long, "longer than 65536 bytes"),
    ] {
        let lines = ask(&control, request).await;
        assert_eq!(lines.len(), 1, "{why}: {lines:?}");
        assert_eq!((&lines[0]["done"], &lines[0]["ok"]), (&json!(true), &json!(false)));
        assert!(lines[0]["error"].as_str().unwrap().contains(why), "{lines:?}");
    }
}

#[tokio::test]
async fn a_request_may_come_in_pieces_and_must_be_whole() {
    let folder = Folder::new();
    let control = serve(&folder, |_, _| async { fields(json!({})) });
    let mut stream = UnixStream::connect(control.path()).await.unwrap();
    for piece in ["{\"bandstand\":1,", "\"command\":\"reopen\"}", "\n"] {
        stream.write_all(piece.as_bytes()).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "{\"done\":true,\"ok\":true}\n");

    let mut stream = UnixStream::connect(control.path()).await.unwrap();
    stream.write_all(b"{\"bandstand\":1,\"command\":\"reopen\"}").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("cut"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_nothing_is_dropped() {
    let folder = Folder::new();
    let control = serve(&folder, |_, _| async { fields(json!({})) });
    let mut stream = UnixStream::connect(control.path()).await.unwrap();
    let mut answer = String::new();
    // The clock stands still until everybody waits, then jumps to the next timer.
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("no request within 10 s"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped() {
    let folder = Folder::new();
    let control = serve(&folder, |_, _| async { fields(json!({ "status": "x".repeat(8 << 20) })) });
    let mut stream = UnixStream::connect(control.path()).await.unwrap();
    stream.write_all(b"{\"bandstand\":1,\"command\":\"status\"}\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.is_empty() && answer.len() < 8 << 20, "{} bytes were all", answer.len());
}

#[tokio::test]
async fn one_client_too_many_is_told_so() {
    let folder = Folder::new();
    let control = serve(&folder, |_, _| pending());
    let mut waiting = Vec::new();
    for _ in 0..32 {
        let mut stream = UnixStream::connect(control.path()).await.unwrap();
        stream.write_all(b"{\"bandstand\":1,\"command\":\"reload\"}\n").await.unwrap();
        waiting.push(stream);
    }
    let lines = ask(&control, b"{\"bandstand\":1,\"command\":\"status\"}\n").await;
    assert!(lines[0]["error"].as_str().unwrap().contains("32 clients"), "{lines:?}");
}

#[tokio::test]
async fn the_client_speaks_as_the_server_does() {
    let folder = Folder::new();
    let control = serve(&folder, |command, steps| async move {
        match command {
            Command::Scale(Scale::By(by)) => {
                steps.send("one more".to_owned()).unwrap();
                fields(json!({ "workers": 2 + by }))
            }
            _ => Err("Traceback\nImportError: no shop".to_owned()),
        }
    });
    let place = Place::at(control.path().to_owned());
    let told = tokio::task::spawn_blocking(move || {
        let connection = connect(&place).unwrap();
        let mut steps = Vec::new();
        let scale = Command::Scale(Scale::By(1));
        let done = connection.order(&scale, None, |step| steps.push(step.to_owned()));
        (done, steps, connection.order(&Command::Reload, None, |_| {}), connection.ask::<u32>(&scale, "cups"))
    });
    let (done, steps, failed, missing) = told.await.unwrap();
    assert_eq!(done.unwrap().get("workers"), Some(&json!(3)));
    assert_eq!(steps, ["one more"]);
    assert_eq!(failed, Err(Gone::Refused("Traceback\nImportError: no shop".to_owned())));
    assert!(matches!(missing, Err(Gone::Cut(why)) if why.contains("`cups`")));
}

#[tokio::test]
async fn a_socket_that_was_handed_over_answers_who_is_in_and_nobody_new() {
    let folder = Folder::new();
    let control = std::sync::Arc::new(open(&Place::at(folder.path().join("shop.sock"))).unwrap());
    let (open_gate, gate) = tokio::sync::watch::channel(false);
    let serving = {
        let control = control.clone();
        tokio::spawn(async move {
            let answer = move |_, steps: Steps| {
                let mut gate = gate.clone();
                async move {
                    steps.send("begun".to_owned()).unwrap();
                    gate.wait_for(|open| *open).await.unwrap();
                    fields(json!({}))
                }
            };
            accept(control.listener().unwrap(), answer, control.handed_over()).await;
        })
    };
    let mut inside = UnixStream::connect(control.path()).await.unwrap();
    inside.write_all(b"{\"bandstand\":1,\"command\":\"reload\"}\n").await.unwrap();
    let mut begun = [0; 21];
    inside.read_exact(&mut begun).await.unwrap();
    control.hand_over();
    // Let in by nobody: it stays in the kernel's queue, for the program that has the socket now.
    let mut outside = UnixStream::connect(control.path()).await.unwrap();
    outside.write_all(b"{\"bandstand\":1,\"command\":\"reload\"}\n").await.unwrap();
    open_gate.send(true).unwrap();
    let mut answer = String::new();
    inside.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "{\"done\":true,\"ok\":true}\n");
    serving.await.unwrap();
    let mut heir = control.listener().unwrap().accept().await.unwrap().0;
    let mut request = [0; 10];
    heir.read_exact(&mut request).await.unwrap();
}

#[test]
fn where_nothing_runs() {
    let folder = Folder::new();
    let path = folder.path().join("shop.sock");
    let not_running = |place: &Place| match connect(place) {
        Err(Gone::NotRunning(sentence)) => sentence,
        other => panic!("{other:?}"),
    };
    let wanted = format!("not running for this project (no control socket at {})", path.display());
    assert_eq!(not_running(&Place::at(path.clone())), wanted);
    // A server that was killed leaves its file behind.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(not_running(&Place::at(path)), wanted);
}

#[tokio::test]
async fn of_several_servers_one_must_be_chosen() {
    let folder = Folder::new();
    let place = Place::within(
        super::place::Surroundings {
            uid: rustix::process::geteuid().as_raw(),
            run: folder.path().join("none"),
            xdg: None,
            tmp: folder.path().to_owned(),
        },
        None,
    );
    let servers = [101, 202].map(|pid| {
        let control = open(&place).unwrap();
        let status = json!({ "pid": pid, "addresses": [format!("http://127.0.0.1:{pid}")] });
        let answer = Map::from_iter([("status".to_owned(), status)]);
        tokio::spawn(accept(
            control.listener().unwrap(),
            move |_, _| {
                let answer = answer.clone();
                async move { Ok(answer) }
            },
            pending(),
        ));
        control
    });
    let asked = place.clone();
    let Err(Gone::Several(sentence)) = tokio::task::spawn_blocking(move || connect(&asked)).await.unwrap()
    else {
        panic!("there are two");
    };
    for control in &servers {
        assert!(sentence.contains(&format!("--control {}", control.path().display())), "{sentence}");
    }
    assert!(sentence.contains("(pid 202, http://127.0.0.1:202)"), "{sentence}");
}
