//! The director: lets the story run, shows it, obeys the user, and closes the books at the end.

use std::{future::Future, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout},
};

use super::{
    DemoError,
    books::{self, Books},
    journal::Journal,
    keys::{self, Key},
    load::{Load, Settings},
    report::{Circumstances, report},
    schedule::{self, Act, Cue},
    screen::{Screen, Seen, View, sentence},
    servers::{Event, Servers, Temper, Which},
    stage::{Stage, Status, configuration},
    workbook,
};

/// How long the queue may take to become empty once the load has stopped.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);

/// Name of the spreadsheet that a user may upload.
const SAMPLE: &str = "orders.xlsx";

/// Plays the whole story in `folder`. True when the books balance.
pub async fn direct(total: Duration, folder: &Path) -> Result<bool, DemoError> {
    let (events, told) = mpsc::channel(64);
    let temper = Temper { step: Duration::from_millis(20), uploads_at_once: 6, away: Some(schedule::away(total)) };
    let servers = Servers::start(temper, &events)?;
    let stage = Stage::start(&configuration(folder, servers.admin.address(), servers.app.address())?, folder)?;
    tokio::fs::write(folder.join(SAMPLE), workbook::workbook(&workbook::orders("TRY", 25))?).await?;

    let screen = Screen::new();
    screen.print(&invitation(total, folder, &servers, &stage));
    let balanced = Show::new(total, screen, &servers, &stage, told)?.play().await;
    stage.stop().await?;
    balanced
}

/// Everything that runs, and what is known of it.
struct Show<'a> {
    total: Duration,
    began: Instant,
    act: &'static str,
    screen: Screen,
    servers: &'a Servers,
    stage: &'a Stage,
    journal: Arc<Journal>,
    status: Option<Status>,
    told: mpsc::Receiver<Event>,
    keys: mpsc::Receiver<Key>,
    signals: [Signal; 2],
    ticks: tokio::time::Interval,
}

impl<'a> Show<'a> {
    fn new(
        total: Duration,
        screen: Screen,
        servers: &'a Servers,
        stage: &'a Stage,
        told: mpsc::Receiver<Event>,
    ) -> Result<Self, DemoError> {
        let mut ticks = interval(screen.interval());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Self {
            total,
            began: Instant::now(),
            act: "",
            screen,
            servers,
            stage,
            journal: Arc::default(),
            status: None,
            told,
            keys: keys::listen(),
            signals: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?],
            ticks,
        })
    }

    async fn play(mut self) -> Result<bool, DemoError> {
        let settings = Settings::gentle(self.stage.proxy(), self.servers.admin.address());
        let mut load = Load::start(settings, Arc::clone(&self.journal))?;
        self.began = Instant::now();
        self.ticks.reset();
        if self.acts(&load).await.is_break() {
            self.screen.say("ending early: the books are closed all the same");
        }
        self.act = "the load has stopped; the queue is worked off";
        self.screen.say(self.act);
        load.stop();
        for which in Which::ALL {
            self.servers.get(which).revive();
        }

        let stage = self.stage;
        let ended = async {
            load.finished().await;
            timeout(DRAIN_LIMIT, empty(stage)).await.is_ok()
        };
        let ControlFlow::Continue(_) = self.watch(ended).await else { return Err(DemoError::Interrupted) };
        Ok(self.close().await)
    }

    async fn acts(&mut self, load: &Load) -> ControlFlow<()> {
        let (began, total) = (self.began, self.total);
        for Act { at, title, cue } in schedule::acts(total) {
            self.watch(sleep_until(began + at)).await?;
            self.act = title;
            self.screen.say(title);
            match cue {
                Cue::Calm => {}
                Cue::Rush(rush) => load.rush(rush),
                Cue::Crash(which) => self.crash(&[which]),
                Cue::CrashBoth => self.crash(&Which::ALL),
            }
        }
        self.watch(sleep_until(began + total)).await
    }

    fn crash(&self, these: &[Which]) {
        for &which in these {
            // One that is away already, by the user's hand, stays away.
            self.servers.get(which).crash("its power is gone", Some(schedule::away(self.total)));
        }
    }

    /// Shows what happens and obeys the user until `end` comes. Breaks when the user wants to stop.
    async fn watch<T>(&mut self, end: impl Future<Output = T>) -> ControlFlow<(), T> {
        let mut end = std::pin::pin!(end);
        let [interrupt, terminate] = &mut self.signals;
        loop {
            tokio::select! {
                result = &mut end => return ControlFlow::Continue(result),
                _ = interrupt.recv() => return ControlFlow::Break(()),
                _ = terminate.recv() => return ControlFlow::Break(()),
                Some(event) = self.told.recv() => self.screen.say(&sentence(&event)),
                Some(key) = self.keys.recv() => match key {
                    Key::Toggle(which) => toggle(self.servers, which, self.total),
                    Key::Quit => return ControlFlow::Break(()),
                },
                _ = self.ticks.tick() => {
                    self.status = self.stage.status().await.ok();
                    self.screen.show(&View {
                        act: self.act,
                        elapsed: self.began.elapsed(),
                        total: self.total,
                        tally: self.journal.tally(),
                        servers: Which::ALL.map(|which| seen(self.servers, which)),
                        status: self.status.as_ref(),
                    });
                }
            }
        }
    }

    async fn close(mut self) -> bool {
        let status = self.stage.status().await.map_err(|error| error.to_string());
        let [admin, app] = Which::ALL.map(|which| self.servers.get(which).ledger().pages());
        let sent = self.journal.entries();
        let books: Books = books::close(&sent, &admin, &app, status.as_ref().map_err(Clone::clone));
        let circumstances = Circumstances {
            tally: sent.tally,
            refusals: self.journal.reasons(),
            repeats: admin.repeats + app.repeats,
            outages: Which::ALL.map(|which| self.servers.get(which).outages()),
        };
        self.screen.close();
        self.screen.print(&format!("\n{}", report(&books, status.as_ref().ok(), &circumstances)));
        books.faults.is_empty()
    }
}

