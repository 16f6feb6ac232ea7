//! `secgroup top`

use std::env;
use std::io::{self, IsTerminal as _};
use std::sync::mpsc::TryRecvError;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyModifiers};

use super::collecting::Collecting;
use super::failure::UsageError;
use super::interrupt::Interrupt;
use super::{Context, Exit, output};
use crate::observe::query::Query;
use board::Board;
use draw::Look;
use screen::Screen;
use terminal::Waited;

mod board;
mod draw;
mod gather;
mod sample;
mod screen;
mod terminal;

/// How long a key press or an interrupt may wait, at most.
const LATENCY: Duration = Duration::from_millis(100);

/// Show live on the whole screen: rates by interface and reason, flows, newest drops, rules in use
///
/// The keys are shown at the bottom. Nothing is changed. Filters can be typed with / in the words of the options.
#[derive(Debug, Args)]
#[command(after_help = "\
Where standard output is no terminal, `secgroup stats --watch` and `secgroup drops --follow` print lines. With
NO_COLOR set there are no colours; docs/top.md shows each view.

Examples:
  secgroup top
  secgroup top --interface eth0 --port https")]
pub(super) struct Command {
    /// Time between two readings
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    interval: Duration,
    #[command(flatten)]
    query: Query,
}

fn interval(word: &str) -> Result<Duration, String> {
    let range = || "100ms to 1h, for example 500ms or 2s".to_owned();
    let time = humantime::parse_duration(word).map_err(|_| range())?;
    let is_valid = (Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&time);
    if is_valid { Ok(time) } else { Err(range()) }
}

impl Command {
    pub(super) fn run(self, context: &Context) -> Result<Exit> {
        require_terminal().and_then(|()| self.show(context)).context("top")?;
        Ok(Exit::Done)
    }

    fn show(self, context: &Context) -> Result<()> {
        let interrupt = Interrupt::new()?;
        let _collecting = Collecting::start(context)?;
        let samples = gather::start(context, self.interval);
        // The first one has the names by which the filter of the command line is checked.
        let first = samples.recv().context("read what happens")?;
        let mut board = Board::default();
        board.apply(first);
        let filter = self.query.check(board.names())?;
        let mut screen = Screen::new(self.interval, filter);
        let look = Look { colours: output::has_colours(), unicode: is_utf8() };
        terminal::end_without_terminal();
        let mut terminal = ratatui::try_init().context("use the terminal")?;
        let shown = run(&mut terminal, &mut board, &mut screen, look, interrupt, &samples);
        let restored = ratatui::try_restore();
        shown?;
        restored.context("restore the terminal")
    }
}

fn run(
    terminal: &mut DefaultTerminal,
    board: &mut Board,
    screen: &mut Screen,
    look: Look,
    mut interrupt: Interrupt,
    samples: &gather::Samples,
) -> Result<()> {
    while !interrupt.wait(Duration::ZERO) {
        terminal.draw(|frame| draw::draw(frame, board, screen, look)).context("draw")?;
        match terminal::wait(LATENCY)? {
            Waited::Gone => return Ok(()),
            Waited::Nothing => {}
            Waited::Event => match event::read().context("read the terminal")? {
                Event::Key(key) if screen.press(key, board) => return Ok(()),
                // What another program wrote on the screen.
                Event::Key(KeyEvent { code: KeyCode::Char('l'), modifiers, .. })
                    if modifiers.contains(KeyModifiers::CONTROL) =>
                {
                    terminal.clear().context("draw")?;
                }
                _ => {}
            },
        }
        loop {
            match samples.try_recv() {
                Ok(sample) if screen.is_paused => board.keep_names(sample),
                Ok(sample) => board.apply(sample),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => bail!("what happens is not read any more"),
            }
        }
    }
    Ok(())
}

fn require_terminal() -> Result<()> {
    let is_dumb = env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let message = if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        "standard input and output are not a terminal"
    } else if is_dumb {
        "the terminal has no cursor (TERM)"
    } else {
        return Ok(());
    };
    let hint = "`secgroup stats --watch` and `secgroup drops --follow` print lines";
    Err(UsageError { message: message.to_owned(), hint }.into())
}

/// Whether the terminal shows the characters of sparklines, by the variables of setlocale(3).
fn is_utf8() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(env::var_os);
    let first = set.into_iter().find(|value| !value.is_empty());
    let name = first.map(|value| value.to_string_lossy().to_ascii_lowercase());
    name.is_some_and(|name| name.contains("utf-8") || name.contains("utf8"))
}

#[cfg(test)]
mod tests;
