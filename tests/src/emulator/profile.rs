//! How long the emulated cloud takes for its work.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A named set of [`Delays`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Everything is done with the next turn of the controller.
    Instant,
    /// 50 ms a step: long enough to be seen, short enough for tests.
    #[default]
    Test,
    /// As slow as the real cloud is believed to be: a minute and a half to create, ten seconds to write, half a minute to
    /// delete.
    Realistic,
}

/// What the controller waits for before each transition (E22, E51, E58).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Delays {
    /// From an accepted POST to `STATUS_READY` or `STATUS_ERROR`; milliseconds on the wire.
    #[serde(with = "super::wire::milliseconds")]
    pub create: Duration,
    /// From an accepted PUT to `STATUS_READY` or `STATUS_ERROR`; milliseconds on the wire.
    #[serde(with = "super::wire::milliseconds")]
    pub update: Duration,
    /// From an accepted DELETE to 404; milliseconds on the wire.
    #[serde(with = "super::wire::milliseconds")]
    pub delete: Duration,
}

impl Profile {
    /// The delays behind the name.
    pub fn delays(self) -> Delays {
        let milliseconds = |create, update, delete| Delays {
            create: Duration::from_millis(create),
            update: Duration::from_millis(update),
            delete: Duration::from_millis(delete),
        };
        match self {
            Self::Instant => milliseconds(0, 0, 0),
            Self::Test => milliseconds(50, 50, 50),
            Self::Realistic => milliseconds(90_000, 10_000, 30_000),
        }
    }
}

impl Default for Delays {
    fn default() -> Self {
        Profile::default().delays()
    }
}

impl std::str::FromStr for Profile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "instant" => Ok(Self::Instant),
            "test" | "fast" => Ok(Self::Test),
            "realistic" => Ok(Self::Realistic),
            other => Err(format!("no profile `{other}`: instant, fast (or test) or realistic")),
        }
    }
}
