//! What the user has chosen, and what a key does.

use std::time::Duration;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::board::{Board, Sort};
use crate::cli::failure::one_line;
use crate::explain::Explain;
use crate::observe::query::{Checked, Query, QueryError};

/// The longest filter that can be typed.
const LONGEST: usize = 1000;

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Overview,
    Flows,
    Drops,
    States,
    Rules,
}

impl View {
    pub(super) const ALL: [Self; 5] =
        [Self::Overview, Self::Flows, Self::Drops, Self::States, Self::Rules];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Flows => "flows",
            Self::Drops => "drops",
            Self::States => "states",
            Self::Rules => "rules",
        }
    }

    fn step(self, by: usize) -> Self {
        let index = Self::ALL.iter().position(|one| *one == self).unwrap_or_default();
        Self::ALL[(index + by) % Self::ALL.len()]
    }
}

/// What the user has chosen.
#[derive(Debug)]
pub(super) struct Screen {
    pub(super) view: View,
    pub(super) sort: Sort,
    pub(super) filter: Checked,
    /// The filter as it was typed.
    pub(super) filter_text: String,
    /// That of the command line.
    given: String,
    /// The filter that is being typed.
    pub(super) entry: Option<String>,
    /// Why the last one was refused.
    pub(super) refusal: Option<String>,
    pub(super) is_paused: bool,
    /// Rows that are scrolled away.
    pub(super) offset: usize,
    pub(super) interval: Duration,
}

impl Screen {
    pub(super) fn new(interval: Duration, filter: Checked) -> Self {
        let given = filter.query().to_line();
        Self {
            view: View::default(),
            sort: Sort::default(),
            filter,
            filter_text: given.clone(),
            given,
            entry: None,
            refusal: None,
            is_paused: false,
            offset: 0,
            interval,
        }
    }

    /// Does what a key says; returns whether that is to quit.
    pub(super) fn press(&mut self, key: KeyEvent, board: &Board) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        if is_control && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return true;
        }
        if let Some(entry) = &mut self.entry {
            match key.code {
                // As the line editor of a terminal does.
                KeyCode::Char('u') if is_control => entry.clear(),
                KeyCode::Char(_) if is_control => {}
                code => self.type_key(code, board),
            }
            return false;
        }
        match key.code {
            KeyCode::Char('q') => return true,
            KeyCode::Char(digit @ '1'..='5') => {
                let index = usize::try_from(u32::from(digit) - u32::from('1')).unwrap_or_default();
                self.show(View::ALL[index]);
            }
            KeyCode::Tab | KeyCode::Right => self.show(self.view.step(1)),
            KeyCode::BackTab | KeyCode::Left => self.show(self.view.step(View::ALL.len() - 1)),
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Char('p' | ' ') => self.is_paused = !self.is_paused,
            KeyCode::Char('/') => self.entry = Some(self.filter_text.clone()),
            KeyCode::Esc => self.set_filter(&self.given.clone(), board),
            KeyCode::Up => self.offset = self.offset.saturating_sub(1),
            KeyCode::Down => self.offset = self.offset.saturating_add(1),
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(10),
            KeyCode::PageDown => self.offset = self.offset.saturating_add(10),
            KeyCode::Home => self.offset = 0,
            _ => {}
        }
        false
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.offset = 0;
    }

    fn type_key(&mut self, code: KeyCode, board: &Board) {
        let Some(entry) = &mut self.entry else { return };
        match code {
            KeyCode::Enter => {
                let text = std::mem::take(entry);
                self.entry = None;
                self.set_filter(&text, board);
            }
            KeyCode::Esc => self.entry = None,
            KeyCode::Backspace => {
                entry.pop();
            }
            KeyCode::Char(character) if entry.len() < LONGEST && !character.is_control() => {
                entry.push(character);
            }
            _ => {}
        }
    }

    /// Whether the command line has a filter, which Esc goes back to.
    pub(super) const fn has_given(&self) -> bool {
        !self.given.is_empty()
    }

    /// Replaces the filter; one that is refused changes nothing.
    fn set_filter(&mut self, text: &str, board: &Board) {
        let parsed = Query::from_line(text).map_err(anyhow::Error::from);
        match parsed.and_then(|query| query.check(board.names())) {
            Ok(filter) => {
                self.filter = filter;
                self.filter_text = text.trim().to_owned();
                self.refusal = None;
                self.offset = 0;
            }
            Err(error) => {
                let hint = error.downcast_ref::<QueryError>().and_then(Explain::hint);
                let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
                self.refusal = Some(one_line(&format!("{error}{hint}")));
            }
        }
    }
}
