//! One command, carried out on the stage.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use decide::access::Egress;
use decide::endpoints::Endpoint;
use decide::pass::CloudStep;
use decide::settings::Settings;
use decide::{desired, exposure};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use super::cluster::merge;
use super::stage::{Lead, Stage};
use crate::emulator::{Action, Fault};

/// Carries a command out, and whatever follows from it at this moment.
pub(super) async fn run(stage: &mut Stage, command: &str) -> Result<()> {
    let (first, rest) = command.split_once(' ').unwrap_or((command, ""));
    let words: Vec<&str> = rest.split_whitespace().collect();
    match (first, words.as_slice()) {
        ("ready", names) => return ready(stage, names).await,
        ("tick", [time]) => return stage.tick(duration(time)?).await,
        ("show", []) => {
            show(stage);
            return Ok(());
        }
        ("healthy", []) => return healthy(stage),
        ("lead", []) | ("renewals", ["go"]) => stage.lead = Lead::Renewed,
        ("lose", []) => stage.lead = Lead::Not,
        ("renewals", ["stop"]) => stage.lead = Lead::Until(stage.now + stage.settings.leader_election.renew_deadline),
        ("nodes", ["unlisted"]) => stage.nodes.listed = false,
        ("nodes", ["none"]) => {
            stage.nodes.all.clear();
            stage.nodes.listed = true;
        }
        ("nodes", names) => {
            for name in names {
                stage.nodes.add(name, None);
            }
        }
        ("node", [name, what @ ..]) => stage.nodes.happens(name, what)?,
        ("exposure", _) => object(stage, rest)?,
        ("api", ["refuses"]) => stage.cluster.set_webhook_down(true),
        ("api", ["accepts"]) => stage.cluster.set_webhook_down(false),
        ("api", ["down"]) => stage.cluster.set_down(true),
        ("api", ["up"]) => stage.cluster.set_down(false),
        ("watch", ["lags"]) => stage.lags = true,
        ("watch", ["follows"]) => stage.lags = false,
        ("standalone", []) => stage.standalone = true,
        ("settings", _) => settings(stage, rest)?,
        ("fact", [name, value @ ..]) => fact(stage, name, value)?,
        ("credentials", [what]) => credentials(stage, what)?,
        ("cloud", _) => cloud(stage, rest).await?,
        ("fault", words) => fault(stage, words)?,
        _ => bail!("no such command"),
    }
    stage.settle().await?;
    Ok(())
}

/// A balancer that is ready, with these nodes; how it gets there is another story.
async fn ready(stage: &mut Stage, names: &[&str]) -> Result<()> {
    // Beyond the times at which a new leader reads again.
    const LONG: Duration = Duration::from_secs(40);
    for name in names {
        stage.nodes.add(name, None);
    }
    if !stage.standalone && stage.cluster.object().is_none() {
        stage.cluster.create(&json!({}));
    }
    stage.lead = Lead::Renewed;
    stage.tick(LONG).await?;
    stage.take_lines();
    stage.zero = stage.now;
    let balancers = stage.cloud.emulator.balancers();
    let balancer = balancers.first().context("no balancer was made")?;
    let status = balancer["status"].as_str().unwrap_or_default().to_owned();
    let version = stage.versions.word(balancer["version"].as_str().unwrap_or_default());
    stage.say("ready", &format!("{version} {status} with {}", names.join(" ")));
    Ok(())
}

/// What is at the cloud.
fn show(stage: &mut Stage) {
    let Some(balancer) = stage.cloud.emulator.balancers().into_iter().next() else {
        return stage.say("show", "no balancer");
    };
    for line in stage.versions.balancer(&balancer) {
        stage.say("show", &line);
    }
}

/// Gardener's own check of an extension object, in its order.
fn healthy(stage: &mut Stage) -> Result<()> {
    let object = stage.cluster.object().context("no object")?;
    let (metadata, status) = (&object["metadata"], &object["status"]);
    let last = &status["lastOperation"];
    let asked = metadata["annotations"]["gardener.cloud/timestamp"].as_str();
    let asked = asked.map(str::parse::<Timestamp>).transpose()?.map(Timestamp::as_second);
    let updated = last["lastUpdateTime"].as_str().map(str::parse::<Timestamp>).transpose()?.map(Timestamp::as_second);
    let checks = [
        (status["lastError"].is_null(), "there is a lastError"),
        (status["observedGeneration"] == metadata["generation"], "the generation was not observed"),
        (metadata["annotations"]["gardener.cloud/operation"].is_null(), "the operation annotation is there"),
        (!last.is_null(), "there is no lastOperation"),
        (last["state"] == "Succeeded", "the lastOperation has not succeeded"),
        (asked <= updated, "the lastOperation is older than the timestamp annotation"),
    ];
    let wrong = checks.into_iter().find_map(|(holds, what)| (!holds).then_some(what));
    let verdict = wrong.map_or_else(|| "healthy".to_owned(), |what| format!("not healthy: {what}"));
    stage.say("gardener", &verdict);
    Ok(())
}

