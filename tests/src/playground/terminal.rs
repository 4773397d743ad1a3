//! The terminal while the play is on it: keys one by one, a screen of our own, and everything as it was afterwards.

use std::io::{IsTerminal as _, Write as _, stdin, stdout};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::sync::mpsc;

/// Another screen, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// Back to the old one.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// How the terminal was before; also for a panic, which drops nothing where it aborts.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// A terminal in use; given back when this is dropped, and by a panic.
#[derive(Debug)]
pub struct Terminal {
    keys: mpsc::UnboundedReceiver<u8>,
}

impl Terminal {
    /// Whether there is one: both to read from and to write to.
    pub fn is_there() -> bool {
        stdin().is_terminal() && stdout().is_terminal()
    }

    /// Takes the terminal.
    pub fn take() -> Result<Self> {
        let before = tcgetattr(stdin()).context("asking how the terminal is set")?;
        let mut own = before.clone();
        // Ctrl-C stays a signal.
        own.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        tcsetattr(stdin(), OptionalActions::Now, &own).context("setting the terminal")?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let earlier = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            earlier(panic);
        }));
        print(ENTER)?;
        let (send, keys) = mpsc::unbounded_channel();
        // Nothing else can wait for a terminal; the thread ends with the process.
        std::thread::spawn(move || {
            let mut byte = [0];
            while std::io::Read::read(&mut stdin(), &mut byte).is_ok_and(|count| count == 1)
                && send.send(byte[0]).is_ok()
            {}
        });
        Ok(Self { keys })
    }

    /// The next key; for ever when there will be none.
    pub async fn key(&mut self) -> u8 {
        match self.keys.recv().await {
            Some(key) => key,
            None => std::future::pending().await,
        }
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        let size = tcgetwinsize(stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
        size.map_or((80, 24), |size| (usize::from(size.ws_col), usize::from(size.ws_row)))
    }

    /// Shows these lines and nothing else. They fit, by `super::view`.
    pub fn show(&self, lines: &[String]) -> Result<()> {
        let mut screen = String::from("\x1b[H");
        for (index, line) in lines.iter().enumerate() {
            screen.push_str(if index == 0 { "" } else { "\r\n" });
            screen.push_str(line);
            screen.push_str("\x1b[0m\x1b[K");
        }
        screen.push_str("\x1b[J");
        print(&screen)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Sets the terminal as it was; once.
fn give_back() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // Where the terminal is gone nobody sees it.
        let _ = print(LEAVE);
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}

fn print(text: &str) -> Result<()> {
    let mut out = stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("writing to the terminal")
}
