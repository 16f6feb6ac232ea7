use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use firewall_ebpf::abi::interface::Direction;
use firewall_ebpf::abi::reason::Reason;
use firewall_ebpf::abi::state::State;
use proptest::prelude::*;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::board::Sort;
use super::sample::{CounterSample, FlowSample, Sample};
use super::screen::View;
use super::*;
use crate::observe::flows::Place;
use crate::observe::query::Checked;
use crate::observe::record::{PacketRecord, RuleName, Verdict};

const PLAIN: Look = Look { colours: false, unicode: true };

fn place(device: &str) -> Arc<Place> {
    Arc::new(Place {
        network_interface_id: format!("eni-{device}"),
        device: device.to_owned(),
        netns: None,
        label: device.to_owned(),
    })
}

fn counter(device: &str, reason: Reason, packets: u64) -> CounterSample {
    CounterSample {
        place: place(device),
        direction: Direction::Ingress,
        reason,
        packets,
        bytes: packets * 100,
    }
}

fn flow(port: u16, packets: u64) -> FlowSample {
    FlowSample {
        place: place("eth0"),
        direction: Direction::Ingress,
        protocol: 6,
        source: "192.0.2.7".parse().unwrap(),
        destination: "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".parse().unwrap(),
        source_port: Some(51234),
        destination_port: Some(port),
        icmp: None,
        state: if port == 443 { State::Established } else { State::SynSent },
        rule: (port == 443).then(|| RuleName {
            security_group_rule_id: "sgr-0123456789abcdef0".to_owned(),
            group_id: "sg-0123456789abcdef0".to_owned(),
            group_name: "web".to_owned(),
        }),
        otherwise: if port == 443 { "" } else { "learned" },
        age: 7,
        packets,
        bytes: packets * 1000,
        is_new: port != 443,
    }
}

fn record(id: u64, port: u16, verdict: Verdict) -> PacketRecord {
    let sample = PacketRecord::sample(1_796_030_000_123, id);
    PacketRecord { id, destination_port: Some(port), verdict, ..sample }
}

/// Readings a second apart; in each, 100 packets passed and 40 were dropped.
fn board(readings: u64) -> Board {
    let mut board = Board::default();
    for second in 0..readings {
        let records = if second == 0 {
            vec![record(1, 22, Verdict::Drop), record(2, 443, Verdict::WouldDrop)]
        } else {
            Vec::new()
        };
        let mut sample = Sample {
            at: Duration::from_secs(second),
            counters: vec![
                counter("eth0", Reason::Established, 1000 + 100 * second),
                counter("eth0", Reason::NoRule, 40 * second),
                counter("tap0", Reason::Blocked, 5),
            ],
            flows: vec![flow(443, 100), flow(80, 3)],
            records,
            ..Sample::default()
        };
        for one in &sample.flows {
            sample.names.add(&one.subject());
        }
        for one in &sample.counters {
            sample.names.add(&one.subject());
        }
        board.apply(sample);
    }
    board
}

fn screen() -> Screen {
    Screen::new(Duration::from_secs(1), Checked::default())
}

fn press(screen: &mut Screen, board: &Board, keys: &str) -> bool {
    keys.chars().any(|key| {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\x1b' => KeyCode::Esc,
            '\x08' => KeyCode::Backspace,
            key => KeyCode::Char(key),
        };
        screen.press(KeyEvent::new(code, KeyModifiers::NONE), board)
    })
}

fn drawn(board: &Board, screen: &Screen, width: u16, height: u16, look: Look) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, board, screen, look)).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| row(y).trim_end().to_owned()).collect()
}

#[track_caller]
fn assert_line(lines: &[String], words: &[&str]) {
    let has = |line: &String| words.iter().all(|word| line.contains(word));
    assert!(lines.iter().any(has), "{words:?} in\n{}", lines.join("\n"));
}

#[test]
fn rates_are_what_was_counted_between_readings() {
    let board = board(4);
    let (reasons, is_filtered) = board.reasons(&Default::default(), Sort::Packets);
    assert!(is_filtered);
    let rates: Vec<_> =
        reasons.iter().map(|one| (one.sample.reason, one.packets, one.bytes)).collect();
    assert_eq!(
        rates,
        [(Reason::Established, 100, 10_000), (Reason::NoRule, 40, 4000), (Reason::Blocked, 0, 0)]
    );
    // Nothing is known of the time before the first reading.
    assert_eq!(reasons[0].history, VecDeque::from([0, 100, 100, 100]));
    let interfaces = Board::interfaces(&reasons, Sort::Packets);
    assert_eq!(interfaces[0].label, "eth0");
    assert_eq!((interfaces[0].passed, interfaces[0].dropped), ((100, 10_000), (40, 4000)));
    assert_eq!(interfaces[0].dropped_history, [0, 40, 40, 40]);
}

