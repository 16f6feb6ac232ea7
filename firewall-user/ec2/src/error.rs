//! Errors as EC2's clients read them: a code, which they compare, and a message.

use crate::xml::Xml;

/// The service that a request is for: they share the protocol, not the form of answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Elastic Compute Cloud, version 2016-11-15.
    Ec2,
    /// Security Token Service, version 2011-06-15.
    Sts,
}

impl Service {
    /// The name in a credential scope.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ec2 => "ec2",
            Self::Sts => "sts",
        }
    }

    /// The `Version` of its requests.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::Ec2 => "2016-11-15",
            Self::Sts => "2011-06-15",
        }
    }

    /// The XML namespace of its answers.
    #[must_use]
    pub const fn namespace(self) -> &'static str {
        match self {
            Self::Ec2 => "http://ec2.amazonaws.com/doc/2016-11-15/",
            Self::Sts => "https://sts.amazonaws.com/doc/2011-06-15/",
        }
    }
}

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Error {
    /// The HTTP status.
    pub status: u16,
    /// For example `InvalidGroup.NotFound`.
    pub code: String,
    /// A sentence.
    pub message: String,
}

impl Error {
    /// An error of the client, with status 400, or the one that EC2 has for the code.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        let code = code.into();
        let status = match code.as_str() {
            "DryRunOperation" => 412,
            "AuthFailure" | "MissingAuthenticationToken" => 401,
            "UnauthorizedOperation" | "SignatureDoesNotMatch" | "InvalidClientTokenId" => 403,
            "InternalError" => 500,
            "RequestLimitExceeded" | "Unavailable" | "ServiceUnavailable" => 503,
            _ => 400,
        };
        Self { status, code, message: message.into() }
    }

    /// A value that a parameter cannot have.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new("InvalidParameterValue", message)
    }

    /// A parameter that is required and absent.
    #[must_use]
    pub fn missing(parameter: &str) -> Self {
        Self::new("MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    /// What a dry run answers in place of success.
    #[must_use]
    pub fn dry_run() -> Self {
        Self::new("DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
    }

    /// The body of the answer.
    #[must_use]
    pub fn body(&self, service: Service, request_id: &str) -> String {
        let Self { status, code, message } = self;
        let mut xml = Xml::document();
        match service {
            Service::Ec2 => xml.node("Response", |xml| {
                xml.node("Errors", |xml| {
                    xml.node("Error", |xml| {
                        xml.text("Code", code);
                        xml.text("Message", message);
                    });
                });
                xml.text("RequestID", request_id);
            }),
            Service::Sts => xml.root("ErrorResponse", service.namespace(), |xml| {
                xml.node("Error", |xml| {
                    xml.text("Type", if *status >= 500 { "Receiver" } else { "Sender" });
                    xml.text("Code", code);
                    xml.text("Message", message);
                });
                xml.text("RequestId", request_id);
            }),
        }
        xml.finish()
    }
}
