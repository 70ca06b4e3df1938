//! `maitred ui`: the page of the fleet.

use std::io::Write;

use anyhow::Context;
use clap::Args;
use tokio::net::TcpListener;

use super::interrupt::stop_on_interrupt;
use super::{Exit, Overrides};
use crate::broker::nats::Broker;
use crate::config::{Settings, UiToken};
use crate::page::fleet::Fleet;
use crate::page::guard::Access;

/// Serve a page that shows the fleet: lanes, workers, backfills, alarms, results by restaurant, dead letters.
///
/// On loopback everybody on this machine may look. Beyond it `ui.token_file` is wanted, because results quote what
/// guests wrote. Whoever has the token may also replay and drop dead letters; without one nobody can.
#[derive(Debug, Clone, Args)]
pub struct UiArgs {
    /// Where to serve it; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
}

impl UiArgs {
    /// The settings that flags give.
    pub fn overrides(&self) -> Overrides {
        Overrides::default().set("ui.listen", "--listen", self.listen.as_ref())
    }
}

/// Runs the command until it is interrupted.
pub async fn run(settings: &Settings, to: &mut impl Write) -> anyhow::Result<Exit> {
    let ui = &settings.ui;
    let token = ui.token.as_ref().map(UiToken::read).transpose()?;
    let access = Access::new(ui.listen, token.as_deref())?;
    let listener = TcpListener::bind(ui.listen)
        .await
        .with_context(|| format!("cannot serve the page on {}; correct `ui.listen`", ui.listen))?;
    let at = listener.local_addr()?;
    // The page may be opened before its servers are there: it says what is missing.
    let broker = Broker::connect_patiently(&settings.nats, "maitred ui").await?;
    let fleet = Fleet::new(broker, access);
    writeln!(to, "http://{at}/")?;
    to.flush()?;
    let watching = tokio::spawn(fleet.clone().watch());
    let stop = stop_on_interrupt();
    // Without waiting for connections: a browser keeps its own open for as long as it likes.
    tokio::select! {
        served = axum::serve(listener, fleet.routes(at)) => served?,
        () = stop.cancelled() => {}
    }
    watching.abort();
    Ok(Exit::Ok)
}