/// Somebody else does something to the object.
fn object(stage: &mut Stage, rest: &str) -> Result<()> {
    let (first, arguments) = rest.split_once(' ').unwrap_or((rest, ""));
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let exists = match (first, words.as_slice()) {
        ("create", []) => {
            stage.cluster.create(&json!({}));
            true
        }
        ("create", _) => {
            stage.cluster.create(&value(arguments)?);
            true
        }
        ("annotate", [operation]) => stage.cluster.patch(&asked(stage, operation, 0)),
        ("annotate", [operation, ahead]) => {
            let ahead = i64::try_from(duration(ahead)?.as_secs())?;
            stage.cluster.patch(&asked(stage, operation, ahead))
        }
        // The whole spec, as Gardener writes it: what it does not know is wiped.
        ("deploy", endpoints) => {
            let mut patch = asked(stage, "reconcile", 0);
            let endpoints = self::endpoints(endpoints)?;
            merge(&mut patch, &json!({"spec": {"type": "stackit", "port": 443, "endpoints": endpoints}}));
            patch["spec"]["providerConfig"] = Value::Null;
            stage.cluster.patch(&patch)
        }
        ("endpoints", endpoints) => {
            let endpoints = self::endpoints(endpoints)?;
            stage.cluster.patch(&json!({"spec": {"endpoints": endpoints}}))
        }
        ("patch", _) => stage.cluster.patch(&value(arguments)?),
        ("config", _) => {
            let mut config = json!({
                "apiVersion": "stackit.provider.extensions.gardener.cloud/v1alpha1",
                "kind": "SelfHostedShootExposureConfig",
            });
            merge(&mut config, &value(arguments)?);
            stage.cluster.patch(&json!({"spec": {"providerConfig": config}}))
        }
        ("delete", []) => stage.cluster.delete(),
        _ => bail!("nothing of the kind happens to exposures"),
    };
    if exists { Ok(()) } else { Err(anyhow!("there is no exposure")) }
}

fn asked(stage: &Stage, operation: &str, ahead: i64) -> Value {
    let at = Timestamp::from_second(stage.wall() + ahead).unwrap_or(Timestamp::UNIX_EPOCH).to_string();
    json!({"metadata": {"annotations": {"gardener.cloud/operation": operation, "gardener.cloud/timestamp": at}}})
}

/// `cp-0=10.0.0.1`.
fn endpoints(words: &[&str]) -> Result<Vec<Value>> {
    let one = |word: &&str| {
        let (name, ip) = word.split_once('=').context("an endpoint is written NAME=IP")?;
        Ok(json!({"nodeName": name, "addresses": [{"type": "InternalIP", "address": ip}]}))
    };
    words.iter().map(one).collect()
}

fn settings(stage: &mut Stage, patch: &str) -> Result<()> {
    let mut all = serde_json::to_value(&stage.settings)?;
    merge(&mut all, &value(patch)?);
    stage.settings = serde_json::from_value::<Settings>(all).context("no such setting")?;
    let mistakes = stage.settings.mistakes();
    if let Some(mistake) = mistakes.first() {
        bail!("{mistake:?}");
    }
    Ok(())
}

fn fact(stage: &mut Stage, name: &str, value: &[&str]) -> Result<()> {
    let facts = &mut stage.facts;
    if name == "egress" {
        facts.egress = match value {
            ["unreadable"] => Egress::Unreadable,
            ranges => Egress::Known(ranges.iter().map(|range| range.parse()).collect::<Result<_, _>>()?),
        };
        return Ok(());
    }
    let fact = match name {
        "region" => &mut facts.region,
        "technical-id" => &mut facts.technical_id,
        "network" => &mut facts.network_id,
        "project" => &mut facts.project_id,
        _ => bail!("no such fact"),
    };
    *fact = match value {
        ["unknown"] => Err(format!("the {name} (not known yet)")),
        [value] => Ok((*value).to_owned()),
        _ => bail!("one word is expected"),
    };
    Ok(())
}

fn credentials(stage: &mut Stage, what: &str) -> Result<()> {
    match what {
        "missing" => stage.cloud.take(&BTreeMap::new())?,
        "broken" => {
            stage.cloud.take(&BTreeMap::from([("serviceaccount.json".to_owned(), b"{".to_vec())]))?;
        }
        "renewed" => stage.cloud.credentials()?,
        _ => bail!("nothing of the kind happens to credentials"),
    }
    stage.memory.try_again(stage.now);
    Ok(())
}

