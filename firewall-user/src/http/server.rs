//! The accept loop of an HTTP server. Its clients are untrusted: they share a few connections, and cannot take
//! files or memory from the rest of the process.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{interval, sleep, timeout};

use super::address::{Listening, SocketFile, is_loopback};
use super::connection::{Accepted, Bounds, Ends, Phase, Progress};

/// The pause after an error of accepting, for example without a free file.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The time that answers have to end in when the process ends.
const END_TIME: Duration = Duration::from_secs(2);

/// How often the server shows that it works.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What serves the connections.
pub(crate) trait Service: Send + 'static {
    /// What clients may take.
    fn bounds(&self) -> &Bounds;

    /// Serves one connection until it ends. It has to record its progress, and to end within the bounds.
    fn serve(
        &self,
        accepted: Accepted,
        progress: Arc<Progress>,
    ) -> impl Future<Output = ()> + Send + 'static;
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "removed when it is dropped")] SocketFile),
}

impl Listener {
    fn new(listening: Listening) -> io::Result<Self> {
        Ok(match listening {
            Listening::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Self::Tcp(TcpListener::from_std(listener)?)
            }
            Listening::Unix(listener, file) => {
                listener.set_nonblocking(true)?;
                Self::Unix(UnixListener::from_std(listener)?, file)
            }
        })
    }

    async fn accept(&self) -> io::Result<Accepted> {
        Ok(match self {
            Self::Tcp(listener) => {
                let (stream, client) = listener.accept().await?;
                // An answer in several writes would wait for acknowledgements between them.
                let _ = stream.set_nodelay(true);
                let ends = Some(Ends { client, server: stream.local_addr()? });
                Accepted { stream: Box::new(stream), ends }
            }
            Self::Unix(listener, _) => {
                Accepted { stream: Box::new(listener.accept().await?.0), ends: None }
            }
        })
    }
}

/// The client that an address belongs to: the IPv4 address, or the IPv6 network of 64 bits. `None`: this host, whose
/// processes share one address.
fn client(address: SocketAddr) -> Option<IpAddr> {
    match address.ip().to_canonical() {
        ip if is_loopback(ip) => None,
        IpAddr::V6(v6) => Some(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()),
        v4 @ IpAddr::V4(_) => Some(v4),
    }
}

/// A connection, in the order of their beginnings.
struct Connection {
    client: Option<IpAddr>,
    progress: Arc<Progress>,
    task: AbortHandle,
}

/// Serves until `end` changes. `beat` is called once a second as long as connections are accepted.
///
/// # Errors
/// The socket cannot be used.
pub(crate) async fn run(
    listening: Listening,
    service: impl Service,
    beat: impl Fn(),
    mut end: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = Listener::new(listening)?;
    let (mut tasks, mut connections) = (JoinSet::new(), VecDeque::new());
    let mut tick = interval(HEARTBEAT);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tick.tick() => {
                beat();
                continue;
            }
            // Closed: the process ends.
            _ = end.changed() => break,
        };
        while tasks.try_join_next().is_some() {}
        connections.retain(|one: &Connection| !one.task.is_finished());
        let Ok(accepted) = accepted else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let client = accepted.ends.and_then(|ends| client(ends.client));
        if !make_room(&mut connections, client, service.bounds()) {
            continue;
        }
        let progress = Arc::new(Progress::new());
        let served = service.serve(accepted, Arc::clone(&progress));
        connections.push_back(Connection { client, progress, task: tasks.spawn(served) });
    }
    drop(listener);
    for one in connections {
        if one.progress.phase() == Phase::Head {
            one.task.abort();
        }
    }
    let _ = timeout(END_TIME, async { while tasks.join_next().await.is_some() {} }).await;
    Ok(())
}

/// Ends a connection if there are as many as there can be. Returns whether there is room for another one.
fn make_room(
    connections: &mut VecDeque<Connection>,
    client: Option<IpAddr>,
    bounds: &Bounds,
) -> bool {
    let is_same = |one: &Connection| client.is_some() && one.client == client;
    let victim = if connections.iter().filter(|one| is_same(one)).count() >= bounds.per_client {
        victim(connections, is_same, bounds)
    } else if connections.len() >= bounds.connections {
        victim(connections, |_| true, bounds)
    } else {
        return true;
    };
    let ended = victim.and_then(|at| connections.remove(at));
    ended.inspect(|one| one.task.abort()).is_some()
}

