//! The stories in `tests/scenarios`: each is run, and what comes of it has to be what its file says.
//!
//! `ACCEPT=1 cargo test -p tests --test scenarios` writes the files anew; read the difference before it is committed.
//! `STORY=delete- cargo test …` runs those alone whose name begins so.

use std::path::{Path, PathBuf};

use tests::scenario::{self, script};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_story_goes_as_its_file_says() {
    let accept = std::env::var_os("ACCEPT").is_some();
    let wanted = std::env::var("STORY").unwrap_or_default();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "txt"));
    files.retain(|file| file.file_name().unwrap().to_string_lossy().starts_with(&wanted));
    files.sort();
    assert!(!files.is_empty(), "no story in {}", folder.display());

    // A few at a time: each is quick, but all of them at once would starve each other of the processor.
    let mut problems = Vec::new();
    for files in files.chunks(4) {
        let running = files.iter().map(|file| {
            let text = std::fs::read_to_string(file).unwrap();
            tokio::spawn(async move { (scenario::run(&text).await, text) })
        });
        for (file, story) in files.iter().zip(running.collect::<Vec<_>>()) {
            let (found, expected) = story.await.unwrap();
            let name = file.file_name().unwrap().to_string_lossy();
            match found {
                Ok(found) if found == expected => {}
                Ok(found) if accept => std::fs::write(file, found).unwrap(),
                Ok(found) => problems.push(format!("{name}:\n{}", script::difference(&expected, &found))),
                Err(error) => problems.push(format!("{name}: {error:#}")),
            }
        }
    }
    let count = problems.len();
    assert!(
        problems.is_empty(),
        "\n{}\n\n{count} of {} stories differ (- in the file, + now); if that is right: ACCEPT=1 cargo test -p tests --test scenarios\n",
        problems.join("\n\n"),
        files.len()
    );
}