/// Something happens at the cloud.
async fn cloud(stage: &mut Stage, rest: &str) -> Result<()> {
    let (first, arguments) = rest.split_once(' ').unwrap_or((rest, ""));
    let words: Vec<&str> = arguments.split_whitespace().collect();
    let name = stage.cloud.emulator.balancers().first().and_then(|it| it["name"].as_str().map(str::to_owned));
    let name = || name.clone().context("there is no balancer");
    match (first, words.as_slice()) {
        ("edit", _) => drop(stage.cloud.edit(&name()?, &value(arguments)?)),
        ("delete", []) => drop(stage.cloud.emulator.terminate(&name()?)),
        ("switch", _) => stage.cloud.switch(&value(arguments)?)?,
        ("stuck", []) => stage.cloud.stuck = true,
        ("moves", []) => stage.cloud.stuck = false,
        ("create-takes", [time]) => stage.cloud.create = duration(time)?,
        ("update-takes", [time]) => stage.cloud.update = duration(time)?,
        ("delete-takes", [time]) => stage.cloud.delete = duration(time)?,
        ("address", [address]) => stage.cloud.emulator.add_address(address.parse()?),
        ("make", _) => make(stage, &value(arguments)?).await?,
        _ => bail!("nothing of the kind happens at the cloud"),
    }
    Ok(())
}

/// Somebody else makes a balancer of our name, like ours but for the patch.
async fn make(stage: &mut Stage, patch: &Value) -> Result<()> {
    let view = exposure::ExposureView { name: "root".to_owned(), port: 443, ..exposure::ExposureView::default() };
    let endpoint = Endpoint { node_name: "theirs".to_owned(), ip: [10, 9, 9, 9].into(), addresses: Vec::new() };
    let spec = exposure::resolve(&view, vec![endpoint], &stage.facts).map_err(|why| anyhow!("{why:?}"))?;
    let wish = desired::load_balancer(&spec, &stage.settings);
    let step = CloudStep::Create(Box::new(wish));
    stage.cloud.make(&spec.identity, &step, patch).await
}

/// `fault PUT 500`, `fault PUT 500 2`, `fault * reset`, `fault TOKEN 401`; `fault end` ends all.
fn fault(stage: &mut Stage, words: &[&str]) -> Result<()> {
    let (method, what, times) = match words {
        ["end"] => {
            stage.cloud.emulator.clear_faults();
            return Ok(());
        }
        [method, what] => (*method, *what, None),
        [method, what, "once"] => (*method, *what, Some(1)),
        [method, what, times] => (*method, *what, Some(times.parse()?)),
        _ => bail!("a fault is written METHOD WHAT [TIMES]"),
    };
    let action = match what {
        "400" => Action::answer(400, "application/json", r#"{"code": 3, "message": "target 10.0.0.4 is refused"}"#),
        "401" => Action::unauthorized(),
        "403" => Action::forbidden(),
        "404" => Action::answer(404, "application/json", r#"{"code": 5, "message": "load balancer not found"}"#),
        "409" => Action::version_storm(),
        "429" => Action::too_many_requests(None),
        "500" => Action::internal_error(),
        "502" | "503" | "504" => Action::gateway_error(what.parse()?),
        "not-enabled" => Action::service_not_enabled(),
        "reset" => Action::Reset { committed: false },
        "reset-after" => Action::Reset { committed: true },
        "hang" => Action::Hang { committed: false },
        "hang-after" => Action::Hang { committed: true },
        "empty" => Action::EmptyBody,
        "malformed" => Action::MalformedJson,
        "redirect" => Action::redirect("https://elsewhere.example/"),
        what => match what.strip_prefix("429-after-").map(str::parse) {
            Some(seconds) => Action::too_many_requests(Some(seconds?)),
            None => bail!("no such fault"),
        },
    };
    let mut fault = Fault::new(action);
    if method == "TOKEN" {
        fault = fault.path("/token");
    } else {
        fault = fault.path("/load-balancers");
        if method != "*" {
            fault = fault.method(method);
        }
    }
    stage.cloud.emulator.inject(match times {
        Some(times) => fault.times(times),
        None => fault,
    });
    Ok(())
}

fn value(text: &str) -> Result<Value> {
    serde_json::from_str(text).with_context(|| format!("reading the JSON {text}"))
}

fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, Duration::from_millis(1)),
        None => match text.strip_suffix('m') {
            Some(number) => (number, Duration::from_secs(60)),
            None => (text.trim_end_matches('s'), Duration::from_secs(1)),
        },
    };
    Ok(unit * number.parse::<u32>().with_context(|| format!("reading the time {text}"))?)
}