/// The oldest connection that has not sent its request, else the one that has been idle for longest, else, if that
/// may end, the oldest.
fn victim(
    connections: &VecDeque<Connection>,
    is_one: impl Fn(&Connection) -> bool,
    bounds: &Bounds,
) -> Option<usize> {
    let of = |phase: Phase| {
        let those = connections.iter().enumerate().filter(|(_, one)| is_one(one));
        those.filter(move |(_, one)| one.progress.phase() == phase)
    };
    let silent = of(Phase::Head).next();
    let idle = || of(Phase::Answer).max_by_key(|(_, one)| one.progress.idle());
    let busy = || of(Phase::Request).next().filter(|_| bounds.evicts_requests);
    silent.or_else(idle).or_else(busy).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds {
        connections: 4,
        per_client: 2,
        evicts_requests: false,
        head: Duration::MAX,
        request: Duration::MAX,
        idle: Duration::MAX,
        answer: Duration::MAX,
        connection: Duration::MAX,
    };

    fn connection(tasks: &mut JoinSet<()>, client: &str, phase: Phase) -> Connection {
        let progress = Arc::new(Progress::new());
        progress.enter(phase);
        let client = (!client.is_empty()).then(|| client.parse().unwrap());
        Connection { client, progress, task: tasks.spawn(std::future::pending()) }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_connection_that_costs_its_client_least_ends_for_a_new_one() {
        use Phase::{Answer, Head, Request};
        let (a, b, c) = ("192.0.2.1", "192.0.2.2", "192.0.2.3");
        // Connections, the new client, and which one ends; `None`: the new one is refused.
        for (now, new, evicts_requests, ended) in [
            (vec![(a, Request), (a, Request), (b, Head), (c, Head)], b, false, Some(Some(2))),
            (vec![(a, Request), (b, Answer), (b, Head), (c, Head)], a, false, Some(Some(2))),
            (vec![(a, Request), (a, Answer), (b, Request), (c, Head)], a, false, Some(Some(1))),
            (vec![(a, Request), (a, Request)], a, false, None),
            (vec![(a, Request), (a, Request)], b, false, Some(None)),
            (vec![("", Request), ("", Request), ("", Head)], "", false, Some(None)),
            (vec![("", Request), ("", Request), ("", Request), ("", Request)], "", false, None),
            (
                vec![("", Request), ("", Request), ("", Request), ("", Request)],
                "",
                true,
                Some(Some(0)),
            ),
        ] {
            let mut tasks = JoinSet::new();
            let mut connections: VecDeque<Connection> =
                now.iter().map(|(client, phase)| connection(&mut tasks, client, *phase)).collect();
            let before: Vec<_> = connections.iter().map(|one| Arc::clone(&one.progress)).collect();
            let bounds = Bounds { evicts_requests, ..BOUNDS };
            let client = (!new.is_empty()).then(|| new.parse().unwrap());
            let has_room = make_room(&mut connections, client, &bounds);
            assert_eq!(has_room, ended.is_some(), "{now:?} {new}");
            let is_left = |one: &Arc<Progress>| {
                connections.iter().any(|left| Arc::ptr_eq(one, &left.progress))
            };
            let gone: Vec<usize> = (0..before.len()).filter(|at| !is_left(&before[*at])).collect();
            assert_eq!(gone, ended.flatten().into_iter().collect::<Vec<_>>(), "{now:?} {new}");
        }
    }

    #[test]
    fn a_client_is_an_address_or_a_network() {
        let of = |text: &str| client(text.parse().unwrap());
        assert_eq!(of("127.0.0.1:1"), None);
        assert_eq!(of("[::ffff:127.0.0.1]:1"), None);
        assert_eq!(of("[::1]:1"), None);
        assert_eq!(of("[::ffff:192.0.2.1]:1"), of("192.0.2.1:2"));
        assert_eq!(of("[2001:db8::1]:1"), of("[2001:db8::2:3]:1"));
        assert_ne!(of("[2001:db8::1]:1"), of("[2001:db8:0:1::1]:1"));
    }
}
