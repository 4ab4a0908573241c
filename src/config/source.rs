//! Where the configuration comes from: flags, `FOREBAY_*` variables, a file. The first of these that speaks wins.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    Config, ConfigError, check,
    fault::Faults,
    file::{File, Listener, Route, STORE_FILE, Spill},
    read::{At, Section, Table, Value},
    values::Named,
};
use crate::{
    backend::ServerAddress,
    envelope::Name,
    proxy::{ListenAddress, PathMatch},
};

/// Where a file is looked for when none is named.
const SEARCHED: [&str; 2] = ["config.toml", "/etc/forebay/config.toml"];

/// What the command line says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: a file.
    pub config: Option<PathBuf>,
    /// `--backend`: no file, everything goes to this URL.
    pub backend: Option<String>,
    /// `--listen`: in place of all listeners.
    pub listen: Option<String>,
    /// `--data`: the folder of the store.
    pub data: Option<PathBuf>,
    /// `--log-level`: in place of `log.level`.
    pub log_level: Option<String>,
}

/// A text and the flag or variable that it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Said {
    by: &'static str,
    text: String,
}

/// A configuration that can be loaded, and loaded again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    base: Base,
    listen: Option<Said>,
    data: Option<PathBuf>,
    log_level: Option<Said>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    File(PathBuf),
    Backend(Said),
}

/// Why it is not known where the configuration is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Nothing was named and nothing was found.
    #[error(
        "no configuration found: neither ./config.toml nor /etc/forebay/config.toml exists\n\
         Name a file with `-c FILE` or FOREBAY_CONFIG, or start without one: forebay run --backend http://127.0.0.1:3000"
    )]
    NotFound,
    /// A file and a backend, in the same way.
    #[error("{0} and {1} exclude each other: a file says which backends there are")]
    Both(&'static str, &'static str),
}

impl Source {
    /// The source that flags and variables name. `variable` reads the environment, `exists` looks for a file.
    pub fn choose(flags: Flags, variable: impl Fn(&str) -> Option<String>, exists: impl Fn(&Path) -> bool) -> Result<Self, SourceError> {
        // An empty variable is as good as none: that is how it is unset in a unit or compose file.
        let variable = |name: &'static str| variable(name).filter(|text| !text.is_empty()).map(|text| Said { by: name, text });
        let said = |flag: &'static str, given: Option<String>, name| given.map(|text| Said { by: flag, text }).or_else(|| variable(name));
        let by_variable = || match (variable("FOREBAY_CONFIG"), variable("FOREBAY_BACKEND")) {
            (Some(_), Some(_)) => Err(SourceError::Both("FOREBAY_CONFIG", "FOREBAY_BACKEND")),
            (Some(config), None) => Ok(Base::File(config.text.into())),
            (None, Some(backend)) => Ok(Base::Backend(backend)),
            (None, None) => {
                let found = SEARCHED.iter().map(Path::new).find(|path| exists(path));
                found.map(|path| Base::File(path.into())).ok_or(SourceError::NotFound)
            }
        };
        let base = match (flags.config, flags.backend) {
            (Some(_), Some(_)) => return Err(SourceError::Both("--config", "--backend")),
            (Some(config), None) => Base::File(config),
            (None, Some(text)) => Base::Backend(Said { by: "--backend", text }),
            (None, None) => by_variable()?,
        };
        Ok(Self {
            base,
            listen: said("--listen", flags.listen, "FOREBAY_LISTEN"),
            data: flags.data.or_else(|| variable("FOREBAY_DATA").map(|said| said.text.into())),
            log_level: said("--log-level", flags.log_level, "FOREBAY_LOG_LEVEL"),
        })
    }

    /// Just that file.
    pub(super) fn file(path: &Path) -> Self {
        Self { base: Base::File(path.into()), listen: None, data: None, log_level: None }
    }

    /// Just that backend.
    pub(super) fn quick(backend: &str, listen: &str, data: &Path) -> Self {
        let said = |by, text: &str| Said { by, text: text.into() };
        Self {
            base: Base::Backend(said("--backend", backend)),
            listen: Some(said("--listen", listen)),
            data: Some(data.into()),
            log_level: None,
        }
    }

    /// What it is called in messages: the file's path, or the flag.
    pub fn name(&self) -> String {
        match &self.base {
            Base::File(path) => path.display().to_string(),
            Base::Backend(backend) => format!("{} {}", backend.by, backend.text),
        }
    }

