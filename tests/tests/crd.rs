//! The printed CRD beside the one it stands for.
//!
//! Where `GARDENER_CRDS` names a folder with Gardener's own CRD manifests, and where its Go module can be had, ours must say
//! the same, descriptions aside.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;
use tests::agent::run;
use tests::gardener;

/// A schema without what is only for people, and with lists whose order means nothing sorted.
fn bare(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|key, value| !(key == "description" && value.is_string()));
            if let Some(Value::Array(required)) = fields.get_mut("required") {
                required.sort_by_key(ToString::to_string);
            }
            fields.values_mut().for_each(bare);
        }
        Value::Array(items) => items.iter_mut().for_each(bare),
        _ => {}
    }
}

fn crd(text: &str) -> Result<Value> {
    let mut crd: Value = serde_saphyr::from_str(text).context("parsing a CRD")?;
    bare(&mut crd["spec"]);
    // What the API server fills in for every root object.
    let root = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    root.as_object_mut().context("no schema")?.remove("title");
    if let Some(properties) = root["properties"].as_object_mut() {
        properties.retain(|key, _| key == "spec" || key == "status");
    }
    Ok(crd)
}

fn ours() -> Result<Value> {
    let output = run(&["manifest", "crd"])?;
    crd(&String::from_utf8(output.stdout)?)
}

#[test]
fn the_crd_has_the_names_and_columns_that_people_know() -> Result<()> {
    let ours = ours()?;
    let names = &ours["spec"]["names"];
    assert_eq!(ours["metadata"]["name"], "selfhostedshootexposures.extensions.gardener.cloud");
    assert_eq!(names["shortNames"], serde_json::json!(["exp"]));
    assert_eq!(ours["spec"]["scope"], "Namespaced");
    let columns = ours["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
    let names: Vec<_> = columns.iter().map(|column| column["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["Type", "IP", "Hostname", "Status", "Age"]);
    Ok(())
}

#[test]
fn the_crd_says_what_gardeners_own_says() -> Result<()> {
    let Some(folder) = std::env::var_os("GARDENER_CRDS") else {
        println!("not compared: GARDENER_CRDS names no folder with Gardener's manifests");
        return Ok(());
    };
    let file = Path::new(&folder).join("crd-selfhostedshootexposures.yaml");
    says_the_same(&std::fs::read_to_string(&file).with_context(|| format!("{}", file.display()))?)
}

#[tokio::test]
async fn the_crd_says_what_that_of_gardeners_go_module_says() -> Result<()> {
    match gardener::definition("extensions.gardener.cloud", "selfhostedshootexposures").await? {
        Ok(theirs) => says_the_same(&theirs),
        Err(why) => {
            println!("not compared with Gardener's Go module: {why}");
            Ok(())
        }
    }
}

fn says_the_same(theirs: &str) -> Result<()> {
    let theirs = crd(theirs)?;
    let ours = ours()?;
    for part in ["/spec/group", "/spec/scope", "/spec/names/shortNames", "/spec/names/plural", "/spec/names/singular"] {
        assert_eq!(ours.pointer(part), theirs.pointer(part), "{part}");
    }
    let (our, their) = (&ours["spec"]["versions"][0], &theirs["spec"]["versions"][0]);
    assert_eq!(our["additionalPrinterColumns"], their["additionalPrinterColumns"]);
    assert_eq!(our["subresources"], their["subresources"]);
    for part in ["spec", "status"] {
        let schema = |version: &Value| version["schema"]["openAPIV3Schema"]["properties"][part].clone();
        let fields = |schema: &Value| schema["properties"].as_object().cloned().unwrap_or_default();
        let (our, their) = (schema(our), schema(their));
        assert_eq!(our["required"], their["required"], "{part}");
        let (our, their) = (fields(&our), fields(&their));
        assert!(
            our.keys().all(|key| their.contains_key(key)) && their.keys().all(|key| our.contains_key(key)),
            "{part}"
        );
        for (name, schema) in &their {
            assert_eq!(&our[name], schema, "{part}.{name}");
        }
    }
    Ok(())
}
