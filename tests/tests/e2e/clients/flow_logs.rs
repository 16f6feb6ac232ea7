//! A flow log that the AWS CLI creates is delivered.

use std::fs;
use std::path::Path;

use secgroup_tests::clients::Endpoint;
use secgroup_tests::ping::ping;
use secgroup_tests::process::output;
use secgroup_tests::{Pair, Secgroup};
use serde_json::{Value, json};

const FORMAT: &str = "${version} ${account-id} ${interface-id} ${srcaddr} ${dstaddr} ${protocol} ${packets} \
                      ${bytes} ${action} ${log-status} ${flow-direction}";

/// IPv4, ICMP, and the data that `ping` sends.
const BYTES: u64 = 20 + 8 + 56;

/// Creates a flow log; its id.
fn create(endpoint: &Endpoint<'_>, request: &Value) -> String {
    let file = endpoint.home().join("request.json");
    fs::write(&file, request.to_string()).unwrap();
    let line = format!("create-flow-logs --cli-input-json file://{}", file.display());
    let answer = endpoint.aws(&line);
    assert_eq!(answer["Unsuccessful"], json!([]), "{answer:#}");
    answer["FlowLogIds"][0].as_str().unwrap().to_owned()
}

fn describe(endpoint: &Endpoint<'_>, id: &str) -> Value {
    let answer = endpoint.aws(&format!("describe-flow-logs --flow-log-ids {id}"));
    answer["FlowLogs"][0].clone()
}

/// The files below a directory, of the flow log alone.
fn files(directory: &Path, id: &str) -> Vec<String> {
    let found = output(std::process::Command::new("find").arg(directory).args(["-type", "f"]));
    let found: Vec<_> = found.lines().map(str::to_owned).collect();
    assert!(found.iter().all(|path| path.contains(id)), "{found:?}");
    found
}

#[test]
fn a_flow_log_that_a_client_creates_is_delivered_in_the_layout_of_aws() {
    const COUNT: u64 = 3;
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    let place = tempfile::tempdir().unwrap();
    let config = format!("[flow_logs]\ndirectory = {:?}\n", place.path().join("logs"));
    let endpoint = Endpoint::start_with(&secgroup, &net.server, &config);
    secgroup.ok("group create web --description x");
    secgroup.ok("rule add web ingress --protocol icmp --cidr 10.77.0.0/24");
    secgroup.ok("attach eth0 --group web");
    let interfaces = endpoint.aws("describe-network-interfaces");
    let interface = interfaces["NetworkInterfaces"][0]["NetworkInterfaceId"].as_str().unwrap();
    let request = |format: &str| {
        json!({
            "ResourceType": "NetworkInterface",
            "ResourceIds": [interface],
            "TrafficType": "ALL",
            "LogDestinationType": "s3",
            "LogDestination": format!("arn:aws:s3:::my-logs/{format}"),
            "LogFormat": FORMAT,
            "MaxAggregationInterval": 60,
            "DestinationOptions": {
                "FileFormat": format, "HiveCompatiblePartitions": false, "PerHourPartition": false
            },
        })
    };
    let log = create(&endpoint, &request("plain-text"));
    let other = create(&endpoint, &request("parquet"));
    endpoint.wait_for_output(&format!("flow log {log} records {interface}"));
    for _ in 0..COUNT {
        assert!(ping(&net.client, Pair::SERVER[0]));
    }
    // What there is of the interval is delivered at the end.
    endpoint.terminate();

    let day =
        place.path().join("logs/my-logs/plain-text/AWSLogs/123456789012/vpcflowlogs/us-east-1");
    let (mut packets, mut bytes) = ([0, 0], [0, 0]);
    for path in files(&place.path().join("logs"), &log) {
        let below = path.strip_prefix(&format!("{}/", day.display()));
        let parts: Vec<_> = below.unwrap_or_else(|| panic!("{path}")).split('/').collect();
        let [year, month, date, name] = parts[..] else { panic!("{path}") };
        let start = format!("123456789012_vpcflowlogs_us-east-1_{log}_{year}{month}{date}T");
        assert!(name.starts_with(&start) && name.ends_with(".log.gz"), "{path}");
        let text = output(std::process::Command::new("gzip").args(["-dc", &path]));
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some(&*FORMAT.replace("${", "").replace('}', "")));
        for line in lines {
            let fields: Vec<_> = line.split(' ').collect();
            let [
                "5",
                "123456789012",
                of,
                from,
                to,
                protocol,
                count,
                sum,
                action,
                status,
                direction,
            ] = fields[..]
            else {
                panic!("{line}")
            };
            assert_eq!(of, interface);
            if status == "NODATA" {
                // An interval may have ended meanwhile.
                continue;
            }
            assert_eq!((protocol, action, status), ("1", "ACCEPT", "OK"), "{line}");
            let ends = [Pair::CLIENT[0], Pair::SERVER[0]].map(|ip| ip.to_string());
            let index = usize::from(direction == "egress");
            assert_eq!([from, to], [&*ends[index], &*ends[1 - index]], "{line}");
            packets[index] += count.parse::<u64>().unwrap();
            bytes[index] += sum.parse::<u64>().unwrap();
        }
    }
    assert_eq!((packets, bytes), ([COUNT; 2], [COUNT * BYTES; 2]));

    // A later process knows what became of the records.
    let endpoint = Endpoint::start_with(&secgroup, &net.server, &config);
    let found = describe(&endpoint, &log);
    assert_eq!(
        (&found["DeliverLogsStatus"], &found["DeliverLogsErrorMessage"]),
        (&json!("SUCCESS"), &Value::Null)
    );
    assert_eq!((&found["LogFormat"], &found["ResourceId"]), (&json!(FORMAT), &json!(interface)));
    let found = describe(&endpoint, &other);
    assert_eq!(found["DeliverLogsStatus"], "FAILED");
    let message = found["DeliverLogsErrorMessage"].as_str().unwrap();
    assert!(message.contains("plain-text, not parquet"), "{message}");
}