    /// Reads and checks it. May be called again when the file may have changed.
    pub fn load(&self) -> Result<Config, ConfigError> {
        match &self.base {
            Base::File(path) => {
                let bytes = fs::read(path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
                match std::str::from_utf8(&bytes) {
                    Ok(text) => check::document(&self.name(), text, |file, faults| self.apply(file, faults)),
                    Err(error) => Err(check::not_utf8(&self.name(), &bytes, error)),
                }
            }
            Base::Backend(backend) => check::without_file("command line", |file, faults| {
                one_backend(backend, file, faults);
                self.apply(file, faults);
            }),
        }
    }

    /// Puts what flags and variables say in the place of what the file says.
    fn apply(&self, file: &mut File, faults: &mut Faults) {
        if let Some(address) = self.listen.as_ref().and_then(|said| value::<ListenAddress>(said, faults)) {
            file.listeners = At::nowhere(vec![At::nowhere(Listener::plain(address))]);
        }
        if let Some(data) = &self.data {
            file.store.path = At::nowhere(data.join(STORE_FILE));
        }
        if let Some(level) = self.log_level.as_ref().and_then(|said| value(said, faults)) {
            file.log.level = At::nowhere(level);
        }
    }
}

fn value<T: Value>(said: &Said, faults: &mut Faults) -> Option<T> {
    T::text(&said.text).map_err(|wrong| faults.wrong(None, said.by, T::NOUN, wrong)).ok()
}

/// One backend, `backend`, and one route to it, `all`, whose writes spill.
fn one_backend(said: &Said, file: &mut File, faults: &mut Faults) {
    let Some(address) = value::<ServerAddress>(said, faults) else { return };
    let mut backend = super::file::Backend::keys(&mut Table::absent(faults));
    backend.servers = Some(At::nowhere(vec![At::nowhere(address)]));
    let name: Name = "backend".into();
    let mut route = Route::keys(&mut Table::absent(faults));
    route.matched.name = Some(At::nowhere("all".into()));
    route.matched.path = Some(At::nowhere(PathMatch::Prefix("/".into())));
    route.backend = Some(At::nowhere(name.clone()));
    route.spill = Some(At::nowhere(Spill::keys(&mut Table::absent(faults))));
    file.backends = Some(At::nowhere(Named(vec![(At::nowhere(name), backend)])));
    file.routes = Some(At::nowhere(vec![At::nowhere(route)]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::ListenerSettings;

    fn choose(flags: Flags, variables: &[(&str, &str)], files: &[&str]) -> Result<Source, SourceError> {
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, text)| (*text).to_owned());
        Source::choose(flags, variable, |path| files.iter().any(|file| Path::new(file) == path))
    }

    fn name(flags: Flags, variables: &[(&str, &str)], files: &[&str]) -> String {
        choose(flags, variables, files).unwrap().name()
    }

    fn config(path: &str) -> Flags {
        Flags { config: Some(path.into()), ..Flags::default() }
    }

    fn backend(url: &str) -> Flags {
        Flags { backend: Some(url.into()), ..Flags::default() }
    }

    #[test]
    fn flags_beat_variables_and_variables_beat_files() {
        let files = &["config.toml", "/etc/forebay/config.toml"];
        let env = &[("FOREBAY_CONFIG", "env.toml")];
        assert_eq!(name(config("flag.toml"), env, files), "flag.toml");
        assert_eq!(name(backend("http://a"), env, files), "--backend http://a");
        assert_eq!(name(Flags::default(), env, files), "env.toml");
        assert_eq!(name(Flags::default(), &[("FOREBAY_BACKEND", "http://b")], files), "FOREBAY_BACKEND http://b");
        assert_eq!(name(config("flag.toml"), &[("FOREBAY_BACKEND", "http://b")], files), "flag.toml");
        assert_eq!(name(Flags::default(), &[("FOREBAY_CONFIG", "")], files), "config.toml");
        assert_eq!(name(Flags::default(), &[], &files[1..]), "/etc/forebay/config.toml");
    }

    #[test]
    fn nothing_found_and_two_at_once_are_errors() {
        assert_eq!(choose(Flags::default(), &[], &[]), Err(SourceError::NotFound));
        let both = [("FOREBAY_CONFIG", "a"), ("FOREBAY_BACKEND", "b")];
        assert_eq!(choose(Flags::default(), &both, &[]), Err(SourceError::Both("FOREBAY_CONFIG", "FOREBAY_BACKEND")));
    }

    #[test]
    fn flags_and_variables_stand_in_for_what_the_file_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        let text = "[[listeners]]\naddress = '127.0.0.1:1'\n[[listeners]]\naddress = '127.0.0.1:2'\n[log]\nlevel = 'warn'\n\
                    [backends.a]\nservers = ['http://a']\n[[routes]]\nname = 'a'\npath = '/'\nbackend = 'a'\n";
        fs::write(&path, text).unwrap();
        let flags = Flags { config: Some(path), listen: Some("127.0.0.1:3".into()), ..Flags::default() };
        let env = [("FOREBAY_LISTEN", "127.0.0.1:4"), ("FOREBAY_DATA", "/q"), ("FOREBAY_LOG_LEVEL", "debug")];
        let config = choose(flags, &env, &[]).unwrap().load().unwrap();
        assert_eq!(config.proxy.listeners, [ListenerSettings::plain(ListenAddress::Tcp("127.0.0.1:3".parse().unwrap()))]);
        assert_eq!(config.store.path, Path::new("/q/forebay.redb"));
        assert_eq!(config.log.level, tracing::level_filters::LevelFilter::DEBUG);
    }

    #[test]
    fn a_variable_that_is_wrong_is_named() {
        let source = choose(backend("http://a"), &[("FOREBAY_LOG_LEVEL", "verbose")], &[]).unwrap();
        let Err(ConfigError::Invalid(report)) = source.load() else { panic!("no report") };
        assert!(report.to_string().contains("`FOREBAY_LOG_LEVEL` is not a log level"), "{report}");
    }
}
