//! Drawing: from what is known to cells. Any size of the screen will do.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::border;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use super::board::{Board, Counted, InterfaceRates, RuleUse, Talker};
use super::sample::CounterSample;
use super::screen::{Screen, View};
use crate::cli::drops::Lines;
use crate::cli::failure::one_line;
use crate::clock::Clocks;
use crate::observe::query::protocol_name;
use crate::observe::record::{PacketRecord, Verdict, endpoint};
use crate::policy::services;

mod text;

use text::{bits, number, spark};

/// What the terminal can show.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colours: bool,
    /// Whether it has the characters of sparklines.
    pub(super) unicode: bool,
}

impl Look {
    fn colour(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    fn verdict(self, verdict: Verdict) -> Style {
        match verdict {
            Verdict::Drop => self.colour(Color::Red),
            // Not by its colour alone.
            Verdict::WouldDrop => self.colour(Color::Yellow).add_modifier(Modifier::ITALIC),
            Verdict::Pass => self.colour(Color::Green),
        }
    }
}

/// A column: its header, its width, and the width of the screen from which on it is there.
#[derive(Clone, Copy)]
struct Column(&'static str, u16, u16);

/// Lines of tables where the terminal has no others.
const ASCII: border::Set<'_> = border::Set {
    top_left: "+",
    top_right: "+",
    bottom_left: "+",
    bottom_right: "+",
    vertical_left: "|",
    vertical_right: "|",
    horizontal_top: "-",
    horizontal_bottom: "-",
};

/// Lines of the smallest section: title, header and a row.
const SMALLEST: u16 = 3;

/// The width of a column that takes what is left.
const REST: u16 = 0;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, board: &Board, screen: &Screen, look: Look) {
    let [top, main, bottom] =
        Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(header(board, screen, look)), top);
    match screen.view {
        View::Overview => overview(frame, main, board, screen, look),
        View::Flows => flows(frame, main, board, screen, look),
        View::Drops => drops(frame, main, board, screen, look, screen.offset),
        View::States => states(frame, main, board, screen, look),
        View::Rules => rules(frame, main, board, screen, look, screen.offset),
    }
    frame.render_widget(Paragraph::new(footer(screen, look, bottom.width)), bottom);
}

fn header<'a>(board: &Board, screen: &Screen, look: Look) -> Vec<Line<'a>> {
    let mut views = vec![Span::raw("secgroup")];
    for (index, view) in View::ALL.into_iter().enumerate() {
        let is_shown = view == screen.view;
        let text = format!("{} {}", index + 1, view.name());
        // A shown view differs without colours, too.
        let text = if is_shown { format!(" [{text}]") } else { format!("  {text} ") };
        let style = if is_shown { Style::new().add_modifier(Modifier::BOLD) } else { Style::new() };
        views.push(Span::styled(text, style));
    }
    let mut state = Vec::new();
    if screen.is_paused {
        state.push(Span::styled(
            "PAUSED  ",
            look.colour(Color::Yellow).add_modifier(Modifier::BOLD),
        ));
    }
    if !screen.filter_text.is_empty() {
        state.push(Span::raw(format!("filter: {}  ", one_line(&screen.filter_text))));
    }
    if board.lost > 0 {
        let text = format!("{} packets in no record  ", number(board.lost));
        state.push(Span::styled(text, look.colour(Color::Yellow)));
    }
    if let Some(error) = &board.error {
        state.push(Span::styled(one_line(error), look.colour(Color::Red)));
    } else if state.is_empty() {
        let interval = humantime::format_duration(screen.interval);
        state.push(Span::raw(format!("every {interval}, sorted by {}", screen.sort.name())));
    }
    vec![Line::from(views), Line::from(state)]
}

fn footer<'a>(screen: &Screen, look: Look, width: u16) -> Line<'a> {
    if let Some(entry) = &screen.entry {
        let text = format!("filter: {entry}_  (Enter: apply, Esc: leave, Ctrl-U: clear)");
        // Where it is too long, its end is seen: that is what is typed.
        let hidden = (entry.chars().count() + "filter: _".len()).saturating_sub(width.into());
        return Line::from(text.chars().skip(hidden).collect::<String>());
    }
    if let Some(refusal) = &screen.refusal {
        return Line::from(Span::styled(refusal.clone(), look.colour(Color::Red)));
    }
    let esc = if screen.has_given() { "Esc first filter" } else { "Esc no filter" };
    Line::from(format!("q quit  1-5 Tab view  / filter  {esc}  s sort  p pause  Up/Down scroll"))
}

