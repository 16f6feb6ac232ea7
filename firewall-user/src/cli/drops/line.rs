//! A record as a line.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::cli::failure::one_line;
use crate::cli::output::many;
use crate::observe::record::{PacketRecord, Verdict};

/// Turns records into lines.
#[derive(Debug)]
pub(in crate::cli) struct Lines {
    pub(super) zone: TimeZone,
    /// Whether verdicts have colours; the words say the same.
    pub(super) colours: bool,
}

impl Lines {
    /// With times of this host's clock, without colours.
    pub(in crate::cli) fn local() -> Self {
        Self { zone: TimeZone::system(), colours: false }
    }

    /// `#12  09:12:03.123  eth0  ingress  drop no-rule  tcp … > … [S]  2 packets  policy 1a2b3c4d  nearest: …`
    pub(super) fn line(&self, record: &PacketRecord, now: i64) -> String {
        let PacketRecord { id, direction, verdict, reason, packets, generation, .. } = record;
        let id = format!("#{id}");
        let time = self.time(record.first, now);
        let interface = one_line(&record.interface_label());
        let verdict_text = format!("{} {}", verdict.name(), reason.name());
        let padding = " ".repeat(20_usize.saturating_sub(verdict_text.len()));
        let verdict_text = self.coloured(*verdict, &verdict_text);
        let tuple = record.tuple();
        let packets = many(*packets, "packet");
        let direction = direction.name();
        let mut line = format!(
            "{id:<7} {time}  {interface:<8}  {direction:<7}  {verdict_text}{padding}  {tuple}  {packets}  \
             policy {generation:08x}"
        );
        if let Some(why) = record.decided_by() {
            line.push_str("  ");
            line.push_str(&one_line(&why));
        }
        line
    }

    /// A time of the host's clock, with its date if that is not today's.
    pub(in crate::cli) fn time(&self, time: i64, now: i64) -> String {
        let zoned =
            |time| Some(Timestamp::from_millisecond(time).ok()?.to_zoned(self.zone.clone()));
        let Some(at) = zoned(time) else { return format!("{time} ms") };
        let is_today = zoned(now).is_some_and(|now| now.date() == at.date());
        let form = if is_today { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S%.3f" };
        at.strftime(form).to_string()
    }

    fn coloured(&self, verdict: Verdict, text: &str) -> String {
        let code = match verdict {
            _ if !self.colours => return text.to_owned(),
            Verdict::Drop => 31,
            Verdict::WouldDrop => 33,
            Verdict::Pass => 32,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use firewall_ebpf::abi::reason::Reason;

    use super::*;
    use crate::observe::record::{NearestMiss, RuleName};

    fn line(record: &PacketRecord) -> String {
        Lines { zone: TimeZone::UTC, colours: false }.line(record, record.first)
    }

    #[test]
    fn a_line_says_when_where_what_and_why() {
        let mut record = PacketRecord::sample(1_796_030_000_123, 12);
        record.id = 7;
        record.nearest_miss = Some(NearestMiss {
            rule: RuleName {
                security_group_rule_id: "sgr-0123456789abcdef0".to_owned(),
                group_id: "sg-0123456789abcdef0".to_owned(),
                group_name: "web".to_owned(),
            },
            field: "port".to_owned(),
            rule_value: "8443".to_owned(),
            packet_value: "443".to_owned(),
        });
        assert_eq!(
            line(&record),
            "#7      09:13:20.123  eth0      ingress  drop no-rule          tcp 192.0.2.7:51234 > \
             198.51.100.1:443 (https) [S]  12 packets  policy 00000007  nearest: sgr-0123456789abcdef0 in \
             group web: port 8443, packet has 443"
        );
        record.verdict = Verdict::WouldDrop;
        record.netns = Some("blue".to_owned());
        record.nearest_miss = None;
        record.entry = Some("acl-0123456789abcdef0 ingress 100".to_owned());
        record.reason = Reason::Acl;
        (record.protocol, record.tcp_flags) = (Some(1), None);
        (record.source_port, record.destination_port) = (None, None);
        (record.icmp_type, record.icmp_code) = (Some(8), Some(0));
        record.packets = 1;
        assert_eq!(
            line(&record),
            "#7      09:13:20.123  blue/eth0  ingress  would-drop acl        icmp 192.0.2.7 > 198.51.100.1 \
             echo-request (8/0)  1 packet  policy 00000007  by acl-0123456789abcdef0 ingress 100"
        );
        (record.protocol, record.source, record.destination) = (None, None, None);
        (record.icmp_type, record.icmp_code, record.ether_type) = (None, None, Some(0x88f7));
        assert!(line(&record).contains("  EtherType 0x88f7  1 packet"), "{}", line(&record));
    }

    #[test]
    fn verdicts_differ_in_word_and_colour() {
        let mut record = PacketRecord::sample(0, 1);
        let lines = Lines { zone: TimeZone::UTC, colours: true };
        let mut seen = Vec::new();
        for verdict in [Verdict::Drop, Verdict::WouldDrop, Verdict::Pass] {
            record.verdict = verdict;
            let line = lines.line(&record, 0);
            let (_, rest) = line.split_once("\x1b[").unwrap();
            let (colour, rest) = rest.split_once('m').unwrap();
            assert!(rest.starts_with(&format!("{} no-rule\x1b[0m ", verdict.name())), "{line:?}");
            assert!(!seen.contains(&colour.to_owned()));
            seen.push(colour.to_owned());
        }
    }

    #[test]
    fn a_name_forges_no_line() {
        let mut record = PacketRecord::sample(0, 1);
        record.device = "e\x1b[31m\n#9".to_owned();
        assert!(!line(&record).contains(|character: char| character.is_control()));
    }

    #[test]
    fn another_day_has_its_date() {
        let lines = Lines { zone: TimeZone::UTC, colours: false };
        assert_eq!(lines.time(0, 86_399_999), "00:00:00.000");
        assert_eq!(lines.time(0, 86_400_000), "1970-01-01 00:00:00.000");
        assert_eq!(lines.time(i64::MAX, 0), format!("{} ms", i64::MAX));
    }
}