#[test]
fn a_reading_that_came_late_and_a_counter_that_fell_make_no_false_rates() {
    let mut board = board(2);
    let at = Duration::from_secs(5);
    let counters =
        vec![counter("eth0", Reason::Established, 1500), counter("tap0", Reason::Blocked, 1)];
    board.apply(Sample { at, counters, ..Sample::default() });
    let (reasons, _) = board.reasons(&Default::default(), Sort::Name);
    // 400 packets in four seconds; the interface with the counter was attached anew.
    assert_eq!(reasons.iter().map(|one| one.packets).collect::<Vec<_>>(), [100, 0]);
}

#[test]
fn every_view_is_readable_on_a_small_terminal() {
    let board = board(4);
    let mut screen = screen();
    let lines = drawn(&board, &screen, 80, 24, PLAIN);
    assert_line(&lines, &["[1 overview]", "2 flows", "5 rules"]);
    assert_line(&lines, &["eth0", "100", "40", "███"]);
    assert_line(&lines, &["no-rule", "ingress", "120"]);
    assert_line(&lines, &["would-drop", "no-rule", "tcp 192.0.2.7:51234"]);
    assert_line(&lines, &["q quit", "/ filter", "s sort", "p pause"]);

    for (key, words) in [
        ("2", vec!["tcp", "192.0.2.7:51234", "[2001:db8:", "100", "established"]),
        ("3", vec!["drop", "no-rule", "tcp 192.0.2.7:51234"]),
        ("4", vec!["established", "1", "█████"]),
        ("5", vec!["web", "sgr-0123456789abcdef0", "1", "100", "800kb"]),
    ] {
        press(&mut screen, &board, key);
        assert_line(&drawn(&board, &screen, 80, 24, PLAIN), &words);
    }
    assert_line(&drawn(&board, &screen, 80, 24, PLAIN), &["learned", "1", "3"]);
}

#[test]
fn a_section_without_room_for_a_row_is_left_out() {
    let board = board(4);
    let screen = screen();
    for (height, titles) in [(5, 1), (6, 1), (8, 1), (9, 2), (10, 2), (11, 2), (12, 3), (24, 3)] {
        let lines = drawn(&board, &screen, 40, height, PLAIN);
        let found: Vec<_> = (0..lines.len()).filter(|at| lines[*at].contains("──")).collect();
        assert_eq!(found.len(), titles, "{height}: {}", lines.join("\n"));
        let is_row = |at: usize| lines[at + 2].chars().any(|one| one.is_ascii_digit());
        assert!(height < 6 || found.into_iter().all(is_row), "{height}: {}", lines.join("\n"));
    }
}

#[test]
fn rules_of_one_group_differ_on_a_narrow_screen() {
    let mut screen = screen();
    screen.view = View::Rules;
    assert_line(&drawn(&board(2), &screen, 40, 10, PLAIN), &["web", "…bcdef0"]);
    let look = Look { colours: false, unicode: false };
    assert_line(&drawn(&board(2), &screen, 40, 10, look), &["web", "..bcdef0"]);
}

#[test]
fn the_filter_of_the_command_line_is_shown_edited_and_gone_back_to() {
    let board = board(3);
    let given = Query::from_line("--port https").unwrap().check(board.names()).unwrap();
    let mut screen = Screen::new(Duration::from_secs(1), given);
    press(&mut screen, &board, "2");
    let lines = drawn(&board, &screen, 90, 24, PLAIN);
    assert_line(&lines, &["filter: --port https"]);
    assert_line(&lines, &["Flows: 1"]);
    // It is what / begins with.
    press(&mut screen, &board, "/ --not");
    let narrow = drawn(&board, &screen, 20, 24, PLAIN);
    assert_eq!(narrow.last().unwrap(), " --port https --not_");
    press(&mut screen, &board, "\n");
    assert_eq!(screen.filter_text, "--port https --not");
    assert_line(&drawn(&board, &screen, 90, 24, PLAIN), &["filter: --port https --not"]);
    press(&mut screen, &board, "\x1b");
    assert_eq!(screen.filter_text, "--port https");
    // Without it all flows are shown.
    press(&mut screen, &board, "/");
    screen.press(KeyEvent::new(KeyCode::Char('u'), KeyModifiers::CONTROL), &board);
    press(&mut screen, &board, "\n");
    assert_line(&drawn(&board, &screen, 90, 24, PLAIN), &["Flows: 2"]);
}

