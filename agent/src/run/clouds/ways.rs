//! How STACKIT is reached: what the settings name, else the CloudProfile, else the public places.

use std::path::Path;
use std::time::Duration;

use decide::settings::Settings;

use crate::cloud::rest::DEFAULT_ENDPOINT;
use crate::cloud::{CaBundle, SetupError, setup};
use crate::cluster::facts::Profile;

/// Where the CloudProfile names the endpoints.
const ENDPOINTS: &str = "cloudProfile.spec.providerConfig.apiEndpoints";

/// The way to STACKIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ways {
    /// Base URL of the load balancer API.
    pub(super) endpoint: String,
    /// The token endpoint that wins over the credentials' own.
    pub(super) token_endpoint: Option<String>,
    /// Certificate authorities on top of the public ones.
    pub(super) bundle: Option<Bundle>,
    /// Time limit of a call.
    pub(super) timeout: Duration,
}

/// Certificate authorities as PEM text, to be compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Bundle {
    origin: String,
    pem: Vec<u8>,
}

impl Ways {
    /// The certificate authorities, ready for use.
    pub(super) fn bundle(&self) -> Result<Option<CaBundle>, SetupError> {
        self.bundle.as_ref().map(Bundle::parse).transpose()
    }
}

impl Bundle {
    fn parse(&self) -> Result<CaBundle, SetupError> {
        CaBundle::parse(&self.origin, &self.pem)
    }

    fn checked(self) -> Result<Self, SetupError> {
        self.parse().map(|_| self)
    }
}

/// Whether only the CloudProfile can say where STACKIT is.
pub(super) fn needs_profile(settings: &Settings) -> bool {
    let stackit = &settings.stackit;
    stackit.load_balancer_endpoint().is_none() || stackit.token_endpoint().is_none() || stackit.ca_bundle().is_none()
}

/// Finds the way, and what is odd about the CloudProfile: what cannot be used of that is as good as missing.
///
/// `last` is what was in use before; its certificate authorities stay while the file of the settings is broken.
pub(super) fn find(
    settings: &Settings,
    profile: &Profile,
    last: Option<&Ways>,
) -> Result<(Ways, Vec<String>), SetupError> {
    let stackit = &settings.stackit;
    let mut problems = profile.problems.clone();
    let mut usable = |path: &str, url: &Option<String>| {
        let url = url.clone()?;
        match setup::check_endpoint(&url) {
            Ok(()) => Some(url),
            Err(error) => {
                problems.push(format!("{path}: {error}"));
                None
            }
        }
    };
    let endpoint = stackit.load_balancer_endpoint().map(str::to_owned);
    let endpoint = endpoint.or_else(|| usable(&format!("{ENDPOINTS}.loadBalancer"), &profile.load_balancer_endpoint));
    let token_endpoint = stackit.token_endpoint().map(str::to_owned);
    let token_endpoint =
        token_endpoint.or_else(|| usable(&format!("{ENDPOINTS}.tokenEndpoint"), &profile.token_endpoint));
    let bundle = match (stackit.ca_bundle(), &profile.ca_bundle) {
        (Some(path), _) => match (read(path), last.and_then(|last| last.bundle.clone())) {
            (Ok(bundle), _) => Some(bundle),
            (Err(error), Some(last)) => {
                problems.push(format!("{error}; the last good one stays"));
                Some(last)
            }
            (Err(error), None) => return Err(error),
        },
        (None, Some(pem)) => {
            let bundle = Bundle { origin: "cloudProfile.spec.caBundle".to_owned(), pem: pem.clone().into_bytes() };
            bundle.checked().map_err(|error| problems.push(error.to_string())).ok()
        }
        (None, None) => None,
    };
    let endpoint = endpoint.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    Ok((Ways { endpoint, token_endpoint, bundle, timeout: settings.call_timeout() }, problems))
}

fn read(path: &str) -> Result<Bundle, SetupError> {
    match std::fs::read(Path::new(path)) {
        Ok(pem) => Bundle { origin: path.to_owned(), pem }.checked(),
        Err(error) => Err(SetupError::Bundle { origin: path.to_owned(), problem: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(endpoint: &str, token: &str) -> Profile {
        let set = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        Profile { load_balancer_endpoint: set(endpoint), token_endpoint: set(token), ..Profile::default() }
    }

    #[test]
    fn settings_win_over_the_profile_and_that_over_the_public_places() {
        let mut settings = Settings::default();
        let (ways, _) = find(&settings, &Profile::default(), None).unwrap();
        assert_eq!((ways.endpoint.as_str(), &ways.token_endpoint), (DEFAULT_ENDPOINT, &None));
        let profile = profile("https://lb.example", "https://token.example/t");
        let (ways, problems) = find(&settings, &profile, None).unwrap();
        assert_eq!(ways.endpoint, "https://lb.example");
        assert_eq!(ways.token_endpoint.as_deref(), Some("https://token.example/t"));
        assert_eq!(problems, Vec::<String>::new());
        settings.stackit.load_balancer_endpoint = "https://own.example".to_owned();
        assert_eq!(find(&settings, &profile, None).unwrap().0.endpoint, "https://own.example");
    }

    #[test]
    fn what_cannot_be_used_of_the_profile_is_named_and_as_good_as_missing() {
        let profile = Profile { ca_bundle: Some("no PEM".to_owned()), ..profile("lb.example", "ftp://x") };
        let (ways, problems) = find(&Settings::default(), &profile, None).unwrap();
        assert_eq!((ways.endpoint.as_str(), ways.token_endpoint, ways.bundle), (DEFAULT_ENDPOINT, None, None));
        let starts = [
            "cloudProfile.spec.providerConfig.apiEndpoints.loadBalancer: ",
            "cloudProfile.spec.providerConfig.apiEndpoints.tokenEndpoint: ",
            "CA bundle cloudProfile.spec.caBundle: ",
        ];
        assert!(problems.iter().zip(starts).all(|(problem, start)| problem.starts_with(start)), "{problems:?}");
        assert_eq!(problems.len(), 3);
    }

    #[test]
    fn a_broken_file_keeps_the_last_good_authorities() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        let mut settings = Settings::default();
        settings.stackit.ca_bundle = path.display().to_string();
        assert!(find(&settings, &Profile::default(), None).is_err());
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&key).unwrap();
        std::fs::write(&path, authority.pem()).unwrap();
        let (good, _) = find(&settings, &Profile::default(), None).unwrap();
        assert!(good.bundle().unwrap().is_some());
        std::fs::write(&path, "").unwrap();
        let (kept, problems) = find(&settings, &Profile::default(), Some(&good)).unwrap();
        assert_eq!((kept, problems.len()), (good, 1));
    }
}
