//! From a form to an answer.

use std::net::SocketAddr;

use firewall_ec2::{Error, Params, Service, Xml};

use super::Api;
use super::actions::{self, Action};
use super::call::Call;

/// What the key of a request allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Actions that change nothing.
    Read,
    /// Every action.
    Write,
}

impl Access {
    /// Its name in documents.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read-only",
            Self::Write => "read-write",
        }
    }
}

/// Who sends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// What its key allows.
    pub access: Access,
    /// Its TCP connection: a change that would keep it from connecting again is refused. `None` over a Unix
    /// socket.
    pub connection: Option<Connection>,
}

/// The TCP connection that a request came over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's end.
    pub client: SocketAddr,
    /// The end on this host.
    pub server: SocketAddr,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// XML.
    pub body: String,
    /// The id of the request, as in the body.
    pub request_id: String,
}

impl Answer {
    /// The answer to a request that is refused.
    #[must_use]
    pub fn refused(error: &Error, service: Service) -> Self {
        let request_id = request_id();
        Self { status: error.status, body: error.body(service, &request_id), request_id }
    }
}

impl Api {
    /// Whether the action of a form changes something, so that the request must not be repeated by others. An
    /// action that does not exist counts as one that does.
    #[must_use]
    pub fn is_change(params: &Params) -> bool {
        params.text("Action").and_then(actions::find).is_none_or(|action| action.is_change)
    }

    /// The service that a form is for.
    #[must_use]
    pub fn service(params: &Params) -> Service {
        let action = params.text("Action").and_then(actions::find);
        action.map_or_else(|| service_of(params), |action| action.service)
    }

    /// Answers a request that was authenticated.
    #[must_use]
    pub fn answer(&self, caller: &Caller, params: &Params) -> Answer {
        let action = params.text("Action").and_then(actions::find);
        let service = Self::service(params);
        let request_id = request_id();
        match action.map_or_else(|| Err(unknown(params)), |action| self.run(caller, action, params))
        {
            Ok(content) => {
                let body = body(params, service, &content, &request_id);
                Answer { status: 200, body, request_id }
            }
            Err(error) => {
                Answer { status: error.status, body: error.body(service, &request_id), request_id }
            }
        }
    }

    fn run(&self, caller: &Caller, action: &'static Action, params: &Params) -> Result<Xml, Error> {
        // Its value is not compared: the shapes of one version are served, and clients of others read them.
        let _ = params.text("Version");
        if action.is_change && caller.access == Access::Read {
            let text =
                "You are not authorized to perform this operation. The access key is read-only.";
            return Err(Error::new("UnauthorizedOperation", text));
        }
        let call = Call::new(self, caller, action, params)?;
        (action.run)(&call)
    }
}

/// The service of a request for an action that does not exist.
fn service_of(params: &Params) -> Service {
    let is_sts = params.text("Version") == Some(Service::Sts.version());
    if is_sts { Service::Sts } else { Service::Ec2 }
}

fn unknown(params: &Params) -> Error {
    match params.text("Action") {
        None => Error::new("MissingAction", "The request must contain the parameter Action"),
        Some(name) => {
            let name: String = name.chars().take(128).collect();
            let text = format!("The action {name} is not valid for this web service.");
            Error::new("InvalidAction", text)
        }
    }
}

fn body(params: &Params, service: Service, content: &Xml, request_id: &str) -> String {
    let name = params.text("Action").unwrap_or_default();
    let mut xml = Xml::document();
    xml.root(&format!("{name}Response"), service.namespace(), |xml| match service {
        Service::Ec2 => {
            xml.text("requestId", request_id);
            xml.append(content);
        }
        Service::Sts => {
            xml.node(&format!("{name}Result"), |xml| xml.append(content));
            xml.node("ResponseMetadata", |xml| xml.text("RequestId", request_id));
        }
    });
    xml.finish()
}

/// A random UUID, version 4; of zeros where the kernel gives no random bytes.
fn request_id() -> String {
    let mut bytes = [0_u8; 16];
    let _ = getrandom::fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}
