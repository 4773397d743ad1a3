//! The play on a terminal: a screen ten times a second, and keys.

use std::time::Duration;

use anyhow::Result;

use super::act::{Act, NODES};
use super::play::{Picture, Play};
use super::terminal::Terminal;
use super::view;

const FRAME: Duration = Duration::from_millis(100);
/// Requests a second at the start, and a step of `+` and `-`.
const LOAD: u32 = 20;
const STEP: u32 = 10;
const MOST: u32 = 200;

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Choose(usize),
    Act(Act),
    Load(u32),
    Quit,
    Nothing,
}

/// Plays until the player quits.
pub async fn live(play: &mut Play) -> Result<()> {
    let mut terminal = Terminal::take()?;
    play.load().set_rate(LOAD);
    let mut chosen = 0;
    let mut frames = tokio::time::interval(FRAME);
    frames.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        play.look()?;
        let picture = play.picture().await;
        terminal.show(&view::screen(&picture, play.events(), chosen, terminal.size()))?;
        tokio::select! {
            _ = frames.tick() => {}
            key = terminal.key() => match wish(key, chosen, &picture) {
                Wish::Choose(node) => chosen = node,
                Wish::Load(rate) => play.load().set_rate(rate),
                // What cannot be done now is told on the screen, and the play goes on.
                Wish::Act(act) => if let Err(error) = play.act(act).await {
                    play.tell("you", format!("{error:#}"));
                },
                Wish::Quit => return Ok(()),
                Wish::Nothing => {}
            },
        }
    }
}

fn wish(key: u8, chosen: usize, picture: &Picture) -> Wish {
    let act = match key {
        b'1'..=b'3' if usize::from(key - b'1') < NODES.len() => return Wish::Choose(usize::from(key - b'1')),
        b'k' => Act::Kill(chosen),
        b'h' => Act::Hang(chosen),
        b'n' => Act::NotReady(chosen),
        b'r' => Act::Restore(chosen),
        b'd' if picture.nodes.get(chosen).is_some_and(|node| node.drained) => Act::Undrain(chosen),
        b'd' => Act::Drain(chosen),
        b'c' if picture.cloud_down => Act::CloudUp,
        b'c' => Act::CloudDown,
        b't' => Act::RotateKey,
        b'+' => return Wish::Load((picture.rate + STEP).min(MOST)),
        b'-' => return Wish::Load(picture.rate.saturating_sub(STEP)),
        // Ctrl-D, and Ctrl-C where it is no signal.
        b'q' | 3 | 4 => return Wish::Quit,
        _ => return Wish::Nothing,
    };
    Wish::Act(act)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::playground::play::NodePicture;

    #[test]
    fn keys_are_about_the_chosen_node_and_turn_back_what_they_did() {
        let mut picture = Picture { nodes: vec![NodePicture::default(); 3], rate: 5, ..Picture::default() };
        let wishes =
            |picture: &Picture| [b'2', b'k', b'd', b'c', b'+', b'-', b'q', b'x'].map(|key| wish(key, 2, picture));
        let before = [
            Wish::Choose(1),
            Wish::Act(Act::Kill(2)),
            Wish::Act(Act::Drain(2)),
            Wish::Act(Act::CloudDown),
            Wish::Load(15),
            Wish::Load(0),
            Wish::Quit,
            Wish::Nothing,
        ];
        assert_eq!(wishes(&picture), before);
        picture.nodes[2].drained = true;
        picture.cloud_down = true;
        assert_eq!(wishes(&picture)[2..4], [Wish::Act(Act::Undrain(2)), Wish::Act(Act::CloudUp)]);
    }
}