fn overview(frame: &mut Frame<'_>, area: Rect, board: &Board, screen: &Screen, look: Look) {
    let (counters, is_filtered) = board.reasons(&screen.filter, screen.sort);
    let interfaces = Board::interfaces(&counters, screen.sort);
    let rows = u16::try_from(interfaces.len()).unwrap_or(u16::MAX).saturating_add(2);
    // A section without room for a row is left out, the last one first.
    let sections = (area.height / SMALLEST).clamp(1, 3);
    let fill = |section: u16| Constraint::Fill(u16::from(sections > section));
    let [first, second, third] = Layout::vertical([
        if sections == 1 {
            Constraint::Fill(1)
        } else {
            Constraint::Length(rows.min(area.height / sections))
        },
        fill(1),
        fill(2),
    ])
    .areas(area);
    interfaces_table(frame, first, &interfaces, look);
    if sections == 1 {
        return;
    }
    let title =
        if is_filtered { "Reasons" } else { "Reasons (counters have no addresses: not filtered)" };
    reasons_table(frame, second, title, &counters, screen.offset, look);
    if sections == 2 {
        return;
    }
    if area.width >= 160 {
        let [left, right] =
            Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(third);
        drops(frame, left, board, screen, look, 0);
        rules(frame, right, board, screen, look, 0);
    } else {
        drops(frame, third, board, screen, look, 0);
    }
}

fn interfaces_table(frame: &mut Frame<'_>, area: Rect, all: &[InterfaceRates], look: Look) {
    let columns = [
        Column("INTERFACE", 16, 0),
        Column("PASS/s", 7, 0),
        Column("", 9, 70),
        Column("DROP/s", 7, 0),
        Column("", 9, 90),
        Column("PASSED", REST, 0),
        Column("DROPPED", REST, 60),
    ];
    let rows = all.iter().map(|one| {
        let history = |history: &[u64]| spark(history.iter().copied(), 20, look.unicode);
        let drops = if one.dropped.0 > 0 { look.verdict(Verdict::Drop) } else { Style::new() };
        [
            Cell::from(one_line(&one.label)),
            Cell::from(number(one.passed.0)),
            Cell::from(bits(one.passed.1)),
            Cell::from(number(one.dropped.0)).style(drops),
            Cell::from(bits(one.dropped.1)).style(drops),
            Cell::from(history(&one.passed_history)).style(look.verdict(Verdict::Pass)),
            Cell::from(history(&one.dropped_history)).style(look.verdict(Verdict::Drop)),
        ]
    });
    table(frame, area, look, "Interfaces", columns, rows, 0);
}

fn reasons_table(
    frame: &mut Frame<'_>,
    area: Rect,
    title: &str,
    all: &[&Counted],
    offset: usize,
    look: Look,
) {
    let columns = [
        Column("REASON", 20, 0),
        Column("INTERFACE", 16, 60),
        Column("DIRECTION", 9, 50),
        Column("PER SECOND", 10, 0),
        Column("TOTAL", 8, 0),
        Column("BYTES", 8, 100),
        Column("HISTORY", REST, 0),
    ];
    let rows = all.iter().map(|one| {
        let CounterSample { place, direction, reason, packets, bytes, .. } = &one.sample;
        let is_drop = reason.verdict() == firewall_ebpf::abi::reason::Verdict::Drop;
        let style = look.verdict(if is_drop { Verdict::Drop } else { Verdict::Pass });
        [
            Cell::from(reason.name()).style(style),
            Cell::from(one_line(&place.label)),
            Cell::from(direction.name()),
            Cell::from(number(one.packets)),
            Cell::from(number(*packets)),
            Cell::from(number(*bytes)),
            Cell::from(spark(one.history.iter().copied(), 40, look.unicode)).style(style),
        ]
    });
    table(frame, area, look, title, columns, rows, offset);
}

fn flows(frame: &mut Frame<'_>, area: Rect, board: &Board, screen: &Screen, look: Look) {
    let all = board.talkers(&screen.filter, screen.sort);
    let columns = [
        Column("PROTO", 6, 0),
        Column("FROM", REST, 0),
        Column("TO", REST, 0),
        Column("PKT/s", 6, 0),
        Column("BITS/s", 7, 50),
        Column("STATE", 11, 80),
        Column("GROUP", 16, 100),
        Column("INTERFACE", 12, 120),
        Column("AGE", 8, 130),
    ];
    let rows = all.iter().map(|Talker { flow, packets, bytes }| {
        let service =
            flow.destination_port.and_then(|port| services::name_of_port(flow.protocol, port));
        let mut to = endpoint(flow.destination, flow.destination_port);
        to.extend(service.map(|name| format!(" ({name})")));
        to.extend(flow.icmp.map(|(kind, code)| format!(" {kind}/{code}")));
        let group = flow.rule.as_ref().map_or(flow.otherwise, |rule| &rule.group_name);
        [
            Cell::from(protocol_name(flow.protocol)),
            Cell::from(endpoint(flow.source, flow.source_port)),
            Cell::from(to),
            Cell::from(number(*packets)),
            Cell::from(bits(*bytes)),
            Cell::from(flow.state.name()),
            Cell::from(one_line(group)),
            Cell::from(one_line(&flow.place.label)),
            Cell::from(format!("{}s", flow.age)),
        ]
    });
    table(frame, area, look, &format!("Flows: {}", all.len()), columns, rows, screen.offset);
}

