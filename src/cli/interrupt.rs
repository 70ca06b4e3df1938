//! Control-C.

use tokio_util::sync::CancellationToken;

use super::Exit;

/// The first interrupt ends the run in good order; the second one at once.
pub fn stop_on_interrupt() -> CancellationToken {
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        let mut again = false;
        while tokio::signal::ctrl_c().await.is_ok() {
            if again {
                #[expect(clippy::disallowed_methods, reason = "asked for twice: now, whatever is in hand")]
                std::process::exit(i32::from(Exit::Interrupted.code()));
            }
            again = true;
            token.cancel();
        }
    });
    stop
}
