//! Logs: to stderr, for people on a terminal and as JSON elsewhere.

use std::{
    env,
    io::{self, IsTerminal},
};

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// What a log line looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people when stderr is a terminal, otherwise JSON.
    #[default]
    Auto,
    /// For people.
    Human,
    /// One JSON object per line.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level or filter is not one.
    #[error("{filter:?} is not a log filter such as `info` or `warn,forebay::replay=debug`: {source}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// It was set up before.
    #[error("logging is already set up")]
    Again,
}

/// Sends the logs of the whole process to stderr.
///
/// `FOREBAY_LOG` beats `level`; each is a level (`info`) or a list of them by module (`warn,forebay::replay=debug`). Without either it is `info`.
/// Colours only on a terminal, and not with `NO_COLOR` (<https://no-color.org>).
pub fn init(format: LogFormat, level: Option<&str>) -> Result<(), LogError> {
    let filter = filter(env::var("FOREBAY_LOG").ok().as_deref(), level)?;
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    let colour = terminal && env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let installed = if json {
        tracing::subscriber::set_global_default(json_lines(filter, io::stderr))
    } else {
        tracing::subscriber::set_global_default(human_lines(filter, colour, io::stderr))
    };
    installed.map_err(|_| LogError::Again)
}

fn filter(variable: Option<&str>, level: Option<&str>) -> Result<EnvFilter, LogError> {
    let given = [variable, level].into_iter().flatten().find(|text| !text.trim().is_empty()).unwrap_or("info");
    EnvFilter::builder().parse(given).map_err(|source| LogError::Filter { filter: given.to_owned(), source })
}

fn json_lines<W>(filter: EnvFilter, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        // It would complain on stderr about a stderr that is gone, and panic.
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

fn human_lines<W>(filter: EnvFilter, colour: bool, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .with_target(false)
        .with_ansi(colour)
        .log_internal_errors(false)
        .with_env_filter(filter)
        .with_writer(writer)
        .finish()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Sink {
        fn maker(&self) -> impl for<'a> MakeWriter<'a> + Send + Sync + 'static {
            let sink = self.clone();
            move || sink.clone()
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    #[test]
    fn a_json_line_is_flat() {
        let sink = Sink::default();
        tracing::subscriber::with_default(json_lines(EnvFilter::new("info"), sink.maker()), || {
            tracing::info!(address = %"127.0.0.1:8080", role = "proxy", "listening");
        });
        let mut line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&sink.text()).unwrap();
        assert!(line.remove("timestamp").is_some_and(|value| value.as_str().unwrap().ends_with('Z')));
        let rest = serde_json::json!({"level": "INFO", "message": "listening", "address": "127.0.0.1:8080", "role": "proxy"});
        assert_eq!(serde_json::Value::from(line), rest);
    }

    #[test]
    fn a_line_for_people_has_colour_only_where_asked() {
        for colour in [false, true] {
            let sink = Sink::default();
            tracing::subscriber::with_default(human_lines(EnvFilter::new("info"), colour, sink.maker()), || tracing::info!("listening"));
            assert!(sink.text().contains("listening"));
            assert_eq!(sink.text().contains('\u{1b}'), colour);
        }
    }

    #[test]
    fn the_variable_beats_the_setting_and_info_is_the_default() {
        assert_eq!(filter(Some("debug"), Some("warn")).unwrap().to_string(), "debug");
        assert_eq!(filter(Some(""), Some("warn")).unwrap().to_string(), "warn");
        assert_eq!(filter(None, None).unwrap().to_string(), "info");
        assert!(filter(None, Some("forebay=loud")).unwrap_err().to_string().starts_with("\"forebay=loud\" is not a log filter"));
    }
}