fn drops(
    frame: &mut Frame<'_>,
    area: Rect,
    board: &Board,
    screen: &Screen,
    look: Look,
    offset: usize,
) {
    let columns = [
        // To the second; an earlier day has its date alone.
        Column("TIME", 10, 50),
        Column("VERDICT", 18, 0),
        Column("PACKET", REST, 0),
        Column("COUNT", 6, 100),
        Column("INTERFACE", 12, 120),
        Column("RULE, OR NEAREST MISS", REST, 150),
    ];
    let lines = Lines::local();
    let now = Clocks::now().moment.wall;
    let row = |record: &PacketRecord| {
        let style = look.verdict(record.verdict);
        [
            Cell::from(lines.time(record.first, now).chars().take(10).collect::<String>()),
            Cell::from(format!("{} {}", record.verdict.name(), record.reason.name())).style(style),
            Cell::from(record.tuple()),
            Cell::from(number(record.packets)),
            Cell::from(one_line(&record.interface_label())),
            Cell::from(one_line(&record.decided_by().unwrap_or_default())),
        ]
    };
    let rows = board.records(&screen.filter).map(row);
    table(frame, area, look, "Newest drops", columns, rows, offset);
}

fn states(frame: &mut Frame<'_>, area: Rect, board: &Board, screen: &Screen, look: Look) {
    let all = board.states(&screen.filter);
    let most = all.iter().map(|(_, count)| *count).max().unwrap_or_default().max(1);
    let columns = [
        Column("STATE", 12, 0),
        Column("FLOWS", 8, 0),
        Column("", 30, 50),
        Column("MEANING", REST, 90),
    ];
    let rows = all.iter().map(|(state, count)| {
        let length =
            usize::try_from(u128::from(*count) * 30 / u128::from(most)).unwrap_or_default();
        [
            Cell::from(state.name()),
            Cell::from(number(*count)),
            Cell::from(if look.unicode { "█" } else { "#" }.repeat(length.max(1))),
            Cell::from(state.help()),
        ]
    });
    let total: u64 = all.iter().map(|(_, count)| count).sum();
    table(frame, area, look, &format!("States of {total} flows"), columns, rows, screen.offset);
}

fn rules(
    frame: &mut Frame<'_>,
    area: Rect,
    board: &Board,
    screen: &Screen,
    look: Look,
    offset: usize,
) {
    // The end of an id tells rules of one group apart.
    let is_narrow = area.width < 60;
    let id = |rule: &str| match rule.char_indices().rev().nth(5) {
        Some((at, _)) if is_narrow => {
            format!("{}{}", if look.unicode { "…" } else { ".." }, &rule[at..])
        }
        _ => rule.to_owned(),
    };
    let columns = [
        Column("GROUP", REST, 0),
        Column("RULE", if is_narrow { 8 } else { 21 }, 30),
        Column("FLOWS", 7, 0),
        Column("NEW", 6, 80),
        Column("PKT/s", 7, 0),
        Column("BITS/s", 7, 50),
    ];
    let all = board.rules(&screen.filter, screen.sort);
    let rows = all.iter().map(|one| {
        let RuleUse { group, rule, flows, new_flows, packets, bytes } = one;
        [
            Cell::from(one_line(group)),
            Cell::from(id(rule)),
            Cell::from(number(*flows)),
            Cell::from(number(*new_flows)),
            Cell::from(number(*packets)),
            Cell::from(bits(*bytes)),
        ]
    });
    table(frame, area, look, "Rules that admitted live flows", columns, rows, offset);
}

/// A table under a line with its title; columns for which the area is too narrow are left out.
fn table<'a, const N: usize>(
    frame: &mut Frame<'_>,
    area: Rect,
    look: Look,
    title: &str,
    columns: [Column; N],
    rows: impl Iterator<Item = [Cell<'a>; N]>,
    offset: usize,
) {
    let is_shown = columns.map(|Column(_, _, from)| area.width >= from);
    let shown = |cells: [Cell<'a>; N]| {
        let cells = cells.into_iter().zip(is_shown);
        Row::new(cells.filter(|(_, is_shown)| *is_shown).map(|(cell, _)| cell))
    };
    let widths = columns.iter().zip(is_shown).filter(|(_, is_shown)| *is_shown);
    let widths: Vec<_> = widths
        .map(|(Column(_, width, _), _)| match *width {
            REST => Constraint::Fill(1),
            width => Constraint::Length(width),
        })
        .collect();
    let header = columns.map(|Column(header, ..)| Cell::from(header));
    // What is below the screen is not made.
    let rows = rows.skip(offset).take(area.height.into()).map(shown);
    let table = Table::new(rows.collect::<Vec<_>>(), widths)
        .header(shown(header).style(Style::new().add_modifier(Modifier::BOLD)))
        .block(
            Block::new()
                .borders(Borders::TOP)
                .border_set(if look.unicode { border::PLAIN } else { ASCII })
                .title(title.to_owned()),
        );
    frame.render_widget(table, area);
}
