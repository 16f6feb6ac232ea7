//! Rules are removed while connections are open.

use secgroup_tests::http::{Download, HttpServer, PAGE, get};
use secgroup_tests::network::at;
use secgroup_tests::{Pair, Secgroup, tcp};

#[test]
fn a_download_survives_the_removal_of_its_rule() {
    let net = Pair::new();
    let secgroup = Secgroup::inside(&net.server);
    secgroup.ok("group create web --description x");
    secgroup.ok("attach eth0 --group web");
    for address in at(Pair::SERVER, 80) {
        let rule = format!(
            "web ingress --protocol tcp --port 80 --cidr {}",
            if address.is_ipv4() { "10.77.0.0/24" } else { "fd77::/64" }
        );
        let server = HttpServer::start(&net.server, address);
        assert!(!tcp::reaches(&net.client, address));

        secgroup.ok(&format!("rule add {rule}"));
        assert_eq!(get(&net.client, address, "/").unwrap(), PAGE);
        let download = Download::start(&net.client, address).unwrap();

        secgroup.ok(&format!("rule remove {rule}"));
        assert!(!tcp::reaches(&net.client, address), "{}", secgroup.view());
        server.finish_downloads();
        download.finish().unwrap();
    }
}
