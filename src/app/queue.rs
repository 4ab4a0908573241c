//! A backend's replay, as the admin listener sees and governs it.

use std::{sync::Arc, time::Duration};

use crate::{
    admin::{QueueView, api},
    config::units::{parse_rate, show_rate},
    envelope::{Clock, Name},
    replay::{Handle, Profile, Settings},
    store::Store,
};

/// A backend's replay, as the admin listener sees it.
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) replay: Arc<Handle>,
    pub(super) store: Arc<dyn Store>,
    pub(super) clock: Clock,
}

impl QueueView for Queue {
    fn replay_rate(&self) -> f64 {
        self.replay.status(self.clock.now()).rate
    }

    fn drained_in(&self) -> Option<Duration> {
        let counts = self.store.counts();
        let of_backend = counts.routes.iter().filter(|route| route.backend == self.name);
        let left = of_backend.map(|route| route.totals.queued + route.totals.delivering).sum();
        self.replay.drained_in(left, self.clock.now())
    }

    fn paused(&self) -> bool {
        self.replay.is_paused()
    }

    fn set_paused(&self, paused: bool) {
        if self.replay.is_paused() != paused {
            let (backend, what) = (&self.name, if paused { "paused" } else { "resumed" });
            tracing::info!(%backend, paused, "backend {backend}: replay is {what}, as an operator asked");
        }
        self.replay.set_paused(paused);
    }

    fn pace(&self) -> api::Replay {
        let (status, settings) = (self.replay.status(self.clock.now()), self.replay.settings());
        api::Replay {
            profile: status.profile.as_str().into(),
            rate: settings.rate.map(show_rate),
            concurrency: settings.concurrency,
            in_flight: status.in_flight,
            window: status.window,
            slow_start: status.slow_start,
            ramp: status.ramp.as_str().into(),
            hold: status.hold.as_str().into(),
            held_until: status.held_until.map(|until| until.to_string()),
            slowdown: status.slowdown,
            growing: status.growing,
            growing_keys: status.growing_keys,
            auth_expired: status.auth_expired,
            estimate_ratio: status.estimate_ratio,
        }
    }

    fn set_replay(&self, change: &api::ReplayChange) -> Result<(), String> {
        self.replay.set(changed(self.replay.settings(), change)?);
        let (backend, pace) = (&self.name, self.pace());
        tracing::info!(
            %backend, profile = pace.profile, rate = pace.rate, concurrency = pace.concurrency,
            "backend {backend}: an operator changed its replay, until the configuration is loaded again"
        );
        Ok(())
    }
}

/// The settings with that change.
fn changed(mut settings: Settings, change: &api::ReplayChange) -> Result<Settings, String> {
    if let Some(name) = &change.profile {
        let all = [Profile::Gentle, Profile::Fast, Profile::Fixed];
        settings.profile = all
            .into_iter()
            .find(|profile| profile.as_str() == name)
            .ok_or_else(|| format!("profile {name:?} is not one of gentle, fast, fixed"))?;
    }
    match change.rate.as_deref() {
        None => {}
        Some("none") => settings.rate = None,
        Some(text) => {
            let rate = parse_rate(text)
                .map_err(|_| format!("rate {text:?} is not \"none\" or a number from 1 and one of /s, /min, /h, such as \"50/s\""))?;
            settings.rate = Some(rate);
        }
    }
    if let Some(most) = change.concurrency {
        settings.concurrency = (most > 0).then_some(most);
    }
    if settings.profile == Profile::Fixed && settings.concurrency.is_none() {
        return Err("the profile fixed heeds nothing but what it is given: say a concurrency too, such as 8".into());
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::replay::Rate;

    #[test]
    fn a_change_of_replay_leaves_what_it_does_not_name() {
        let rate = |count| Some(Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(1) });
        let before = Settings { profile: Profile::Gentle, rate: rate(50), concurrency: Some(8) };
        let change = |profile: Option<&str>, rate: Option<&str>, concurrency| {
            let text = |text: Option<&str>| text.map(ToOwned::to_owned);
            changed(before.clone(), &api::ReplayChange { profile: text(profile), rate: text(rate), concurrency })
        };
        assert_eq!(change(None, None, None), Ok(before.clone()));
        assert_eq!(change(None, Some("5/s"), None), Ok(Settings { rate: rate(5), ..before.clone() }));
        assert_eq!(change(Some("fast"), Some("none"), Some(0)), Ok(Settings { profile: Profile::Fast, rate: None, concurrency: None }));
        for (profile, rate, concurrency, wrong) in [
            (Some("quick"), None, None, "quick"),
            (None, Some("fast"), None, "50/s"),
            (None, Some("0/s"), None, "50/s"),
            (Some("fixed"), None, Some(0), "concurrency"),
        ] {
            let error = change(profile, rate, concurrency).unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }
}
