//! Every signal of the table arrives as its command. Alone in its process, since signals go to all of it.
#![forbid(unsafe_code)]

use bandstand_supervisor::{Command, listen};
use rustix::process::{Signal, getpid, kill_process};

#[tokio::test]
async fn each_signal_is_its_command() {
    let mut commands = listen().unwrap();
    let rows = [
        (Signal::TERM, Command::Stop),
        (Signal::INT, Command::StopNow),
        (Signal::QUIT, Command::StopNow),
        (Signal::HUP, Command::Reload),
        (Signal::TTIN, Command::MoreWorkers),
        (Signal::TTOU, Command::FewerWorkers),
        (Signal::USR1, Command::ReopenLogs),
        (Signal::USR2, Command::Upgrade),
        (Signal::HUP, Command::Reload),
    ];
    for (signal, command) in rows {
        kill_process(getpid(), signal).unwrap();
        assert_eq!(commands.recv().await, Some(command), "{signal:?}");
    }
}
