//! The configuration: defaults, file, environment and flags, one over the other.
//!
//! Every layer is read on its own and checked key by key against the tree of the defaults, so that no mistake hides
//! another: an unknown key, a value of the wrong type, a key that is there twice. What is good goes on, figment puts
//! the layers together, and the whole is then checked for sense. All mistakes are returned at once.
//!
//! Nothing is read behind the caller's back: the environment is an argument.

mod comments;
mod environment;
mod file;
mod known;
mod layer;
mod print;
mod report;
mod tree;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use decide::settings::Settings;
use figment::Figment;
use figment::providers::Serialized;

pub use environment::PREFIX;
use known::Known;
use layer::{Layer, Reader};
pub use print::{defaults, redacted, show};
pub use report::{ConfigurationErrors, Located, Origin};

/// Where the settings are unless `--config` says otherwise.
pub const DEFAULT_FILE: &str = "/etc/shoot-exposure-agent/config.yaml";

/// A setting from the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    /// The flag as the user writes it, such as `--log-level`; for messages.
    pub flag: String,
    /// Dotted key path, such as `log.level`.
    pub path: String,
    /// The value as the user wrote it.
    pub value: String,
}

/// Everything that settings are read from, to read them again.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file.
    pub file: PathBuf,
    /// The environment as it was at the start.
    pub environment: Vec<(OsString, OsString)>,
    /// The flags.
    pub overrides: Vec<Override>,
}

impl Source {
    /// Reads the file as it is now and puts the layers together.
    pub fn load(&self) -> Result<Loaded, ConfigurationErrors> {
        load(&self.file, self.environment.iter().cloned(), &self.overrides)
    }
}

/// Settings that may be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// In effect: all layers together.
    pub settings: Settings,
    /// Dotted paths of the keys that file, environment or flags set.
    pub explicit: BTreeSet<String>,
}

/// Reads the file and puts the layers together.
///
/// `environment` is what [`std::env::vars_os`] gives; only names that begin with [`PREFIX`] are looked at.
pub fn load(
    file: &Path,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &[Override],
) -> Result<Loaded, ConfigurationErrors> {
    let name = file.display().to_string();
    layers(&name, file::read(file), environment, overrides)
}

/// As [`load`], with the file's text at hand; `name` stands for the file in messages.
pub fn load_text(
    name: &str,
    text: &str,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &[Override],
) -> Result<Loaded, ConfigurationErrors> {
    layers(name, Ok(text.to_owned()), environment, overrides)
}

fn layers(
    name: &str,
    text: Result<String, file::Unreadable>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    overrides: &[Override],
) -> Result<Loaded, ConfigurationErrors> {
    let known = Known::new();
    let mut reader = Reader::new(&known);
    let at = |line| Origin::File { path: name.to_owned(), line };
    let file = match text {
        Ok(text) => match tree::parse(&text) {
            Ok(node) => reader.layer("file", |reader, layer| {
                reader.walk(layer, "", &node, &|line| at((line > 0).then_some(line)));
            }),
            Err(error) => reader.broken("file", at(error.line), error.found, error.hint),
        },
        Err(error) => reader.broken("file", at(error.line), error.found, error.hint),
    };
    let environment = reader.layer("environment", |reader, layer| environment::read(reader, layer, environment));
    let flags = reader.layer("flags", |reader, layer| environment::flags(reader, layer, overrides));
    together(reader, [file, environment, flags])
}

/// Puts the layers on top of the defaults, and checks the whole for sense.
fn together(mut reader: Reader<'_>, layers: [Layer; 3]) -> Result<Loaded, ConfigurationErrors> {
    let explicit: BTreeSet<String> = layers.iter().flat_map(|layer| layer.paths.iter().cloned()).collect();
    let mut figment = Figment::from(Serialized::defaults(Settings::default()));
    for layer in layers {
        figment = figment.merge(layer);
    }
    match figment.extract::<Settings>() {
        Ok(settings) => {
            reader.semantic(settings.mistakes());
            if reader.mistakes.is_empty() {
                return Ok(Loaded { settings, explicit });
            }
        }
        // Each leaf has been tried on its own, so this does not happen; were it to, it would not be silent.
        Err(errors) => {
            for error in errors {
                reader.note(Origin::Default, error.path.join("."), error.kind.to_string(), "check this key");
            }
        }
    }
    Err(ConfigurationErrors::new(reader.mistakes))
}

#[cfg(test)]
mod tests;