fn seen(servers: &Servers, which: Which) -> Seen {
    let server = servers.get(which);
    Seen { which, up: server.is_up(), at_work: server.at_work(), entries: server.ledger().extent().entries }
}

fn toggle(servers: &Servers, which: Which, total: Duration) {
    let server = servers.get(which);
    if !server.revive() {
        server.crash("you pulled its plug", Some(schedule::away(total)));
    }
}

/// Resolves when nothing is queued or being delivered any more.
async fn empty(stage: &Stage) {
    while !stage.status().await.is_ok_and(|status| status.totals().open() == 0) {
        sleep(Duration::from_millis(200)).await;
    }
}

fn invitation(total: Duration, folder: &Path, servers: &Servers, stage: &Stage) -> String {
    let (proxy, admin, control) = (stage.proxy(), stage.admin(), servers.control);
    let sample = folder.join(SAMPLE);
    format!(
        "forebay demo: two stand-in legacy servers, forebay before them, and a load for {} s\n\
         \n  clients come to    http://{proxy}  (/admin/orders/ leads to admin, everything else to app)\
         \n  open               http://{admin}/api/v1/status\
         \n                     http://{admin}/metrics\
         \n  data               {}\
         \n\nTry in another terminal, best while a server is down:\
         \n  curl -i -F 'file=@{}' http://{proxy}/admin/orders/\
         \n  curl -i -d '{{\"id\":\"try-1\",\"driver\":\"you\",\"parcel\":\"try\",\"sequence\":1}}' http://{proxy}/marks\
         \n  curl -i http://{proxy}/parcels/1-1\
         \n  forebay status --admin http://{admin}\
         \nBreak something:\
         \n  curl -X POST http://{control}/crash/admin    (also /crash/app, /revive/admin, /revive/app)\
         \n  or type here: a + Enter crashes admin or brings it back, p + Enter does the same to app, q + Enter ends early\n",
        total.as_secs(),
        folder.display(),
        sample.display(),
    )
}