#[test]
fn without_unicode_and_colours_the_words_are_the_same() {
    let board = board(4);
    let look = Look { colours: false, unicode: false };
    let lines = drawn(&board, &screen(), 120, 40, look);
    assert_line(&lines, &["Interfaces----"]);
    let mut screen = screen();
    for (width, view) in [120, 50].into_iter().flat_map(|width| View::ALL.map(|view| (width, view)))
    {
        screen.view = view;
        let lines = drawn(&board, &screen, width, 40, look);
        assert!(lines.join("").is_ascii(), "{}", lines.join("\n"));
    }
    screen.view = View::Overview;
    let backend = |look| {
        let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
        terminal.draw(|frame| draw::draw(frame, &board, &screen, look)).unwrap();
        let cells = terminal.backend().buffer().content().to_vec();
        cells.iter().any(|cell| cell.fg != ratatui::style::Color::Reset)
    };
    assert!(!backend(look) && backend(Look { colours: true, unicode: false }));
}

#[test]
fn a_filter_is_typed_in_the_words_of_the_options() {
    let board = board(3);
    let mut screen = screen();
    press(&mut screen, &board, "2/--port httpx\x08s\n");
    assert_eq!(screen.filter_text, "--port https");
    let lines = drawn(&board, &screen, 80, 24, PLAIN);
    assert_line(&lines, &["filter: --port https"]);
    assert_line(&lines, &["Flows: 1"]);
    // Counters have no ports: they stay, and that is told.
    press(&mut screen, &board, "1");
    let lines = drawn(&board, &screen, 80, 24, PLAIN);
    assert_line(&lines, &["not filtered"]);
    assert_line(&lines, &["established"]);
    // What is refused says why, and changes nothing.
    press(&mut screen, &board, "/ --group mail\n");
    let lines = drawn(&board, &screen, 100, 24, PLAIN);
    assert_line(&lines, &["there is no group \"mail\"; known: web"]);
    assert_eq!(screen.filter_text, "--port https");
    press(&mut screen, &board, "\x1b/interface=tap0\n");
    let lines = drawn(&board, &screen, 80, 24, PLAIN);
    assert_line(&lines, &["blocked"]);
    assert!(!lines.iter().any(|line| line.contains("established")));
    // While it is typed, keys are text.
    assert!(!press(&mut screen, &board, "/q"));
    assert_line(&drawn(&board, &screen, 80, 24, PLAIN), &["filter: interface=tap0q_"]);
    assert!(press(&mut screen, &board, "\x1b\x1bq"));
    assert!(screen.filter.is_empty());
}

#[test]
fn lists_are_sorted_scrolled_and_paused() {
    let board = board(3);
    let mut screen = screen();
    press(&mut screen, &board, "2");
    let first = |screen: &Screen| {
        let lines = drawn(&board, screen, 80, 24, PLAIN);
        lines[4].clone()
    };
    assert!(first(&screen).contains("100"), "{}", first(&screen));
    screen.press(KeyEvent::new(KeyCode::Down, KeyModifiers::NONE), &board);
    assert!(first(&screen).contains(" 3 "), "{}", first(&screen));
    press(&mut screen, &board, "sp");
    assert_eq!(screen.sort, Sort::Bytes);
    assert_line(&drawn(&board, &screen, 80, 24, PLAIN), &["PAUSED"]);
    let control_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(screen.press(control_c, &board));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_size_and_any_keys_are_drawn(
        width in 1..300_u16,
        height in 1..300_u16,
        keys in "[1-5spq/ \n\x1b\x08a-z=0-9-]{0,40}",
        offset in prop_oneof![Just(0), 0..5_usize, Just(usize::MAX)],
        readings in 0..4_u64,
        unicode in any::<bool>(),
        colours in any::<bool>(),
    ) {
        let board = board(readings);
        let mut screen = screen();
        press(&mut screen, &board, &keys);
        screen.offset = offset;
        for view in View::ALL {
            screen.view = view;
            drawn(&board, &screen, width, height, Look { colours, unicode });
        }
    }
}
